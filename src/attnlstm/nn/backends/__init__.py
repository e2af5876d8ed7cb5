"""The backends by name, and the rules by which "auto" chooses one.

    naive     the textbook formulas in plain autograd
    fused     one matrix product a step, and a backward that is written out
    torch     nn.LSTM's own kernels
    native    our own kernels in C++, for the CPU

All compute the same function. They differ in speed, and in the options, dtypes and devices that
they support.
"""

import warnings
from functools import cache

import torch

from attnlstm.nn.backends.base import Backend
from attnlstm.nn.backends.fused import FusedBackend
from attnlstm.nn.backends.naive import NaiveBackend
from attnlstm.nn.backends.native import NativeBackend, multiplies_bfloat16
from attnlstm.nn.backends.torch_kernels import TorchBackend
from attnlstm.nn.cell import Cell

NATIVE = NativeBackend()

HAS_BFLOAT16 = any(map(torch.cpu.get_capabilities().get, ("avx512_bf16", "amx_bf16", "bf16")))
"""Whether this processor has instructions for bfloat16 (Intel's, AMD's or Arm's)."""

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (NaiveBackend(), FusedBackend(), TorchBackend(), NATIVE)
}


def find_backend(name: str, cell: Cell, dtype: torch.dtype, device: torch.device) -> Backend:
    """Return the backend called `name`.

    Raises:
        ValueError: there is no such backend, or it does not support the request. The message says
            why, and which backends do.
    """
    if name not in BACKENDS:
        raise ValueError(
            f"backend should be one of {', '.join(['auto', *BACKENDS])}, got: {name!r}"
        )
    reason = BACKENDS[name].unsupported(cell, dtype, device)
    if reason is not None:
        able = [n for n, b in BACKENDS.items() if b.unsupported(cell, dtype, device) is None]
        fix = f"use backend={' or '.join(map(repr, able))}" if able else "no backend can"
        raise ValueError(f"backend={name!r} cannot run this LSTM: {reason}; {fix}")
    return BACKENDS[name]


def choose_backend(
    cell: Cell,
    dtype: torch.dtype,
    device: torch.device,
    *,
    batch: int,
    hidden_size: int,
    ragged: bool,
) -> Backend:
    """Return the backend that "auto" stands for: the fastest one that supports the request.

    Args:
        cell, dtype, device: what to run, and where.
        batch: number of sequences.
        hidden_size: number of hidden units.
        ragged: whether the sequences differ in length.

    Raises:
        ValueError: no backend supports the request.
    """
    for name in _fastest_first(dtype, device, batch, hidden_size, ragged=ragged):
        candidate = BACKENDS[name]
        if candidate.unsupported(cell, dtype, device) is None:
            return candidate
        if isinstance(candidate, NativeBackend) and candidate.failure is not None:
            _warn_once(f"without the native kernels, which cannot be built: {candidate.failure}")
    return find_backend("naive", cell, dtype, device)


def _fastest_first(
    dtype: torch.dtype, device: torch.device, batch: int, hidden_size: int, *, ragged: bool
) -> list[str]:
    """Return names of backends, the fastest first according to benchmarks/RESULTS.md."""
    if device.type != "cpu":
        return ["torch", "fused"]  # cuDNN is as fast on ragged batches
    # nn.LSTM's kernels have no batching rules for torch.func's transforms.
    if torch._C._functorch.maybe_current_level() is not None:
        return ["fused", "torch"]
    # A trace has to work where our kernels are missing, and is checked without gradients.
    if torch.jit.is_tracing():
        return ["torch", "fused"]
    trains = torch.is_grad_enabled()
    if not ragged and _prefers_torch(dtype, batch, hidden_size, trains):
        return ["torch", "native", "fused"]
    # If the native kernels do not support the request, nn.LSTM's are the fastest, except in
    # training on ragged batches, for which they do not use oneDNN.
    return ["native", *(["fused", "torch"] if ragged and trains else ["torch", "fused"])]


def _prefers_torch(dtype: torch.dtype, batch: int, hidden_size: int, trains: bool) -> bool:
    """Whether nn.LSTM's kernels are faster than ours for a full batch on the CPU."""
    if dtype == torch.float64:
        return not trains  # their tanh of doubles is vectorized
    if dtype == torch.bfloat16:
        if not HAS_BFLOAT16:  # ours then compute in float32, which oneDNN does not
            return False
        # Ours use only the processor's matrix unit for bfloat16, oneDNN also its vector units.
        if not (NATIVE.load() is None and multiplies_bfloat16()):
            return True
    # Ours pack the weights in every call. If these are this large, packing takes as long as many
    # steps, and they do not stay in the second-level cache, even if the threads share them.
    if hidden_size < 512 or batch < 32:
        return False
    return not trains or (dtype != torch.bfloat16 and hidden_size >= 1024)


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=5)


__all__ = ["BACKENDS", "Backend", "choose_backend", "find_backend"]
