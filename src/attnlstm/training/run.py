"""A training run: from a typed config to a run folder."""

import errno
import logging
import math
import os
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lightning
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnlstm.checkpoint.classifier import build_configured
from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.config.data import TextConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.console import print_metrics
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.sources.source import open_sources
from attnlstm.data.splits import LabelledParts, split_sources
from attnlstm.data.summary import describe_rows
from attnlstm.errors import UserError
from attnlstm.files import replacing
from attnlstm.training.baseline import Scores
from attnlstm.training.budget import choose_validation, count_steps, settle
from attnlstm.training.calibrate import calibrate_validated, hand_on_calibration
from attnlstm.training.callbacks import TestPredictions
from attnlstm.training.comparison import compare_with_baseline, read_validation_accuracy
from attnlstm.training.metrics_file import write_metrics
from attnlstm.training.module import ClassificationModule
from attnlstm.training.newest_checkpoint import show_path
from attnlstm.training.plan import measure, plan
from attnlstm.training.preparation import begin, build_data, build_module, encode
from attnlstm.training.trainer import (
    Progress,
    build_refit_trainer,
    build_trainer,
    check_monitors,
    find_best_checkpoint,
    keeps_checkpoints,
    limit_threads,
    silence_known_warnings,
)

logger = logging.getLogger(__name__)

REFIT_ROWS = 30
"""Fewer validation rows say too little about when to stop for `refit=auto` to be worth it."""

CANNOT_WRITE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
)
"""What the system says of folders that are closed and disks that are full or broken."""


class TrainingResult(NamedTuple):
    """What a run leaves behind, for notebooks and tests.

    metrics: on the test split, such as "test/accuracy": of the best checkpoint, or of the last
        weights where none was written. NaN where there is none.
    checkpoint: the best checkpoint's path, or None.
    """

    metrics: dict[str, float]
    checkpoint: Path | None
    module: ClassificationModule
    trainer: lightning.Trainer


def train(config: TrainConfig, run_dir: str | Path) -> TrainingResult:
    """Fit, watched on validation rows, calibrate, refit where that is wanted, and test once.

    Writes into `run_dir`: config.yaml (resolved), metrics.csv, tensorboard/, figures/,
    checkpoints/, refit/, metrics.json (of the test split) and baseline.json. best.ckpt is what is
    tested: after a refit its model, otherwise that of the epoch that validated best.

    With `config.resume`, or as a job that SLURM has requeued, the run in `run_dir` goes on where
    its newest checkpoint was written, or begins anew where there is none yet.

    Raises:
        UserError: something about the data or the configuration that the user can fix, or
            `run_dir` cannot be written to; it names the newest checkpoint.
    """
    silence_known_warnings()
    run_dir = Path(run_dir)
    newest = run_dir / "checkpoints" / "last.ckpt"
    is_requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0" and newest.exists()
    resumes = config.resume is not None or is_requeued
    config = config.model_copy(update={"resume": None})
    write_config(config, run_dir)
    limit_threads(config.num_threads)
    stopped = StoppedFit.read(newest) if resumes else StoppedFit()
    # Before any data is loaded, a trainer or an LSTM that cannot be is refused.
    trainer = build_trainer(config, run_dir, stopped.progress)
    build_configured(config.model.model_dump(), encoder=None, num_classes=2)

    rows = split_sources(
        open_sources(config.data),
        config.data,
        config.seed,
        validation=choose_validation(config),
        num_folds=config.num_folds,
    )
    for line in rows.warnings:
        logger.warning("%s", line)
    for line in describe_rows(rows, config.data):
        logger.info("%s", line)
    check_monitors(config, rows.parts["validation" if rows.folds is None else "train"].targets)
    encoded = encode(config, rows)
    config = settle(config, measure(config, rows, encoded))
    config = plan(config, rows, encoded, trainer)
    write_config(config, run_dir)
    data, module = build_data(config, rows, encoded), build_module(config, rows, encoded)
    begin(config, module, rows, encoded)
    trainer = build_trainer(config, run_dir, stopped.progress)
    started = time.monotonic()
    with naming_what_is_left(run_dir):
        if not run_dir.exists():  # what is written next would make it again, without config.yaml
            raise FileNotFoundError(run_dir)
        if not resumes:
            forget_earlier_run(run_dir)
        fit(trainer, module, data, stopped)
        logger.info("%d epochs in %.0f s", trainer.current_epoch, time.monotonic() - started)
        best = find_best_checkpoint(trainer)
        calibrated = calibrate_validated(config, run_dir, module, data, best)
        if wants_refit(config, rows):
            module, data = refit(config, run_dir, rows, best, trainer, resumes)
            hand_on_calibration(trainer, best, calibrated and calibrated.calibration)

        ckpt_path = None if best is None else str(best)
        predictions = TestPredictions(len(rows.parts["test"]))
        trainer.callbacks.append(predictions)  # type: ignore[attr-defined]
        trainer.test(module, data, ckpt_path=ckpt_path, weights_only=True, verbose=False)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics = {name: value for name, value in metrics.items() if name.startswith("test/")}
        if trainer.is_global_zero:
            write_metrics(run_dir / "metrics.json", metrics)
    if trainer.is_global_zero:
        print_metrics(f"{config.data.name}, test split", metrics)
        if config.baseline == "auto" and not config.trainer.fast_dev_run:
            validation = (
                read_validation_accuracy(trainer, run_dir)
                if calibrated is None
                else calibrated.accuracy
            )
            scores = Scores("attnlstm", validation, metrics["test/accuracy"])
            classes, is_texts = predictions.classes.numpy(), isinstance(config.data, TextConfig)
            with naming_what_is_left(run_dir):
                compare_with_baseline(
                    rows, scores, classes, is_texts, config.seed, run_dir, rows.folds
                )
        if best is None:
            logger.info("no best checkpoint was written: these are the last weights' metrics")
        else:
            shown = show_path(best)
            logger.info("best checkpoint: %s", shown)
            logger.info("evaluate it with: attnlstm evaluate %s", shlex.quote(f"ckpt={shown}"))
    return TrainingResult(metrics, best, module, trainer)


