"""Lightning's Trainer as a run wants it: loggers, callbacks, and no noise."""

import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.plugins import AsyncCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnlstm.config.lightning import LOWER_IS_BETTER, CheckpointConfig, LoggerConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError
from attnlstm.training.callbacks import ProgressBar, ValidationFigures, has_terminal
from attnlstm.training.checkpoint_io import WholeFileCheckpointIO
from attnlstm.training.early_stopping import EarlyStoppingPastPlateau
from attnlstm.training.epoch_log import EpochLog
from attnlstm.training.metrics_file import MetricsFile
from attnlstm.training.newest_checkpoint import NewestCheckpoint


class Progress(NamedTuple):
    """What the loggers have of a run that has been stopped; nothing of one that begins.

    metric_rows: the rows of metrics.csv.
    log_step: the step of the next one.
    """

    metric_rows: int = 0
    log_step: int | None = None


def build_trainer(config: TrainConfig, run_dir: Path, progress: Progress) -> lightning.Trainer:
    """The Trainer of a run with validation, with the configured loggers and callbacks.

    Raises:
        UserError: Lightning refuses an argument, such as an accelerator that is not there.
    """
    return _build_trainer(
        config,
        run_dir,
        build_loggers(config.logger, run_dir, progress),
        build_callbacks(config, run_dir),
        keeps_checkpoints(config),
    )


def build_refit_trainer(
    config: TrainConfig, run_dir: Path, progress: Progress
) -> lightning.Trainer:
    """The Trainer of a refit, without validation: the newest weights are refit.ckpt.

    Raises:
        UserError: as `build_trainer`.
    """
    callbacks: list[Callback] = [LearningRateMonitor(), *build_progress(config, "refit: ", False)]
    if config.callbacks.checkpoint is not None and keeps_checkpoints(config):
        path = run_dir / "checkpoints" / "refit.ckpt"
        callbacks.insert(0, build_newest_checkpoint(config.callbacks.checkpoint, path))
    (run_dir / "refit").mkdir(exist_ok=True)
    loggers = _build_local_loggers(run_dir / "refit", run_dir / "tensorboard" / "refit", progress)
    # Apart from the fit's: Lightning looks there for checkpoints of a requeued job.
    return _build_trainer(config, run_dir / "refit", loggers, callbacks, False)


def build_calibration_trainer(
    config: TrainConfig, run_dir: Path, collector: Callback
) -> lightning.Trainer:
    """The Trainer of one more validation, which is for `collector` alone: it logs nothing.

    Raises:
        UserError: as `build_trainer`.
    """
    return _build_trainer(config, run_dir, [], [collector], enable_checkpointing=False)


def check_monitors(config: TrainConfig, validation_targets: np.ndarray) -> None:
    """Refuse to watch an AUROC that is none: it takes validation rows of two classes.

    Raises:
        UserError: it names the key that watches it.
    """
    callbacks = config.callbacks
    watched = {
        "callbacks.checkpoint": callbacks.checkpoint and callbacks.checkpoint.monitor,
        "callbacks.early_stopping": callbacks.early_stopping and callbacks.early_stopping.monitor,
        "scheduler": config.scheduler.get("monitor"),
    }
    keys = [f"{key}.monitor=val/auroc" for key, name in watched.items() if name == "val/auroc"]
    if keys and len(np.unique(validation_targets)) < 2:
        raise UserError(
            f"{', '.join(keys)}: there is no AUROC, as the validation rows are all of one class; "
            "watch val/loss, or give more validation rows"
        )


def _build_trainer(
    config: TrainConfig,
    root_dir: Path,
    loggers: list[Logger],
    callbacks: list[Callback],
    enable_checkpointing: bool,
) -> lightning.Trainer:
    # With trainer.deterministic torch would fill every new tensor before it is written to, which
    # takes a tenth of a small step and changes nothing but for code that reads what nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    options = config.trainer.model_dump() | {
        "enable_checkpointing": enable_checkpointing,
        # otherwise Lightning would bring a bar of its own
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
    }
    try:
        return lightning.Trainer(
            **options,
            default_root_dir=root_dir,
            logger=loggers,
            callbacks=callbacks,
            plugins=[AsyncCheckpointIO(WholeFileCheckpointIO())],  # disks take their time
        )
    except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
        raise UserError(f"trainer: {error}") from error


def keeps_checkpoints(config: TrainConfig) -> bool:
    """Whether checkpoints are wanted: both switches, Lightning's and the callback's, are on."""
    return config.callbacks.checkpoint is not None and (
        config.trainer.enable_checkpointing is not False
    )


def _build_local_loggers(folder: Path, tensorboard: Path, progress: Progress) -> list[Logger]:
    # One behind the next step, as figures are of the last.
    purge_step = None if progress.log_step is None else progress.log_step + 1
    return [
        MetricsFile(folder, progress.metric_rows),
        TensorBoardLogger(
            tensorboard, name="", version="", default_hp_metric=False, purge_step=purge_step
        ),
    ]


