"""Checks of what a checkpoint holds for a run to resume from, before any of it is restored.

Lightning and torch take over whatever such a file says, and fail or go wrong much later. What a new
run has in the same place says what each value has to look like.
"""

import os
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from attnlstm.config.section import BILLION
from attnlstm.errors import UserError
from attnlstm.training.epoch_log import EpochLog
from attnlstm.training.random_state import random_states, set_random_state

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""The files that the state of a ModelCheckpoint names, besides the keys of `best_k_models`."""

VERSION = re.compile(r"2\.\d+\.[\w.+]+")

NUMPY_KEYS = 624  # of numpy's random state, which does not check its position in them


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn an error about a value of a checkpoint into a UserError that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as e:
        reason = f"it has no {e}" if isinstance(e, KeyError) else " ".join(str(e).split())
        raise UserError(
            f"{path} does not hold a state that this run can resume from: {reason}; restore the "
            "file, or start another run"
        ) from e


def check_resume_fields(checkpoint: Mapping[str, Any], moments: list[str]) -> None:
    """Check that a checkpoint has a training state, and what `NewestCheckpoint` adds to it.

    Raises:
        LookupError, TypeError, ValueError, RuntimeError: something is missing or has another form.
    """
    resume, version = checkpoint["resume"], checkpoint["pytorch-lightning_version"]
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise ValueError("its version of Lightning is unknown")
    for name in ("callbacks", "loops", "train_loss", "resume"):
        if not isinstance(checkpoint[name], dict):
            raise TypeError(f"its {name} is not a dictionary")
    for name in ("lr_schedulers", "optimizer_states"):
        if not all(isinstance(state, dict) for state in checkpoint[name]):
            raise TypeError(f"its {name} are not dictionaries")
    _check_like(checkpoint["train_loss"], {"loss_sum": torch.zeros(()), "rows_seen": 0}, "loss")
    if resume["moment"] not in moments:
        raise ValueError("its moment is unknown")
    for name in ("metric_rows", "log_step"):
        _check_like(resume[name], 0, name)
    _check_like(resume["should_stop"], False, "should_stop")
    for name in ("metrics", "gradients"):
        if not all(isinstance(value, Tensor) for value in resume[name].values()):
            raise ValueError(f"its {name} are not tensors")
    if any(value.dim() for value in resume["metrics"].values()):
        raise ValueError("its metrics are not numbers")
    if resume["validated"] is not None or resume["moment"] == "in_validation":
        names = ("ready", "started", "processed", "completed")
        _check_like(resume["validated"], dict.fromkeys(names, 0), "validated")
    before = random_states()
    try:
        for rank, state in enumerate(resume["random_states"]):
            if not 0 <= state["numpy"][2] <= NUMPY_KEYS or len(state["numpy"][1]) != NUMPY_KEYS:
                raise ValueError("its random state of numpy has another form")
            set_random_state(resume["random_states"], rank)
            random.random(), np.random.rand(), torch.rand(())
        if not resume["random_states"]:
            raise ValueError("its random_states are of no process")
    finally:
        set_random_state(before, 0)


def check_training_state(
    trainer: Trainer, module: LightningModule, checkpoint: Mapping[str, Any]
) -> None:
    """Check the state of loops, optimizers and schedulers.

    The trainer is one that is about to restore them, with the optimizers of the new run.

    Raises:
        LookupError, TypeError, ValueError: something is missing or has another form.
    """
    loops = dict(checkpoint["loops"]["fit_loop"])
    like = trainer.fit_loop.state_dict()
    # of the data loaders, which have no state
    loops.pop("state_dict"), like.pop("state_dict")
    _check_like(loops, like, "loops")
    optimizing = "epoch_loop.automatic_optimization.optim_progress"
    steps = loops[optimizing]["optimizer"]["step"]["total"]["completed"]
    parameters = dict(module.named_parameters())
    for name, gradient in checkpoint["resume"]["gradients"].items():
        _check_like(gradient.to(parameters[name]), parameters[name].detach(), "gradients")
    schedulers = checkpoint["lr_schedulers"]
    if len(schedulers) != len(trainer.lr_scheduler_configs):
        raise ValueError("it has another number of lr_schedulers")
    for state, config in zip(schedulers, trainer.lr_scheduler_configs, strict=True):
        like = config.scheduler.state_dict()
        _check_like(state, {key: like[key] for key in like.keys() & state.keys()}, "lr_schedulers")
        if not (type(state["last_epoch"]) is int and 0 <= state["last_epoch"] <= steps):
            raise ValueError(f"its lr_schedulers are not within its {steps} steps")
    states = checkpoint["optimizer_states"]
    if len(states) != len(trainer.optimizers):
        raise ValueError("it has another number of optimizer_states")
    if isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):  # others shard the states
        for state, optimizer in zip(states, trainer.optimizers, strict=True):
            _check_optimizer(state, optimizer)


def check_callbacks(trainer: Trainer, checkpoint: Mapping[str, Any], folder: str) -> None:
    """Check the states of callbacks, whose checkpoints are in `folder`.

    Raises:
        LookupError, TypeError, ValueError: something is missing or has another form.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = checkpoint["callbacks"].get(callback.state_key)
        if state is not None:
            _check_like(state, callback.state_dict(), callback.state_key)
        if isinstance(callback, ModelCheckpoint) and state is not None:
            _check_files(state, folder)
        if isinstance(callback, EpochLog) and state is not None and state["best_epoch"]:
            float(state["best"][callback.monitor])


