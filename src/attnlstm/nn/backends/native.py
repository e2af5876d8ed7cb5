"""Our own kernels for the CPU, in C++: csrc/layer.h has the formulas and the shapes."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from attnlstm.nn.backends import naive
from attnlstm.nn.backends.base import (
    Backend,
    BatchSizes,
    State,
    run_directions,
    run_layers,
)
from attnlstm.nn.backends.native_build import load_library
from attnlstm.nn.backends.transforms import is_transformed, needs_plain_gradients, plain_gradients
from attnlstm.nn.cell import Cell, Weights

DTYPES = (torch.float32, torch.float64, torch.bfloat16)

PADDING = 16
"""csrc/layer.h pads hidden sizes to a multiple of this (its kPadding)."""


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
                    for name in ("lstm_layer_backward", "lstm_layer_backward_"):
                        torch.library.register_fake(f"attnlstm::{name}", _empty_gradients)
                    torch.library.register_autograd(
                        "attnlstm::lstm_layer", _backward, setup_context=_setup_context
                    )
                self._is_loaded = True

    def run_padded(
        self,
        input: Tensor,
        lengths: Tensor | None,
        state: State,
        weights: Sequence[Sequence[Weights]],
        cell: Cell,
        *,
        batch_first: bool,
        dropout: float,
        variational_dropout: float,
        training: bool,
    ) -> tuple[Tensor, State]:
        # Dropout between layers is drawn for the packed steps, so that a seed means the same
        # everywhere.
        has_dropout = training and len(weights) > 1 and (dropout > 0 or variational_dropout > 0)
        if has_dropout or is_transformed():
            return super().run_padded(
                input,
                lengths,
                state,
                weights,
                cell,
                batch_first=batch_first,
                dropout=dropout,
                variational_dropout=variational_dropout,
                training=training,
            )
        if lengths is None:
            batch, time = input.shape[:2] if batch_first else (input.size(1), input.size(0))
            lengths = torch.full((batch,), time)
        return run_layers(
            lambda data, *arguments: _layer(data, lengths, *arguments, batch_first=batch_first),
            input,
            state,
            weights,
        )

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
        return _layer(data, batch_sizes.lengths, state, weights, batch_first=False)


def _layer(
    data: Tensor, lengths: Tensor, state: State, weights: Sequence[Weights], *, batch_first: bool
) -> tuple[Tensor, State]:
    """One layer; data [T, B, F], [B, T, F] or packed [N, F], and so the output."""
    dtype = data.dtype
    if dtype == torch.bfloat16:  # the sums and the cell state are to have float32's precision
        data, state = data.float(), (state[0].float(), state[1].float())
        weights = [w.to(torch.float32) for w in weights]
    stacked = _stack(weights)
    inputs = (data, *state, *stacked)
    keep = (
        torch.is_grad_enabled()
        and not torch.compiler.is_exporting()  # a graph to run, of steps not known yet
        and any(x is not None and x.requires_grad for x in inputs)
    )
    kept_steps = int(lengths.sum()) if keep else 0
    output, h_n, c_n, _, _ = torch.ops.attnlstm.lstm_layer(
        data, lengths, *state, *stacked, batch_first, kept_steps, backward_overwrites=True
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
    lengths: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    weight_hr: Tensor | None,
    batch_first: bool,
    kept_steps: int,
    backward_overwrites: bool = False,
) -> tuple[Tensor, ...]:
    """What the operator returns, in shapes alone: output, h_n, c_n, and gates and cells to keep."""
    directions, _, hidden_size = c_0.shape
    padded_size = (hidden_size + PADDING - 1) // PADDING * PADDING
    return (
        data.new_empty(*data.shape[:-1], directions * h_0.size(2)),
        h_0.new_empty(h_0.shape),
        c_0.new_empty(c_0.shape),
        data.new_empty(directions, kept_steps, 4 * padded_size),
        data.new_empty(directions, kept_steps, padded_size),
    )


def _empty_gradients(
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    data: Tensor,
    lengths: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    output: Tensor,
    gates: Tensor,
    cells: Tensor,
    batch_first: bool,
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
    *tensors, ctx.batch_first, _, ctx.backward_overwrites = inputs
    results, _, _, gates, cells = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(gates, cells)
    ctx.save_for_backward(*tensors, results, gates, cells)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, output, gates, cells = ctx.saved_tensors
    data, lengths, h_0, c_0, weight_ih, weight_hh, _, weight_hr = inputs
    needs_data, _, *needs = ctx.needs_input_grad[:8]
    if needs_plain_gradients(grads):
        d_data, *found = _plain_gradients(ctx, inputs, grads[:3])
    else:
        operator = torch.ops.attnlstm.lstm_layer_backward
        if ctx.backward_overwrites and not _is_needed_again(gates):
            operator = torch.ops.attnlstm.lstm_layer_backward_  # in the memory of the gates: faster
        d_data, *found = operator(
            *grads[:3],
            *(data, lengths, h_0, c_0, weight_ih, weight_hh, weight_hr),
            *(output, gates, cells),
            ctx.batch_first,
            needs_data,
        )
    gradients = [d if need else None for d, need in zip(found, needs, strict=True)]
    return (d_data if needs_data else None, None, *gradients, None, None, None)


def _is_needed_again(kept: Tensor) -> bool:
    """Whether what the forward kept may be read after this backward.

    So it is with `retain_graph`, and when a compiler or tracer of any kind looks on.
    """
    return (
        type(kept) is not Tensor
        or torch.compiler.is_compiling()
        or torch.utils._python_dispatch._get_current_dispatch_mode() is not None
        or torch._C._autograd._get_current_graph_task_keep_graph()
    )


def _plain_gradients(
    ctx: Any, inputs: Sequence[Any], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients of the operator's tensors but `lengths`, by the naive backend's formulas."""
    data, lengths, *others = inputs
    needs_data, _, *needs = ctx.needs_input_grad[:8]

    def run(data: Tensor, h_0: Tensor, c_0: Tensor, *stacked: Tensor | None) -> list[Tensor]:
        weight_ih, weight_hh, bias, weight_hr = (
            [None] * len(h_0) if part is None else part.unbind() for part in stacked
        )
        weights = [
            Weights(w_ih, w_hh, b, None if b is None else torch.zeros_like(b), w_hr)  # type: ignore[arg-type]
            for w_ih, w_hh, b, w_hr in zip(weight_ih, weight_hh, bias, weight_hr, strict=True)
        ]
        if data.dim() == 2:
            sizes = BatchSizes.of_lengths(lengths)
            output, state = naive.NaiveBackend().layer(data, sizes, (h_0, c_0), weights, Cell())
        else:
            output, state = naive.NaiveBackend().run_padded(
                data,
                lengths,
                (h_0, c_0),
                [weights],
                Cell(),
                batch_first=ctx.batch_first,
                dropout=0.0,
                variational_dropout=0.0,
                training=True,
            )
        return [output, *state]

    return plain_gradients(run, (data, *others), [needs_data, *needs], grads)
