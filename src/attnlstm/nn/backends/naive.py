"""The textbook LSTM: one step and one gate at a time, to be read next to the formulas.

The formulas are those of Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al.
(2000), in the notation of torch.nn.LSTM; the projection is that of Sak et al. (2014). With σ the
recurrent activation, and LN the identity unless `cell.layer_norm`, each step t computes

    i_t = σ(LN_i(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi))        input gate
    f_t = σ(LN_f(W_if x_t + b_if + W_hf h_{t-1} + b_hf))        forget gate
    g_t = tanh(LN_g(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg))     cell candidate
    o_t = σ(LN_o(W_io x_t + b_io + W_ho h_{t-1} + b_ho))        output gate
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t                             cell state
    h_t = W_hr (o_t ⊙ tanh(LN_c(c_t)))                          hidden state

with x_t [F], the gates and c_t [H], and h_t [P]; without projection there is no W_hr and P = H.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from attnlstm.nn.backends.base import DirectionalBackend, State
from attnlstm.nn.backends.packed import ReadingOrder
from attnlstm.nn.cell import ACTIVATIONS, LAYER_NORM_EPS, Cell, Weights


class NaiveBackend(DirectionalBackend):
    """A loop over time steps and gates in plain autograd: slow, but clear.

    Every other backend is tested against it. The fused and the native one also call it where torch
    needs operations that can be differentiated twice, mapped or traced.
    """

    name = "naive"

    def direction(
        self, data: Tensor, order: ReadingOrder, state: State, weights: Weights, cell: Cell
    ) -> tuple[Tensor, State]:
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
        # Split once: indexing in the loop would double the time of the backward.
        x = data.split(order.batch_sizes)
        outputs: list[Tensor] = [data] * len(x)
        for t in order.times:
            x_t, size = x[t], order.batch_sizes[t]
            h_prev, c_prev = h[:size], c[:size]  # of the sequences that have a step t

            i_t = sigma(norm(linear(x_t, w_ii, b_ii) + linear(h_prev, w_hi, b_hi), 0))
            f_t = sigma(norm(linear(x_t, w_if, b_if) + linear(h_prev, w_hf, b_hf), 1))
            g_t = tanh(norm(linear(x_t, w_ig, b_ig) + linear(h_prev, w_hg, b_hg), 2))
            o_t = sigma(norm(linear(x_t, w_io, b_io) + linear(h_prev, w_ho, b_ho), 3))
            c_t = f_t * c_prev + i_t * g_t
            h_t = o_t * tanh(norm(c_t, 4))
            if weights.weight_hr is not None:
                h_t = linear(h_t, weights.weight_hr)

            outputs[t] = h_t
            h = torch.cat([h_t, h[size:]])  # the other sequences keep their state
            c = torch.cat([c_t, c[size:]])
        return torch.cat(outputs), (h, c)


NAIVE = NaiveBackend()


def _chunk_bias(bias: Tensor | None) -> Sequence[Tensor | None]:
    return (None, None, None, None) if bias is None else bias.chunk(4)
