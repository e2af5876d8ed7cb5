"""Our own kernels for the CPU, in C++: csrc/layer.h has the formulas and the shapes."""

from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from threading import Lock

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
from attnlstm.nn.backends.transforms import is_transformed, plain_gradients
from attnlstm.nn.cell import GATES, Cell, Weights

DTYPES = (torch.float32, torch.float64, torch.bfloat16)

PADDING = 16
"""csrc/layer.h pads hidden sizes to a multiple of this (its kPadding)."""


class NativeBackend(Backend):
    """One operator for both directions of a layer; threads share out the sequences."""

    name = "native"

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_loaded = False
        self._library: torch.library.Library | None = None
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
        if self.load() is not None:
            return f"the native kernels cannot be built here: {self.failure}"
        return None

    def load(self) -> str | None:
        """Build and load the operators, or set and return `failure`, once in a process."""
        if not self._is_loaded:
            with self._lock:
                self._load()
        return self.failure

    def _load(self) -> None:
        if not self._is_loaded:
            self.failure = load_library()
            if self.failure is None:
                self._library = _register()
                multiplies_bfloat16()
            self._is_loaded = True

    def run_padded(
        self,
        input: Tensor,
        lengths: Tensor | None,
        state: State | None,
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
            lengths, steps = torch.full((batch,), time), batch * time
        else:
            # What is exported is a graph to run, of steps not known yet.
            steps = 0 if torch.compiler.is_exporting() else sum(lengths.tolist())
        return run_layers(
            lambda data, *arguments: _layer(
                data, lengths, steps, *arguments, batch_first=batch_first
            ),
            input,
            state,
            weights,
        )

    def layer(
        self,
        data: Tensor,
        batch_sizes: BatchSizes,
        state: State | None,
        weights: Sequence[Weights],
        cell: Cell,
    ) -> tuple[Tensor, State]:
        if is_transformed():
            return run_directions(naive.recurrence, data, batch_sizes, state, weights, cell)
        return _layer(data, batch_sizes.lengths, len(data), state, weights, batch_first=False)


def _layer(
    data: Tensor,
    lengths: Tensor,
    steps: int,
    state: State | None,
    weights: Sequence[Weights],
    *,
    batch_first: bool,
) -> tuple[Tensor, State]:
    """One layer; data [T, B, F], [B, T, F] or packed [N, F], and so the output."""
    dtype, has_projection = data.dtype, weights[0].weight_hr is not None
    if dtype == torch.bfloat16 and (has_projection or not multiplies_bfloat16()):
        output, (h_n, c_n) = _layer(
            data.float(),
            lengths,
            steps,
            state and (state[0].float(), state[1].float()),
            [w.to(torch.float32) for w in weights],
            batch_first=batch_first,
        )
        return output.to(dtype), (h_n.to(dtype), c_n.to(dtype))
    flat = [weight for direction in weights for weight in direction if weight is not None]
    keep = (
        torch.is_grad_enabled()
        and not torch.compiler.is_exporting()
        and any(map(attrgetter("requires_grad"), (*flat, data, *(state or ()))))
    )
    h_0, c_0 = state or (None, None)
    output, h_n, c_n, _, _ = torch.ops.attnlstm.lstm_layer.default(
        data, lengths, h_0, c_0, flat, len(weights), batch_first, steps if keep else 0, True
    )
    return output, (h_n, c_n)


@cache  # the operator is asked before there is anything to trace
def multiplies_bfloat16() -> bool:
    """Whether the operators take bfloat16, which they sum and keep the cell state of in float32."""
    return bool(torch.ops.attnlstm.multiplies_bfloat16())


def release_memory() -> None:
    """Give back the memory that the operators keep between calls, as torch.cuda.empty_cache does.

    At most 512 MiB, and only of batches that train: to get memory anew from the system takes up to
    a seventh of their time.
    """
    if hasattr(torch.ops.attnlstm, "release_memory"):  # they have been built and loaded
        torch.ops.attnlstm.release_memory()


def _register() -> torch.library.Library:
    """Tell torch the shapes and the gradient of the operator, for as long as the result lives."""
    library = torch.library.Library("attnlstm", "IMPL")
    torch.library.register_fake("attnlstm::lstm_layer", _empty_results)
    for name in ("lstm_layer_backward", "lstm_layer_backward_"):
        torch.library.register_fake(f"attnlstm::{name}", _empty_gradients)
    for key in ("CompositeImplicitAutograd", "FuncTorchBatched", "Batched"):
        library.impl("lstm_layer_plain_backward", _plain_backward, key)
    return library


def _empty_results(
    data: Tensor,
    lengths: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: Sequence[Tensor],
    directions: int,
    batch_first: bool,
    kept_steps: int,
    backward_overwrites: bool,
) -> tuple[Tensor, ...]:
    """What the operator returns, in shapes alone: output, h_n, c_n, and gates and cells to keep."""
    hidden_size, size_h = weights[1].size(0) // len(GATES), weights[1].size(1)
    padded_size = (hidden_size + PADDING - 1) // PADDING * PADDING
    cell_dtype = torch.float32 if data.dtype == torch.bfloat16 else data.dtype
    return (
        data.new_empty(*data.shape[:-1], directions * size_h),
        data.new_empty(directions, lengths.size(0), size_h),
        data.new_empty(directions, lengths.size(0), hidden_size),
        data.new_empty(directions, kept_steps, 4 * padded_size),
        data.new_empty(directions, kept_steps, padded_size, dtype=cell_dtype),
    )


def _empty_gradients(
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    data: Tensor,
    lengths: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: Sequence[Tensor],
    output: Tensor,
    gates: Tensor,
    cells: Tensor,
    directions: int,
    batch_first: bool,
    needs_data: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """The gradients in shapes alone: of data, h_0, c_0 and the weights."""
    return (
        data.new_empty(data.shape if needs_data else (0,)),
        data.new_empty((0,) if h_0 is None else h_0.shape),
        data.new_empty((0,) if c_0 is None else c_0.shape),
        [weight.new_empty(weight.shape) for weight in weights],
    )


def _plain_backward(
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    data: Tensor,
    lengths: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: Sequence[Tensor],
    directions: int,
    batch_first: bool,
) -> list[Tensor | None]:
    """The gradients, of those tensors that require one, in the naive backend's operations."""
    inputs = (data, h_0, c_0, *weights)
    run = _plain_layer(lengths, len(weights) // directions, batch_first)
    needed = [tensor is not None and tensor.requires_grad for tensor in inputs]
    d_data, *found = plain_gradients(run, inputs, needed, (d_output, d_h_n, d_c_n))
    return [d_data, None, *found]


def _plain_layer(
    lengths: Tensor, per_direction: int, batch_first: bool
) -> Callable[..., list[Tensor]]:
    """The operator, of its tensors but `lengths`, by the naive backend."""
    has_bias, projects = per_direction >= 4, per_direction % 2 == 1
    names = ["weight_ih", "weight_hh"]
    names += ["bias_ih", "bias_hh"] if has_bias else []
    names += ["weight_hr"] if projects else []

    def run(data: Tensor, h_0: Tensor | None, c_0: Tensor | None, *flat: Tensor) -> list[Tensor]:
        weights = [
            Weights(**dict(zip(names, flat[first : first + per_direction], strict=True)))
            for first in range(0, len(flat), per_direction)
        ]
        backend = naive.NaiveBackend()
        initial = None if h_0 is None or c_0 is None else (h_0, c_0)
        if data.dim() == 2:
            output, state = backend.layer(
                data, BatchSizes.of_lengths(lengths), initial, weights, Cell()
            )
        else:
            output, state = backend.run_padded(
                data,
                lengths,
                initial,
                [weights],
                Cell(),
                batch_first=batch_first,
                dropout=0.0,
                variational_dropout=0.0,
                training=True,
            )
        return [output, *state]

    return run
