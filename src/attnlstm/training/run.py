"""A training run: from a typed config to a run folder."""

import errno
import json
import logging
import os
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import lightning
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnlstm.config import BaselineChoice, OnBadRow, SamplerName, TrainConfig
from attnlstm.config_checks import config_to_dict
from attnlstm.data import (
    LabelledParts,
    TextEncoder,
    encode_part,
    fit_encoder,
    open_sources,
    split_sources,
)
from attnlstm.data.encoding import is_text
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.tables import file_fingerprint
from attnlstm.data.vectors import load_vectors
from attnlstm.errors import UserError
from attnlstm.tables import print_metrics
from attnlstm.training.baseline import Scores
from attnlstm.training.callbacks import TestPredictions
from attnlstm.training.checkpoint_content import read_checkpoint
from attnlstm.training.classifier import build_classifier
from attnlstm.training.comparison import compare_with_baseline, read_validation_accuracy
from attnlstm.training.module import ClassificationModule
from attnlstm.training.newest_checkpoint import show_path
from attnlstm.training.trainer import (
    Progress,
    build_refit_trainer,
    build_trainer,
    find_best_checkpoint,
    keeps_checkpoints,
    limit_threads,
    silence_known_warnings,
)
from attnlstm.training.whole_files import replacing

logger = logging.getLogger(__name__)

CANNOT_WRITE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
)
"""What the system says of folders that are closed and disks that are full or broken."""


class TrainingResult(NamedTuple):
    """What a run leaves behind, for notebooks and tests.

    metrics: on the test split, such as "test/accuracy": of the best checkpoint, or of the last
        weights where none was written.
    checkpoint: the best checkpoint's path, or None.
    """

    metrics: dict[str, float]
    checkpoint: Path | None
    module: ClassificationModule
    trainer: lightning.Trainer


