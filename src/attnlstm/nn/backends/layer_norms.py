"""The fused backend's five layer norms: of the gates i, f, g, o and of the cell state.

y = x̂ ⊙ weight + bias,   x̂ = (z - mean(z)) / sqrt(var(z) + ε)       Ba et al., 2016
δz = (δx̂ - mean(δx̂) - x̂ ⊙ mean(δx̂ ⊙ x̂)) / sqrt(var(z) + ε),        δx̂ = δy ⊙ weight
"""

from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from attnlstm.nn.cell import LAYER_NORM_EPS, Weights

GATE_ROWS, CELL_ROW = slice(0, 4), slice(4, 5)


class LayerNorms:
    """Normalises step by step and keeps, for all N steps, what backward needs.

    normalised: x̂ [N, 5, H]; rstd: 1 / sqrt(var + ε) [N, 5, 1].
    """

    def __init__(self, normalised: Tensor, rstd: Tensor, weights: Weights) -> None:
        assert weights.weight_ln is not None
        assert weights.bias_ln is not None
        self.weight, self.bias = weights.weight_ln, weights.bias_ln
        self.normalised, self.rstd = normalised, rstd

    @classmethod
    def empty(cls, steps: int, weights: Weights) -> Self | None:
        """Room for N steps, or None where the cell has no layer norm."""
        if weights.weight_ln is None:
            return None
        normalised = weights.weight_ln.new_empty(steps, *weights.weight_ln.shape)
        return cls(normalised, normalised.new_empty(*normalised.shape[:2], 1), weights)

    @cached_property
    def d_result(self) -> Tensor:
        """δy of all steps, which the backward steps fill in for the weights' gradients."""
        return torch.empty_like(self.normalised)

    def normalise_gates_(self, z: Tensor, step: slice) -> None:
        """Normalise a step's stacked gates [batch, 4*H] in place."""
        gates = z.view(z.size(0), 4, -1)
        gates.copy_(self._forward(gates, step, GATE_ROWS))

    def normalise_cell(self, c: Tensor, step: slice) -> Tensor:
        """A step's cell state [batch, H], normalised."""
        return self._forward(c.unsqueeze(1), step, CELL_ROW).squeeze(1)

    def normalised_cells(self) -> Tensor:
        """The normalised cell states of all steps [N, H]."""
        return self.normalised[:, 4] * self.weight[4] + self.bias[4]

    def gates_backward_(self, d_z: Tensor, step: slice) -> None:
        """Turn a step's gradient of the normalised gates into that of the gates, in place."""
        gates = d_z.view(d_z.size(0), 4, -1)
        gates.copy_(self._backward(gates, step, GATE_ROWS))

    def cell_backward(self, d_c: Tensor, step: slice) -> Tensor:
        """A step's gradient of the cell state from that of the normalised one."""
        return self._backward(d_c.unsqueeze(1), step, CELL_ROW).squeeze(1)

    def weight_gradients(self) -> tuple[Tensor, Tensor]:
        """The gradients of weight and bias [5, H]: sums over all steps."""
        return (self.d_result * self.normalised).sum(0), self.d_result.sum(0)

    def _forward(self, z: Tensor, step: slice, rows: slice) -> Tensor:
        variance, mean = torch.var_mean(z, dim=-1, correction=0, keepdim=True)
        rstd = (variance + LAYER_NORM_EPS).rsqrt()
        normalised = (z - mean) * rstd
        self.rstd[step, rows], self.normalised[step, rows] = rstd, normalised
        return normalised * self.weight[rows] + self.bias[rows]

    def _backward(self, d_result: Tensor, step: slice, rows: slice) -> Tensor:
        self.d_result[step, rows] = d_result
        d_normalised = d_result * self.weight[rows]
        normalised = self.normalised[step, rows]
        mean = d_normalised.mean(-1, keepdim=True)
        projection = (d_normalised * normalised).mean(-1, keepdim=True)
        return self.rstd[step, rows] * (d_normalised - mean - normalised * projection)
