"""The five layer norms of the fused backend: of the gates i, f, g, o and of the cell state.

Forward (Ba et al., 2016) and backward, over the H hidden units of one gate, with δ for the gradient
of the loss:

    x̂  = (z - mean(z)) / sqrt(var(z) + ε)
    y  = x̂ ⊙ weight + bias
    δx̂ = δy ⊙ weight
    δz = (δx̂ - mean(δx̂) - x̂ ⊙ mean(δx̂ ⊙ x̂)) / sqrt(var(z) + ε)
"""

from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from attnlstm.nn.cell import LAYER_NORM_EPS, Weights

GATE_ROWS, CELL_ROW = slice(0, 4), slice(4, 5)


class LayerNorms:
    """Normalizes step by step, and keeps what the backward needs of all N steps.

    normalized: x̂ [N, 5, H].
    rstd: 1 / sqrt(var + ε) [N, 5, 1].
    """

    def __init__(self, normalized: Tensor, rstd: Tensor, weights: Weights) -> None:
        assert weights.weight_ln is not None
        assert weights.bias_ln is not None
        self.weight, self.bias = weights.weight_ln, weights.bias_ln
        self.normalized, self.rstd = normalized, rstd

    @classmethod
    def empty(cls, steps: int, weights: Weights) -> Self | None:
        """Return layer norms with space for N steps, or None if the cell has no layer norm."""
        if weights.weight_ln is None:
            return None
        normalized = weights.weight_ln.new_empty(steps, *weights.weight_ln.shape)
        return cls(normalized, normalized.new_empty(*normalized.shape[:2], 1), weights)

    @cached_property
    def d_result(self) -> Tensor:
        """δy of all steps [N, 5, H], which the backward fills in step by step."""
        return torch.empty_like(self.normalized)

    def normalize_gates_(self, z: Tensor, step: slice) -> None:
        """Normalize a step's stacked gates [batch, 4*H] in place."""
        gates = z.view(z.size(0), 4, -1)
        gates.copy_(self._forward(gates, step, GATE_ROWS))

    def normalize_cell(self, c: Tensor, step: slice) -> Tensor:
        """Normalize a step's cell state [batch, H]."""
        return self._forward(c.unsqueeze(1), step, CELL_ROW).squeeze(1)

    def normalized_cells(self) -> Tensor:
        """Return the normalized cell states of all steps [N, H]."""
        return self.normalized[:, 4] * self.weight[4] + self.bias[4]

    def gates_backward_(self, d_z: Tensor, step: slice) -> None:
        """Turn the gradient of a step's normalized gates into that of the gates, in place."""
        gates = d_z.view(d_z.size(0), 4, -1)
        gates.copy_(self._backward(gates, step, GATE_ROWS))

    def cell_backward(self, d_c: Tensor, step: slice) -> Tensor:
        """Return the gradient of a step's cell state, given that of the normalized one."""
        return self._backward(d_c.unsqueeze(1), step, CELL_ROW).squeeze(1)

    def weight_gradients(self) -> tuple[Tensor, Tensor]:
        """Return the gradients of weight and bias [5, H], which are sums over all steps."""
        return (self.d_result * self.normalized).sum(0), self.d_result.sum(0)

    def _forward(self, z: Tensor, step: slice, rows: slice) -> Tensor:
        variance, mean = torch.var_mean(z, dim=-1, correction=0, keepdim=True)
        rstd = (variance + LAYER_NORM_EPS).rsqrt()
        normalized = (z - mean) * rstd
        self.rstd[step, rows], self.normalized[step, rows] = rstd, normalized
        return normalized * self.weight[rows] + self.bias[rows]

    def _backward(self, d_result: Tensor, step: slice, rows: slice) -> Tensor:
        self.d_result[step, rows] = d_result
        d_normalized = d_result * self.weight[rows]
        normalized = self.normalized[step, rows]
        mean = d_normalized.mean(-1, keepdim=True)
        projection = (d_normalized * normalized).mean(-1, keepdim=True)
        return self.rstd[step, rows] * (d_normalized - mean - normalized * projection)
