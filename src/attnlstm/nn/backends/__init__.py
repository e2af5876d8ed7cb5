"""The backends by name, and the rule by which `auto` chooses one."""

import warnings
from functools import cache

import torch

from attnlstm.nn.backends.base import Backend
from attnlstm.nn.backends.fused import FusedBackend
from attnlstm.nn.backends.naive import NaiveBackend
from attnlstm.nn.backends.native import NativeBackend
from attnlstm.nn.backends.torch_kernels import TorchBackend
from attnlstm.nn.cell import Cell

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (NaiveBackend(), FusedBackend(), TorchBackend(), NativeBackend())
}


def choose_backend(
    name: str, cell: Cell, dtype: torch.dtype, device: torch.device, *, ragged: bool
) -> Backend:
    """The backend called `name`, or for "auto" the fastest that supports the request.

    Raises:
        ValueError: the name is unknown, or the backend does not support the request; the message
            says why, and which backends do.
    """
    if name == "auto":
        for candidate in (BACKENDS[name] for name in _fastest_first(dtype, device, ragged=ragged)):
            if candidate.unsupported(cell, dtype, device) is None:
                return candidate
            if isinstance(candidate, NativeBackend) and candidate.failure is not None:
                _warn_once(
                    f"without the native kernels, which cannot be built: {candidate.failure}"
                )
        name = "naive"
    if name not in BACKENDS:
        raise ValueError(
            f"backend should be one of {', '.join(['auto', *BACKENDS])}, got: {name!r}"
        )
    reason = BACKENDS[name].unsupported(cell, dtype, device)
    if reason is not None:
        able = [n for n, b in BACKENDS.items() if b.unsupported(cell, dtype, device) is None]
        mend = f"use backend={' or '.join(map(repr, able))}" if able else "no backend can"
        raise ValueError(f"backend={name!r} cannot run this LSTM: {reason}; {mend}")
    return BACKENDS[name]


def _fastest_first(dtype: torch.dtype, device: torch.device, *, ragged: bool) -> list[str]:
    """The order in which `auto` asks the backends, by what benchmarks/lstm.py measures."""
    if device.type != "cpu":
        return ["torch", "fused"]  # cuDNN does not mind ragged batches
    # Under torch.func's transforms nn.LSTM's kernels have no batching.
    if torch._C._functorch.maybe_current_level() is not None:
        return ["fused", "torch"]
    # A trace is to work where our kernels are not, and is checked without gradients.
    if torch.jit.is_tracing():
        return ["torch", "fused"]
    # oneDNN multiplies bfloat16 in the processor's own units for it; ours in float32.
    if dtype == torch.bfloat16 and not ragged:
        return ["torch", "native", "fused"]
    # What the native kernels do not support, nn.LSTM's are the fastest for, but they leave oneDNN
    # as soon as lengths differ, which costs the most in training.
    return [
        "native",
        *(["fused", "torch"] if ragged and torch.is_grad_enabled() else ["torch", "fused"]),
    ]


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=5)


__all__ = ["BACKENDS", "Backend", "choose_backend"]
