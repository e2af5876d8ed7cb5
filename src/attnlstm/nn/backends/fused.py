"""One matrix product a step, and a backward that is written out.

Forward, with z_t [4*H] the stacked pre-activations of the gates i, f, g, o:

    z_t = W_ih x_t + b_ih + b_hh + W_hh h_{t-1}      the first three terms for all steps at once
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    h_t = o_t ⊙ tanh(c_t)

Backward visits the steps in the opposite order. δ is the gradient of the loss. The local
derivatives of all steps are computed before the loop, so that each step is left with

    δc_t  = δc_t + δh_t ⊙ o_t ⊙ tanh'(c_t)
    δz_t  = (δc ⊙ g ⊙ σ'(i),  δc ⊙ c_{t-1} ⊙ σ'(f),  δc ⊙ i ⊙ tanh'(g),  δh ⊙ tanh(c) ⊙ σ'(o))
    δc_{t-1} = δc_t ⊙ f_t
    δh_{t-1} = W_hhᵀ δz_t

Afterwards the gradient of every weight is one product over all steps, such as
δW_hh = Σ δz_t h_{t-1}ᵀ. Gradients of complex numbers are conjugate (Wirtinger) gradients, as
everywhere in torch.
"""

from typing import Any

import torch
from torch import Tensor

from attnlstm.nn.backends.base import DirectionalBackend, State
from attnlstm.nn.backends.layer_norms import LayerNorms
from attnlstm.nn.backends.naive import NAIVE
from attnlstm.nn.backends.packed import ReadingOrder
from attnlstm.nn.backends.transforms import is_transformed, needs_plain_gradients, plain_gradients
from attnlstm.nn.cell import ACTIVATIONS, Cell, Weights


class FusedBackend(DirectionalBackend):
    """One matrix product a step on the packed layout, in any dtype that torch multiplies."""

    name = "fused"

    def direction(
        self, data: Tensor, order: ReadingOrder, state: State, weights: Weights, cell: Cell
    ) -> tuple[Tensor, State]:
        if _wants_plain_operations():
            return NAIVE.direction(data, order, state, weights, cell)
        output, h_n, c_n, *_ = _FusedRecurrence.apply(order, cell, data, *state, *weights)
        return output, (h_n, c_n)


