"""Apply a trained model to rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, pairwise
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from attnlstm.checkpoint.calibration import (
    calibrated_predictions,
    decide,
    in_prediction_set,
)
from attnlstm.checkpoint.load import TrainedModel
from attnlstm.data.batches import pad
from attnlstm.data.checks import find_problem
from attnlstm.data.encoders.encoding import Counts, encode_values
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.rows import Label, Row
from attnlstm.nn.head import at_least_float32

if TYPE_CHECKING:  # importing Lightning takes three seconds
    from lightning.fabric import Fabric

_default_dtype = Lock()
"""Held while Fabric changes torch's default dtype, which all threads of the process share."""


NOT_FINITE = "the model's answer is NaN or infinite"


class Prediction(NamedTuple):
    """The prediction for a row. For a bad row, everything but `row` and `error` is None.

    Attributes:
        row: the row.
        error: what is wrong with the row; None for a good one.
        label: the most probable class, or of a model of several classes a tuple of those that reach
            their thresholds; None for a regression.
        probabilities: `[class]`, calibrated and rounded; None for a regression.
        numbers: `[target]`, what a regression predicts, rounded to seven digits; None for classes.
        attention: `[time]`, a weight for each step the model has read; None if the pooling has no
            attention.
        prediction_set: labels, the most probable first, see `attnlstm.checkpoint.calibration`; None
            if no sets are requested.
        intervals: `[target, 2]`, the ends of the prediction interval of each number; None if none
            are requested.
    """

    row: Row
    error: str | None = None
    label: Label | None = None
    probabilities: np.ndarray | None = None
    numbers: np.ndarray | None = None
    attention: np.ndarray | None = None
    prediction_set: list[str] | None = None
    intervals: np.ndarray | None = None


class Predictor:
    """Predicts rows in batches of similar length.

    Args:
        trained: the model.
        fabric: chooses the device and the precision; None: the CPU in single precision.
        batch_size: rows per batch.
        num_workers: number of batches to compute at the same time. The operations of an LSTM are
            too small to use more than one core each.
        threshold: selects the classes of prediction sets by their scores, or is half the width of
            the prediction intervals, `[target]`; None: no sets.
    """

    def __init__(
        self,
        trained: TrainedModel,
        fabric: "Fabric | None" = None,
        batch_size: int = 64,
        num_workers: int = 1,
        threshold: float | np.ndarray | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.counts = Counts()  # of the values encoded so far
        self.num_longer = 0  # rows with more steps than the LSTM reads
        self._trained = trained
        self._fabric = fabric
        self._threshold = threshold
        self._workers = ThreadPoolExecutor(num_workers)
        self._classifier: nn.Module = trained.classifier.eval()
        self._alone: AbstractContextManager[object] = nullcontext()
        if fabric is not None:
            self._classifier = fabric.setup_module(self._classifier)
            if fabric.strategy.precision.precision in ("64-true", "16-true", "bf16-true"):
                self._alone = _default_dtype

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """Return a prediction for each row, in order."""
        return self._begin(rows)()

    def predict_chunks(self, chunks: Iterable[Sequence[Row]]) -> Iterator[list[Prediction]]:
        """Yield the predictions for each chunk of rows.

        A chunk is read and encoded while the workers still compute the previous one.
        """
        # pairwise takes the next chunk from _begin before it returns the previous one
        for finish, _ in pairwise(chain(map(self._begin, chunks), [list])):
            yield finish()

    def _begin(self, rows: Sequence[Row]) -> Callable[[], list[Prediction]]:
        """Encode the rows and submit them to the workers; return a function that awaits them."""
        encoder, longest = self._trained.encoder, self._trained.config.model.max_steps
        if isinstance(encoder, SeriesEncoder):
            problems = [find_problem(row, encoder.num_channels, encoder.missing) for row in rows]
        else:
            problems = [find_problem(row, 0) for row in rows]
        good = [number for number, problem in enumerate(problems) if problem is None]
        encoded = encode_values(encoder, [rows[number].value for number in good], self.counts)
        if longest is not None:
            self.num_longer += sum(len(steps) > longest for steps in encoded)
        pairs = sorted(zip(good, encoded, strict=True), key=lambda pair: len(pair[1]))
        starts = range(0, len(pairs), self.batch_size)
        answers = self._workers.map(
            lambda start: self._predict_batch(rows, pairs[start : start + self.batch_size]), starts
        )

        def finish() -> list[Prediction]:
            predictions = [
                Prediction(row, None if problem is None else " ".join(problem).strip())
                for row, problem in zip(rows, problems, strict=True)
            ]
            for (number, _), prediction in zip(pairs, chain.from_iterable(answers), strict=True):
                predictions[number] = prediction
            return predictions

        return finish

    @torch.inference_mode()
    def _predict_batch(
        self, rows: Sequence[Row], batch: list[tuple[int, np.ndarray]]
    ) -> list[Prediction]:
        """Predict the rows whose numbers and steps are in the batch."""
        lengths = [len(steps) for _, steps in batch]
        inputs = pad([steps for _, steps in batch])
        if self._fabric is not None:
            inputs = self._fabric.to_device(inputs)
        task, calibration = self._trained.task, self._trained.calibration
        with self._alone:
            logits, attention, _ = self._classifier(inputs, torch.tensor(lengths))
            outputs = calibrated_predictions(logits, self._trained.temperature, task)
        answers = decide(outputs, task, calibration and calibration.thresholds).numpy()
        weights: list[np.ndarray | None] = [None] * len(batch)
        if attention is not None:
            padded = at_least_float32(attention).cpu().numpy()  # [batch, time]
            weights = [row[:length] for row, length in zip(padded, lengths, strict=True)]
        return [
            to_prediction(self._trained, rows[number], output, answer, self._threshold, steps)
            for (number, _), output, answer, steps in zip(
                batch, outputs.numpy(), answers, weights, strict=True
            )
        ]


def to_prediction(
    trained: TrainedModel,
    row: Row,
    output: np.ndarray,
    answer: np.ndarray,
    threshold: float | np.ndarray | None = None,
    attention: np.ndarray | None = None,
) -> Prediction:
    """Return the prediction for a row.

    Args:
        trained: the model.
        row: the row.
        output: `[class]` probabilities, or `[target]` numbers.
        answer: what the output says; see `decide`.
        threshold: see `Predictor`.
        attention: `[time]`.
    """
    if not np.isfinite(output).all():
        return Prediction(row, NOT_FINITE)
    names = trained.label_names
    if trained.task == "regression":
        intervals = None
        if threshold is not None:
            ends = [output - threshold, output + threshold]
            intervals = round_numbers(np.stack(ends, axis=1))
        numbers = round_numbers(output)
        return Prediction(row, numbers=numbers, intervals=intervals, attention=attention)
    if trained.task == "multilabel":
        labels = tuple(names[number] for number in np.flatnonzero(answer))
        return Prediction(row, label=labels, probabilities=output, attention=attention)
    label = names[int(answer)]
    prediction = Prediction(row, label=label, probabilities=output, attention=attention)
    if threshold is None:
        return prediction
    is_in = in_prediction_set(torch.from_numpy(output[None]), float(threshold))[0]
    order = (-output).argsort(kind="stable")
    return prediction._replace(prediction_set=[names[number] for number in order if is_in[number]])


def round_numbers(numbers: np.ndarray) -> np.ndarray:
    """Round to seven significant digits, about as many as float32 has."""
    return np.vectorize(lambda number: float(f"{number:.7g}"), otypes=[np.float64])(numbers)