def _check_files(state: Mapping[str, Any], folder: str) -> None:
    """Check that the state of a ModelCheckpoint names only checkpoints, wherever the run was.

    Lightning removes what it names and no longer needs, whatever it is.
    """
    for path in [*(state[key] for key in PATHS), *state["best_k_models"]]:
        here = os.path.join(folder, os.path.basename(path))
        is_checkpoint = here.endswith(".ckpt") and "\0" not in here
        if path and not (is_checkpoint and (os.path.isfile(here) or not os.path.lexists(here))):
            raise ValueError(f"its ModelCheckpoint names {path!r}, which is no checkpoint")
    if state["best_k_models"] and state["kth_best_model_path"] not in state["best_k_models"]:
        raise ValueError("its ModelCheckpoint has no score of its kth_best_model_path")


def _check_optimizer(state: Mapping[str, Any], optimizer: Optimizer) -> None:
    _check_like(state["param_groups"], optimizer.state_dict()["param_groups"], "optimizer_states")
    if isinstance(optimizer, LBFGS):
        return  # its history is as long as the run
    groups = [
        {**group, "params": [torch.zeros_like(p, requires_grad=True) for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    for group in groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    twin = type(optimizer)(groups)  # type: ignore[call-arg]
    twin.step()
    like = twin.state_dict()["state"]
    for number, values in state["state"].items():
        _check_like(values, like[number], f"optimizer_states.{number}")


def _check_like(value: Any, like: Any, place: str) -> None:
    """Raise a ValueError unless a value has the type, the keys and the shape of another.

    Numbers that count are not negative. What is None may be a single value.
    """
    match like:
        case Mapping() if not like:  # filled as the run goes on, with metrics by name
            is_alike = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
            for inner in value.values() if is_alike else ():
                _check_like(float(inner), 0.0, place)
        case Mapping():
            is_alike = isinstance(value, Mapping) and value.keys() == like.keys()
            for key in like if is_alike else ():
                _check_like(value[key], like[key], f"{place}.{key}")
        case list() | tuple():
            is_alike = isinstance(value, list | tuple) and len(value) == len(like)
            for number, pair in enumerate(zip(value, like, strict=True) if is_alike else ()):
                _check_like(*pair, f"{place}.{number}")
        case Tensor():
            is_alike = isinstance(value, Tensor) and value.shape == like.shape
            is_alike = is_alike and value.is_floating_point() == like.is_floating_point()
            is_alike = is_alike and not bool(value.isnan().any())
        case bool():
            is_alike = isinstance(value, bool)
        case int():
            is_alike = type(value) is float or (type(value) is int and 0 <= value <= BILLION)
        case float():
            is_alike = type(value) in (int, float) and abs(value) <= float("inf")
        case None:
            is_alike = value is None or isinstance(value, bool | int | float | str)
            is_alike = is_alike or (isinstance(value, Tensor) and value.dim() == 0)
        case _:
            is_alike = type(value) is type(like)
    if not is_alike:
        raise ValueError(f"its {place} is not like that of a new run")
