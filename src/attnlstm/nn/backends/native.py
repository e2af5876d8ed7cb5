"""Our own kernels for the CPU, in C++: csrc/layer.h has the formulas and the shapes.

    NativeBackend            Python's side: which requests it takes, and how a batch is handed over
    torch.ops.attnlstm       the operators, built on first use by native_build.py
    `_register`              what torch needs to know about them: shapes, and gradients of gradients

One operator runs all directions of a layer on padded or packed sequences as they are. Its threads
share the sequences, so nothing is packed, masked or copied.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from operator import attrgetter
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnlstm.nn.backends.base import Backend, Directions, Stack, State, run_layers
from attnlstm.nn.backends.naive import NAIVE
from attnlstm.nn.backends.native_build import load_library
from attnlstm.nn.backends.packed import BatchSizes
from attnlstm.nn.backends.transforms import is_transformed, plain_gradients
from attnlstm.nn.cell import GATES, STANDARD, Cell, Weights

DTYPES = (torch.float32, torch.float64, torch.bfloat16)

PADDING = 16
"""csrc/layer.h pads hidden sizes to a multiple of this (its kPadding)."""


class LayerInputs(NamedTuple):
    """The arguments that all operators have in common, in the order of csrc/operators.cpp.

    data: [T, B, F], [B, T, F] or packed [N, F].
    lengths: [B], int64.
    h_0, c_0: [D, B, P] and [D, B, H], or None.
    weights: of one direction after the other, without those that are None.
    directions: D.
    batch_first: the layout of padded data.
    """

    data: Tensor
    lengths: Tensor
    h_0: Tensor | None
    c_0: Tensor | None
    weights: Sequence[Tensor]
    directions: int
    batch_first: bool


class NativeBackend(Backend):
    """One operator for both directions of a layer, whose threads share the sequences."""

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
        """Build and load the operators, once in a process.

        Returns:
            the reason why that is impossible, or None; it is also kept as `failure`.
        """
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
        stack: Stack,
        *,
        batch_first: bool,
    ) -> tuple[Tensor, State]:
        # Dropout is drawn for packed steps, so that a seed has the same effect in every backend.
        if stack.drops or is_transformed():
            return super().run_padded(input, lengths, state, stack, batch_first=batch_first)
        if lengths is None:
            batch, time = input.shape[:2] if batch_first else (input.size(1), input.size(0))
            lengths, steps = torch.full((batch,), time), batch * time
        else:
            # An exported graph keeps nothing for a backward, and its lengths are not known yet.
            steps = 0 if torch.compiler.is_exporting() else sum(lengths.tolist())
        layer = partial(_run_layer, lengths=lengths, steps=steps, batch_first=batch_first)
        return run_layers(layer, input, state, stack.weights)

    def layer(
        self, data: Tensor, sizes: BatchSizes, state: State | None, weights: Directions, cell: Cell
    ) -> tuple[Tensor, State]:
        if is_transformed():
            return NAIVE.layer(data, sizes, state, weights, cell)
        return _run_layer(
            data, state, weights, lengths=sizes.lengths, steps=len(data), batch_first=False
        )


def _run_layer(
    data: Tensor,
    state: State | None,
    weights: Directions,
    *,
    lengths: Tensor,
    steps: int,
    batch_first: bool,
) -> tuple[Tensor, State]:
    """Run one layer by the operator.

    Args:
        data: [T, B, F], [B, T, F] with `batch_first`, or packed [N, F]; the same for the output.
        state: h_0 [D, B, P] and c_0 [D, B, H]; None: zeros.
        weights: of each direction.
        lengths: [B], int64 on the CPU.
        steps: their sum N.
        batch_first: the layout.
    """
    dtype, has_projection = data.dtype, weights[0].weight_hr is not None
    if dtype == torch.bfloat16 and (has_projection or not multiplies_bfloat16()):
        _check_dtypes(dtype, weights)
        output, (h_n, c_n) = _run_layer(
            data.float(),
            state and (state[0].float(), state[1].float()),
            [w.to(torch.float32) for w in weights],
            lengths=lengths,
            steps=steps,
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
    inputs = LayerInputs(
        data=data,
        lengths=lengths,
        h_0=h_0,
        c_0=c_0,
        weights=flat,
        directions=len(weights),
        batch_first=batch_first,
    )
    kept_steps, backward_overwrites = steps if keep else 0, True
    # By position, because named arguments of an operator cost more than the tuple does.
    output, h_n, c_n, _, _ = torch.ops.attnlstm.lstm_layer.default(
        *inputs, kept_steps, backward_overwrites
    )
    return output, (h_n, c_n)


def _check_dtypes(dtype: torch.dtype, weights: Directions) -> None:
    """Raise the RuntimeError that the operator raises for weights in another dtype."""
    for weight in (w for direction in weights for w in direction if w is not None):
        if weight.dtype != dtype:
            raise RuntimeError(f"Expected weights in the input's {dtype}, got {weight.dtype}")


@cache  # the operator is called before there is anything to trace
def multiplies_bfloat16() -> bool:
    """Whether the operators take bfloat16; sums and cell states are then float32."""
    return bool(torch.ops.attnlstm.multiplies_bfloat16())


def release_memory() -> None:
    """Return the memory that the operators keep between calls, as torch.cuda.empty_cache does.

    They keep at most 512 MiB, and only for batches that train. Getting new memory from the system
    takes up to a seventh of the time of a training step.
    """
    if hasattr(torch.ops.attnlstm, "release_memory"):  # they are built and loaded
        torch.ops.attnlstm.release_memory()


NUM_GRADIENTS = 3
"""The backward operators take the gradients of output, h_n and c_n before the layer's inputs."""


