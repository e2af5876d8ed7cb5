"""Optimizers and schedulers by name."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from attnlstm.errors import UserError
from attnlstm.training.optimization import (
    build_optimizer,
    build_scheduler,
    check_optimization,
    configure,
)

NONE: dict[str, Any] = {"name": None}
SGD = {"name": "SGD", "lr": 1.0}


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]


def rates(scheduler_config: dict[str, Any], length: int, steps: int) -> list[float]:
    """The learning rate after each of some steps of a schedule, from 1."""
    optimizer = build_optimizer(parameters(), SGD)
    scheduler = build_scheduler(optimizer, scheduler_config, length)
    assert scheduler is not None
    seen = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def test_arguments_reach_the_optimizer() -> None:
    values = {"name": "RAdam", "lr": 0.1, "betas": [0.8, 0.9], "decoupled_weight_decay": True}
    optimizer = build_optimizer(parameters(), values)
    assert type(optimizer) is torch.optim.RAdam
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["decoupled_weight_decay"]) == (0.1, (0.8, 0.9), True)


@pytest.mark.parametrize(
    "name",
    [
        *("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "NAdam"),
        *("RAdam", "RMSprop", "Rprop", "SGD"),
    ],
)
def test_optimizers_of_torch(name: str) -> None:
    check_optimization({"name": name, "lr": 0.01}, NONE)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"name": "ConstantLR", "total_iters": None},
        {"name": "CosineAnnealingLR", "T_max": None},
        {"name": "CosineAnnealingWarmRestarts", "T_0": 3},
        {"name": "CyclicLR", "base_lr": 0.1, "max_lr": 1.0, "cycle_momentum": False},
        {"name": "ExponentialLR", "gamma": 0.9},
        {"name": "LinearLR", "interval": "step"},
        {"name": "MultiStepLR", "milestones": [3, 5]},
        {"name": "OneCycleLR", "max_lr": 1.0, "total_steps": None, "interval": "step"},
        {"name": "PolynomialLR", "power": 2},
        {"name": "ReduceLROnPlateau", "monitor": "val/loss", "mode": "max"},
        {"name": "StepLR", "step_size": 2},
    ],
    ids=lambda scheduler: scheduler["name"],
)
def test_schedulers_of_torch(scheduler: dict[str, Any]) -> None:
    check_optimization({"name": "AdamW"}, scheduler)


def test_null_is_the_length_of_the_run() -> None:
    cosine = rates({"name": "CosineAnnealingLR", "T_max": None}, length=4, steps=4)
    expected = [(1 + math.cos(math.pi * step / 4)) / 2 for step in (1, 2, 3, 4)]
    assert cosine == pytest.approx(expected)
    one_cycle = {"name": "OneCycleLR", "max_lr": 5.0, "total_steps": None}
    seen = rates(one_cycle, length=10, steps=9)
    assert max(seen) == pytest.approx(5.0)
    assert seen[-1] == pytest.approx(5.0 / 25 / 1e4)
    with pytest.raises(UserError, match=r"scheduler.T_max=null.*trainer.max_epochs"):
        rates({"name": "CosineAnnealingLR", "T_max": None}, length=-1, steps=1)


def test_configure_gives_what_lightning_takes() -> None:
    config = {"optimizer": SGD, "scheduler": {"name": "CosineAnnealingLR", "T_max": None}}
    for interval, length in (("epoch", 7), ("step", 70)):
        config["scheduler"]["interval"] = interval
        made: Any = configure(parameters(), config, total_steps=70, epochs=7)
        assert type(made["optimizer"]) is torch.optim.SGD
        assert made["lr_scheduler"]["scheduler"].T_max == length
        assert made["lr_scheduler"]["interval"] == interval
    config["scheduler"] = {"name": "ReduceLROnPlateau", "monitor": "val/loss"}
    made = configure(parameters(), config, total_steps=70, epochs=7)
    assert made["lr_scheduler"]["monitor"] == "val/loss"
    assert made["lr_scheduler"]["frequency"] > 10**9  # the module steps it at each validation
    config["scheduler"]["monitor"] = "train/loss"
    made = configure(parameters(), config, total_steps=70, epochs=7)
    assert made["lr_scheduler"]["frequency"] == 1
    config["scheduler"] = NONE
    made = configure(parameters(), config, total_steps=70, epochs=7)
    assert type(made) is torch.optim.SGD


@pytest.mark.parametrize(
    ("config", "fused"),
    [
        ({"name": "AdamW"}, True),
        ({"name": "AdamW", "fused": False}, False),
        ({"name": "AdamW", "foreach": True}, None),
        ({"name": "SGD", "differentiable": True}, None),
    ],
)
def test_updates_are_fused_unless_told_otherwise(
    config: dict[str, Any], fused: bool | None
) -> None:
    optimizer = build_optimizer([nn.Parameter(torch.zeros(2))], config)
    assert optimizer.defaults["fused"] is fused


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({}, "optimizer.name=null"),
        ({"name": "adamw"}, "optimizer.name=adamw: did you mean AdamW"),
        ({"name": "Optimizer"}, "must be one of ASGD"),
        ({"name": "lr_scheduler"}, "must be one of ASGD"),
        ({"name": "os.system"}, "must be one of ASGD"),
        ({"name": ["SGD"]}, "must be one of ASGD"),
        ({"name": "SGD", "momentm": 1}, "SGD has no optimizer.momentm: did you mean optimizer.mom"),
        ({"name": "SGD", "betas": [0, 1]}, "SGD has no optimizer.betas.*~optimizer.betas removes"),
        ({"name": "SGD", "params": []}, "SGD has no optimizer.params"),
        ({"name": "SGD", "lr": -1}, "SGD refuses optimizer.lr=-1: Invalid learning rate"),
        ({"name": "SGD", "lr": "abc"}, "optimizer.lr=abc: expected float"),
        ({"name": "SGD", "nesterov": "yes"}, "optimizer.nesterov=yes: expected bool"),
        ({"name": "SGD", "nesterov": True}, "SGD refuses optimizer.nesterov=true: Nesterov"),
        ({"name": "AdamW", "betas": [0.9]}, r"expected \[float, float\]"),
        ({"name": "AdamW", "betas": [0.9, 2]}, "AdamW refuses.*Invalid beta"),
        ({"name": "Muon"}, "Muon refuses.*2D"),
        ({"name": "SparseAdam"}, "cannot take a step: .*dense"),
    ],
)
def test_mistakes_in_the_optimizer(optimizer: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_optimization(optimizer, NONE)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"name": None, "gamma": 1}, "scheduler.gamma has no effect without scheduler.name"),
        ({"name": "steplr"}, "scheduler.name=steplr: did you mean StepLR"),
        ({"name": "StepLR"}, "StepLR needs scheduler.step_size"),
        ({"name": "StepLR", "step_sise": 1}, "StepLR has no scheduler.step_sise: did you mean s"),
        ({"name": "StepLR", "step_size": 1.5}, "scheduler.step_size=1.5: expected int"),
        ({"name": "StepLR", "step_size": 1, "interval": "day"}, "expected one of epoch, step"),
        ({"name": "StepLR", "step_size": 1, "monitor": "val/loss"}, "StepLR reads no metric"),
        ({"name": "OneCycleLR", "max_lr": 1.0, "epochs": 3}, "OneCycleLR has no scheduler.epochs"),
        ({"name": "OneCycleLR", "max_lr": 1.0, "anneal_strategy": "x"}, "one of cos, linear"),
        ({"name": "CosineAnnealingLR", "T_max": 0}, "^scheduler.T_max=0: expected int >= 1$"),
        ({"name": "StepLR", "step_size": 0}, "^scheduler.step_size=0: expected int >= 1$"),
        ({"name": "StepLR", "step_size": -3}, "^scheduler.step_size=-3: expected int >= 1$"),
        ({"name": "LinearLR", "total_iters": 0}, "^scheduler.total_iters=0: expected int >= 1$"),
        ({"name": "ReduceLROnPlateau"}, "ReduceLROnPlateau needs scheduler.monitor"),
        (
            {"name": "ReduceLROnPlateau", "monitor": "val/loss", "interval": "step"},
            "interval=epoch",
        ),
        ({"name": "ReduceLROnPlateau", "monitor": "val/los"}, "did you mean val/loss"),
        ({"name": "LRScheduler"}, "must be one of ConstantLR"),
        *(
            ({"name": name}, f"scheduler.name={name} needs Python objects")
            for name in (
                "ChainedScheduler",
                "LambdaLR",
                "MultiplicativeLR",
                "SequentialLR",
                "SWALR",
            )
        ),
    ],
)
def test_mistakes_in_the_scheduler(scheduler: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_optimization({"name": "AdamW"}, scheduler)
