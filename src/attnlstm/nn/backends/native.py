"""Our own kernels for the CPU, in C++: native.cpp has the formulas and the layout of the work."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from attnlstm.nn.backends import naive
from attnlstm.nn.backends.base import Backend, BatchSizes, State, run_directions
from attnlstm.nn.backends.native_build import load_library
from attnlstm.nn.backends.transforms import is_transformed, needs_plain_gradients, plain_gradients
from attnlstm.nn.cell import Cell, Weights

DTYPES = (torch.float32, torch.float64, torch.bfloat16)

PADDING = 16
"""native.cpp pads hidden sizes to a multiple of this (its kPadding)."""


class NativeBackend(Backend):
    """One operator for both directions of a layer; threads share out the sequences."""

    name = "native"

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_loaded = False
        self.failure: str | None = None  # why the operators could not be built

    def unsupported(self, cell: Cell, dtype: torch.dtype, device: torch.device) -> str | None:
        if device.type not in ("cpu", "meta"):
            return "the native kernels run on the CPU"
        if dtype not in DTYPES:
            names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            return f"the native kernels take {names}, not {str(dtype).removeprefix('torch.')}"
        if cell.layer_norm:
            return "the native kernels have no layer_norm"
        if not cell.is_standard:
            return "the native kernels have no activations other than tanh and sigmoid"
        self.load()
        if self.failure is not None:
            return f"the native kernels cannot be built here: {self.failure}"
        return None

    def load(self) -> None:
        """Build and load the operators, or set `failure`, once in a process."""
        with self._lock:
            if not self._is_loaded:
                self.failure = load_library()
                if self.failure is None:
                    torch.library.register_fake("attnlstm::lstm_layer", _empty_results)
                    torch.library.register_fake("attnlstm::lstm_layer_backward", _empty_gradients)
                    torch.library.register_autograd(
                        "attnlstm::lstm_layer", _backward, setup_context=_setup_context
                    )
                self._is_loaded = True

    def layer(
        self,
        data: Tensor,
        batch_sizes: BatchSizes,
        state: State,
        weights: Sequence[Weights],
        cell: Cell,
    ) -> tuple[Tensor, State]:
        if is_transformed():
            return run_directions(naive.recurrence, data, batch_sizes, state, weights, cell)
        dtype = data.dtype
        if dtype == torch.bfloat16:  # the sums and the cell state are to have float32's precision
            data, state = data.float(), (state[0].float(), state[1].float())
            weights = [w.to(torch.float32) for w in weights]
        stacked = _stack(weights)
        inputs = (data, *state, *stacked)
        keep = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
        output, h_n, c_n, _, _ = torch.ops.attnlstm.lstm_layer(
            data, batch_sizes.tensor, *state, *stacked, keep
        )
        return output.to(dtype), (h_n.to(dtype), c_n.to(dtype))


def _stack(weights: Sequence[Weights]) -> list[Tensor | None]:
    """weight_ih, weight_hh, the sum of the biases and weight_hr, each [D, ...] or None."""
    first = weights[0]
    biases = None
    if first.bias_ih is not None:
        biases = [w.bias_ih + w.bias_hh for w in weights]  # type: ignore[operator]
    parts = [[w.weight_ih for w in weights], [w.weight_hh for w in weights], biases, None]
    if first.weight_hr is not None:
        parts[3] = [w.weight_hr for w in weights]
    return [
        None if part is None else part[0].unsqueeze(0) if len(part) == 1 else torch.stack(part)
        for part in parts
    ]


def _empty_results(
    data: Tensor,
    batch_sizes: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    weight_hr: Tensor | None,
    keep: bool,
) -> tuple[Tensor, ...]:
    """What the operator returns, in shapes alone: output, h_n, c_n, and gates and cells to keep."""
    directions, _, hidden_size = c_0.shape
    padded_size = (hidden_size + PADDING - 1) // PADDING * PADDING
    kept = data.size(0) if keep else 0
    return (
        data.new_empty(data.size(0), directions * h_0.size(2)),
        h_0.new_empty(h_0.shape),
        c_0.new_empty(c_0.shape),
        data.new_empty(directions, kept, 4 * padded_size),
        data.new_empty(directions, kept, padded_size),
    )


def _empty_gradients(
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    data: Tensor,
    batch_sizes: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    output: Tensor,
    gates: Tensor,
    cells: Tensor,
    needs_data: bool,
) -> tuple[Tensor, ...]:
    """The gradients in shapes alone: of data, h_0, c_0 and the stacked weights."""
    return (
        data.new_empty(data.shape if needs_data else (0,)),
        h_0.new_empty(h_0.shape),
        c_0.new_empty(c_0.shape),
        weight_ih.new_empty(weight_ih.shape),
        weight_hh.new_empty(weight_hh.shape),
        weight_ih.new_empty(weight_ih.shape[:2]),
        weight_hh.new_empty((0,) if weight_hr is None else weight_hr.shape),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    data, batch_sizes, h_0, c_0, weight_ih, weight_hh, bias, weight_hr, _ = inputs
    results, _, _, gates, cells = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(gates, cells)
    ctx.save_for_backward(
        *(data, batch_sizes, h_0, c_0, weight_ih, weight_hh, bias, weight_hr),
        *(results, gates, cells),
    )


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    data, batch_sizes, h_0, c_0, weight_ih, weight_hh, bias, weight_hr, *kept = ctx.saved_tensors
    needs_data, _, *needs = ctx.needs_input_grad[:8]
    if needs_plain_gradients(grads):
        sizes = BatchSizes(batch_sizes.numel(), int(batch_sizes[0]), batch_sizes)

        def run(data: Tensor, h_0: Tensor, c_0: Tensor, *stacked: Tensor | None) -> list[Tensor]:
            weight_ih, weight_hh, bias, weight_hr = (
                [None] * len(h_0) if part is None else part.unbind() for part in stacked
            )
            weights = [
                Weights(w_ih, w_hh, b, None if b is None else torch.zeros_like(b), w_hr)  # type: ignore[arg-type]
                for w_ih, w_hh, b, w_hr in zip(weight_ih, weight_hh, bias, weight_hr, strict=True)
            ]
            output, state = run_directions(
                naive.recurrence, data, sizes, (h_0, c_0), weights, Cell()
            )
            return [output, *state]

        inputs = (data, h_0, c_0, weight_ih, weight_hh, bias, weight_hr)
        d_data, *found = plain_gradients(run, inputs, [needs_data, *needs], grads[:3])
    else:
        d_data, *found = torch.ops.attnlstm.lstm_layer_backward(
            *grads[:3],
            *(data, batch_sizes, h_0, c_0, weight_ih, weight_hh, weight_hr),
            *kept,
            needs_data,
        )
    gradients = [d if need else None for d, need in zip(found, needs, strict=True)]
    return (d_data if needs_data else None, None, *gradients, None)
