"""The textbook LSTM: one gate at a time, to be read beside the formulas.

The formulas are those of Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al.
(2000), in the notation of torch.nn.LSTM; the projection is that of Sak et al. (2014).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from attnlstm.nn.backends.base import Backend, BatchSizes, State, run_directions
from attnlstm.nn.cell import ACTIVATIONS, LAYER_NORM_EPS, Cell, Weights


class NaiveBackend(Backend):
    """A loop over time steps and gates in plain autograd; slow, and clear."""

    name = "naive"

    def layer(
        self,
        data: Tensor,
        batch_sizes: BatchSizes,
        state: State | None,
        weights: Sequence[Weights],
        cell: Cell,
    ) -> tuple[Tensor, State]:
        return run_directions(recurrence, data, batch_sizes, state, weights, cell)


def recurrence(
    data: Tensor,
    batch_sizes: Sequence[int],
    state: State,
    weights: Weights,
    cell: Cell,
    *,
    reverse: bool,
) -> tuple[Tensor, State]:
    """One direction of one layer, see `Recurrence`.

    At each step, with σ the recurrent activation and LN the identity unless `cell.layer_norm`:

        i_t = σ(LN_i(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi))        input gate
        f_t = σ(LN_f(W_if x_t + b_if + W_hf h_{t-1} + b_hf))        forget gate
        g_t = tanh(LN_g(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg))     cell candidate
        o_t = σ(LN_o(W_io x_t + b_io + W_ho h_{t-1} + b_ho))        output gate
        c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t                             cell state
        h_t = W_hr (o_t ⊙ tanh(LN_c(c_t)))                          hidden state
    """
    w_ii, w_if, w_ig, w_io = weights.weight_ih.chunk(4)
    w_hi, w_hf, w_hg, w_ho = weights.weight_hh.chunk(4)
    b_ii, b_if, b_ig, b_io = _chunk_bias(weights.bias_ih)
    b_hi, b_hf, b_hg, b_ho = _chunk_bias(weights.bias_hh)
    sigma = ACTIVATIONS[cell.recurrent_activation].function
    tanh = ACTIVATIONS[cell.activation].function

    def norm(z: Tensor, row: int) -> Tensor:
        if weights.weight_ln is None or weights.bias_ln is None:
            return z
        gain, bias = weights.weight_ln[row], weights.bias_ln[row]
        return layer_norm(z, z.shape[-1:], gain, bias, LAYER_NORM_EPS)

    h, c = state
    x = data.split(list(batch_sizes))  # once: indexing in the loop would double the backward
    outputs: list[Tensor] = [data] * len(x)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        x_t, size = x[t], batch_sizes[t]
        h_prev, c_prev = h[:size], c[:size]  # the sequences that have a step t

        i_t = sigma(norm(linear(x_t, w_ii, b_ii) + linear(h_prev, w_hi, b_hi), 0))
        f_t = sigma(norm(linear(x_t, w_if, b_if) + linear(h_prev, w_hf, b_hf), 1))
        g_t = tanh(norm(linear(x_t, w_ig, b_ig) + linear(h_prev, w_hg, b_hg), 2))
        o_t = sigma(norm(linear(x_t, w_io, b_io) + linear(h_prev, w_ho, b_ho), 3))
        c_t = f_t * c_prev + i_t * g_t
        h_t = o_t * tanh(norm(c_t, 4))
        if weights.weight_hr is not None:
            h_t = linear(h_t, weights.weight_hr)

        outputs[t] = h_t
        h = torch.cat([h_t, h[size:]])  # the other sequences keep the state they have
        c = torch.cat([c_t, c[size:]])
    return torch.cat(outputs), (h, c)


def _chunk_bias(bias: Tensor | None) -> Sequence[Tensor | None]:
    return (None, None, None, None) if bias is None else bias.chunk(4)
