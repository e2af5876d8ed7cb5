"""Evaluate a checkpoint on one split of a data set."""

import csv
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
    MultilabelF1Score,
    MultilabelPrecision,
    MultilabelRecall,
)

from attnlstm.checkpoint.calibration import decide
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
from attnlstm.data.parts import Part
from attnlstm.data.sources.source import LABELS_OF, Source
from attnlstm.data.splits import split_sources
from attnlstm.data.summary import describe_rows, warn_of_names
from attnlstm.data.targets import Targets
from attnlstm.errors import UserError
from attnlstm.files import check_outputs, replacing, writing
from attnlstm.inference.columns import KeptColumns, keep_columns, list_answers, to_answers
from attnlstm.inference.predictor import Prediction, to_prediction
from attnlstm.inference.writers import to_cell
from attnlstm.nn.head import predict
from attnlstm.training.callbacks import RowCollector, build_progress_bar, has_terminal
from attnlstm.training.devices import choose_precision, find_kind
from attnlstm.training.figures import draw_confusion_matrix, draw_scatter
from attnlstm.training.metrics import build_metrics
from attnlstm.training.metrics_file import write_metrics
from attnlstm.training.module import restore_module
from attnlstm.training.resources import check_processors
from attnlstm.training.threads import limit_threads
from attnlstm.training.trainer import silence_known_warnings

logger = logging.getLogger(__name__)

METRIC_PREFIX = {"train": "train/", "validation": "val/", "test": "test/"}
"""The prefix of each split's metrics in training."""

OUTPUTS = (
    *("metrics.json", "per_class.csv", "per_target.csv", "predictions.csv"),
    *("confusion_matrix.png", "scatter.png"),
)

PER_CLASS_COLUMNS = ("class", "rows", "precision", "recall", "f1")
PER_TARGET_COLUMNS = ("target", "mae", "rmse", "r2")


class Evaluation(NamedTuple):
    """The result of an evaluation.

    title: the data set, the split and the number of rows.
    trained: the model.
    metrics: named as in training.
    predictions: probabilities `[row, class]`, or numbers `[row, target]`.
    answers: what they say, in the form of the targets.
    targets: see `attnlstm.data.targets`.
    part: the rows themselves.
    kept: which of their columns are written.
    """

    title: str
    split: str
    trained: TrainedModel
    metrics: dict[str, float]
    predictions: Tensor
    answers: Tensor
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
    details = describe_details(evaluation)
    print_metrics(evaluation.title, evaluation.metrics)
    print_table(details.title, details.columns, details.rows)
    with writing(f"the folder {run_dir}"):
        write_evaluation(evaluation, details, run_dir)
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
    predictions = predict(collector.logits.float(), trained.task)
    thresholds = trained.calibration and trained.calibration.thresholds
    answers = decide(predictions, trained.task, thresholds)
    return Evaluation(
        title, split, trained, metrics, predictions, answers, collector.targets, part, kept
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
        task=trained.task,
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


class Details(NamedTuple):
    """The metrics of each class or target, as a table."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]


def describe_details(evaluation: Evaluation) -> Details:
    """Return the metrics of each class, or of each number of a regression."""
    names, targets = evaluation.trained.label_names, evaluation.targets
    if evaluation.trained.task == "regression":
        rows = []
        for place, name in enumerate(names):
            metrics = build_metrics("regression", 1)
            column = slice(place, place + 1)
            metrics.update(evaluation.predictions[:, column], targets[:, column])
            values = metrics.compute()
            rows.append([name, *(f"{values[key]:.4g}" for key in PER_TARGET_COLUMNS[1:])])
        return Details("per target", PER_TARGET_COLUMNS, rows)
    if evaluation.trained.task == "multilabel":
        kinds: Sequence[Any] = (MultilabelPrecision, MultilabelRecall, MultilabelF1Score)
        counts = targets.long().sum(dim=0).tolist()
    else:
        kinds = (MulticlassPrecision, MulticlassRecall, MulticlassF1Score)
        counts = targets.bincount(minlength=len(names)).tolist()
    scores = [kind(len(names), average="none")(evaluation.answers, targets) for kind in kinds]
    rows = [
        [label, str(count), *(f"{value:.4f}" for value in values)]
        for label, count, *values in zip(names, counts, *scores, strict=True)
    ]
    return Details("per class", PER_CLASS_COLUMNS, rows)


def write_evaluation(evaluation: Evaluation, details: Details, run_dir: Path) -> None:
    """Write metrics.json, per_class.csv or per_target.csv, predictions.csv and a picture.

    The picture is confusion_matrix.png, or scatter.png of a regression; rows of several classes
    have none.

    Raises:
        UserError: a file cannot be written, or a row cannot be read again.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    write_metrics(run_dir / "metrics.json", evaluation.metrics)
    files = ["metrics.json", f"{details.title.replace(' ', '_')}.csv", "predictions.csv"]
    _write_csv(run_dir / files[1], details.columns, details.rows)
    columns, kept = list_answers(evaluation.trained, with_sets=False), evaluation.kept
    show = to_cell if evaluation.trained.task == "regression" else _show_probability
    _write_csv(
        run_dir / "predictions.csv",
        ["row", "file", *kept.names(), *columns],
        (
            [number, replace_surrogates(said.row.file), *kept.values(said.row).values()]
            + [show(to_answers(evaluation.trained, said).get(name)) for name in columns]
            for number, said in enumerate(_list_predictions(evaluation))
        ),
    )
    if (figure := _draw(evaluation)) is not None:
        files.append("scatter.png" if details.title == "per target" else "confusion_matrix.png")
        with replacing(run_dir / files[-1]) as partial:
            figure.savefig(partial, dpi=120, format="png")
    logger.info("%s are in %s", ", ".join(files), run_dir)


def _list_predictions(evaluation: Evaluation) -> Iterator[Prediction]:
    """Yield the prediction for each row, whose label is one of the model's."""
    trained = evaluation.trained
    targets = Targets(trained.task, trained.label_names)
    for row, target, output, answer in zip(
        evaluation.part,
        evaluation.targets.numpy(),
        evaluation.predictions.double().numpy(),
        evaluation.answers.numpy(),
        strict=True,
    ):
        yield to_prediction(trained, row._replace(label=targets.decode(target)), output, answer)


def _draw(evaluation: Evaluation) -> Figure | None:
    names, split = evaluation.trained.label_names, evaluation.split
    if evaluation.trained.task == "regression":
        return draw_scatter(evaluation.predictions, evaluation.targets, names, split)
    if evaluation.trained.task == "multilabel":
        return None
    confusion = MulticlassConfusionMatrix(len(names))
    confusion.update(evaluation.answers, evaluation.targets)
    return draw_confusion_matrix(confusion, names, split)


def _show_probability(value: Any) -> Any:
    return f"{value:.6f}" if isinstance(value, float) else to_cell(value)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
