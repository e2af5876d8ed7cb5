"""Predictions for a text, a file of any size or a stream, from a checkpoint alone."""

import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.text import Text

from attnlstm.checkpoint.calibration import (
    PROBABILITY_DECIMALS,
    conformal_threshold,
    scores_needed,
)
from attnlstm.checkpoint.load import TrainedModel, load_checkpoint
from attnlstm.config.schema import PredictConfig
from attnlstm.console import print_table, printable
from attnlstm.data.checks import BadRows, show_progress
from attnlstm.data.encoders.encoding import batches_of
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.formats.texts import TextLines
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.source import FileSource
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.errors import UserError
from attnlstm.files import find_files
from attnlstm.inference.device import choose_device
from attnlstm.inference.predictor import Prediction, Predictor
from attnlstm.inference.report.report import Example, Report
from attnlstm.inference.writers import name_probability, open_writer

logger = logging.getLogger(__name__)


def predict(config: PredictConfig, run_dir: str | Path) -> dict[str, float]:
    """Predict `config.text` or the rows of `config.input`.

    Returns the accuracy on the rows that have a label and, with `config.prediction_sets`, the
    coverage: the share of these rows whose set has the label.

    A text's prediction is shown; a file's are written to `config.output` or, without that, to
    predictions.csv in `run_dir`. A report is written to `config.report`.

    Raises:
        UserError: no such checkpoint or input, an output that cannot be written, or prediction sets
            that the checkpoint has no scores for.
    """
    if (config.text is None) == (config.input is None):
        raise UserError("give either text=... or input=FILE (input=- reads lines of text)")
    backend = config.model.lstm.backend
    trained = load_checkpoint(Path(config.ckpt), backend)
    torch.set_num_threads(1)  # for an operation: it is the batches that share the cores
    precision = config.trainer.precision or trained.config.trainer.precision
    device = choose_device(config.trainer.accelerator, precision)
    num_workers = config.num_threads or os.cpu_count() or 1
    if precision == "64-true":
        num_workers = 1  # Fabric changes the default dtype of all threads while one computes
    threshold = find_threshold(config, trained)
    predictor = Predictor(trained, device, config.data.batch_size, num_workers, threshold)
    if config.text is not None:
        if not isinstance(trained.encoder, TextEncoder):
            raise UserError(
                "text=... is for a model of texts, and this one reads series: give input"
            )
        source: Iterable[Row] = [Row("text", 0, config.text)]
    else:
        source = open_input(config, trained)
    output = config.output
    if output is None and config.text is None and config.report is None:
        Path(run_dir).mkdir(parents=True, exist_ok=True)
        output = str(Path(run_dir) / "predictions.csv")
    if config.report is not None and not Path(config.report).parent.is_dir():
        raise UserError(f"report={config.report} cannot be written: there is no such folder")
    report = Report(trained.label_names, max_examples=config.report_examples)
    counters = _Counters(config.prediction_sets)
    with ExitStack() as files:
        writer = None
        if output is not None:
            columns = list_columns(config, trained)
            writer = files.enter_context(open_writer(output, columns))
        start = 0
        rows = show_progress(source, "predicting") if config.text is None else source
        for predictions in predictor.predict_chunks(batches_of(rows)):
            if config.attention and any(p.label and p.attention is None for p in predictions):
                pooling = trained.config.model.pooling
                names = pooling if isinstance(pooling, str) else ", ".join(pooling)
                raise UserError(f"attention=true: this model's pooling, {names}, has none")
            if writer is not None:
                numbered = enumerate(predictions, start)
                writer.write([to_columns(config, trained, *item) for item in numbered])
            start += len(predictions)
            for prediction in predictions:
                counters.add(prediction)
                if config.report is not None:
                    add_to_report(report, prediction, predictor)
        if start == 0:
            raise UserError(
                f"{getattr(source, 'name', 'the input')} has no rows: nothing to predict"
            )
    if config.report is not None:
        name = getattr(source, "name", "text")
        report.write(Path(config.report), title=f"Predictions for {name}", subtitle=config.ckpt)
    if config.text is not None:
        show(predictions[0], trained, config.prediction_sets)
    else:
        counters.log()
        if predictor.counts.truncated:
            logger.info("%s", predictor.counts.describe("read", trained.config.data))
    for name, path in (("predictions", output), ("report", config.report)):
        if path not in (None, "-"):
            logger.info("%s: %s", name, path)
    return counters.metrics()