def _register() -> torch.library.Library:
    """Tell torch the operators' shapes and gradients, for as long as the result lives."""
    library = torch.library.Library("attnlstm", "IMPL")
    torch.library.register_fake("attnlstm::lstm_layer", _empty_results)
    for name in ("lstm_layer_backward", "lstm_layer_backward_"):
        torch.library.register_fake(f"attnlstm::{name}", _empty_gradients)
    for key in ("CompositeImplicitAutograd", "FuncTorchBatched", "Batched"):
        library.impl("lstm_layer_plain_backward", _plain_backward, key)
    return library


def _empty_results(*arguments: Any) -> tuple[Tensor, ...]:
    """Return tensors shaped as lstm_layer's results: output, h_n, c_n, gates and cells."""
    *common, kept_steps, _ = arguments
    inputs = LayerInputs._make(common)
    data, weights, directions = inputs.data, inputs.weights, inputs.directions
    for name, weight in zip(_names_of_weights(inputs) * directions, weights, strict=True):
        if weight.device != data.device:  # torch calls this also if only one of them is "meta"
            raise RuntimeError(f"Expected {name} on {data.device}, got {weight.device}")
    batch = inputs.lengths.size(0)
    hidden_size, size_h = weights[1].size(0) // len(GATES), weights[1].size(1)
    padded_size = (hidden_size + PADDING - 1) // PADDING * PADDING
    cell_dtype = torch.float32 if data.dtype == torch.bfloat16 else data.dtype
    return (
        data.new_empty(*data.shape[:-1], directions * size_h),
        data.new_empty(directions, batch, size_h),
        data.new_empty(directions, batch, hidden_size),
        data.new_empty(directions, kept_steps, 4 * padded_size),
        data.new_empty(directions, kept_steps, padded_size, dtype=cell_dtype),
    )


def _empty_gradients(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Return tensors shaped as the gradients of data, h_0, c_0 and the weights."""
    *common, _output, _gates, _cells, needs_data = arguments[NUM_GRADIENTS:]
    inputs = LayerInputs._make(common)
    data, h_0, c_0 = inputs.data, inputs.h_0, inputs.c_0
    return (
        data.new_empty(data.shape if needs_data else (0,)),
        data.new_empty((0,) if h_0 is None else h_0.shape),
        data.new_empty((0,) if c_0 is None else c_0.shape),
        [weight.new_empty(weight.shape) for weight in inputs.weights],
    )


def _plain_backward(*arguments: Any) -> list[Tensor | None]:
    """Compute the gradients of data, lengths, h_0, c_0 and the weights by plain operations.

    The ones of tensors that require no gradient are None.
    """
    inputs = LayerInputs._make(arguments[NUM_GRADIENTS:])
    tensors = (inputs.data, inputs.h_0, inputs.c_0, *inputs.weights)
    needed = [tensor is not None and tensor.requires_grad for tensor in tensors]
    d_data, *others = plain_gradients(
        _plain_layer(inputs), tensors, needed, arguments[:NUM_GRADIENTS]
    )
    return [d_data, None, *others]


def _plain_layer(inputs: LayerInputs) -> Callable[..., list[Tensor]]:
    """Return a function of data, h_0, c_0 and the weights that runs the layer plainly."""
    names = _names_of_weights(inputs)
    per_direction = len(names)

    def run(data: Tensor, h_0: Tensor | None, c_0: Tensor | None, *flat: Tensor) -> list[Tensor]:
        weights = [
            Weights(**dict(zip(names, flat[first : first + per_direction], strict=True)))
            for first in range(0, len(flat), per_direction)
        ]
        initial = None if h_0 is None or c_0 is None else (h_0, c_0)
        if data.dim() == 2:
            sizes = BatchSizes.of_lengths(inputs.lengths)
            output, state = NAIVE.layer(data, sizes, initial, weights, STANDARD)
        else:
            output, state = NAIVE.run_padded(
                data,
                inputs.lengths,
                initial,
                Stack([weights], STANDARD),
                batch_first=inputs.batch_first,
            )
        return [output, *state]

    return run


def _names_of_weights(inputs: LayerInputs) -> list[str]:
    """Return the names of the weights of one direction, in their order."""
    per_direction = len(inputs.weights) // inputs.directions
    has_bias, projects = per_direction >= 4, per_direction % 2 == 1
    names = ["weight_ih", "weight_hh"]
    names += ["bias_ih", "bias_hh"] if has_bias else []
    return [*names, *(["weight_hr"] if projects else [])]
