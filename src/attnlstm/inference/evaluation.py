"""A checkpoint's metrics, confusion matrix and predictions on one split of a data set."""

import csv
import logging
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.config.checks import validate
from attnlstm.config.data import DataConfig, TextConfig, own_options
from attnlstm.config.schema import EvaluateConfig, EvaluateDataConfig, TrainConfig
from attnlstm.console import print_metrics, print_table
from attnlstm.data.batches import SequenceBatch
from attnlstm.data.encoders.encoding import encode_part
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.sources.source import Source
from attnlstm.data.splits import split_sources
from attnlstm.data.summary import describe_rows
from attnlstm.errors import UserError
from attnlstm.files import replacing
from attnlstm.inference.writers import name_probability
from attnlstm.training.callbacks import ProgressBar, has_terminal
from attnlstm.training.figures import draw_confusion_matrix
from attnlstm.training.metrics_file import write_metrics
from attnlstm.training.module import restore_module
from attnlstm.training.trainer import limit_threads, silence_known_warnings

logger = logging.getLogger(__name__)

METRIC_PREFIX = {"train": "train/", "validation": "val/", "test": "test/"}
"""What training calls the metrics of each split."""


class Evaluation(NamedTuple):
    """metrics: named as training names them; probabilities `[row, class]`, targets `[row]`."""

    metrics: dict[str, float]
    probabilities: Tensor
    targets: Tensor


def evaluate(config: EvaluateConfig, run_dir: str | Path) -> Evaluation:
    """Evaluate `config.ckpt`, which alone says what model, encoder and labels are.

    Prints a table per class and writes into `run_dir`: metrics.json, per_class.csv,
    confusion_matrix.png and predictions.csv.

    Raises:
        UserError: no such checkpoint or data, or labels or channels that do not match.
    """
    silence_known_warnings()
    run_dir = Path(run_dir)
    backend = config.model.lstm.backend
    trained = load_checkpoint(Path(config.ckpt), backend)
    limit_threads(trained.config.num_threads)
    split = config.data.split
    data_config = override_data(trained.config.data, config.data)
    is_same = own_values(data_config) == own_values(trained.config.data)
    if isinstance(trained.encoder, SeriesEncoder):
        data_config = data_config.with_channels(trained.encoder.channel_names)
    sources = data_config.open(split)
    is_given = "validation" in sources
    # The seed of training, so that "validation" is what training validated on.
    rows = split_sources(
        sources,
        data_config,
        trained.config.seed,
        trained.label_names,
        validation="holdout" if is_given else trained.config.validation,
        num_folds=trained.config.num_folds,
    )
    for line in rows.warnings:
        logger.warning("%s", line)
    if split not in rows.parts:
        raise UserError(
            "data.split=validation: this model was validated on its training rows by turns "
            "(validation=folds): choose test, or give data.validation=FILE"
        )
    part = rows.parts[split]
    for line in describe_rows(rows._replace(parts={split: part}), data_config):
        logger.info("%s", line)
    if is_same and split in trained.trained_on:
        logger.warning(
            "this checkpoint was trained on the %s split: its metrics do not say how well it does "
            "on other rows",
            split,
        )
    encoded, counts = encode_part(trained.encoder, part, split)
    logger.info("%s", counts.describe(split, data_config))
    num_workers = config.data.num_workers
    batching = {
        "batch_size": config.data.batch_size or data_config.batch_size or 16,
        "batch_tokens": None,
        "num_workers": data_config.num_workers if num_workers is None else num_workers,
    }
    data = SequenceDataModule({"test": encoded}, data_config.model_copy(update=batching))
    collector = PredictionCollector(len(part), len(trained.label_names))
    precision = config.trainer.precision or trained.config.trainer.precision
    trainer = lightning.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=precision,
        default_root_dir=run_dir,
        logger=False,
        callbacks=[collector, ProgressBar()] if has_terminal() else [collector],
        enable_progress_bar=has_terminal(),
        use_distributed_sampler=False,
    )
    trainer.test(restore_module(trained), data, verbose=False)
    metrics = {
        METRIC_PREFIX[split] + metric.removeprefix("test/"): float(value)
        for metric, value in trainer.callback_metrics.items()
    }
    targets = data.splits["test"].targets
    kind = "texts" if isinstance(data_config, TextConfig) else "series"
    title = f"{data_config.name}, {split} split ({len(part)} {kind})"
    print_metrics(title, metrics)
    per_class = describe_classes(collector.probabilities, targets, trained.label_names)
    print_table("per class", list(PER_CLASS_COLUMNS), per_class)

    run_dir.mkdir(parents=True, exist_ok=True)
    write_metrics(run_dir / "metrics.json", metrics)
    _write_csv(run_dir / "per_class.csv", list(PER_CLASS_COLUMNS), per_class)
    _write_predictions(
        run_dir / "predictions.csv", collector.probabilities, targets, trained.label_names
    )
    confusion = MulticlassConfusionMatrix(len(trained.label_names))
    confusion.update(collector.probabilities, targets)
    figure = draw_confusion_matrix(confusion, trained.label_names, split)
    with replacing(run_dir / "confusion_matrix.png") as partial:
        figure.savefig(partial, dpi=120, format="png")
    logger.info(
        "metrics.json, per_class.csv, predictions.csv and confusion_matrix.png are in %s", run_dir
    )
    return Evaluation(metrics, collector.probabilities, targets)