class _FusedRecurrence(torch.autograd.Function):
    """One direction of one layer; see `DirectionalBackend.direction` for the shapes."""

    # The newer form with `setup_context` is slower: torch inspects its signature in every call.
    @staticmethod
    def forward(
        ctx: Any,
        order: ReadingOrder,
        cell: Cell,
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

        # A call of torch takes longer than a small product, so each step makes as few as possible.
        w_hh = weights.weight_hh.T
        i, f, g, o = gates.chunk(4, dim=1)
        parts = (gates, gates[:, : 2 * hidden_size], i, f, g, o, cells, output)
        split = map(order.split, parts)
        h, c, running = h_0, c_0, len(h_0)
        for step, size, z, i_f, i, f, g, o, c_t, h_t in zip(
            order.slices, order.sizes, *split, strict=True
        ):
            # Some sequences have ended or, in reverse, some start here from their initial state.
            if size != running:
                h, c = (
                    state[:size] if size < running else torch.cat([state, initial[running:size]])
                    for state, initial in ((h, h_0), (c, c_0))
                )
                running = size
            z.addmm_(h, w_hh)
            if norms is not None:
                norms.normalize_gates_(z, step)
            sigma(i_f)
            tanh.in_place(g)
            sigma(o)
            c = torch.mul(f, c, out=c_t).addcmul_(i, g)
            if norms is not None:
                c_t = norms.normalize_cell(c_t, step)
            if weights.weight_hr is None:
                h = torch.mul(o, tanh.function(c_t), out=h_t)
            else:
                h = torch.mm(o * tanh.function(c_t), weights.weight_hr.T, out=h_t)
        last = order.last_rows(data.device)
        h_n, c_n = output.index_select(0, last), cells.index_select(0, last)
        kept = (None, None) if norms is None else (norms.normalized, norms.rstd)
        ctx.order, ctx.cell = order, cell
        ctx.mark_non_differentiable(*(part for part in (gates, cells, *kept) if part is not None))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(data, h_0, c_0, *parameters, output, gates, cells, *kept)
        return output, h_n, c_n, gates, cells, *kept

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        data, h_0, c_0, *saved = ctx.saved_tensors
        *parameters, output, gates, cells, normalized, rstd = saved
        inputs = (data, h_0, c_0, *parameters)
        if needs_plain_gradients(grads):

            def run(data: Tensor, h_0: Tensor, c_0: Tensor, *parameters: Tensor) -> list[Tensor]:
                weights = Weights._make(parameters)
                output, state = NAIVE.direction(data, ctx.order, (h_0, c_0), weights, ctx.cell)
                return [output, *state]

            gradients = plain_gradients(run, inputs, ctx.needs_input_grad[2:], grads[:3])
            return (None, None, *gradients)
        weights = Weights._make(parameters)
        norms = None if normalized is None else LayerNorms(normalized, rstd, weights)
        hidden_size = c_0.size(1)
        d_sigma = ACTIVATIONS[ctx.cell.recurrent_activation].derivative_from_output
        tanh = ACTIVATIONS[ctx.cell.activation]

        # The local derivatives of all steps at once. The loop below multiplies them by δc and δh.
        i, f, g, o = gates.chunk(4, dim=1)
        c_prev = ctx.order.before_each_step(cells, c_0)
        tanh_c = tanh.function(cells if norms is None else norms.normalized_cells())
        factors = [
            g * d_sigma(i),
            c_prev * d_sigma(f),
            i * tanh.derivative_from_output(g),
            tanh_c * d_sigma(o),
        ]
        d_gates = torch.cat(factors, dim=1).conj_physical_()  # overwritten by δz step by step
        c_factor = (o * tanh.derivative_from_output(tanh_c)).conj_physical_()
        f = f.conj()

        d_output, d_h_n, d_c_n = grads[:3]
        d_h = torch.zeros_like(h_0) if d_h_n is None else d_h_n.clone()
        d_c = torch.zeros_like(c_0) if d_c_n is None else d_c_n.clone()
        d_projected = None if weights.weight_hr is None else torch.empty_like(output)
        w_hh = weights.weight_hh.conj()
        order = ctx.order.opposite()
        d_i_f_g = d_gates.view(-1, 4, hidden_size)[:, :3]
        d_o = d_gates[:, 3 * hidden_size :]
        parts = [d_gates, d_i_f_g, d_o, c_factor, f, output if d_output is None else d_output]
        split = map(order.split, parts)
        running = -1
        for step, size, d_z, d_i_f_g_t, d_o_t, c_factor_t, f_t, d_output_t in zip(
            order.slices, order.sizes, *split, strict=True
        ):
            if size != running:
                d_h_before, d_c_t, running = d_h[:size], d_c[:size], size
                d_c_of_gates = d_c_t.unsqueeze(1)
            d_h_t = d_h_before
            if d_output is not None:
                d_h_t += d_output_t
            if weights.weight_hr is not None and d_projected is not None:
                d_projected[step] = d_h_t
                d_h_t = d_h_t @ weights.weight_hr.conj()
            if norms is None:
                d_c_t.addcmul_(d_h_t, c_factor_t)
            else:
                d_c_t += norms.cell_backward(d_h_t * c_factor_t, step)
            d_i_f_g_t.mul_(d_c_of_gates)
            d_o_t.mul_(d_h_t)
            if norms is not None:
                norms.gates_backward_(d_z, step)
            d_c_t *= f_t
            torch.mm(d_z, w_hh, out=d_h_before)

        # The gradient of the input and of each weight is one product over all steps.
        names = ("data", "h_0", "c_0", *Weights._fields)
        needs = dict(zip(names, ctx.needs_input_grad[2:], strict=True))
        found: dict[str, Tensor | None] = {"h_0": d_h, "c_0": d_c}
        if needs["data"]:
            found["data"] = d_gates @ weights.weight_ih.conj()
        if needs["weight_ih"]:
            found["weight_ih"] = d_gates.T @ data.conj()
        if needs["weight_hh"]:
            h_prev = ctx.order.before_each_step(output, h_0)
            found["weight_hh"] = d_gates.T @ h_prev.conj()
        if needs["bias_ih"] or needs["bias_hh"]:
            # The gradients are equal, but a caller may scale one of them in place.
            d_bias = d_gates.sum(0)
            found["bias_ih"], found["bias_hh"] = d_bias, d_bias.clone()
        if d_projected is not None:
            found["weight_hr"] = d_projected.T @ (o * tanh_c).conj()
        if norms is not None:
            found["weight_ln"], found["bias_ln"] = norms.weight_gradients()
        return (None, None, *(found[name] if needs[name] else None for name in names))


def _wants_plain_operations() -> bool:
    """Whether a compiler or tracer records the operations; none can record the backward above."""
    return (
        is_transformed()
        or torch.compiler.is_compiling()
        or torch.utils._python_dispatch._get_current_dispatch_mode() is not None
    )
