"""Limits and intervals against the number of batches: refused in the words of the configuration."""

from collections.abc import Callable
from typing import Any

import pytest

from attnlstm.config.lightning import TrainerConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError
from attnlstm.training.batch_limits import check_batches

PLATEAU = {"name": "ReduceLROnPlateau", "monitor": "val/loss"}
BATCHES = {"train": 24, "validation": 3, "test": 5}


def check(scheduler: dict[str, Any] | None = None, **trainer: Any) -> None:
    options = {"max_epochs": 6, **trainer}
    config = TrainConfig(trainer=TrainerConfig(**options), scheduler=scheduler or {"name": None})
    check_batches(config, BATCHES)


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            {"limit_train_batches": 0.04},
            "trainer.limit_train_batches=0.04 is less than one of the 24",
        ),
        ({"limit_val_batches": 0.3}, "trainer.limit_val_batches=0.3 is less than one of the 3 b"),
        ({"limit_test_batches": 0.1}, "trainer.limit_test_batches=0.1 is less than one of the 5"),
        ({"val_check_interval": 25}, "trainer.val_check_interval=25: an epoch has 24 batches only"),
        (
            {"val_check_interval": 13, "limit_train_batches": 0.5},
            "trainer.val_check_interval=13: an epoch has 12 batches only",
        ),
    ],
)
def test_what_leaves_no_batch(trainer: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        check(**trainer)


@pytest.mark.parametrize(
    "trainer",
    [
        {},
        {"limit_train_batches": 0.05},
        {"limit_val_batches": 0},
        {"val_check_interval": 24},
        {"val_check_interval": 25, "check_val_every_n_epoch": None},
        {"val_check_interval": 25, "limit_val_batches": 0},
        {"val_check_interval": 0.01},
        {"limit_train_batches": 0.01, "fast_dev_run": True},
    ],
)
def test_what_leaves_some(trainer: dict[str, Any]) -> None:
    check(**trainer)


@pytest.mark.parametrize(
    ("trainer", "is_validated"),
    [
        ({"check_val_every_n_epoch": 6}, True),
        ({"check_val_every_n_epoch": 7}, False),
        ({"check_val_every_n_epoch": 6, "max_steps": 143, "max_epochs": -1}, False),
        ({"check_val_every_n_epoch": 6, "max_steps": 144, "max_epochs": -1}, True),
        ({"check_val_every_n_epoch": 6, "max_steps": 72, "accumulate_grad_batches": 2}, True),
        ({"check_val_every_n_epoch": None, "val_check_interval": 144}, True),
        ({"check_val_every_n_epoch": None, "val_check_interval": 145}, False),
        ({"limit_val_batches": 0}, False),
        ({"max_epochs": -1, "check_val_every_n_epoch": 100}, True),
    ],
)
def test_a_plateau_needs_a_validation(trainer: dict[str, Any], is_validated: bool) -> None:
    check(**trainer)  # any other scheduler does without
    check({"name": "ReduceLROnPlateau", "monitor": "train/loss"}, **trainer)
    if is_validated:
        check(PLATEAU, **trainer)
    else:
        with pytest.raises(
            UserError, match=r"^scheduler\.monitor=val/loss: the run ends before its"
        ):
            check(PLATEAU, **trainer)


def test_batches_across_epochs_need_a_number() -> None:
    for interval in (None, 0.5):
        with pytest.raises(UserError, match=r"^trainer\.check_val_every_n_epoch=null counts"):
            TrainerConfig(check_val_every_n_epoch=None, val_check_interval=interval)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "validations"),
    [
        (["trainer.max_epochs=6", "trainer.check_val_every_n_epoch=2"], 3),
        (["trainer.max_epochs=3", "trainer.check_val_every_n_epoch=3"], 1),
        (["trainer.max_epochs=2", "trainer.val_check_interval=0.5"], 4),
        (["trainer.max_epochs=2", "trainer.val_check_interval=5"], 4),  # of 14 batches an epoch
        (
            [
                "trainer.max_epochs=4",
                "trainer.check_val_every_n_epoch=null",
                "trainer.val_check_interval=20",
            ],
            2,
        ),
        (["trainer.max_epochs=2", "trainer.accumulate_grad_batches=3"], 2),
    ],
    ids=str,
)
def test_a_plateau_reads_every_validation(
    run_train: Callable, tmp_path, overrides: list[str], validations: int
) -> None:
    """With a threshold that no validation reaches, each one halves the rate."""
    never_better = ["scheduler.threshold=1.0", "scheduler.patience=0", "optimizer.lr=0.01"]
    result = run_train(tmp_path, *overrides, "scheduler=plateau", *never_better)
    (group, *_) = result.trainer.optimizers[0].param_groups
    assert group["lr"] == pytest.approx(0.01 / 2**validations)
