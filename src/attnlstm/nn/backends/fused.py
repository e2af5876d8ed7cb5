"""The four gates stacked, every step's input projection in one product, and a written-out backward.

Forward, with z the stacked pre-activations of the gates i, f, g, o:

    z_t = W_ih x_t + b_ih + b_hh + W_hh h_{t-1}      the first three terms for all steps at once
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    h_t = o_t ⊙ tanh(c_t)

Backward goes through the steps in the opposite order. With δ for the gradient of the loss and
the local derivatives of all steps computed at once before the loop, each step is

    δc_t  = δc_t + δh_t ⊙ o_t ⊙ tanh'(c_t)
    δz_t  = (δc ⊙ g ⊙ σ'(i),  δc ⊙ c_{t-1} ⊙ σ'(f),  δc ⊙ i ⊙ tanh'(g),  δh ⊙ tanh(c) ⊙ σ'(o))
    δc_{t-1} = δc_t ⊙ f_t
    δh_{t-1} = W_hhᵀ δz_t

and afterwards the gradient of every weight is one product over all steps, such as
δW_hh = Σ δz_t h_{t-1}ᵀ.
Gradients of complex numbers are conjugate (Wirtinger) ones, as everywhere in torch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnlstm.nn.backends import naive
from attnlstm.nn.backends.base import Backend, BatchSizes, State, run_directions, time_steps
from attnlstm.nn.backends.layer_norms import LayerNorms
from attnlstm.nn.backends.transforms import is_transformed, needs_plain_gradients, plain_gradients
from attnlstm.nn.cell import ACTIVATIONS, Cell, Weights


class FusedBackend(Backend):
    """One matrix product a step on the packed layout, in any dtype that torch multiplies."""

    name = "fused"

    def layer(
        self,
        data: Tensor,
        batch_sizes: BatchSizes,
        state: State,
        weights: Sequence[Weights],
        cell: Cell,
    ) -> tuple[Tensor, State]:
        return run_directions(_recurrence, data, batch_sizes, state, weights, cell)


def _recurrence(
    data: Tensor,
    batch_sizes: Sequence[int],
    state: State,
    weights: Weights,
    cell: Cell,
    *,
    reverse: bool,
) -> tuple[Tensor, State]:
    if _wants_plain_operations():
        return naive.recurrence(data, batch_sizes, state, weights, cell, reverse=reverse)
    output, h_n, c_n, *_ = _FusedRecurrence.apply(
        tuple(batch_sizes), cell, reverse, data, *state, *weights
    )
    return output, (h_n, c_n)


class _FusedRecurrence(torch.autograd.Function):
    """One direction of one layer; see `Recurrence` for the shapes."""

    @staticmethod
    def forward(
        batch_sizes: Sequence[int],
        cell: Cell,
        reverse: bool,
        data: Tensor,
        h_0: Tensor,
        c_0: Tensor,
        *parameters: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        weights = Weights._make(parameters)
        hidden_size = c_0.size(1)
        sigma = ACTIVATIONS[cell.recurrent_activation].in_place
        tanh = ACTIVATIONS[cell.activation]

        gates = data @ weights.weight_ih.T  # [N, 4*H], then overwritten step by step
        if weights.bias_ih is not None and weights.bias_hh is not None:
            gates += weights.bias_ih + weights.bias_hh
        cells = gates.new_empty(gates.size(0), hidden_size)  # [N, H]
        output = gates.new_empty(gates.size(0), h_0.size(1))  # [N, P]
        norms = LayerNorms.empty(gates.size(0), weights)

        w_hh = weights.weight_hh.T
        h, c = h_0.clone(), c_0.clone()  # sequences that have no step t keep their state
        for step in time_steps(batch_sizes, reverse=reverse):
            size = step.stop - step.start
            z = gates[step].addmm_(h[:size], w_hh)
            if norms is not None:
                norms.normalise_gates_(z, step)
            sigma(z[:, : 2 * hidden_size])
            tanh.in_place(z[:, 2 * hidden_size : 3 * hidden_size])
            sigma(z[:, 3 * hidden_size :])
            i, f, g, o = z.chunk(4, dim=1)
            c_t = torch.mul(f, c[:size], out=cells[step]).addcmul_(i, g)
            c[:size] = c_t
            if norms is not None:
                c_t = norms.normalise_cell(c_t, step)
            if weights.weight_hr is None:
                torch.mul(o, tanh.function(c_t), out=output[step])
            else:
                torch.mm(o * tanh.function(c_t), weights.weight_hr.T, out=output[step])
            h[:size] = output[step]
        kept = (None, None) if norms is None else (norms.normalised, norms.rstd)
        return output, h, c, gates, cells, *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        ctx.batch_sizes, ctx.cell, ctx.reverse, *tensors = inputs
        output, _, _, *intermediate = outputs
        ctx.mark_non_differentiable(*(tensor for tensor in intermediate if tensor is not None))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, output, *intermediate)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        data, h_0, c_0, *saved = ctx.saved_tensors
        *parameters, output, gates, cells, normalised, rstd = saved
        inputs = (data, h_0, c_0, *parameters)
        if needs_plain_gradients(grads):

            def run(data: Tensor, h_0: Tensor, c_0: Tensor, *parameters: Tensor) -> list[Tensor]:
                weights = Weights._make(parameters)
                output, state = naive.recurrence(
                    data, ctx.batch_sizes, (h_0, c_0), weights, ctx.cell, reverse=ctx.reverse
                )
                return [output, *state]

            return (
                *(None, None, None),
                *plain_gradients(run, inputs, ctx.needs_input_grad[3:], grads[:3]),
            )
        weights = Weights._make(parameters)
        norms = None if normalised is None else LayerNorms(normalised, rstd, weights)
        hidden_size = c_0.size(1)
        d_sigma = ACTIVATIONS[ctx.cell.recurrent_activation].derivative_from_output
        tanh = ACTIVATIONS[ctx.cell.activation]

        # The local derivatives of all steps at once; the loop below multiplies them by δc and δh.
        i, f, g, o = gates.chunk(4, dim=1)
        c_prev = _previous(cells, c_0, ctx.batch_sizes, reverse=ctx.reverse)
        tanh_c = tanh.function(cells if norms is None else norms.normalised_cells())
        factors = [
            g * d_sigma(i),
            c_prev * d_sigma(f),
            i * tanh.derivative_from_output(g),
            tanh_c * d_sigma(o),
        ]
        d_gates = torch.cat(factors, dim=1).conj_physical_()  # overwritten step by step: δz
        c_factor = (o * tanh.derivative_from_output(tanh_c)).conj_physical_()
        f = f.conj()

        d_output, d_h_n, d_c_n = grads[:3]
        d_h = torch.zeros_like(h_0) if d_h_n is None else d_h_n.clone()
        d_c = torch.zeros_like(c_0) if d_c_n is None else d_c_n.clone()
        d_projected = None if weights.weight_hr is None else torch.empty_like(output)
        w_hh = weights.weight_hh.conj()
        for step in reversed(time_steps(ctx.batch_sizes, reverse=ctx.reverse)):
            size = step.stop - step.start
            d_h_t, d_c_t, d_z = d_h[:size], d_c[:size], d_gates[step]
            if d_output is not None:
                d_h_t += d_output[step]
            if weights.weight_hr is not None and d_projected is not None:
                d_projected[step] = d_h_t
                d_h_t = d_h_t @ weights.weight_hr.conj()
            if norms is None:
                d_c_t.addcmul_(d_h_t, c_factor[step])
            else:
                d_c_t += norms.cell_backward(d_h_t * c_factor[step], step)
            d_z.view(size, 4, hidden_size)[:, :3] *= d_c_t.unsqueeze(1)
            d_z[:, 3 * hidden_size :] *= d_h_t
            if norms is not None:
                norms.gates_backward_(d_z, step)
            d_c_t *= f[step]
            torch.mm(d_z, w_hh, out=d_h[:size])

        # The gradients of the input and the weights: one product over all steps each.
        names = ("data", "h_0", "c_0", *Weights._fields)
        needs = dict(zip(names, ctx.needs_input_grad[3:], strict=True))
        found: dict[str, Tensor | None] = {"h_0": d_h, "c_0": d_c}
        if needs["data"]:
            found["data"] = d_gates @ weights.weight_ih.conj()
        if needs["weight_ih"]:
            found["weight_ih"] = d_gates.T @ data.conj()
        if needs["weight_hh"]:
            h_prev = _previous(output, h_0, ctx.batch_sizes, reverse=ctx.reverse)
            found["weight_hh"] = d_gates.T @ h_prev.conj()
        if needs["bias_ih"] or needs["bias_hh"]:
            d_bias = d_gates.sum(0)  # each bias its own: a caller may scale them in place
            found["bias_ih"], found["bias_hh"] = d_bias, d_bias.clone()
        if d_projected is not None:
            found["weight_hr"] = d_projected.T @ (o * tanh_c).conj()
        if norms is not None:
            found["weight_ln"], found["bias_ln"] = norms.weight_gradients()
        return (None, None, None, *(found[name] if needs[name] else None for name in names))


def _previous(
    states: Tensor, initial: Tensor, batch_sizes: Sequence[int], *, reverse: bool
) -> Tensor:
    """The state before each step, [N, feature], from the states after each step and at the start.

    A step may have fewer sequences than the one read before it (some have ended) or, in reverse,
    more (some begin here, from their initial state).
    """
    pieces = []
    before = slice(0, 0)
    for step in time_steps(batch_sizes, reverse=reverse):
        size, size_before = step.stop - step.start, before.stop - before.start
        went_on = states[before.start : before.start + min(size, size_before)]
        pieces.append([went_on, initial[size_before:size]])
        before = step
    if reverse:
        pieces.reverse()
    return torch.cat([tensor for piece in pieces for tensor in piece])


def _wants_plain_operations() -> bool:
    """Whether a compiler or tracer of any kind looks on, none of which can follow the backward."""
    return (
        is_transformed()
        or torch.compiler.is_compiling()
        or torch.utils._python_dispatch._get_current_dispatch_mode() is not None
    )
