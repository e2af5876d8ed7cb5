"""Optimizers and learning rate schedules from plain values, named as in torch.optim."""

import inspect
import math
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from attnlstm.config.checks import check_value, nearest, show, wrong_value
from attnlstm.config.lightning import MONITORED
from attnlstm.errors import UserError

if TYPE_CHECKING:  # importing lightning takes seconds, and this module checks command lines
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""Parameters, or groups of parameters as torch takes them."""

NEED_PYTHON_OBJECTS = ("ChainedScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "SWALR")
"""Schedulers whose arguments are functions or other schedulers, which YAML cannot describe."""

RUN_LENGTH = ("T_max", "total_steps", "total_iters")
"""Arguments of schedulers for which null means the length of the run."""

START = {"optimizer": "sgd", "scheduler": "none"}
"""The choices of conf/ with the fewest keys, from which to start with another class."""

FUSED = ("Adam", "AdamW", "SGD")
"""Optimizers that can update all weights in one kernel, on every device."""

NEVER = sys.maxsize
"""Epochs between the steps of a scheduler that Lightning itself shall not take."""

AT_LEAST_ONE = ("step_size", "T_0", "T_mult", *RUN_LENGTH)
"""Arguments of schedulers that are numbers of steps, of which torch does not refuse 0."""

RESERVED = ("params", "optimizer", "last_epoch", "epochs", "steps_per_epoch")
"""Arguments that cannot be configured: `total_steps` covers the last two."""


def build_optimizer(parameters: Parameters, config: dict[str, Any]) -> Optimizer:
    """Build the class of torch.optim called `config["name"]`, fused if it can be.

    The other keys are its keyword arguments. The `lr_factor` of a parameter group multiplies its
    learning rate.

    Raises:
        UserError: an unknown class or argument, or one that torch refuses.
    """
    cls, arguments = _check_optimizer(config)
    groups = list(parameters)
    lr = arguments.get("lr", inspect.signature(cls).parameters["lr"].default)
    for group in groups:
        if isinstance(group, dict) and "lr_factor" in group:
            group["lr"] = group["lr_factor"] * lr
    # torch refuses to combine it with the other two.
    chooses = arguments.keys() & {"fused", "foreach", "differentiable"}
    defaults = {"fused": True} if cls.__name__ in FUSED and not chooses else {}
    optimizer: Optimizer = _build("optimizer", cls, groups, arguments, **defaults)
    return optimizer


def build_scheduler(
    optimizer: Optimizer, config: dict[str, Any], length: float | None
) -> LRScheduler | None:
    """Build the class of torch.optim.lr_scheduler called `config["name"]`; None if that is None.

    The other keys are its keyword arguments, except Lightning's two: the scheduler steps after each
    `interval`, "epoch" (default) or "step", and ReduceLROnPlateau reads the metric `monitor`. Null
    for `RUN_LENGTH` means `length`, the intervals of the run; None, -1 or infinite: not limited.

    Raises:
        UserError: an unknown class or argument, or one that torch refuses.
    """
    checked = _check_scheduler(config, length)
    if checked is None:
        return None
    cls, arguments = checked
    factors = [group.get("lr_factor", 1.0) for group in optimizer.param_groups]
    for key in ("max_lr", "base_lr"):
        value = arguments.get(key)
        if isinstance(value, int | float) and factors != [1.0] * len(factors):
            arguments[key] = [factor * value for factor in factors]
    scheduler: LRScheduler = _build("scheduler", cls, optimizer, arguments)
    return scheduler


def configure(
    parameters: Parameters,
    config: dict[str, Any],
    total_steps: float,
    epochs: int | None,
) -> "OptimizerLRScheduler":
    """Return the optimizer and the schedule for a LightningModule's `configure_optimizers`.

    The run takes `total_steps`, infinite if they are not limited, and `epochs`, None or -1 if they
    are not. A scheduler that reads validation metrics is left to `on_validation_end` of the module.

    Raises:
        UserError: as `build_optimizer` and `build_scheduler`.
    """
    optimizer = build_optimizer(parameters, config["optimizer"])
    interval = config["scheduler"].get("interval", "epoch")
    length = total_steps if interval == "step" else epochs
    scheduler = build_scheduler(optimizer, config["scheduler"], length)
    if scheduler is None:
        return optimizer
    monitor = config["scheduler"].get("monitor")
    return {
        "optimizer": optimizer,
        "lr_scheduler": {
            "scheduler": scheduler,
            "interval": interval,
            "frequency": NEVER if reads_validation(monitor) else 1,
            "monitor": monitor,
        },
    }


def reads_validation(monitor: str | None) -> bool:
    """Return whether a metric is one of validation rows."""
    return monitor is not None and monitor.startswith("val/")


def check_optimization(optimizer_config: dict[str, Any], scheduler_config: dict[str, Any]) -> None:
    """Take one step with a small model, so that a mistake shows before any data is loaded.

    Raises:
        UserError: as `build_optimizer` and `build_scheduler`, and what torch refuses in a step.
    """
    _check_optimizer(optimizer_config)
    _check_scheduler(scheduler_config, length=100)  # before torch builds anything, which is slow
    try:
        _take_step(optimizer_config, scheduler_config)
    except UserError:
        raise
    except Exception as error:  # torch raises many kinds
        configs = {"optimizer": optimizer_config, "scheduler": scheduler_config}
        wrong = [
            f"{group}.{key}={show(value)}"
            for group, config in configs.items()
            for key, value in config.items()
            if isinstance(value, int | float) and _steps(**configs | {group: config | {key: 1}})
        ]
        listed = ", ".join(wrong) or "the optimizer or the scheduler"
        raise UserError(f"{listed} cannot take a step: {error}") from error


def _take_step(optimizer: dict[str, Any], scheduler: dict[str, Any]) -> None:
    """Take a step with a small model; the arguments are configurations."""
    # As in an LSTM, one parameter is a matrix and one is a vector.
    parameters = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)

    def closure() -> Tensor:
        return torch.zeros(())

    updates = build_optimizer(parameters, optimizer)
    schedule = build_scheduler(updates, scheduler, length=100)
    updates.step(closure)  # type: ignore[arg-type]
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(0.0)
    elif schedule is not None:
        schedule.step()


def _steps(optimizer: dict[str, Any], scheduler: dict[str, Any]) -> bool:
    try:
        _take_step(optimizer, scheduler)
    except Exception:  # whatever torch raises, these arguments do not work
        return False
    return True


def _check_optimizer(config: dict[str, Any]) -> tuple[type, dict[str, Any]]:
    """Return the class and its keyword arguments."""
    cls = _find_class("optimizer", config, torch.optim, Optimizer)
    values = {key: value for key, value in config.items() if key != "name"}
    return cls, _check_arguments("optimizer", cls, values)


def _check_scheduler(
    config: dict[str, Any], length: float | None
) -> tuple[type, dict[str, Any]] | None:
    """Return the class and its keyword arguments; None without a schedule."""
    values = {key: value for key, value in config.items() if key != "name"}
    if config.get("name") is None:
        for key in values:
            raise UserError(f"scheduler.{key} has no effect without scheduler.name")
        return None
    cls = _find_class("scheduler", config, lr_scheduler, LRScheduler)
    interval, monitor = values.pop("interval", "epoch"), values.pop("monitor", None)
    if interval not in ("epoch", "step"):
        raise UserError(f"scheduler.interval={show(interval)}: expected one of epoch, step")
    if cls is not ReduceLROnPlateau and monitor is not None:
        raise UserError(f"scheduler.monitor has no effect: {cls.__name__} reads no metric")
    if cls is ReduceLROnPlateau and not isinstance(monitor, str):
        raise UserError("ReduceLROnPlateau needs scheduler.monitor, such as val/loss")
    if monitor is not None and monitor not in MONITORED:
        raise UserError(
            f"scheduler.monitor={monitor}: did you mean {nearest(monitor, MONITORED)}? "
            f"It must be one of {', '.join(MONITORED)}"
        )
    if cls is ReduceLROnPlateau and interval == "step":
        raise UserError("ReduceLROnPlateau needs scheduler.interval=epoch")
    for key in RUN_LENGTH:
        if key in values and values[key] is None:
            if key not in inspect.signature(cls).parameters:
                del values[key]  # left over from another class
                continue
            if length is None or not 0 < length < math.inf:
                raise UserError(
                    f"scheduler.{key}=null is the length of the run, which has none: set it or "
                    "trainer.max_epochs"
                )
            values[key] = int(length)
    return cls, _check_arguments("scheduler", cls, values)


def _find_class(group: str, config: dict[str, Any], module: Any, base: type) -> type:
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, base)
        and value is not base
        and not name.startswith("_")
        and name not in NEED_PYTHON_OBJECTS
    }
    name: Any = config.get("name")
    if name in NEED_PYTHON_OBJECTS:
        raise UserError(f"{group}.name={name} needs Python objects, which YAML cannot describe")
    if not isinstance(name, str) or name not in classes:
        meant = f"did you mean {nearest(name, classes)}? " if isinstance(name, str) else ""
        raise UserError(
            f"{group}.name={show(name)}: {meant}It must be one of {', '.join(sorted(classes))}"
        )
    return classes[name]


def _check_arguments(group: str, cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as keyword arguments, checked against the signature of the class."""
    parameters = inspect.signature(cls).parameters
    known = [f"{group}.{key}" for key in parameters if key not in RESERVED]
    # Some of torch's modules import the names in their hints for type checkers only.
    names = {"Callable": Callable, "Iterable": list, "Sequence": list}  # YAML has lists only
    hints = get_type_hints(cls.__init__, localns=names)  # type: ignore[misc]
    arguments = {}
    for key, value in values.items():
        full_key = f"{group}.{key}"
        if full_key not in known:
            raise UserError(
                f"{cls.__name__} has no {full_key}: did you mean {nearest(full_key, known)}? "
                f"~{full_key} removes it, {group}={START[group]} starts afresh"
            )
        hint = hints.get(key, Any)
        if get_origin(hint) is tuple and isinstance(value, list):
            value = tuple(value)
        check_value(full_key, value, hint)
        if key in AT_LEAST_ONE and isinstance(value, int) and value < 1:
            raise wrong_value(full_key, value, {"type": "integer", "minimum": 1})
        arguments[key] = value
    for key, parameter in parameters.items():
        is_required = key not in RESERVED and parameter.default is parameter.empty
        if is_required and key not in arguments:
            raise UserError(f"{cls.__name__} needs {group}.{key}: add {group}.{key}=...")
    return arguments


def _build(group: str, cls: type, subject: Any, arguments: dict[str, Any], **defaults: Any) -> Any:
    """Call the class with the parameters or the optimizer, and its arguments."""
    try:
        return cls(subject, **arguments, **defaults)
    except Exception as error:  # torch raises many kinds, and all of them are about the arguments
        wrong = [key for key in arguments if _works_without(key, cls, subject, arguments)]
        listed = ", ".join(f"{group}.{key}={show(arguments[key])}" for key in wrong or arguments)
        raise UserError(f"{cls.__name__} refuses {listed}: {error}") from error


def _works_without(key: str, cls: type, subject: Any, arguments: dict[str, Any]) -> bool:
    try:
        cls(subject, **{name: value for name, value in arguments.items() if name != key})
    except Exception:  # the error of `_build`, or another one that leaving the key out causes
        return False
    return True
