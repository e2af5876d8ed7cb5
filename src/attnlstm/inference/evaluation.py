"""Evaluate a checkpoint on one split of a data set."""

import csv
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
from torch import Tensor
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from attnlstm.checkpoint.find import find_checkpoint
from attnlstm.checkpoint.load import TrainedModel, load_checkpoint
from attnlstm.config.checks import validate
from attnlstm.config.data import TextConfig, own_options
from attnlstm.config.schema import EvaluateConfig, TrainConfig
from attnlstm.console import print_metrics, print_table
from attnlstm.data.encoders.encoding import encode_part
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.encoders.tokenizer import replace_surrogates
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.sources.source import LABELS_OF, Source
from attnlstm.data.splits import Part, split_sources
from attnlstm.data.summary import describe_rows, warn_of_names
from attnlstm.errors import UserError
from attnlstm.files import check_outputs, replacing, writing
from attnlstm.inference.columns import KeptColumns, keep_columns
from attnlstm.inference.writers import name_probability
from attnlstm.training.callbacks import RowCollector, build_progress_bar, has_terminal
from attnlstm.training.devices import choose_precision, find_kind
from attnlstm.training.figures import draw_confusion_matrix
from attnlstm.training.metrics_file import write_metrics
from attnlstm.training.module import restore_module
from attnlstm.training.resources import check_processors
from attnlstm.training.trainer import limit_threads, silence_known_warnings

logger = logging.getLogger(__name__)

METRIC_PREFIX = {"train": "train/", "validation": "val/", "test": "test/"}
"""The prefix of each split's metrics in training."""

OUTPUTS = ("metrics.json", "per_class.csv", "predictions.csv", "confusion_matrix.png")

PER_CLASS_COLUMNS = ("class", "rows", "precision", "recall", "f1")


class Evaluation(NamedTuple):
    """The result of an evaluation.

    title: the data set, the split and the number of rows.
    metrics: named as in training.
    probabilities: `[row, class]`.
    targets: `[row]`, class indices.
    part: the rows themselves.
    kept: which of their columns are written.
    """

    title: str
    split: str
    label_names: list[str]
    metrics: dict[str, float]
    probabilities: Tensor
    targets: Tensor
    part: Part
    kept: KeptColumns


def evaluate(config: EvaluateConfig, run_dir: str | Path) -> Evaluation:
    """Evaluate `config.ckpt`, print the metrics and write them into `run_dir`.

    Raises:
        UserError: see `compute_evaluation`.
    """
    run_dir = Path(run_dir)
    evaluation = compute_evaluation(config, run_dir)
    per_class = describe_classes(evaluation)
    print_metrics(evaluation.title, evaluation.metrics)
    print_table("per class", PER_CLASS_COLUMNS, per_class)
    with writing(f"the folder {run_dir}"):
        write_evaluation(evaluation, per_class, run_dir)
    return evaluation


def compute_evaluation(config: EvaluateConfig, run_dir: Path) -> Evaluation:
    """Run the model on the rows of the chosen split; `run_dir` is Lightning's root folder.

    The checkpoint alone determines the model, the encoder and the labels.

    Raises:
        UserError: the checkpoint or the data does not exist, or labels or channels do not match.
    """
    silence_known_warnings()
    ckpt = find_checkpoint(config.ckpt, config.runs_dir)
    trained = load_checkpoint(ckpt, config.model.lstm.backend)
    kind = find_kind(config.trainer.accelerator)
    trained_in = trained.config.trainer.precision
    precision = choose_precision(config.trainer.precision, trained_in, kind)
    limit_threads(trained.config.num_threads)
    source = override_data(trained, config)
    outputs = {f"the file {run_dir / name}": run_dir / name for name in OUTPUTS}
    check_outputs(outputs, [ckpt, *source.list_inputs()])
    split, part = config.data.split, open_split(source, trained, config.data.split)
    is_text = isinstance(trained.encoder, TextEncoder)
    kept = keep_columns(config.keep, part.pieces[0][0], is_text)
    encoded, counts = encode_part(trained.encoder, part, split)
    logger.info("%s", counts.describe(split, source))
    num_workers = config.data.num_workers
    if num_workers is None:
        num_workers = source.num_workers
    check_processors("data.num_workers", num_workers)
    batching = {
        "batch_size": config.data.batch_size or source.batch_size or 16,
        "batch_tokens": None,
        "num_workers": num_workers,
    }
    data = SequenceDataModule({"test": encoded}, source.model_copy(update=batching))
    collector = RowCollector()
    trainer = lightning.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=precision,
        default_root_dir=run_dir,
        logger=False,
        callbacks=[collector, build_progress_bar()] if has_terminal() else [collector],
        enable_progress_bar=has_terminal(),
        use_distributed_sampler=False,
    )
    trainer.test(restore_module(trained), data, verbose=False)
    if num_wrong := int((~collector.logits.isfinite().all(dim=1)).sum()):
        raise UserError(
            f"ckpt={ckpt}: the model's answer is NaN or infinite for {num_wrong} of {len(part)} "
            "rows: look at the data, or give another checkpoint"
        )
    metrics = {
        METRIC_PREFIX[split] + metric.removeprefix("test/"): float(value)
        for metric, value in trainer.callback_metrics.items()
    }
    kind = "texts" if isinstance(source, TextConfig) else "series"
    title = f"{source.name}, {split} split ({len(part)} {kind})"
    probabilities = collector.logits.float().softmax(dim=1)
    return Evaluation(
        title, split, trained.label_names, metrics, probabilities, collector.targets, part, kept
    )