def train(config: TrainConfig, run_dir: Path) -> TrainingResult:
    """Fit on the training part, watch the validation part, refit on both, test once.

    Writes into `run_dir`: config.yaml (resolved), metrics.csv, tensorboard/, figures/,
    checkpoints/, refit/, metrics.json (of the test split) and baseline.json. best.ckpt is what is
    tested: with `config.refit` the model of `refit`, otherwise the epoch that the validation part
    chose.

    With `config.resume`, or as a job that SLURM has requeued, the run in `run_dir` goes on where
    its newest checkpoint was written, or begins anew where there is none yet.

    Raises:
        UserError: something about the data or the configuration that the user can mend, or
            `run_dir` cannot be written to; it names the newest checkpoint.
    """
    silence_known_warnings()
    newest = run_dir / "checkpoints" / "last.ckpt"
    is_requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0" and newest.exists()
    resumes, config = config.resume is not None or is_requeued, replace(config, resume=None)
    plain_config = config_to_dict(config)
    with naming_what_is_left(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        with replacing(run_dir / "config.yaml") as partial:
            partial.write_text(yaml.safe_dump(plain_config, sort_keys=False))
    limit_threads(config.num_threads)
    stopped = StoppedFit.read(newest) if resumes else StoppedFit()
    trainer = build_trainer(config, run_dir, stopped.progress)
    # Before any data is loaded, an LSTM that cannot be is refused.
    build_classifier(plain_config["model"], encoder=None, num_classes=2)

    rows = split_sources(open_sources(config.data), config.data, config.seed)
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in rows.parts.items())
    kind = "texts" if is_text(config.data) else "series"
    logger.info("%s: %s %s, %d classes", config.data.name, sizes, kind, len(rows.label_names))
    module, data = prepare(config, rows)
    started = time.monotonic()
    with naming_what_is_left(run_dir):
        if not run_dir.exists():  # what is written next would make it again, without config.yaml
            raise FileNotFoundError(run_dir)
        if not resumes:
            forget_earlier_run(run_dir)
        fit(trainer, module, data, stopped)
        logger.info("%d epochs in %.0f s", trainer.current_epoch, time.monotonic() - started)
        best = find_best_checkpoint(trainer)
        if can_refit(config):
            module, data = refit(config, run_dir, rows, trainer.current_epoch, best, resumes)

        ckpt_path = None if best is None else str(best)
        predictions = TestPredictions(len(rows.parts["test"]))
        trainer.callbacks.append(predictions)  # type: ignore[attr-defined]
        trainer.test(module, data, ckpt_path=ckpt_path, weights_only=True, verbose=False)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics = {name: value for name, value in metrics.items() if name.startswith("test/")}
        if trainer.is_global_zero:
            with replacing(run_dir / "metrics.json") as partial:
                partial.write_text(json.dumps(metrics, indent=2) + "\n")
    if trainer.is_global_zero:
        print_metrics(f"{config.data.name}, test split", metrics)
        if config.baseline is BaselineChoice.auto and not config.trainer.fast_dev_run:
            validation = read_validation_accuracy(trainer, run_dir)
            scores = Scores("attnlstm", validation, metrics["test/accuracy"])
            classes, is_texts = predictions.classes.numpy(), is_text(config.data)
            with naming_what_is_left(run_dir):
                compare_with_baseline(rows, scores, classes, is_texts, config.seed, run_dir)
        if best is None:
            logger.info("no best checkpoint was written: these are the last weights' metrics")
        else:
            shown = show_path(best)
            logger.info("best checkpoint: %s", shown)
            logger.info("evaluate it with: python evaluate.py %s", shlex.quote(f"ckpt={shown}"))
    return TrainingResult(metrics, best, module, trainer)


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
            newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
            told.append(f"the newest good checkpoint is {show_path(newest)}")
        if checkpoints and not {path.stem for path in checkpoints} & {"last", "refit"}:
            argument = shlex.quote(f"ckpt={show_path(newest)}")
            told.append(f"no last.ckpt to go on with is there: python evaluate.py {argument}")
        elif checkpoints and isinstance(error, OSError):
            told.append(f"once it can be written to, python train.py resume={folder} goes on")
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
    """Train; what Lightning finds wrong with the configuration is the user's to mend."""
    stopped.check_data(data)
    path = None if stopped.path is None else str(stopped.path)
    if path is not None:
        logger.info("going on with %s", show_path(Path(path)))
    try:
        trainer.fit(module, data, ckpt_path=path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error


def prepare(
    config: TrainConfig, rows: LabelledParts, trained_on: tuple[str, ...] = ("train",)
) -> tuple[ClassificationModule, SequenceDataModule]:
    """The encoded splits and a new model, both as the seed has it.

    Args:
        config: of the run.
        rows: "train", on which the encoder is fitted, and any others.
        trained_on: which parts of the data "train" consists of.
    """
    encoder, folder = fit_encoder(config.data, rows.parts["train"])
    splits = {}
    for name, part in rows.parts.items():
        splits[name], counts = encode_part(encoder, folder, part, name)
        logger.info("%s", counts.describe(name, config.data))
    data = SequenceDataModule(
        splits,
        batch_size=config.data.batch_size,
        num_workers=config.data.num_workers,
        batch_tokens=config.data.batch_tokens,
        balanced=config.data.sampler is SamplerName.balanced,
        noise=config.data.noise,
        crop=config.data.crop,
        seed=config.seed,
        fingerprints=take_fingerprints(config, rows),
    )
    sampler = data.sampler("train", shuffle=True)
    logger.info("%d batches, %.1f %% padding", len(sampler), 100 * sampler.padding_share())
    class_counts = splits["train"].targets.bincount(minlength=len(rows.label_names)).tolist()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    module = ClassificationModule(
        config_to_dict(config),
        rows.label_names,
        class_counts,
        encoder.to_dict(),
        list(trained_on),
    )
    if config.model.embedding.vectors is not None:
        use_vectors(config, module)
    return module, data


def take_fingerprints(config: TrainConfig, rows: LabelledParts) -> dict[str, str]:
    """Digests of the rows of each part, and of the other files that a training begins with."""
    taken = {f"{name} rows": part.fingerprint() for name, part in rows.parts.items()}
    files = {
        "data.tokenizer.file": config.data.tokenizer.file,
        "model.embedding.vectors": config.model.embedding.vectors,
    }
    return taken | {key: file_fingerprint(Path(file)) for key, file in files.items() if file}


def use_vectors(config: TrainConfig, module: ClassificationModule) -> None:
    """Put the vectors of `model.embedding.vectors` into the embedding, and say how many there are.

    Raises:
        UserError: the file cannot be read, has malformed lines, or vectors of another size.
    """
    options, encoder = config.model.embedding, module.encoder
    assert isinstance(encoder, TextEncoder)
    path = Path(str(options.vectors))
    drop = config.data.on_bad_row is OnBadRow.drop
    found = load_vectors(path, encoder.vocabulary(), skip_malformed=drop)
    if found.size != options.size:
        raise UserError(
            f"{path} has vectors of {found.size} numbers: set model.embedding.size={found.size}"
        )
    if found.num_malformed:
        logger.warning("dropped %d malformed lines of %s", found.num_malformed, path)
    logger.info(
        "%s has vectors for %d of %d tokens (%.1f %%)",
        path,
        len(found.ids),
        encoder.vocab_size,
        100 * len(found.ids) / encoder.vocab_size,
    )
    for member in module.members:
        assert member.embedding is not None
        member.embedding.copy_vectors(found.ids, found.vectors, freeze=options.freeze)


def can_refit(config: TrainConfig) -> bool:
    """Whether a refit is wanted and there is nothing in it that needs validation rows."""
    if not config.refit or config.trainer.fast_dev_run:
        return False
    monitor = config.scheduler.get("monitor")
    if monitor is not None and monitor.startswith("val/"):
        logger.warning(
            "no refit: scheduler.monitor=%s needs validation rows, and a refit trains on them",
            monitor,
        )
        return False
    return True


def refit(
    config: TrainConfig,
    run_dir: Path,
    rows: LabelledParts,
    epochs: int,
    best: Path | None,
    resumes: bool,
) -> tuple[ClassificationModule, SequenceDataModule]:
    """Train anew on training and validation rows together, for as many epochs as with validation.

    The new model takes the place of the checkpoint `best`, which becomes validated.ckpt. If
    `resumes`, that may have been done in part or in full.
    """
    train = rows.parts["train"] + rows.parts["validation"]
    logger.info("refit on %d rows, training and validation, for %d epochs", len(train), epochs)
    config = replace(config, trainer=replace(config.trainer, max_epochs=epochs))
    module, data = prepare(
        config,
        LabelledParts({"train": train, "test": rows.parts["test"]}, rows.label_names),
        ("train", "validation"),
    )
    newest = run_dir / "checkpoints" / "refit.ckpt"
    validated = None if best is None else best.with_name("validated.ckpt")
    if resumes and validated is not None and validated.exists() and not newest.exists():
        return module, data
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
