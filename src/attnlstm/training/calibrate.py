"""From validation rows to the calibration in a checkpoint."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.utilities.distributed import gather_all_tensors

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
from attnlstm.data.batches import SequenceBatch
from attnlstm.data.module import SequenceDataModule
from attnlstm.nn.classifier import at_least_float32
from attnlstm.training.checkpoint_io import WholeFileCheckpointIO
from attnlstm.training.module import ClassificationModule
from attnlstm.training.newest_checkpoint import show_path
from attnlstm.training.trainer import build_calibration_trainer

logger = logging.getLogger(__name__)


class Calibrated(NamedTuple):
    """A calibration, and the accuracy on the validation rows that it was fitted to."""

    calibration: Calibration
    accuracy: float


class ValidationLogits(Callback):
    """Keeps what `validation_step` says of every validation row.

    After a validation, in each of several processes: logits `[row, class]`, those of the LSTM
    and of the n-grams `[row, member, 2, class]`, both at least float32, and targets `[row]`, all on
    the CPU and in the order of the rows. No rows where there was none; no members without n-grams.
    """

    def __init__(self) -> None:
        self.logits = torch.empty(0, 0)
        self.experts = torch.empty(0, 0, 2, 0)
        self.targets = torch.empty(0, dtype=torch.int64)
        self._batches: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: dict[str, Any],
        batch: SequenceBatch,
        *_: Any,
    ) -> None:
        logits, experts = (at_least_float32(outputs[name]) for name in ("logits", "experts"))
        self._batches.append((logits, experts, batch.targets, batch.rows))

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        if not self._batches:
            return
        parts = [torch.cat(part) for part in zip(*self._batches, strict=True)]
        self._batches = []
        if trainer.world_size > 1:
            parts = [torch.cat(gather_all_tensors(part.to(module.device))) for part in parts]
        logits, experts, targets, rows = (part.cpu() for part in parts)
        order = rows.argsort()
        self.logits, self.experts, self.targets = logits[order], experts[order], targets[order]


def calibrate_validated(
    config: TrainConfig,
    run_dir: Path,
    module: ClassificationModule,
    data: SequenceDataModule,
    best: Path | None,
) -> Calibrated | None:
    """Validate the chosen checkpoint once more, fit a calibration, and write it to its file.

    That checkpoint is `best` or, in a run that goes on after its refit, validated.ckpt. `module`
    has its weights afterwards.

    Returns:
        What the first of several processes has found; None if no checkpoint was written, or without
        validation rows.
    """
    if best is None:
        return None
    validated = best.with_name("validated.ckpt")
    checkpoint = validated if validated.exists() else best
    if not checkpoint.is_file():
        logger.warning("not calibrated: this strategy writes %s as a folder", show_path(checkpoint))
        return None
    collector = ValidationLogits()
    trainer = build_calibration_trainer(config, run_dir, collector)
    trainer.validate(module, data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    calibrated = None
    if trainer.is_global_zero:
        calibrated = calibrate(checkpoint, collector.logits, collector.experts, collector.targets)
    trainer.strategy.barrier()
    return calibrated


def hand_on_calibration(
    trainer: lightning.Trainer, best: Path | None, calibration: Calibration | None
) -> None:
    """Write the validated model's calibration to the checkpoint of the refit, too.

    The validated model has not seen the validation rows, and the scores guarantee the coverage of
    its sets. The refit has trained on these rows, so that its own logits of them would promise too
    much; as it has more rows to train on, its sets should cover no less, but nothing guarantees it.
    """
    if best is not None and calibration is not None:
        write_calibration(best, calibration)
    trainer.strategy.barrier()


def calibrate(
    checkpoint: Path, logits: Tensor, experts: Tensor, targets: Tensor
) -> Calibrated | None:
    """Fit a calibration to validation rows, and write it to a checkpoint.

    It says what it has found or, with None, why there is none.

    Args:
        checkpoint: the file.
        logits: `[row, class]`.
        experts: `[row, member, 2, class]`, the logits of the LSTM and of the n-grams of which
            these are made; no members without n-grams.
        targets: `[row]`.
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
    write_calibration(checkpoint, calibration)
    return Calibrated(calibration, measure_accuracy(pooled, targets))


def measure_accuracy(logits: Tensor, targets: Tensor) -> float:
    """The share of rows whose class has the largest logit."""
    return float((logits.argmax(dim=1) == targets).float().mean())


def write_calibration(checkpoint: Path, calibration: Calibration) -> None:
    """Have a checkpoint hold this calibration; the file is replaced as a whole.

    Raises:
        OSError: it cannot be written.
        UserError: it cannot be read.
    """
    loaded = read_checkpoint(checkpoint).loaded  # migrated
    loaded |= {FORMAT_KEY: FORMAT_VERSION, CALIBRATION_KEY: calibration._asdict()}
    WholeFileCheckpointIO().save_checkpoint(loaded, checkpoint)
