"""The parts of an LSTM cell: its weights, activations and layer normalization.

At each step a cell turns the input x_t [F], the hidden state h_{t-1} [P] and the cell state
c_{t-1} [H] into h_t and c_t; `attnlstm.nn.backends.naive` has the formulas.

Shape letters in this package: B batch, T time, N real steps of all sequences (the sum of their
lengths), F input features, H hidden size, P size of the hidden state (`proj_size`, or H without
projection), L layers, D directions.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

GATES = ("i", "f", "g", "o")
"""The order in which nn.LSTM stacks the gates: input, forget, cell candidate, output."""

LAYER_NORM_EPS = 1e-5
"""The default of nn.LayerNorm, and what labml's cell uses."""


class Activation(NamedTuple):
    """An activation function, and its derivative as a function of its output y."""

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    derivative_from_output: Callable[[Tensor], Tensor]
    supports_complex: bool


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(torch.tanh, torch.tanh_, lambda y: 1 - y * y, True),
    "sigmoid": Activation(torch.sigmoid, torch.sigmoid_, lambda y: y * (1 - y), True),
    "relu": Activation(torch.relu, torch.relu_, lambda y: (y > 0).to(y.dtype), False),
    # relu6(x + 3) / 6, as in Keras 3 and torch. torch's own function rounds 1 / 6 to float32 in the
    # backward.
    "hard_sigmoid": Activation(
        lambda z: F.relu6(z + 3) / 6,
        lambda z: F.hardsigmoid(z, inplace=True),
        lambda y: ((y > 0) & (y < 1)).to(y.dtype) / 6,
        False,
    ),
}


class Cell(NamedTuple):
    """The options of an LSTM cell that change its formulas.

    activation: of the candidate g, and of the cell state before the output gate (Keras's name).
    recurrent_activation: of the gates i, f and o (Keras's name).
    layer_norm: whether each gate's pre-activation, and the cell state before the output
        activation, are layer-normalized.
    """

    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    layer_norm: bool = False

    @property
    def is_standard(self) -> bool:
        """Whether these are the formulas of nn.LSTM."""
        return self == STANDARD


STANDARD = Cell()


class Weights(NamedTuple):
    """The parameters of one direction of one layer, named, shaped and ordered as nn.LSTM's.

    weight_ih: [4*H, F].
    weight_hh: [4*H, P].
    bias_ih, bias_hh: [4*H], or None without biases.
    weight_hr: [P, H], or None without projection.
    weight_ln, bias_ln: [5, H], the gain and bias of the layer norms of i, f, g, o and the cell
        state, or None without layer norm.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    weight_ln: Tensor | None = None
    bias_ln: Tensor | None = None

    def to(self, dtype: torch.dtype) -> "Weights":
        """Return the weights in another dtype."""
        return Weights._make(None if w is None else w.to(dtype) for w in self)


def drop_weights(weight: Tensor, probability: float) -> Tensor:
    """Zero weights at random and scale the others by 1 / (1 - probability), as F.dropout does.

    The probability is rounded to a multiple of 2**-16. F.dropout draws a number for each weight;
    here one of 64 bits serves four weights, or eight if the probability is a multiple of 2**-8.
    This takes a quarter of the time on the CPU.
    """
    if probability == 1:
        return weight * 0
    dtype = torch.int8 if (probability * 2**8) % 1 == 0 else torch.int16
    values = 2 ** (8 * dtype.itemsize)
    dropped = min(round(probability * values), values - 1)
    count = weight.numel() * dtype.itemsize // 8 + 1
    numbers = torch.empty(count, dtype=torch.int64, device=weight.device).random_(-(2**63), None)
    # Compared in float32, whose comparisons are vectorized.
    kept = numbers.view(dtype)[: weight.numel()].view_as(weight).float().ge_(dropped - values // 2)
    return weight * kept.to(weight.dtype).mul_(values / (values - dropped))