class PredictionCollector(Callback):
    """Keeps the probabilities of every test row, in the rows' own order."""

    def __init__(self, num_rows: int, num_classes: int) -> None:
        self.probabilities = torch.full((num_rows, num_classes), float("nan"))

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: dict[str, Any],
        batch: SequenceBatch,
        *_: Any,
    ) -> None:
        self.probabilities[batch.rows.cpu()] = outputs["logits"].float().softmax(dim=1).cpu()


def own_values(config: DataConfig) -> dict[str, Any]:
    """What decides which rows a source gives."""
    return config.model_dump(include=set(own_options(type(config))))


def override_data(trained: DataConfig, wanted: EvaluateDataConfig) -> Source:
    """What was trained on, with the keys that were given for the evaluation.

    Raises:
        UserError: a key means nothing to the source that was trained on.
    """
    given = wanted.model_dump(exclude_none=True, exclude={"split", "batch_size", "num_workers"})
    source = validate({"data": trained.model_dump() | given}, TrainConfig).data
    assert isinstance(source, Source)
    return source


PER_CLASS_COLUMNS = ("class", "rows", "precision", "recall", "f1")


def describe_classes(
    probabilities: Tensor, targets: Tensor, label_names: list[str]
) -> list[list[str]]:
    """A row for each class: `PER_CLASS_COLUMNS`."""
    classes = len(label_names)
    scores = [
        metric(classes, average="none")(probabilities, targets).tolist()
        for metric in (MulticlassPrecision, MulticlassRecall, MulticlassF1Score)
    ]
    counts = targets.bincount(minlength=classes).tolist()
    return [
        [label, str(count), *(f"{value:.4f}" for value in values)]
        for label, count, *values in zip(label_names, counts, *scores, strict=True)
    ]


def _write_predictions(
    path: Path, probabilities: Tensor, targets: Tensor, label_names: list[str]
) -> None:
    predictions = probabilities.argmax(dim=1).tolist()
    columns = ["row", "true_label", "label", *map(name_probability, label_names)]
    rows = [
        [str(row), label_names[target], label_names[prediction], *(f"{p:.6f}" for p in values)]
        for row, (target, prediction, values) in enumerate(
            zip(targets.tolist(), predictions, probabilities.tolist(), strict=True)
        )
    ]
    _write_csv(path, columns, rows)


def _write_csv(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
