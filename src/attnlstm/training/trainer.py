"""Lightning's Trainer as a run needs it: loggers, callbacks, and no noise."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
)
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.plugins import AsyncCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnlstm.config.checks import show
from attnlstm.config.data import Task
from attnlstm.config.lightning import (
    LOWER_IS_BETTER,
    CheckpointConfig,
    LoggerConfig,
    TrainerConfig,
)
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError
from attnlstm.training.callbacks import ValidationFigures, build_progress_bar, has_terminal
from attnlstm.training.checkpoint_io import WholeFileCheckpointIO
from attnlstm.training.devices import check_devices
from attnlstm.training.early_stopping import EarlyStoppingPastPlateau
from attnlstm.training.epoch_log import EpochLog
from attnlstm.training.fit import ResumePoint
from attnlstm.training.lightning_internals import MetricsFile
from attnlstm.training.metrics import build_metrics
from attnlstm.training.newest_checkpoint import NewestCheckpoint

REFUSALS = (MisconfigurationException, ImportError, ValueError, TypeError, RuntimeError)
"""What Lightning raises for arguments that it does not accept."""


def build_trainer(
    config: TrainConfig, run_dir: Path, resume_point: ResumePoint | None = None
) -> Trainer:
    """Build the Trainer of a run with validation, with the configured loggers and callbacks.

    Raises:
        UserError: Lightning refuses an argument, such as an accelerator that does not exist.
    """
    loggers = build_loggers(config.logger, run_dir, resume_point)
    return _build_trainer(config, run_dir, loggers, build_callbacks(config, run_dir))


def build_refit_trainer(
    config: TrainConfig, run_dir: Path, resume_point: ResumePoint | None
) -> Trainer:
    """Build the Trainer of a refit, without validation: the newest checkpoint is refit.ckpt."""
    callbacks: list[Callback] = []
    if (checkpoint := _checkpoint_config(config)) is not None:
        callbacks.append(NewestCheckpoint(run_dir / "checkpoints" / "refit.ckpt", checkpoint))
    callbacks += [LearningRateMonitor(), *_build_progress(config, "refit: ", validates=False)]
    # A folder of its own: Lightning looks there for checkpoints of a requeued job.
    folder = run_dir / "refit"
    folder.mkdir(exist_ok=True)
    loggers = _build_local_loggers(folder, run_dir / "tensorboard" / "refit", resume_point)
    return _build_trainer(config, folder, loggers, callbacks)


def build_calibration_trainer(config: TrainConfig, run_dir: Path, collector: Callback) -> Trainer:
    """Build the Trainer of one more validation, for `collector` alone: it logs nothing."""
    return _build_trainer(config, run_dir, [], [collector])


def check_monitors(config: TrainConfig, task: Task, validation_targets: np.ndarray) -> None:
    """Check that what is monitored exists: AUROC needs validation rows of two classes.

    Raises:
        UserError: it does not; the message names the key.
    """
    callbacks = config.callbacks
    monitors = {
        "callbacks.checkpoint": callbacks.checkpoint and callbacks.checkpoint.monitor,
        "callbacks.early_stopping": callbacks.early_stopping and callbacks.early_stopping.monitor,
        "scheduler": config.scheduler.get("monitor"),
    }
    known = [f"val/{name}" for name in ("loss", *build_metrics(task, 2))]
    for key, name in monitors.items():
        if name and name.startswith("val/") and name not in known:
            raise UserError(
                f"{key}.monitor={name} does not exist with task={task}: watch {', '.join(known)}"
            )
    keys = [f"{key}.monitor=val/auroc" for key, name in monitors.items() if name == "val/auroc"]
    if keys and len(np.unique(validation_targets)) < 2:
        raise UserError(
            f"{', '.join(keys)}: there is no AUROC, as all validation rows are of one class; "
            "watch val/loss, or give more validation rows"
        )


def _build_trainer(
    config: TrainConfig, root_dir: Path, loggers: list[Logger], callbacks: list[Callback]
) -> Trainer:
    # With trainer.deterministic torch would fill every new tensor before it is written to, which
    # takes a tenth of a small step and only matters to code that reads uninitialized memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    check_devices(config.trainer)
    options = config.trainer.model_dump() | {
        # otherwise Lightning would add a checkpoint callback and a bar of its own
        "enable_checkpointing": any(isinstance(item, ModelCheckpoint) for item in callbacks),
        "enable_progress_bar": any(isinstance(item, ProgressBar) for item in callbacks),
    }
    try:
        return Trainer(
            **options,
            default_root_dir=root_dir,
            logger=loggers,
            callbacks=callbacks,
            plugins=[AsyncCheckpointIO(WholeFileCheckpointIO())],  # training does not wait for it
        )
    except REFUSALS as error:
        for key, default in TrainerConfig().model_dump().items():
            if options[key] != default and _accepts(options | {key: default}):
                setting = f"trainer.{key}={show(options[key])}"
                raise UserError(f"{setting} is refused by Lightning: {error}") from error
        raise UserError(f"the keys of trainer are refused by Lightning: {error}") from error


def _accepts(options: dict[str, Any]) -> bool:
    try:
        Trainer(**options, logger=False)
    except REFUSALS:
        return False
    return True


def _checkpoint_config(config: TrainConfig) -> CheckpointConfig | None:
    """Return the options of checkpoints; None if either the callback's or Lightning's are off."""
    return None if config.trainer.enable_checkpointing is False else config.callbacks.checkpoint


def _build_local_loggers(
    folder: Path, tensorboard: Path, resume_point: ResumePoint | None
) -> list[Logger]:
    # The step after the next one: figures have the step of the last one.
    purge_step = None if resume_point is None else resume_point.log_step + 1
    return [
        MetricsFile(folder, 0 if resume_point is None else resume_point.metric_rows),
        TensorBoardLogger(
            tensorboard, name="", version="", default_hp_metric=False, purge_step=purge_step
        ),
    ]


def build_loggers(
    config: LoggerConfig, run_dir: Path, resume_point: ResumePoint | None
) -> list[Logger]:
    """Build the CSV and TensorBoard loggers of the run folder, and the configured ones.

    Raises:
        UserError: the package of a configured logger is not installed.
    """
    loggers = _build_local_loggers(run_dir, run_dir / "tensorboard", resume_point)
    if config.wandb is not None:
        options = config.wandb.model_dump() | {"save_dir": run_dir}
        loggers.append(_build_logger("wandb", WandbLogger, options))
    if config.mlflow is not None:
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
    """Build the configured callbacks; those that are None are left out."""
    logs = not config.trainer.fast_dev_run
    checkpoint, folder = _checkpoint_config(config), run_dir / "checkpoints"
    early_stopping, figures = config.callbacks.early_stopping, config.callbacks.figures
    callbacks: list[Callback] = []
    if checkpoint is not None and checkpoint.save_last and logs:
        callbacks.append(NewestCheckpoint(folder / "last.ckpt", checkpoint))
    if logs:
        callbacks.append(LearningRateMonitor())
    callbacks += _build_progress(config)
    if checkpoint is not None:
        callbacks.append(_build_best_checkpoint(checkpoint, folder))
    if early_stopping is not None:
        # With trainer.limit_val_batches an AUROC may be NaN, which is no reason to stop at once.
        check_finite = early_stopping.monitor != "val/auroc"
        options = early_stopping.model_dump()
        callbacks.append(
            EarlyStoppingPastPlateau(**options, check_finite=check_finite, strict=False)
        )
    if logs and figures is not None:
        callbacks.append(ValidationFigures(run_dir / "figures", figures.every_n_epochs))
    return callbacks


def _build_progress(config: TrainConfig, title: str = "", validates: bool = True) -> list[Callback]:
    """Build a progress bar in a terminal, log lines elsewhere, and what logs the best epoch."""
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
    return [build_progress_bar(), log] if is_wanted and shows_bar else [log]


def _build_best_checkpoint(config: CheckpointConfig, folder: Path) -> ModelCheckpoint:
    of_newest = {"save_last", "save_on_exception", "every_n_train_steps", "every_n_minutes"}
    return ModelCheckpoint(
        folder,
        **config.model_dump(exclude=of_newest),
        save_weights_only=True,  # the newest checkpoint holds the rest
        enable_version_counter=False,  # a newer file replaces the old one
    )


def find_best_checkpoint(trainer: Trainer) -> Path | None:
    """Return the best checkpoint that this run has written."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint) or not callback.best_model_path:
        return None
    return Path(callback.best_model_path)


def silence_known_warnings() -> None:
    """Filter Lightning's messages about every run that nobody can act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # tips, and what it found
    for message in (
        ".*LeafSpec.* is deprecated",  # Lightning's own use of torch
        ".*does not have many workers",  # the rows are in memory: workers would only slow it down
        "You defined a `validation_step` but have no `val_dataloader`",  # a refit has none
        "The number of training batches .* is smaller than the logging interval",  # small sets
        "Checkpoint directory .* exists and is not empty",  # the refit's file goes there too
        "Total length of `list` across ranks is zero",  # a refit's validation rows
        ".*ModelCheckpoint.* could not find the monitored key",  # the run says so at its end
        "Glyph .* missing from font",  # a box in a figure; other files have the name
        "Experiment logs directory .* exists and is not empty",  # it is the run folder
    ):
        warnings.filterwarnings("ignore", message)
