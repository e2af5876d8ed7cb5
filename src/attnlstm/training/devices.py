"""Checks of the keys of `trainer` that depend on the machine, in the words of the configuration.

This module must not import Lightning, which is slow to import.
"""

import logging
from importlib.util import find_spec

import torch

from attnlstm.config.checks import show
from attnlstm.config.lightning import Precision, TrainerConfig
from attnlstm.errors import UserError

logger = logging.getLogger(__name__)

NAMES = {"cpu": "the CPU", "cuda": "a CUDA GPU", "mps": "an Apple GPU", "tpu": "a TPU"}


def check_devices(config: TrainerConfig) -> None:
    """Check that this machine has what the configuration asks for.

    Raises:
        UserError: it does not; the message names the key.
    """
    kind = find_kind(config.accelerator)
    number = _count_devices(config.devices, kind)
    _check_strategy(config.strategy, kind, number)
    choose_precision(config.precision, None, kind)


def find_kind(accelerator: str) -> str:
    """Return the kind of device, "cpu", "cuda", "mps" or "tpu", for a value of the key.

    Raises:
        UserError: the machine has no such device.
    """
    has = {
        "tpu": find_spec("torch_xla") is not None,
        "mps": torch.backends.mps.is_available(),
        "cuda": torch.cuda.is_available(),
        "cpu": True,
    }
    wanted = {"auto": tuple(has), "gpu": ("mps", "cuda")}.get(accelerator, (accelerator,))
    for kind in wanted:
        if has[kind]:
            return kind
    known = " or ".join(name for name in ("auto", *reversed(has)) if has.get(name, True))
    raise UserError(
        f"trainer.accelerator={accelerator}: this machine has no such device, or torch was built "
        f"without it: choose {known}"
    )


def find_fault(precision: Precision | None, kind: str) -> str | None:
    """Return why a kind of device cannot compute in a precision, with what can; None if it can."""
    name = str(precision)
    if name.startswith("transformer-engine") and (
        kind != "cuda" or find_spec("transformer_engine") is None
    ):
        return "needs a CUDA GPU and the package transformer_engine: choose bf16-mixed"
    if kind == "cpu" and name in ("16", "16-mixed", "16-true"):
        return "needs a GPU: on the CPU, choose bf16-mixed or 32-true"
    if kind == "mps" and name.startswith("64"):
        return "is not possible on an Apple GPU: choose 32-true, or trainer.accelerator=cpu"
    return None


def choose_precision(
    given: Precision | None, trained: Precision | None, kind: str
) -> Precision | None:
    """Return the precision of predictions: the given one, else that of training if it is possible.

    Raises:
        UserError: the given one is not.
    """
    if given is not None:
        if (fault := find_fault(given, kind)) is not None:
            raise UserError(f"trainer.precision={given} {fault}")
        return given
    if find_fault(trained, kind) is not None:
        logger.info("trained with precision %s, which is not possible here: 32-true", trained)
        return None
    return trained


def _count_devices(devices: int | str | list[int], kind: str) -> int:
    """Return the number of devices that a value of the key asks for; 1 if that is open.

    Raises:
        UserError: the machine does not have them.
    """
    if devices == "auto" or kind == "tpu":
        return 1
    chosen: int | list[int]
    if isinstance(devices, str):
        chosen = list(map(int, devices.split(","))) if "," in devices else int(devices)
    else:
        chosen = devices
    start = f"trainer.devices={show(devices)}"
    if kind == "cpu":
        if isinstance(chosen, list) or chosen < 1:
            raise UserError(f"{start}: on the CPU this is the number of processes, such as 1")
        return chosen
    most = torch.cuda.device_count() if kind == "cuda" else 1
    has = f"this machine has {most} GPU{'s' * (most > 1)}"
    if isinstance(chosen, list):
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(most)):
            raise UserError(f"{start}: {has}, with numbers from 0: name each one once")
        return len(chosen)
    if chosen == 0 or chosen > most:
        raise UserError(f"{start}: {has}: choose a number up to {most}, or auto for all")
    return most if chosen == -1 else chosen


def _check_strategy(strategy: str, kind: str, number: int) -> None:
    start = f"trainer.strategy={strategy}"
    needed = None
    if strategy.startswith(("deepspeed", "fsdp")):
        needed = "cuda"
    elif strategy.startswith(("xla", "single_tpu", "single_xla")):
        needed = "tpu"
    if needed is not None and kind != needed:
        raise UserError(
            f"{start} needs {NAMES[needed]}, and this run is on {NAMES[kind]}: choose auto or ddp"
        )
    if strategy.startswith("deepspeed") and find_spec("deepspeed") is None:
        raise UserError(f"{start} needs the package deepspeed: install it, or choose ddp")
    if strategy == "single_device" and number > 1:
        raise UserError(f"{start} uses one device: set trainer.devices=1, or choose ddp")
    if kind == "mps" and strategy not in ("auto", "single_device"):
        raise UserError(f"{start} does not run on an Apple GPU: choose auto")
    if kind == "cuda" and ("fork" in strategy or "notebook" in strategy):
        raise UserError(
            f"{start} cannot start processes, as this one uses the GPU already: choose ddp"
        )
