"""Predict a text, files of any size or a stream with a checkpoint."""

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.text import Text

from attnlstm.checkpoint.calibration import conformal_threshold, scores_needed
from attnlstm.checkpoint.classifier import describe_reading
from attnlstm.checkpoint.find import find_checkpoint
from attnlstm.checkpoint.load import TrainedModel, load_checkpoint
from attnlstm.config.schema import PredictConfig
from attnlstm.console import counted, print_table, printable, printing
from attnlstm.data.checks import show_progress
from attnlstm.data.encoders.encoding import batches_of
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.formats.texts import TextLines
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.source import FileSource
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.data.summary import describe_columns, describe_layout, warn_of_names
from attnlstm.data.targets import FLAGS
from attnlstm.errors import UserError
from attnlstm.files import check_outputs, find_files
from attnlstm.inference.columns import keep_columns, list_columns, to_columns
from attnlstm.inference.predictor import Prediction, Predictor
from attnlstm.inference.report.build import build_report
from attnlstm.inference.summary import Summary
from attnlstm.inference.writers import open_writer
from attnlstm.training.devices import choose_precision, find_kind
from attnlstm.training.resources import check_processors
from attnlstm.training.threads import choose_threads

logger = logging.getLogger(__name__)

OF_TRAINING_FILES = ("labels", "validation_labels", "test_labels", "label_from")
"""Settings that say where the labels of the training files are, and not those of others."""


def predict(config: PredictConfig, run_dir: str | Path) -> dict[str, float]:
    """Predict `config.text` or the rows of `config.input`.

    The prediction for a text is printed. Those for files are written to `config.output` or, if
    neither that nor a report is given, to predictions.csv in `run_dir`. `config.report` is the path
    of a report.

    Returns:
        The accuracy on the rows with a label and, with `config.prediction_sets`, the coverage: the
        share of these rows whose set contains the label.

    Raises:
        UserError: the checkpoint or the input does not exist, the output cannot be written, or the
            checkpoint has no scores for prediction sets.
    """
    if (config.text is None) == (config.input is None):
        raise UserError("give either text=... or input=FILE (input=- reads lines of text)")
    ckpt = find_checkpoint(config.ckpt, config.runs_dir)
    trained = load_checkpoint(ckpt, config.model.lstm.backend)
    predictor = build_predictor(config, trained)
    source = open_input(config, trained)
    inputs = [config.input] if isinstance(config.input, str) else config.input or []
    output = config.output
    if output is None and config.text is None and config.report is None:
        output = str(Path(run_dir) / "predictions.csv")
    written = {"output": output, "report": config.report}
    paths = {
        f"{key}={path}": Path(path) for key, path in written.items() if path not in (None, "-")
    }
    check_outputs(paths, [ckpt, *inputs])
    for key, path in (("output", config.output), ("report", config.report)):
        check_is_new(key, path, config.overwrite)
    name = source.name if isinstance(source, RowSource) else "text"
    report = None
    if output is not None and config.output is None:
        Path(run_dir).mkdir(parents=True, exist_ok=True)
    if config.report is not None:
        if not Path(config.report).parent.is_dir():
            raise UserError(f"report={config.report} cannot be written: there is no such folder")
        report = build_report(trained, config.report_examples)
    rows = source if config.text is not None else show_progress(source, "predicting")
    if isinstance(source, RowSource) and source.target_names:
        rows = arrange_labels(rows, source.target_names, trained)
    summary = Summary(trained.task, config.prediction_sets)
    is_text = isinstance(trained.encoder, TextEncoder)
    kept = keep_columns(config.keep, source if isinstance(source, RowSource) else None, is_text)
    columns = list_columns(config, trained, kept)
    with nullcontext() if output is None else open_writer(output, columns) as write:
        for predictions in predictor.predict_chunks(batches_of(rows)):
            check_attention(config, trained, predictions)
            if write is not None:
                numbered = enumerate(predictions, summary.num_rows)
                write([to_columns(config, trained, kept, *item) for item in numbered])
            for prediction in predictions:
                summary.add(prediction)
                if report is not None:
                    report.add(prediction)
        if not summary.num_rows:
            raise UserError(f"{name} has no rows: nothing to predict")
    if report is not None:
        report.write(str(config.report), title=f"Predictions for {name}", subtitle=str(ckpt))
    if isinstance(source, RowSource) and source.doubt is not None:
        logger.warning("%s", source.doubt)
    if config.text is not None:
        show(predictions[0], trained, config.prediction_sets)
    else:
        summary.log()
        for note in source.notes if isinstance(source, RowSource) else ():
            logger.info("%s", note)
        if predictor.counts.truncated:
            logger.info("%s", predictor.counts.describe("read", trained.config.data))
    if predictor.num_longer:
        logger.info("%s", describe_reading(trained.config, predictor.num_longer))
    for what, path in (("predictions", output), ("report", config.report)):
        if path not in (None, "-"):
            logger.info("%s: %s", what, path)
    return summary.metrics()


