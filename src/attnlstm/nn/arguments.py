"""Checks of the arguments of the modules, with nn.LSTM's messages where it has such a check."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from attnlstm.nn.backends.base import State

INTEGER_DTYPES = {
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
}

AUTOCAST_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""The dtypes that autocast casts; it does not touch float64 and complex numbers."""


def check_lengths(lengths: Tensor | Sequence[int], batch: int, time: int) -> Tensor:
    """Return lengths as an int64 tensor [batch] on the CPU, where the packed layout is computed.

    Raises:
        ValueError: they are not `batch` integers from 0 to `time`.
    """
    if not isinstance(lengths, Tensor):
        lengths = torch.as_tensor(lengths, device="cpu")
    if lengths.shape != (batch,):
        raise ValueError(f"Expected lengths size ({batch},), got {tuple(lengths.shape)}")
    if batch == 0:
        return torch.zeros(0, dtype=torch.int64)
    if lengths.dtype not in INTEGER_DTYPES:
        raise ValueError(f"lengths should be integers, got {lengths.dtype}")
    if lengths.dtype != torch.int64 or not lengths.is_cpu:
        lengths = lengths.to("cpu", torch.int64)
    if torch.compiler.is_exporting():  # the values are not known yet
        return lengths
    values = lengths.tolist()  # much faster than operators on a tensor of this size
    if not 0 <= min(values) <= max(values) <= time:
        raise ValueError(
            f"lengths should be from 0 to the {time} steps of the input, "
            f"got {min(values)} to {max(values)}"
        )
    return lengths


def check_packed(data: Tensor, batch_sizes: Tensor, dtype: torch.dtype) -> None:
    """Raise a RuntimeError unless a PackedSequence is consistent and has the weights' dtype."""
    if data.dtype != dtype and autocast_dtype(data) is None:
        raise RuntimeError(f"Expected packed input of the weights' dtype {dtype}, got {data.dtype}")
    sizes = batch_sizes.tolist()
    if sum(sizes) != len(data) or sizes != sorted(sizes, reverse=True):
        raise RuntimeError(
            f"Expected batch_sizes in descending order that sum to the {len(data)} rows of the "
            f"packed data, got {sizes}"
        )


def check_state(hx: object) -> None:
    """Raise a TypeError or, as nn.LSTM does, a RuntimeError unless hx is a pair of h_0 and c_0."""
    if not isinstance(hx, tuple | list):
        raise TypeError(f"hx should be a tuple of h_0 and c_0, got {type(hx).__name__}")
    if len(hx) != 2:
        raise RuntimeError(f"lstm expects two hidden states, h_0 and c_0, got {len(hx)}")


def check_devices(data: Tensor, weight: Tensor, hx: State | None) -> None:
    """Raise nn.LSTM's RuntimeError unless input, weights and state are on one device."""
    for name, tensor in (("parameter", weight), *(("hidden", part) for part in hx or ())):
        if tensor.device != data.device:
            raise RuntimeError(
                f"Input and {name} tensors are not at the same device, found input tensor at "
                f"{data.device} and {name} tensor at {tensor.device}"
            )


def check_state_dtypes(data: Tensor, hx: State) -> None:
    """Raise a RuntimeError unless h_0 and c_0 have the input's dtype."""
    for number, state in enumerate(hx):
        if state.dtype != data.dtype:
            raise RuntimeError(
                f"Expected hidden[{number}] of the input's dtype {data.dtype}, got {state.dtype}"
            )


def check_probability(name: str, value: object) -> None:
    """Raise nn.LSTM's ValueError unless the value is a number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value <= 1:
        raise ValueError(f"{name} should be a number in range [0, 1], got: {value!r}")


def autocast_dtype(data: Tensor) -> torch.dtype | None:
    """Return the dtype to which autocast casts, or None if it does not cast this tensor."""
    if not torch._C._is_any_autocast_enabled():  # the check that nn.LSTM makes
        return None
    device_type = data.device.type
    if not torch.amp.is_autocast_available(device_type):
        return None
    if not torch.is_autocast_enabled(device_type) or data.dtype not in AUTOCAST_DTYPES:
        return None
    return torch.get_autocast_dtype(device_type)


def check_finite(name: str, value: object) -> None:
    """Raise a ValueError unless the value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, float | int) or not math.isfinite(value):
        raise ValueError(f"{name} should be a finite number, got: {value!r}")