def open_split(source: Source, trained: TrainedModel, split: str) -> Part:
    """Open the rows of a split and log their description.

    Raises:
        UserError: see `compute_evaluation`.
    """
    own = set(own_options(type(source)))  # what decides which rows a source gives
    is_same = source.model_dump(include=own) == trained.config.data.model_dump(include=own)
    if isinstance(trained.encoder, SeriesEncoder):
        source = source.with_channels(trained.encoder.channel_names)
        source = source.for_model(trained.encoder.num_channels, trained.encoder.axes)
    sources = source.open(split)
    # With the seed of training, "validation" is the split that training validated on.
    rows = split_sources(
        sources,
        source,
        trained.config.seed,
        trained.label_names,
        validation="holdout" if "validation" in sources else trained.config.validation,
        num_folds=trained.config.num_folds,
    )
    for line in rows.warnings:
        logger.warning("%s", line)
    if split not in rows.parts:
        raise UserError(
            "data.split=validation: this model was validated on its training rows in turn "
            "(validation=folds): choose test, or give data.validation=FILE"
        )
    rows = rows._replace(parts={split: rows.parts[split]})
    for line in describe_rows(rows, source):
        logger.info("%s", line)
    if isinstance(trained.encoder, SeriesEncoder):
        warn_of_names(rows.parts[split].pieces[0][0], trained.encoder.channel_names)
    if is_same and split in trained.trained_on:
        logger.warning(
            "this checkpoint was trained on the %s split: its metrics do not say how well it does "
            "on other rows",
            split,
        )
    return rows.parts[split]


def override_data(trained: TrainedModel, config: EvaluateConfig) -> Source:
    """Return the data section of the training run, with the keys given for the evaluation.

    Raises:
        UserError: the source of the training data has no such key.
    """
    given = config.data.model_dump(
        exclude_none=True, exclude={"split", "batch_size", "num_workers"}
    )
    known = trained.config.data.model_dump()
    for part in given.keys() & LABELS_OF:
        known.pop(LABELS_OF[part], None)  # other files have other labels
    source = validate({"data": known | given}, TrainConfig).data
    assert isinstance(source, Source)
    return source


def describe_classes(evaluation: Evaluation) -> list[list[str]]:
    """Return `PER_CLASS_COLUMNS` for each class."""
    names, targets = evaluation.label_names, evaluation.targets
    scores = [
        metric(len(names), average="none")(evaluation.probabilities, targets).tolist()
        for metric in (MulticlassPrecision, MulticlassRecall, MulticlassF1Score)
    ]
    counts = targets.bincount(minlength=len(names)).tolist()
    return [
        [label, str(count), *(f"{value:.4f}" for value in values)]
        for label, count, *values in zip(names, counts, *scores, strict=True)
    ]


def write_evaluation(evaluation: Evaluation, per_class: list[list[str]], run_dir: Path) -> None:
    """Write metrics.json, per_class.csv, predictions.csv and confusion_matrix.png.

    Raises:
        UserError: a file cannot be written, or a row cannot be read again.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    write_metrics(run_dir / "metrics.json", evaluation.metrics)
    _write_csv(run_dir / "per_class.csv", PER_CLASS_COLUMNS, per_class)
    names, probabilities = evaluation.label_names, evaluation.probabilities
    targets, predictions = evaluation.targets.tolist(), probabilities.argmax(dim=1).tolist()
    kept, part = evaluation.kept, evaluation.part
    rows = zip(part, targets, predictions, probabilities.tolist(), strict=True)
    _write_csv(
        run_dir / "predictions.csv",
        ["row", "file", *kept.names(), "true_label", "label", *map(name_probability, names)],
        (
            [number, replace_surrogates(row.file), *kept.values(row).values()]
            + [names[target], names[prediction]]
            + [f"{p:.6f}" for p in values]
            for number, (row, target, prediction, values) in enumerate(rows)
        ),
    )
    confusion = MulticlassConfusionMatrix(len(names))
    confusion.update(probabilities, evaluation.targets)
    figure = draw_confusion_matrix(confusion, names, evaluation.split)
    with replacing(run_dir / "confusion_matrix.png") as partial:
        figure.savefig(partial, dpi=120, format="png")
    logger.info(
        "metrics.json, per_class.csv, predictions.csv and confusion_matrix.png are in %s", run_dir
    )


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