def find_threshold(config: PredictConfig, trained: TrainedModel) -> float | None:
    """Which classes the prediction sets have, see `conformal_threshold`; None without sets.

    Raises:
        UserError: the checkpoint has no scores of validation rows.
    """
    coverage = config.prediction_sets
    if coverage is None:
        return None
    if trained.calibration is None:
        raise UserError(
            f"prediction_sets={coverage:g} needs scores of validation rows, and ckpt={config.ckpt} "
            "has none: give the best.ckpt of a run, or train again, with validation rows"
        )
    scores, needed = trained.calibration.scores, scores_needed(coverage)
    if len(scores) < needed:
        logger.warning(
            "prediction_sets=%g needs %d validation rows, and this checkpoint has scores of %d: "
            "every set has all classes",
            coverage,
            needed,
            len(scores),
        )
    return conformal_threshold(scores, coverage)


def open_input(config: PredictConfig, trained: TrainedModel) -> RowSource:
    """The rows to predict: of the kind that the model was trained on, labels or none.

    Raises:
        UserError: no such file, or one of another kind.
    """
    is_text = isinstance(trained.encoder, TextEncoder)
    if config.input == "-":
        if not is_text:
            raise UserError("input=- reads lines of text, and this model reads series: give a file")
        return TextLines(sys.stdin.buffer)
    assert config.input is not None
    files = find_files(config.input, "input")
    if config.output is not None and any(
        Path(config.output).resolve() == file.resolve() for file in files
    ):
        raise UserError(f"output={config.output} is the input: give another file")
    lines = [file for file in files if file.suffix.lower() == ".txt"]
    if is_text and lines:
        if len(files) > 1:
            raise UserError("input: give one .txt file at a time")
        return TextLines(files[0])
    data = override_data(trained, config)
    if isinstance(trained.encoder, SeriesEncoder):
        data = data.with_channels(trained.encoder.channel_names)
    return data.open_files(files, "input", needs_labels=False)


def override_data(trained: TrainedModel, config: PredictConfig) -> FileSource:
    """How the model's training rows were read, with the keys that were given for the input."""
    is_text = isinstance(trained.encoder, TextEncoder)
    kind: type[FileSource] = TextFilesSource if is_text else SeriesFilesSource
    given = config.data.model_dump(exclude_none=True, exclude={"batch_size"})
    for name in given.keys() - kind.model_fields.keys():
        what = "texts" if is_text else "series"
        raise UserError(f"data.{name} means nothing to a model of {what}: leave it out")
    known = trained.config.data.model_dump(include=set(kind.model_fields), exclude={"source"})
    return kind(**(known | given))


def list_columns(config: PredictConfig, trained: TrainedModel) -> dict[str, pa.DataType]:
    """The columns of the output and their types."""
    columns: dict[str, pa.DataType] = {"row": pa.int64(), "file": pa.string()}
    if isinstance(trained.encoder, SeriesEncoder):
        columns["id"] = pa.string()
    columns |= {"true_label": pa.string(), "label": pa.string()}
    columns |= {name_probability(label): pa.float64() for label in trained.label_names}
    if config.prediction_sets is not None:
        columns["prediction_set"] = pa.list_(pa.string())
    if config.attention:
        if isinstance(trained.encoder, TextEncoder):
            columns["tokens"] = pa.list_(pa.string())
        columns["attention"] = pa.list_(pa.float32())
    return columns | {"error": pa.string()}


def to_columns(
    config: PredictConfig, trained: TrainedModel, number: int, prediction: Prediction
) -> dict[str, Any]:
    """A prediction's values in the columns of the output."""
    row, encoder = prediction.row, trained.encoder
    found = prediction.probabilities
    probabilities = [None] * len(trained.label_names) if found is None else found.tolist()
    values = {
        "row": number,
        "file": row.file,
        "id": row.name,
        "true_label": row.label,
        "label": prediction.label,
        "prediction_set": prediction.prediction_set,
        "error": prediction.error,
        "tokens": None,
        "attention": None,
    }
    for label, probability in zip(trained.label_names, probabilities, strict=True):
        values[name_probability(label)] = probability
    if config.attention and prediction.attention is not None:
        weights = prediction.attention.astype(np.float64)
        values["attention"] = weights.round(PROBABILITY_DECIMALS).tolist()
        if isinstance(encoder, TextEncoder):
            values["tokens"] = encoder.tokens(str(row.value))
    return values


