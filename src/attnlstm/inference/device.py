"""Where, and in which precision, a model predicts."""

from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor, nn


class Device(Protocol):
    """What `Predictor` asks of a device: Lightning's Fabric, or `CPU`."""

    def setup_module(self, module: nn.Module, /) -> nn.Module:
        """The module on the device, in its precision."""

    def to_device(self, tensor: Tensor, /) -> Tensor:
        """The tensor on the device."""


class CPU:
    """The CPU in single precision, where there is nothing to move or to convert."""

    def setup_module(self, module: nn.Module, /) -> nn.Module:
        return module

    def to_device(self, tensor: Tensor, /) -> Tensor:
        return tensor


def choose_device(accelerator: str, precision: int | str | None) -> Device:
    """What Lightning means by these names; but it is not imported for the CPU in float32."""
    has_accelerator = torch.accelerator.is_available() or find_spec("torch_xla") is not None
    is_cpu = accelerator == "cpu" or (accelerator == "auto" and not has_accelerator)
    if is_cpu and precision in (None, 32, "32-true"):
        return CPU()
    # not at the top: importing Lightning takes three seconds
    from lightning.fabric import Fabric

    from attnlstm.training.trainer import silence_known_warnings

    silence_known_warnings()
    return Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
