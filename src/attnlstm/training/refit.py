"""A second fit, on training and validation rows together."""

import logging
import math
from pathlib import Path

from lightning import Trainer

from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.config.schema import TrainConfig
from attnlstm.console import counted
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.parts import LabelledParts
from attnlstm.training.budget import count_steps
from attnlstm.training.fit import fit, read_resume_point
from attnlstm.training.module import ClassificationModule
from attnlstm.training.optimization import reads_validation
from attnlstm.training.preparation import build_datamodule, build_module, encode, initialize
from attnlstm.training.trainer import build_refit_trainer

logger = logging.getLogger(__name__)

MIN_VALIDATION_ROWS = 30
"""With fewer rows, validation says too little about when to stop for `refit=auto`."""


def wants_refit(config: TrainConfig, dataset: LabelledParts) -> bool:
    """Return whether a refit is wanted, worthwhile and possible; log the reason if it is not."""
    reason = explain_no_refit(config, dataset)
    if reason:
        level = logging.WARNING if config.refit is True else logging.INFO
        logger.log(level, "no refit: %s", reason)
    return reason is None


def explain_no_refit(config: TrainConfig, dataset: LabelledParts) -> str | None:
    """Return why there is no refit, "" if nobody expects one, and None if there is one."""
    if not config.refit or config.trainer.fast_dev_run:
        return ""
    if config.validation == "folds":
        expected = "with validation=folds all rows are trained on already"
        return expected if config.refit is True else ""
    monitor = config.scheduler.get("monitor")
    if reads_validation(monitor):
        return f"scheduler.monitor={monitor} needs validation rows, and a refit trains on them"
    held_out, trained = len(dataset.parts["validation"]), len(dataset.parts["train"])
    if config.refit == "auto" and (held_out < MIN_VALIDATION_ROWS or 9 * held_out <= trained):
        added = counted(held_out, "validation row")
        return f"it would add {added} to {trained}; refit=true trains on both nevertheless"
    return None


def refit(
    config: TrainConfig,
    run_dir: Path,
    dataset: LabelledParts,
    best: Path | None,
    fitted: Trainer,
    resumes: bool,
) -> tuple[ClassificationModule, SequenceDataModule]:
    """Train a new model on training and validation rows, for the steps that validated best.

    These are the steps after which `best` was written; without it, all steps of `fitted`. The new
    model replaces `best`, which becomes validated.ckpt. If `resumes`, this may have been done
    already, in part or completely.
    """
    newest = run_dir / "checkpoints" / "refit.ckpt"
    validated = None if best is None else best.with_name("validated.ckpt")
    was_moved = validated is not None and validated.exists()
    source = validated if was_moved else best
    steps = fitted.global_step if source is None else read_checkpoint(source).loaded["global_step"]
    train = dataset.parts["train"] + dataset.parts["validation"]
    parts = dataset.parts | {"train": train}
    del parts["validation"]
    encoded = encode(config, dataset._replace(parts=parts))
    datamodule = build_datamodule(config, encoded)
    batches = math.ceil(len(datamodule.sampler("train", shuffle=True)) / fitted.world_size)
    epochs = max(1, round(steps / count_steps(config, batches)))
    logger.info(
        "refit on %d rows, training and validation, for %s: about the %s after which validation "
        "was best",
        len(train),
        counted(epochs, "epoch"),
        counted(steps, "step"),
    )
    options = config.trainer.model_copy(update={"max_epochs": epochs})
    config = config.model_copy(update={"trainer": options})
    module = build_module(config, encoded, ("train", "validation"))
    if resumes and was_moved and not newest.exists():
        return module, datamodule  # it is done
    initialize(config, module, encoded)
    resume_point = read_resume_point(newest) if resumes else None
    trainer = build_refit_trainer(config, run_dir, resume_point)
    fit(trainer, module, datamodule, resume_point)
    if best is not None and validated is not None:
        if trainer.is_global_zero:
            if not validated.exists():  # it exists if the run stopped between these two
                best.replace(validated)
            newest.replace(best)
        trainer.strategy.barrier()
    return module, datamodule