def write_config(config: TrainConfig, run_dir: Path) -> None:
    """Write config.yaml, with which a stopped run goes on."""
    with naming_what_is_left(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        with replacing(run_dir / "config.yaml") as partial:
            partial.write_text(yaml.safe_dump(config.model_dump(), sort_keys=False))


class StoppedFit(NamedTuple):
    """Where a fit goes on; the default is one that begins.

    path: of its newest checkpoint.
    progress: what its loggers have.
    fingerprints: of its data, see `SequenceDataModule`; none in older checkpoints.
    """

    path: Path | None = None
    progress: Progress = Progress()
    fingerprints: dict[str, str] | None = None

    @classmethod
    def read(cls, path: Path) -> "StoppedFit":
        """The fit that this checkpoint is of, or one that begins where there is none yet.

        Raises:
            UserError: it cannot be read, or holds too little to go on with.
        """
        if not path.exists():
            return cls()
        try:
            loaded = read_checkpoint(path, key="resume").loaded
            stopped, data = loaded["resume"], loaded.get(SequenceDataModule.__qualname__, {})
            progress = Progress(stopped["metric_rows"], stopped["log_step"])
            return cls(path, progress, dict(data.get("fingerprints", {})))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is of another version: a run cannot go on with it") from error

    def check_data(self, data: SequenceDataModule) -> None:
        """Raise a UserError if the data is not what it was when the run was stopped."""
        now = data.fingerprints
        changed = [name for name, old in (self.fingerprints or {}).items() if now.get(name) != old]
        if changed:
            raise UserError(
                f"the data has changed since {self.path} was written: {', '.join(changed)}; "
                "bring back what it was, or start another run"
            )


@contextmanager
def naming_what_is_left(run_dir: Path) -> Iterator[None]:
    """Say of an error that ends a run which checkpoint there is.

    Raises:
        UserError: in place of an OSError of writing, or of a folder that is gone; and of a
            UserError while there are checkpoints.
    """
    thread_hook, threading.excepthook = threading.excepthook, _leave_to_main_thread
    try:
        yield
    except (OSError, UserError) as error:
        removed = _find_removed(error, run_dir) if isinstance(error, OSError) else None
        if isinstance(error, OSError) and error.errno not in CANNOT_WRITE and removed is None:
            raise  # a bug, which keeps its traceback
        checkpoints = list((run_dir / "checkpoints").glob("*.ckpt"))
        folder, told = show_path(run_dir), [str(error)]
        if isinstance(error, UserError) and not checkpoints:
            raise
        if isinstance(error, OSError):
            reason = (error.strerror or error) if removed is None else "somebody has removed it"
            told = [f"cannot write to {show_path(removed or run_dir)}: {reason}"]
        if checkpoints:
            # Two may have been written within a tick of the file system's clock.
            newest = max(checkpoints, key=lambda p: (p.stat().st_mtime_ns, p.stem != "best"))
            told.append(f"the newest good checkpoint is {show_path(newest)}")
        if checkpoints and not {path.stem for path in checkpoints} & {"last", "refit"}:
            argument = shlex.quote(f"ckpt={show_path(newest)}")
            told.append(f"no last.ckpt to go on with is there: attnlstm evaluate {argument}")
        elif checkpoints and isinstance(error, OSError):
            told.append(f"once it can be written to, attnlstm train resume={folder} goes on")
        raise UserError("; ".join(told)) from error
    finally:
        threading.excepthook = thread_hook


def _find_removed(error: OSError, run_dir: Path) -> Path | None:
    """The run's folder, or the one in it that the error is about, if it is gone."""
    if not run_dir.exists():
        return run_dir
    if not isinstance(error.filename, str | bytes):
        return None
    folder = Path(os.fsdecode(error.filename)).parent
    return folder if folder.is_relative_to(run_dir) and not folder.exists() else None


def _leave_to_main_thread(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread cannot write: the next thing to be logged raises its error again."""
    if not issubclass(failed.exc_type, OSError):
        threading.__excepthook__(failed)


def forget_earlier_run(run_dir: Path) -> None:
    """Remove what a run that goes on would take for its own."""
    for name in ("last", "refit", "validated"):
        (run_dir / "checkpoints" / f"{name}.ckpt").unlink(missing_ok=True)
    (run_dir / "baseline.json").unlink(missing_ok=True)
    for path in run_dir.glob("hpc_ckpt_*.ckpt"):  # Lightning's, of a job that was requeued
        path.unlink()


def fit(
    trainer: lightning.Trainer,
    module: ClassificationModule,
    data: SequenceDataModule,
    stopped: StoppedFit,
) -> None:
    """Train; what Lightning finds wrong with the configuration is the user's to fix."""
    stopped.check_data(data)
    path = None if stopped.path is None else str(stopped.path)
    if path is not None:
        logger.info("going on with %s", show_path(Path(path)))
    try:
        trainer.fit(module, data, ckpt_path=path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error


def wants_refit(config: TrainConfig, rows: LabelledParts) -> bool:
    """Whether a refit is wanted, is worth it, and has nothing in it that needs validation rows."""
    if not config.refit or config.trainer.fast_dev_run:
        return False
    if config.validation == "folds":
        if config.refit is True:
            logger.warning("no refit: with validation=folds all rows are trained on already")
        return False
    monitor = config.scheduler.get("monitor")
    if monitor is not None and monitor.startswith("val/"):
        logger.warning(
            "no refit: scheduler.monitor=%s needs validation rows, and a refit trains on them",
            monitor,
        )
        return False
    held_out, trained = len(rows.parts["validation"]), len(rows.parts["train"])
    if config.refit == "auto" and not (held_out >= REFIT_ROWS and 9 * held_out > trained):
        logger.info(
            "no refit: it would add %d validation rows to %d; refit=true trains on both all the "
            "same",
            held_out,
            trained,
        )
        return False
    return True


def refit(
    config: TrainConfig,
    run_dir: Path,
    rows: LabelledParts,
    best: Path | None,
    fitted: lightning.Trainer,
    resumes: bool,
) -> tuple[ClassificationModule, SequenceDataModule]:
    """Train anew on training and validation rows together, for the steps that were best.

    These are the steps after which the checkpoint `best` was written; without one, all those of the
    trainer that has `fitted`.
    The new model takes the place of `best`, which becomes validated.ckpt. If `resumes`, that may
    have been done in part or in full.
    """
    newest = run_dir / "checkpoints" / "refit.ckpt"
    validated = None if best is None else best.with_name("validated.ckpt")
    is_done = resumes and validated is not None and validated.exists() and not newest.exists()
    source = validated if validated is not None and validated.exists() else best
    steps = fitted.global_step if source is None else read_checkpoint(source).loaded["global_step"]
    train = rows.parts["train"] + rows.parts["validation"]
    rows = LabelledParts({"train": train, "test": rows.parts["test"]}, rows.label_names)
    encoded = encode(config, rows)
    data = build_data(config, rows, encoded)
    batches = math.ceil(len(data.sampler("train", shuffle=True)) / fitted.world_size)
    epochs = max(1, round(steps / count_steps(config, batches)))
    logger.info(
        "refit on %d rows, training and validation, for %d epochs: about the %d steps after which "
        "validation was best",
        len(train),
        epochs,
        steps,
    )
    options = config.trainer.model_copy(update={"max_epochs": epochs})
    config = config.model_copy(update={"trainer": options})
    module = build_module(config, rows, encoded, ("train", "validation"))
    if is_done:
        return module, data
    begin(config, module, rows, encoded)
    stopped = StoppedFit.read(newest) if resumes else StoppedFit()
    trainer = build_refit_trainer(config, run_dir, stopped.progress)
    fit(trainer, module, data, stopped)
    if best is not None and validated is not None and keeps_checkpoints(config):
        if trainer.is_global_zero:
            if not validated.exists():  # there is one if the run stopped between these two
                best.replace(validated)
            newest.replace(best)
        trainer.strategy.barrier()
    return module, data