def build_loggers(config: LoggerConfig, run_dir: Path, progress: Progress) -> list[Logger]:
    """CSV and TensorBoard in the run folder, and the configured ones besides.

    Raises:
        UserError: a configured logger's package is not installed.
    """
    loggers = _build_local_loggers(run_dir, run_dir / "tensorboard", progress)
    if config.wandb is not None:
        from lightning.pytorch.loggers import WandbLogger

        options = config.wandb.model_dump() | {"save_dir": run_dir}
        loggers.append(_build_logger("wandb", WandbLogger, options))
    if config.mlflow is not None:
        from lightning.pytorch.loggers import MLFlowLogger

        options = config.mlflow.model_dump()
        if options["tracking_uri"] is None:
            options["tracking_uri"] = f"file:{run_dir / 'mlruns'}"
        loggers.append(_build_logger("mlflow", MLFlowLogger, options))
    return loggers


def _build_logger(package: str, cls: type[Logger], options: dict[str, Any]) -> Logger:
    try:
        return cls(**options)
    except ModuleNotFoundError as error:
        raise UserError(
            f"logger={package} needs the package {package}: install it with "
            f"`pip install {package}`, or leave logger= out"
        ) from error


def build_callbacks(config: TrainConfig, run_dir: Path) -> list[Callback]:
    """The configured callbacks; those that are None are left out."""
    callbacks: list[Callback] = []
    logs = not config.trainer.fast_dev_run
    if logs:
        callbacks.append(LearningRateMonitor())
    callbacks += build_progress(config)
    checkpoint = config.callbacks.checkpoint
    if checkpoint is not None and keeps_checkpoints(config):
        callbacks.append(build_best_checkpoint(checkpoint, run_dir / "checkpoints"))
        if checkpoint.save_last and logs:
            path = run_dir / "checkpoints" / "last.ckpt"
            callbacks.insert(0, build_newest_checkpoint(checkpoint, path))
    if config.callbacks.early_stopping is not None:
        options = config.callbacks.early_stopping.model_dump()
        # With trainer.limit_val_batches an AUROC may be NaN, which is no reason to stop at once.
        check_finite = options["monitor"] != "val/auroc"
        callbacks.append(
            EarlyStoppingPastPlateau(**options, check_finite=check_finite, strict=False)
        )
    if logs and config.callbacks.figures is not None:
        callbacks.append(
            ValidationFigures(run_dir / "figures", config.callbacks.figures.every_n_epochs)
        )
    return callbacks


def build_progress(config: TrainConfig, title: str = "", validates: bool = True) -> list[Callback]:
    """A progress bar in a terminal, lines elsewhere; what says the best epoch in any case."""
    checkpoint = config.callbacks.checkpoint
    monitor = "val/loss" if checkpoint is None else checkpoint.monitor
    if not monitor.startswith("val/"):
        monitor = "val/loss"
    is_wanted, shows_bar = config.trainer.enable_progress_bar is not False, has_terminal()
    log = EpochLog(
        monitor,
        lower_is_better=monitor.removeprefix("val/") in LOWER_IS_BETTER,
        writes_lines=is_wanted and not shows_bar,
        validates=validates and config.trainer.limit_val_batches != 0,
        title=title,
    )
    return [ProgressBar(), log] if is_wanted and shows_bar else [log]


def build_best_checkpoint(config: CheckpointConfig, folder: Path) -> ModelCheckpoint:
    """Keeps the checkpoints that are best by `config.monitor`."""
    return ModelCheckpoint(
        folder,
        config.filename,
        monitor=config.monitor,
        mode=config.mode,
        save_top_k=config.save_top_k,
        auto_insert_metric_name=config.auto_insert_metric_name,
        every_n_epochs=config.every_n_epochs,
        save_last=False,
        save_weights_only=True,  # the newest checkpoint has what training goes on with
        enable_version_counter=False,  # a newer file takes the place of the old one
    )


def build_newest_checkpoint(config: CheckpointConfig, path: Path) -> NewestCheckpoint:
    """Keeps the newest checkpoint, with which a stopped run goes on."""
    return NewestCheckpoint(
        path,
        config.every_n_epochs,
        config.every_n_train_steps,
        config.every_n_minutes,
        on_signal=config.save_on_exception,
    )


def find_best_checkpoint(trainer: lightning.Trainer) -> Path | None:
    """The best checkpoint that this run has written."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint) or not callback.best_model_path:
        return None
    return Path(callback.best_model_path)


def silence_known_warnings() -> None:
    """Leave out what Lightning says of every run of ours and nobody can fix; the rest stays."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # tips, and what it found
    for message in (
        ".*LeafSpec.* is deprecated",  # Lightning's own use of torch
        ".*does not have many workers",  # the rows are in memory: workers would only slow it down
        "You defined a `validation_step` but have no `val_dataloader`",  # a refit has none
        "The number of training batches .* is smaller than the logging interval",  # small sets
        "Checkpoint directory .* exists and is not empty",  # the refit's file goes there too
        "Total length of `list` across ranks is zero",  # a refit's validation rows
        "Glyph .* missing from font",  # a box in a figure; other files have the name
        "Experiment logs directory .* exists and is not empty",  # it is the run folder
    ):
        warnings.filterwarnings("ignore", message)


def limit_threads(num_threads: int | None) -> None:
    """Let an operation on the CPU use this many threads; None leaves torch's choice.

    The steps of a small LSTM are too short to share, and threads that wait for each other make
    them many times slower as soon as something else runs on the machine.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
