"""Fit the calibration of a checkpoint to validation rows."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from lightning import Trainer
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from attnlstm.checkpoint.calibration import (
    CALIBRATION_KEY,
    EQUAL_WEIGHT,
    Calibration,
    fit_calibration,
    fit_expert_weight,
    pool_members,
)
from attnlstm.checkpoint.content import FORMAT_KEY, FORMAT_VERSION, read_checkpoint
from attnlstm.config.schema import TrainConfig
from attnlstm.data.module import SequenceDataModule
from attnlstm.training.callbacks import RowCollector
from attnlstm.training.checkpoint_io import WholeFileCheckpointIO
from attnlstm.training.module import ClassificationModule
from attnlstm.training.newest_checkpoint import show_path
from attnlstm.training.trainer import build_calibration_trainer

logger = logging.getLogger(__name__)


class Calibrated(NamedTuple):
    """A calibration, and the accuracy on the validation rows that it was fitted to."""

    calibration: Calibration
    accuracy: float


def calibrate_checkpoint(
    config: TrainConfig,
    run_dir: Path,
    module: ClassificationModule,
    datamodule: SequenceDataModule,
    best: Path | None,
) -> Calibrated | None:
    """Validate the best checkpoint once more, fit a calibration, and write it to the file.

    In a run that is resumed after its refit, that checkpoint is validated.ckpt. `module` has its
    weights afterwards.

    Returns:
        The calibration, in the first process only; None without a checkpoint or validation rows.
    """
    if best is None:
        return None
    validated = best.with_name("validated.ckpt")
    checkpoint = validated if validated.exists() else best
    if not checkpoint.is_file():
        logger.warning("not calibrated: this strategy writes %s as a folder", show_path(checkpoint))
        return None
    collector = RowCollector()
    trainer = build_calibration_trainer(config, run_dir, collector)
    trainer.validate(module, datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)
    calibrated = None
    if trainer.is_global_zero:
        calibrated = calibrate(collector.logits, collector.experts, collector.targets)
        if calibrated is not None:
            write_calibration(checkpoint, calibrated.calibration)
    trainer.strategy.barrier()
    return calibrated


def copy_calibration(trainer: Trainer, best: Path | None, calibrated: Calibrated | None) -> None:
    """Write the calibration of the validated model to the checkpoint of the refit, too.

    The validated model has not seen the validation rows, so its scores guarantee the coverage of
    its sets. The refit was trained on these rows: its own logits of them would promise too much.
    With more rows to train on, its sets should cover no less, but nothing guarantees it.
    """
    if best is not None and calibrated is not None:
        write_calibration(best, calibrated.calibration)
    trainer.strategy.barrier()


def calibrate(logits: Tensor, experts: Tensor, targets: Tensor) -> Calibrated | None:
    """Fit a calibration to validation rows, and log the result or the reason for None.

    `logits` are `[row, class]`, `targets` `[row]`, and `experts` `[row, member, 2, class]`: the
    logits of the LSTM and of the n-grams that `logits` combines, with no members without n-grams.
    """
    if not len(logits) or not torch.isfinite(logits).all():
        reason = "a validation row's logits are not finite" if len(logits) else "no validation rows"
        logger.warning("not calibrated: %s", reason)
        return None
    weight, pooled = EQUAL_WEIGHT, logits
    if experts.size(1):
        weight = fit_expert_weight(experts, targets)
        pooled = pool_members(experts, weight)
        logger.info(
            "weight %.2f of the n-grams fitted on %d validation rows: accuracy %.4f -> %.4f",
            weight,
            len(targets),
            measure_accuracy(logits, targets),
            measure_accuracy(pooled, targets),
        )
    calibration = fit_calibration(pooled, targets, weight)
    logger.info(
        "temperature %.2f fitted on %d validation rows: calibration error %.3f -> %.3f",
        calibration.temperature,
        len(targets),
        *(
            multiclass_calibration_error(scaled.softmax(dim=1), targets, logits.size(1))
            for scaled in (pooled, pooled / calibration.temperature)
        ),
    )
    return Calibrated(calibration, measure_accuracy(pooled, targets))


def measure_accuracy(logits: Tensor, targets: Tensor) -> float:
    """Return the share of rows whose class has the largest logit."""
    return float((logits.argmax(dim=1) == targets).float().mean())


def write_calibration(checkpoint: Path, calibration: Calibration) -> None:
    """Add a calibration to a checkpoint; the file is replaced as a whole.

    Raises:
        OSError: it cannot be written.
        UserError: it cannot be read.
    """
    loaded = read_checkpoint(checkpoint).loaded  # migrated
    loaded |= {FORMAT_KEY: FORMAT_VERSION, CALIBRATION_KEY: calibration._asdict()}
    WholeFileCheckpointIO().save_checkpoint(loaded, checkpoint)
