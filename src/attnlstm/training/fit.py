"""A fit, from its beginning or from where it stopped."""

import logging
from pathlib import Path
from typing import NamedTuple

from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.data.module import SequenceDataModule
from attnlstm.errors import UserError
from attnlstm.training.module import ClassificationModule
from attnlstm.training.newest_checkpoint import show_path

logger = logging.getLogger(__name__)


class ResumePoint(NamedTuple):
    """Where a stopped fit resumes.

    Attributes:
        path: its newest checkpoint.
        metric_rows: number of rows of metrics.csv that were written before it.
        log_step: the step of the next row.
        fingerprints: of its data, see `SequenceDataModule`; empty in older checkpoints.
    """

    path: Path
    metric_rows: int
    log_step: int
    fingerprints: dict[str, str]


def read_resume_point(path: Path) -> ResumePoint | None:
    """Read the resume point from a checkpoint; None if the file does not exist yet.

    Raises:
        UserError: the checkpoint cannot be read, or lacks what is needed to resume.
    """
    if not path.exists():
        return None
    try:
        loaded = read_checkpoint(path, key="resume").loaded
        resume, data = loaded["resume"], loaded.get(SequenceDataModule.__qualname__, {})
        fingerprints = dict(data.get("fingerprints", {}))
        return ResumePoint(path, resume["metric_rows"], resume["log_step"], fingerprints)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is of another version: a run cannot resume from it") from error


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
        logger.info("resuming from %s", show_path(path))
    try:
        trainer.fit(module, datamodule, ckpt_path=path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
