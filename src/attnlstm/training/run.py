"""A training run: from a typed config to a run folder."""

import json
import logging
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import lightning
import yaml
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnlstm.config import CheckpointConfig, LoggerConfig, TrainConfig
from attnlstm.config_checks import config_to_dict
from attnlstm.data import SequenceDataModule, SeriesEncoder, load_splits
from attnlstm.errors import UserError
from attnlstm.tables import print_metrics
from attnlstm.training.callbacks import ProgressBar, ValidationFigures
from attnlstm.training.module import ClassificationModule, build_classifier

logger = logging.getLogger(__name__)


class TrainingResult(NamedTuple):
    """What a run leaves behind, for notebooks and tests.

    metrics: of the best checkpoint on the test split, such as "test/accuracy".
    checkpoint: the best checkpoint's path, or None where none was written.
    """

    metrics: dict[str, float]
    checkpoint: Path | None
    module: ClassificationModule
    trainer: lightning.Trainer


def train(config: TrainConfig, run_dir: Path) -> TrainingResult:
    """Fit on the training part, choose the checkpoint on the validation part, test it once.

    Writes into `run_dir`: config.yaml (resolved), metrics.csv, tensorboard/, figures/,
    checkpoints/ and metrics.json (of the test split).

    Raises:
        UserError: something about the data or the configuration that the user can mend.
    """
    silence_known_warnings()
    run_dir.mkdir(parents=True, exist_ok=True)
    plain_config = config_to_dict(config)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(plain_config, sort_keys=False))
    trainer = build_trainer(config, run_dir)
    build_classifier(
        plain_config["model"], input_size=1, num_classes=2
    )  # what cannot be, fails now

    splits = load_splits(
        config.data.source.value, config.data.name, config.data.val_fraction, config.seed
    )
    encoder = SeriesEncoder.fit(splits["train"], config.data.normalize)
    data = SequenceDataModule(
        {name: encoder.encode(rows) for name, rows in splits.items()},
        batch_size=config.data.batch_size,
        num_workers=config.data.num_workers,
        noise=config.data.noise,
        seed=config.seed,
    )
    label_names = splits["train"].features["label"].names
    sizes = ", ".join(f"{rows.num_rows} {name}" for name, rows in splits.items())
    logger.info("%s: %s series, %d classes", config.data.name, sizes, len(label_names))

    class_counts = data.splits["train"].targets.bincount(minlength=len(label_names)).tolist()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    module = ClassificationModule(
        plain_config, label_names, class_counts, encoder.to_dict(), encoder.num_channels
    )
    started = time.monotonic()
    trainer.fit(module, data)
    logger.info("%d epochs in %.0f s", trainer.current_epoch, time.monotonic() - started)

    best = find_best_checkpoint(trainer)
    trainer.test(
        module,
        data,
        ckpt_path=None if best is None else str(best),
        weights_only=True,
        verbose=False,
    )
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    metrics = {name: value for name, value in metrics.items() if name.startswith("test/")}
    if trainer.is_global_zero:
        (run_dir / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        print_metrics(f"{config.data.name}, test split", metrics)
        if best is not None:
            logger.info("best checkpoint: %s", best)
            logger.info("evaluate it with: python evaluate.py ckpt=%s", best)
    return TrainingResult(metrics, best, module, trainer)


def build_trainer(config: TrainConfig, run_dir: Path) -> lightning.Trainer:
    """Lightning's Trainer with the configured arguments, loggers and callbacks.

    Raises:
        UserError: Lightning refuses an argument, such as an accelerator that is not there.
    """
    options = asdict(config.trainer)
    if config.callbacks.checkpoint is None:
        options["enable_checkpointing"] = False
    try:
        return lightning.Trainer(
            **options,
            default_root_dir=run_dir,
            logger=build_loggers(config.logger, run_dir),
            callbacks=build_callbacks(config, run_dir),
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {error}") from error


def build_loggers(config: LoggerConfig, run_dir: Path) -> list[Logger]:
    """CSV and TensorBoard in the run folder, and the configured ones besides.

    Raises:
        UserError: a configured logger's package is not installed.
    """
    loggers: list[Logger] = [
        CSVLogger(run_dir, name="", version=""),
        TensorBoardLogger(run_dir, name="", version="tensorboard", default_hp_metric=False),
    ]
    try:
        if config.wandb is not None:
            from lightning.pytorch.loggers import WandbLogger

            loggers.append(WandbLogger(**asdict(config.wandb), save_dir=run_dir))
        if config.mlflow is not None:
            from lightning.pytorch.loggers import MLFlowLogger

            options = asdict(config.mlflow)
            if options["tracking_uri"] is None:
                options["tracking_uri"] = f"file:{run_dir / 'mlruns'}"
            loggers.append(MLFlowLogger(**options))
    except ModuleNotFoundError as error:
        package = "wandb" if config.wandb is not None else "mlflow"
        raise UserError(
            f"logger={package} needs the package {package}: install it with "
            f"`pip install {package}`, or leave logger= out"
        ) from error
    return loggers


def build_callbacks(config: TrainConfig, run_dir: Path) -> list[Callback]:
    """The configured callbacks; those that are None are left out."""
    callbacks: list[Callback] = []
    logs = not config.trainer.fast_dev_run
    if logs:
        callbacks.append(LearningRateMonitor())
    if config.trainer.enable_progress_bar is not False:
        callbacks.append(ProgressBar())
    if config.callbacks.checkpoint is not None:
        callbacks += build_checkpoint_callbacks(
            config.callbacks.checkpoint, run_dir / "checkpoints"
        )
    if config.callbacks.early_stopping is not None:
        callbacks.append(EarlyStopping(**config_to_dict(config.callbacks.early_stopping)))
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


def silence_known_warnings() -> None:
    """Leave out what Lightning says of every run of ours and nobody can mend; the rest stays."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # tips, and what it found
    for message in (
        ".*LeafSpec.* is deprecated",  # Lightning's own use of torch
        ".*does not have many workers",  # the rows are in memory: workers would only slow it down
        "Experiment logs directory .* exists and is not empty",  # it is the run folder
    ):
        warnings.filterwarnings("ignore", message)


def find_best_checkpoint(trainer: lightning.Trainer) -> Path | None:
    """The best checkpoint that this run has written."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint) or not callback.best_model_path:
        return None
    return Path(callback.best_model_path)
