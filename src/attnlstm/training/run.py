"""A training run: from a typed config to a run folder."""

import json
import logging
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import lightning
import yaml
from datasets import DatasetDict, concatenate_datasets
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnlstm.config import TrainConfig
from attnlstm.config_checks import config_to_dict
from attnlstm.data import SequenceDataModule, SeriesEncoder, load_splits
from attnlstm.errors import UserError
from attnlstm.tables import print_metrics
from attnlstm.training.module import ClassificationModule, build_classifier
from attnlstm.training.trainer import (
    build_refit_trainer,
    build_trainer,
    find_best_checkpoint,
    limit_threads,
    silence_known_warnings,
)

logger = logging.getLogger(__name__)


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
    checkpoints/, refit/ and metrics.json (of the test split). best.ckpt is what is tested: with
    `config.refit` the model of `refit`, otherwise the epoch that the validation part chose.

    Raises:
        UserError: something about the data or the configuration that the user can mend.
    """
    silence_known_warnings()
    run_dir.mkdir(parents=True, exist_ok=True)
    plain_config = config_to_dict(config)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(plain_config, sort_keys=False))
    limit_threads(config.num_threads)
    trainer = build_trainer(config, run_dir)
    # Before any data is loaded, an LSTM that cannot be is refused.
    build_classifier(plain_config["model"], input_size=1, num_classes=2)

    splits = load_splits(
        config.data.source.value, config.data.name, config.data.val_fraction, config.seed
    )
    sizes = ", ".join(f"{rows.num_rows} {name}" for name, rows in splits.items())
    num_classes = splits["train"].features["label"].num_classes
    logger.info("%s: %s series, %d classes", config.data.name, sizes, num_classes)
    module, data = prepare(config, splits)
    started = time.monotonic()
    fit(trainer, module, data)
    logger.info("%d epochs in %.0f s", trainer.current_epoch, time.monotonic() - started)
    best = find_best_checkpoint(trainer)
    if can_refit(config):
        module, data = refit(config, run_dir, splits, trainer.current_epoch, best)

    ckpt_path = None if best is None else str(best)
    trainer.test(module, data, ckpt_path=ckpt_path, weights_only=True, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    metrics = {name: value for name, value in metrics.items() if name.startswith("test/")}
    if trainer.is_global_zero:
        (run_dir / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        print_metrics(f"{config.data.name}, test split", metrics)
        if best is None:
            logger.info("no best checkpoint was written: these are the last weights' metrics")
        else:
            here = Path.cwd()
            shown = best.relative_to(here) if best.is_relative_to(here) else best
            logger.info("best checkpoint: %s", shown)
            logger.info("evaluate it with: python evaluate.py %s", shlex.quote(f"ckpt={shown}"))
    return TrainingResult(metrics, best, module, trainer)


def fit(trainer: lightning.Trainer, module: ClassificationModule, data: SequenceDataModule) -> None:
    """Train; what Lightning finds wrong with the configuration is the user's to mend."""
    try:
        trainer.fit(module, data)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error


def prepare(
    config: TrainConfig, splits: DatasetDict, trained_on: tuple[str, ...] = ("train",)
) -> tuple[ClassificationModule, SequenceDataModule]:
    """The encoded splits and a new model, both as the seed has it.

    Args:
        config: of the run.
        splits: "train", on which the encoder is fitted, and any others.
        trained_on: which of `load_splits`'s parts "train" consists of.
    """
    encoder = SeriesEncoder.fit(splits["train"], config.data.normalize)
    data = SequenceDataModule(
        {name: encoder.encode(rows) for name, rows in splits.items()},
        batch_size=config.data.batch_size,
        num_workers=config.data.num_workers,
        noise=config.data.noise,
        seed=config.seed,
    )
    label_names = splits["train"].features["label"].names
    class_counts = data.splits["train"].targets.bincount(minlength=len(label_names)).tolist()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    module = ClassificationModule(
        config_to_dict(config),
        label_names,
        class_counts,
        encoder.to_dict(),
        encoder.num_channels,
        list(trained_on),
    )
    return module, data


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
    config: TrainConfig, run_dir: Path, splits: DatasetDict, epochs: int, best: Path | None
) -> tuple[ClassificationModule, SequenceDataModule]:
    """Train anew on training and validation rows together, for as many epochs as with validation.

    The new model takes the place of the checkpoint `best`, which becomes validated.ckpt.
    """
    rows = concatenate_datasets([splits["train"], splits["validation"]])
    logger.info("refit on %d series, training and validation, for %d epochs", len(rows), epochs)
    config = replace(config, trainer=replace(config.trainer, max_epochs=epochs))
    module, data = prepare(
        config, DatasetDict(train=rows, test=splits["test"]), ("train", "validation")
    )
    trainer = build_refit_trainer(config, run_dir)
    fit(trainer, module, data)
    newest = find_best_checkpoint(trainer)
    if best is not None and newest is not None:
        if trainer.is_global_zero:
            best.replace(best.with_name("validated.ckpt"))
            newest.replace(best)
        trainer.strategy.barrier()
    return module, data
