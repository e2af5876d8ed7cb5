"""A fit, from its beginning or from where it stopped."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.data.encoders.encoding import Encoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.module import SequenceDataModule
from attnlstm.errors import UserError
from attnlstm.training.module import ClassificationModule
from attnlstm.training.newest_checkpoint import Moment, show_path
from attnlstm.training.training_state import check_resume_fields, explaining

logger = logging.getLogger(__name__)


class ResumePoint(NamedTuple):
    """Where a stopped fit resumes.

    Attributes:
        path: its newest checkpoint.
        metric_rows: number of rows of metrics.csv that were written before it.
        log_step: the step of the next row.
        fingerprints: of its data, see `SequenceDataModule`; empty in older checkpoints.
        label_names: of its classes.
        encoder: of its rows.
        shapes: of its weights, by name.
    """

    path: Path
    metric_rows: int
    log_step: int
    fingerprints: dict[str, str]
    label_names: list[str]
    encoder: Encoder
    shapes: dict[str, torch.Size]


def read_resume_point(path: Path) -> ResumePoint | None:
    """Read the resume point from a checkpoint; None if the file does not exist yet.

    Raises:
        UserError: the checkpoint cannot be read, or lacks what is needed to resume.
    """
    if not path.exists():
        return None
    content = read_checkpoint(path, key="resume")
    with explaining(path):
        check_resume_fields(content.loaded, [moment.value for moment in Moment])
        resume = content.loaded["resume"]
        data = content.loaded.get(SequenceDataModule.__qualname__, {})
        return ResumePoint(
            path,
            resume["metric_rows"],
            resume["log_step"],
            dict(data.get("fingerprints", {})),
            content.label_names,
            content.encoder,
            {name: weight.shape for name, weight in content.weights.items()},
        )


def fit(
    trainer: Trainer,
    module: ClassificationModule,
    datamodule: SequenceDataModule,
    resume_point: ResumePoint | None = None,
) -> None:
    """Train a module; None trains it from the beginning.

    Raises:
        UserError: the data has changed, or Lightning finds a fault in the configuration.
    """
    path = None
    if resume_point is not None:
        path, new = resume_point.path, datamodule.fingerprints
        changed = [name for name, old in resume_point.fingerprints.items() if new.get(name) != old]
        if changed:
            raise UserError(
                f"the data has changed since {path} was written: {', '.join(changed)}; "
                "restore it, or start another run"
            )
        if (other := _find_other(resume_point, module)) is not None:
            raise UserError(
                f"{path} was written with other {other} than those of this run: restore the file, "
                "or start another run"
            )
        logger.info("resuming from %s", show_path(path))
    try:
        trainer.fit(module, datamodule, ckpt_path=path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error


def _find_other(resume_point: ResumePoint, module: ClassificationModule) -> str | None:
    """Return what a checkpoint does not share with a module; None if it fits."""
    if resume_point.label_names != module.label_names:
        return "labels"
    old, new = resume_point.encoder, module.encoder
    if isinstance(old, TextEncoder) and isinstance(new, TextEncoder):
        # not their whole tokenizers: two trainings of a unigram model differ in the last digits
        if old.vocabulary() != new.vocabulary() or old.max_length != new.max_length:
            return "tokens"
    elif old.to_dict() != new.to_dict():
        return "channels, or another normalization of them,"
    weights = module.classifier.state_dict()
    if resume_point.shapes != {name: weight.shape for name, weight in weights.items()}:
        return "weights"
    return None
