"""Checks of what `trainer` says about batches, which Lightning would make only in the fit."""

import math
from collections.abc import Mapping

from attnlstm.config.schema import TrainConfig
from attnlstm.console import counted
from attnlstm.errors import UserError
from attnlstm.training.optimization import reads_validation

LIMITS = {
    "train": "limit_train_batches",
    "validation": "limit_val_batches",
    "test": "limit_test_batches",
}
"""The key that limits the batches of each part."""


def check_batches(config: TrainConfig, batches: Mapping[str, int]) -> None:
    """Check the limits and intervals of a run against the number of batches of each part.

    Raises:
        UserError: a limit leaves no batch, or an interval no validation; it names the key.
    """
    trainer, used = config.trainer, dict(batches)
    if trainer.fast_dev_run or trainer.overfit_batches:
        return
    for part, key in LIMITS.items():
        limit = getattr(trainer, key)
        if limit is None:
            continue
        used[part] = int(limit * used[part]) if isinstance(limit, float) else min(limit, used[part])
        if isinstance(limit, float) and limit > 0 and used[part] == 0:
            raise UserError(
                f"trainer.{key}={limit:g} is less than one of the "
                f"{counted(batches[part], 'batch', 'batches')}: give a larger share, or a number"
            )
    every, interval, epoch = (
        trainer.check_val_every_n_epoch,
        trainer.val_check_interval,
        used["train"],
    )
    if every is not None and isinstance(interval, int) and interval > epoch and used["validation"]:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has "
            f"{counted(epoch, 'batch', 'batches')} only; give a smaller number, or count across "
            "epochs with trainer.check_val_every_n_epoch=null"
        )
    monitor = config.scheduler.get("monitor")
    if reads_validation(monitor) and _first_validation(config, used) > _last_batch(config, epoch):
        raise UserError(
            f"scheduler.monitor={monitor}: the run ends before its first validation; lower "
            "trainer.check_val_every_n_epoch or trainer.val_check_interval, set "
            "trainer.limit_val_batches=null, or choose another scheduler"
        )


def _first_validation(config: TrainConfig, used: Mapping[str, int]) -> float:
    """Return after how many training batches the first validation comes."""
    trainer, epoch = config.trainer, used["train"]
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_interval
    if not used["validation"]:
        return math.inf
    if isinstance(interval, float):
        interval = max(1, int(interval * epoch))
    return (interval or epoch) + (0 if every is None else (every - 1) * epoch)


def _last_batch(config: TrainConfig, epoch: int) -> float:
    """Return the number of training batches of a run; an epoch has `epoch`."""
    trainer = config.trainer
    limits = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs * epoch)
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps * trainer.accumulate_grad_batches)
    return min(limits, default=math.inf)
