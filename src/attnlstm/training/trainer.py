"""Lightning's Trainer as a run wants it: loggers, callbacks, and no noise."""

import logging
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnlstm.config import CheckpointConfig, LoggerConfig, TrainConfig
from attnlstm.config_checks import config_to_dict
from attnlstm.errors import UserError
from attnlstm.training.callbacks import ProgressBar, ValidationFigures
from attnlstm.training.checkpoint_file import seal


def build_trainer(config: TrainConfig, run_dir: Path) -> lightning.Trainer:
    """The Trainer of a run with validation, with the configured loggers and callbacks.

    Raises:
        UserError: Lightning refuses an argument, such as an accelerator that is not there.
    """
    return _build_trainer(
        config, run_dir, build_loggers(config.logger, run_dir), build_callbacks(config, run_dir)
    )


def build_refit_trainer(config: TrainConfig, run_dir: Path) -> lightning.Trainer:
    """The Trainer of a refit, without validation: the newest weights are refit.ckpt.

    Raises:
        UserError: as `build_trainer`.
    """
    callbacks: list[Callback] = [LearningRateMonitor()]
    if config.trainer.enable_progress_bar is not False:
        callbacks.append(ProgressBar())
    if keeps_checkpoints(config):
        folder = run_dir / "checkpoints"
        callbacks.append(ModelCheckpoint(folder, filename="refit", enable_version_counter=False))
    loggers: list[Logger] = [
        CSVLogger(run_dir, name="refit", version=""),
        TensorBoardLogger(run_dir, name="", version="tensorboard/refit", default_hp_metric=False),
    ]
    return _build_trainer(config, run_dir, loggers, callbacks)


def _build_trainer(
    config: TrainConfig, run_dir: Path, loggers: list[Logger], callbacks: list[Callback]
) -> lightning.Trainer:
    options = asdict(config.trainer)
    options["enable_checkpointing"] = keeps_checkpoints(config)
    try:
        return lightning.Trainer(
            **options,
            default_root_dir=run_dir,
            logger=loggers,
            callbacks=callbacks,
            plugins=SealedCheckpointIO(),
        )
    except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
        raise UserError(f"trainer: {error}") from error


class SealedCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints with their seal beside their place and then moves them there."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            super().save_checkpoint(checkpoint, unfinished, storage_options)
            seal(unfinished)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def keeps_checkpoints(config: TrainConfig) -> bool:
    """Whether checkpoints are wanted: both switches, Lightning's and the callback's, are on."""
    return config.callbacks.checkpoint is not None and (
        config.trainer.enable_checkpointing is not False
    )


def build_loggers(config: LoggerConfig, run_dir: Path) -> list[Logger]:
    """CSV and TensorBoard in the run folder, and the configured ones besides.

    Raises:
        UserError: a configured logger's package is not installed.
    """
    loggers: list[Logger] = [
        CSVLogger(run_dir, name="", version=""),
        TensorBoardLogger(run_dir, name="", version="tensorboard", default_hp_metric=False),
    ]
    if config.wandb is not None:
        from lightning.pytorch.loggers import WandbLogger

        options = asdict(config.wandb) | {"save_dir": run_dir}
        loggers.append(_build_logger("wandb", WandbLogger, options))
    if config.mlflow is not None:
        from lightning.pytorch.loggers import MLFlowLogger

        options = asdict(config.mlflow)
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
    if config.trainer.enable_progress_bar is not False:
        callbacks.append(ProgressBar())
    checkpoint = config.callbacks.checkpoint
    if checkpoint is not None and keeps_checkpoints(config):
        callbacks += build_checkpoint_callbacks(checkpoint, run_dir / "checkpoints")
    if config.callbacks.early_stopping is not None:
        callbacks.append(
            EarlyStopping(**config_to_dict(config.callbacks.early_stopping), strict=False)
        )
    if logs and config.callbacks.figures is not None:
        callbacks.append(
            ValidationFigures(run_dir / "figures", config.callbacks.figures.every_n_epochs)
        )
    return callbacks


def build_checkpoint_callbacks(config: CheckpointConfig, folder: Path) -> list[Callback]:
    """One for the best checkpoints and, with `save_last`, one for the newest.

    Lightning's own `save_last` writes last.ckpt only when there is a new best, too.
    """
    options = config_to_dict(config) | {
        "dirpath": folder,
        "save_last": False,
        "enable_version_counter": False,  # a newer file takes the place of the old one
    }
    callbacks: list[Callback] = [ModelCheckpoint(**options)]
    if config.save_last:
        newest = {"filename": "last", "monitor": None, "save_top_k": 1}
        callbacks.append(ModelCheckpoint(**(options | newest)))
    return callbacks


def find_best_checkpoint(trainer: lightning.Trainer) -> Path | None:
    """The best checkpoint that this run has written."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint) or not callback.best_model_path:
        return None
    return Path(callback.best_model_path)


def silence_known_warnings() -> None:
    """Leave out what Lightning says of every run of ours and nobody can mend; the rest stays."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # tips, and what it found
    for message in (
        ".*LeafSpec.* is deprecated",  # Lightning's own use of torch
        ".*does not have many workers",  # the rows are in memory: workers would only slow it down
        "You defined a `validation_step` but have no `val_dataloader`",  # a refit has none
        "The number of training batches .* is smaller than the logging interval",  # small sets
        "Checkpoint directory .* exists and is not empty",  # the refit's file goes there too
        "Total length of `list` across ranks is zero",  # a refit's validation rows
        "Experiment logs directory .* exists and is not empty",  # it is the run folder
    ):
        warnings.filterwarnings("ignore", message)


def limit_threads(num_threads: int | None) -> None:
    """Let an operation on the CPU use so many threads; None leaves torch's choice.

    The steps of a small LSTM are too short to share, and threads that wait for each other make
    them many times slower as soon as something else runs on the machine.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
