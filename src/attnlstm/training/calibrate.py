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
from attnlstm.config.data import Task
from attnlstm.config.schema import TrainConfig
from attnlstm.data.module import SequenceDataModule
from attnlstm.nn.head import predict
from attnlstm.training.callbacks import RowCollector
from attnlstm.training.checkpoint_io import WholeFileCheckpointIO
from attnlstm.training.metrics import MAIN_METRIC, build_metrics, set_thresholds
from attnlstm.training.module import ClassificationModule
from attnlstm.training.newest_checkpoint import show_path
from attnlstm.training.trainer import build_calibration_trainer

logger = logging.getLogger(__name__)


class Calibrated(NamedTuple):
    """A calibration, and the `MAIN_METRIC` on the validation rows that it was fitted to."""

    calibration: Calibration
    score: float


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
        calibrated = calibrate(collector.logits, collector.experts, collector.targets, module.task)
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


def calibrate(
    logits: Tensor, experts: Tensor, targets: Tensor, task: Task = "classification"
) -> Calibrated | None:
    """Fit a calibration to validation rows, and log the result or the reason for None.

    `logits` are `[row, class]`, and `experts` `[row, member, 2, class]`: the logits of the LSTM and
    of the n-grams that `logits` combines, with no members without n-grams.
    """
    if not len(logits) or not torch.isfinite(logits).all():
        reason = "a validation row's logits are not finite" if len(logits) else "no validation rows"
        logger.warning("not calibrated: %s", reason)
        return None
    weight, pooled = EQUAL_WEIGHT, logits
    if experts.size(1):
        weight = fit_expert_weight(experts, targets, task)
        pooled = pool_members(experts, weight, task)
        logger.info(
            "weight %.2f of the n-grams fitted on %d validation rows: %s %.4f -> %.4f",
            weight,
            len(targets),
            MAIN_METRIC[task].replace("_", " "),
            measure_score(logits, targets, task),
            measure_score(pooled, targets, task),
        )
    calibration = fit_calibration(pooled, targets, weight, task)
    score = measure_score(pooled, targets, task, calibration)
    describe_calibration(calibration, pooled, targets, task, score)
    return Calibrated(calibration, score)


def describe_calibration(
    calibration: Calibration, logits: Tensor, targets: Tensor, task: Task, score: float
) -> None:
    """Log what a calibration changes on the validation rows; for a regression, nothing."""
    if task == "regression":
        return
    if calibration.thresholds is not None:
        logger.info(
            "thresholds from %.2f to %.2f fitted on %d validation rows: micro f1 %.4f -> %.4f",
            calibration.thresholds.min(),
            calibration.thresholds.max(),
            len(targets),
            measure_score(logits, targets, task),
            score,
        )
        return
    logger.info(
        "temperature %.2f fitted on %d validation rows: calibration error %.3f -> %.3f",
        calibration.temperature,
        len(targets),
        *(
            multiclass_calibration_error(scaled.softmax(dim=1), targets, logits.size(1))
            for scaled in (logits, logits / calibration.temperature)
        ),
    )


def measure_score(
    logits: Tensor, targets: Tensor, task: Task, calibration: Calibration | None = None
) -> float:
    """Return the `MAIN_METRIC` of logits that are not calibrated yet."""
    metrics = build_metrics(task, logits.size(1))
    if calibration is not None:
        set_thresholds(metrics, calibration.thresholds)
        logits = logits / calibration.temperature
    metric = metrics[MAIN_METRIC[task]]
    metric.update(predict(logits, task), targets)
    return float(metric.compute())


def write_calibration(checkpoint: Path, calibration: Calibration) -> None:
    """Add a calibration to a checkpoint; the file is replaced as a whole.

    Raises:
        OSError: it cannot be written.
        UserError: it cannot be read.
    """
    loaded = read_checkpoint(checkpoint).loaded  # migrated
    loaded |= {FORMAT_KEY: FORMAT_VERSION, CALIBRATION_KEY: calibration._asdict()}
    WholeFileCheckpointIO().save_checkpoint(loaded, checkpoint)