def add_to_report(report: Report, prediction: Prediction, predictor: Predictor) -> None:
    """Count a prediction, and hand over what the page draws if it would draw it."""
    row, encoder, probabilities = prediction.row, predictor.encoder, prediction.probabilities
    if prediction.label is None or probabilities is None:
        report.count_bad(1)
        return
    example = Example(row.place, prediction.label, probabilities.tolist(), row.label)
    if report.wants(example.prediction, example.probabilities, example.label):
        attention = None if prediction.attention is None else prediction.attention.tolist()
        example = replace(example, attention=attention)
        if isinstance(encoder, TextEncoder):
            text = str(row.value)
            example = replace(example, text=text, spans=encoder.spans(text))
        elif isinstance(row.value, np.ndarray):
            example = replace(example, series=row.value)
    report.add(example)


def show(prediction: Prediction, trained: TrainedModel, coverage: float | None) -> None:
    """The classes of one text from the most probable on, their set, and what was attended to."""
    if prediction.probabilities is None:
        raise UserError(f"text: {prediction.error}")
    order = (-prediction.probabilities).argsort(kind="stable")
    rows = [[trained.label_names[i], f"{prediction.probabilities[i]:.4f}"] for i in order]
    print_table("prediction", ["class", "probability"], rows)
    console = Console(highlight=False)
    if prediction.prediction_set is not None:
        labels = ", ".join(printable(label) for label in prediction.prediction_set)
        console.print(Text(f"prediction set ({coverage:g}): {labels}"))
    if prediction.attention is None or not isinstance(trained.encoder, TextEncoder):
        return
    text = str(prediction.row.value)
    shaded = Text(printable(text))
    strongest = prediction.attention.max()
    for (start, end), weight in zip(trained.encoder.spans(text), prediction.attention, strict=True):
        blue = round(160 * float(weight / strongest))
        shaded.stylize(f"on rgb(0,{blue // 2},{blue})" if blue > 16 else "", start, end)
    console.print(Text("attended to: ") + shaded)


class _Counters:
    """What a run over many rows is summed up by."""

    def __init__(self, coverage: float | None) -> None:
        self.rows = self.labelled = self.right = self.covered = self.set_sizes = 0
        self.coverage = coverage  # that was asked for
        self.bad: dict[str, BadRows] = defaultdict(BadRows)

    def add(self, prediction: Prediction) -> None:
        self.rows += 1
        if prediction.error is not None:
            self.bad[prediction.error].add(prediction.row)
            return
        labels = prediction.prediction_set or []
        self.set_sizes += len(labels)
        if prediction.row.label is not None:
            self.labelled += 1
            self.right += prediction.row.label == prediction.label
            self.covered += prediction.row.label in labels

    def metrics(self) -> dict[str, float]:
        if not self.labelled:
            return {}
        metrics = {"accuracy": self.right / self.labelled}
        if self.coverage is not None:
            metrics["coverage"] = self.covered / self.labelled
        return metrics

    def log(self) -> None:
        for problem, bad_rows in self.bad.items():
            logger.warning("not predicted: %s, %s", problem, bad_rows)
        predicted = self.rows - sum(bad_rows.count for bad_rows in self.bad.values())
        logger.info("%d rows predicted", predicted)
        if self.labelled:
            logger.info(
                "accuracy %.4f on the %d that have a label",
                self.right / self.labelled,
                self.labelled,
            )
        if self.coverage is not None and predicted:
            logger.info("prediction sets have %.2f labels on average", self.set_sizes / predicted)
        if self.coverage is not None and self.labelled:
            logger.info(
                "prediction sets have the label of %.4f of these; %g was asked for",
                self.covered / self.labelled,
                self.coverage,
            )
