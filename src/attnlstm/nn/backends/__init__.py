"""The backends by name, and the rule by which `auto` chooses one."""

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
        # nn.LSTM's kernels on the CPU leave oneDNN as soon as lengths differ, which costs the most
        # in training; cuDNN's do not care. Under torch.func's transforms they have no batching.
        # A trace is checked without gradients and must come out the same.
        trains = torch.is_grad_enabled() and not torch.jit.is_tracing()
        trains_ragged = ragged and device.type == "cpu" and trains
        is_transformed = torch._C._functorch.maybe_current_level() is not None
        order = ["fused", "torch"] if trains_ragged or is_transformed else ["torch", "fused"]
        if device.type == "cpu" and not torch.jit.is_tracing() and not is_transformed:
            order = ["native", *order]
        for candidate in order:
            if BACKENDS[candidate].unsupported(cell, dtype, device) is None:
                return BACKENDS[candidate]
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


__all__ = ["BACKENDS", "Backend", "choose_backend"]