def check_is_new(key: str, path: str | None, overwrite: bool) -> None:
    """Raise a UserError if the file that `key` names exists and may not be replaced."""
    if path not in (None, "-") and not overwrite and os.path.isfile(str(path)):
        raise UserError(
            f"{key}={path} exists already: add overwrite=true to replace it, or give another name"
        )


def build_predictor(config: PredictConfig, trained: TrainedModel) -> Predictor:
    """Build the predictor for the configured device and precision.

    Raises:
        UserError: the machine has no such device, it cannot compute in this precision, or see
            `find_threshold`.
    """
    torch.set_num_threads(1)  # per operation: batches, not operations, run in parallel
    accelerator, fabric = config.trainer.accelerator, None
    kind = find_kind(accelerator)
    precision = choose_precision(config.trainer.precision, trained.config.trainer.precision, kind)
    if kind != "cpu" or precision not in (None, 32, "32-true"):
        from lightning.fabric import Fabric  # not at the top: importing it takes three seconds

        from attnlstm.training.trainer import silence_known_warnings

        silence_known_warnings()
        fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    check_processors("num_threads", config.num_threads)
    num_workers = choose_threads(config.num_threads)
    threshold = find_threshold(config, trained)
    return Predictor(trained, fabric, config.data.batch_size, num_workers, threshold)


def arrange_labels(
    rows: Iterable[Row], columns: Sequence[str], trained: TrainedModel
) -> Iterator[Row]:
    """Yield rows with their labels, which are one value for each column, as the model says them.

    They are the names of the classes whose column is 1, or numbers in the order of the targets.
    Rows with other values than 0 and 1 for classes have no label; a warning counts them.
    """
    names, num_others = trained.label_names, 0
    for row in rows:
        if isinstance(row.label, tuple):
            values = dict(zip(columns, row.label, strict=True))
            if trained.task == "multilabel" and not FLAGS.keys() >= set(row.label):
                num_others += 1
                row = row._replace(label=None)
            elif trained.task == "multilabel":
                row = row._replace(label=tuple(name for name in columns if FLAGS[values[name]]))
            elif set(columns) == set(names):
                row = row._replace(label=tuple(values[name] for name in names))
        yield row
    if num_others:
        rows_with = counted(num_others, "row")
        logger.warning("%s with labels other than 0 and 1, and not compared", rows_with)


def find_threshold(config: PredictConfig, trained: TrainedModel) -> float | np.ndarray | None:
    """Return the `conformal_threshold` of the prediction sets, of a regression for each target.

    It is None if no sets are requested.

    Raises:
        UserError: the checkpoint has no scores of validation rows, or a row has several classes.
    """
    coverage = config.prediction_sets
    if coverage is None:
        return None
    if trained.task == "multilabel":
        raise UserError(
            f"prediction_sets={coverage:g} is for models that say one class or numbers; this one "
            "says several classes: leave it out"
        )
    if trained.calibration is None:
        raise UserError(
            f"prediction_sets={coverage:g} needs scores of validation rows, and ckpt={config.ckpt} "
            "has none: give the best.ckpt of a run, or train again, with validation rows"
        )
    scores, needed = trained.calibration.scores, scores_needed(coverage)
    if len(scores) < needed:
        logger.warning(
            "prediction_sets=%g needs %d validation rows, and this checkpoint has scores of %d: "
            "every %s",
            coverage,
            needed,
            len(scores),
            "interval is infinite" if trained.task == "regression" else "set has all classes",
        )
    if trained.task == "regression":
        return np.array([conformal_threshold(column, coverage) for column in scores.unbind(dim=1)])
    return conformal_threshold(scores, coverage)


