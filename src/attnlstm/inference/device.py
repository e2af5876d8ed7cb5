"""The device and the precision that a model predicts with."""

from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor, nn


class Device(Protocol):
    """The methods of Lightning's Fabric that `Predictor` uses."""

    def setup_module(self, module: nn.Module, /) -> nn.Module:
        """Return the module on the device, in its precision."""

    def to_device(self, tensor: Tensor, /) -> Tensor:
        """Return the tensor on the device."""


class CPU:
    """The CPU in single precision: nothing is moved or converted."""

    def setup_module(self, module: nn.Module, /) -> nn.Module:
        return module

    def to_device(self, tensor: Tensor, /) -> Tensor:
        return tensor


def choose_device(accelerator: str, precision: int | str | None) -> Device:
    """Return a device for Lightning's names; the CPU in float32 does not import Lightning."""
    has_accelerator = torch.accelerator.is_available() or find_spec("torch_xla") is not None
    is_cpu = accelerator == "cpu" or (accelerator == "auto" and not has_accelerator)
    if is_cpu and precision in (None, 32, "32-true"):
        return CPU()
    # not at the top: importing Lightning takes three seconds
    from lightning.fabric import Fabric

    from attnlstm.training.trainer import silence_known_warnings

    silence_known_warnings()
    return Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