def open_input(config: PredictConfig, trained: TrainedModel) -> RowSource | list[Row]:
    """Return `config.text` as a row, or open `config.input`, whose rows may have labels.

    Raises:
        UserError: there is no such file, or the model reads another kind of row.
    """
    is_text = isinstance(trained.encoder, TextEncoder)
    if config.text is not None:
        if not is_text:
            raise UserError("text=... is for a model of texts; this one reads series: give input")
        return [Row("text", 0, config.text)]
    data = override_data(trained, config)
    encoding = data.encoding if isinstance(data, TextFilesSource) else None
    if config.input == "-":
        if not is_text:
            raise UserError("input=- reads lines of text; this model reads series: give a file")
        if sys.stdin is None:
            raise UserError("input=- cannot be read: standard input is closed; give a file")
        return TextLines(sys.stdin.buffer, encoding=encoding)
    assert config.input is not None
    files = find_files(config.input, "input")
    if is_text and any(file.suffix.lower() == ".txt" for file in files):
        if len(files) > 1:
            raise UserError("input: give one .txt file at a time")
        return TextLines(files[0], encoding=encoding)
    if isinstance(trained.encoder, SeriesEncoder):
        data = data.with_channels(trained.encoder.channel_names)
        data = data.for_model(trained.encoder.num_channels, trained.encoder.axes)
    source = data.open_files(files, "input", needs_labels=False)
    for line in [*describe_columns(source), *describe_layout(source)]:
        logger.info("%s", line)
    if isinstance(trained.encoder, SeriesEncoder):
        warn_of_names(source, trained.encoder.channel_names)
    return source


def override_data(trained: TrainedModel, config: PredictConfig) -> FileSource:
    """Return how to read files: as the training rows, with the keys given for the input.

    Raises:
        UserError: a key does not apply to the kind of rows the model reads.
    """
    kind: type[FileSource] = SeriesFilesSource
    what = "series"
    if isinstance(trained.encoder, TextEncoder):
        kind, what = TextFilesSource, "texts"
    given = config.data.model_dump(exclude_none=True, exclude={"batch_size"})
    for name in given.keys() - kind.model_fields.keys():
        raise UserError(f"data.{name} means nothing to a model of {what}: leave it out")
    known = trained.config.data.model_dump(
        include=set(kind.model_fields), exclude={"source", *OF_TRAINING_FILES}
    )
    source = kind(**(known | given))
    source.check()
    return source


def check_attention(
    config: PredictConfig, trained: TrainedModel, predictions: list[Prediction]
) -> None:
    """Raise a UserError if attention is requested and the model's pooling has none."""
    if config.attention and any(p.error is None and p.attention is None for p in predictions):
        pooling = trained.config.model.pooling
        names = pooling if isinstance(pooling, str) else ", ".join(pooling)
        raise UserError(f"attention=true: this model's pooling, {names}, has none")


def show(prediction: Prediction, trained: TrainedModel, coverage: float | None) -> None:
    """Print what a text is: classes, the most probable first, or numbers; sets; attention.

    Raises:
        UserError: the text cannot be predicted.
    """
    if prediction.error is not None:
        raise UserError(f"text: {prediction.error}")
    if prediction.numbers is not None:
        show_numbers(prediction, trained.label_names, coverage)
    else:
        show_classes(prediction, trained)
    console = Console(highlight=False)
    if prediction.prediction_set is not None:
        labels = ", ".join(map(printable, prediction.prediction_set))
        with printing():
            console.print(Text(f"prediction set ({coverage:g}): {labels}"))
    if prediction.attention is None or not isinstance(trained.encoder, TextEncoder):
        return
    text = str(prediction.row.value)
    shaded = Text(printable(text))
    strongest = prediction.attention.max()
    for (start, end), weight in zip(trained.encoder.spans(text), prediction.attention, strict=True):
        blue = round(160 * float(weight / strongest))
        shaded.stylize(f"on rgb(0,{blue // 2},{blue})" if blue > 16 else "", start, end)
    with printing():
        console.print(Text("attended to: ") + shaded)


def show_classes(prediction: Prediction, trained: TrainedModel) -> None:
    """Print the probabilities of the classes, the most probable first."""
    assert prediction.probabilities is not None
    names = trained.label_names
    order = (-prediction.probabilities).argsort(kind="stable")
    rows = [[names[i], f"{prediction.probabilities[i]:.4f}"] for i in order]
    columns = ["class", "probability"]
    if isinstance(prediction.label, tuple):  # of several classes, say which reach their thresholds
        columns.append("predicted")
        for row in rows:
            row.append("yes" if row[0] in prediction.label else "")
    print_table("prediction", columns, rows)


def show_numbers(prediction: Prediction, names: Sequence[str], coverage: float | None) -> None:
    """Print the numbers of a regression, and their intervals."""
    assert prediction.numbers is not None
    columns, cells = ["target", "prediction"], [f"{number:.6g}" for number in prediction.numbers]
    rows = [list(pair) for pair in zip(names, cells, strict=True)]
    if prediction.intervals is not None:
        columns.append(f"interval ({coverage:g})")
        for row, (low, high) in zip(rows, prediction.intervals, strict=True):
            row.append(f"{low:.6g} to {high:.6g}")
    print_table("prediction", columns, rows)
