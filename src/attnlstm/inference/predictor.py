"""A trained model applied to rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from attnlstm.checkpoint.calibration import calibrated_probabilities, in_prediction_set
from attnlstm.checkpoint.load import TrainedModel
from attnlstm.data.batches import pad
from attnlstm.data.checks import find_problem
from attnlstm.data.encoders.encoding import Counts, encode_values
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.rows import Row
from attnlstm.inference.device import Device
from attnlstm.nn.classifier import at_least_float32


class Prediction(NamedTuple):
    """What the model says of a row.

    Attributes:
        row: the row.
        error: why it says nothing: what is wrong with the row; None if nothing is.
        label: the most probable class; None for a bad row, as are the next three.
        probabilities: `[class]`, calibrated and rounded.
        attention: `[time]`, one weight for each step that the model has read; None too where the
            pooling has no attention.
        prediction_set: labels from the most probable on, see `attnlstm.checkpoint.calibration`;
            None too where no sets are asked for.
    """

    row: Row
    error: str | None = None
    label: str | None = None
    probabilities: np.ndarray | None = None
    attention: np.ndarray | None = None
    prediction_set: list[str] | None = None


class Predictor:
    """Predicts in batches of rows of similar length.

    Args:
        trained: the model.
        device: the device and the precision to compute with.
        batch_size: rows of a batch.
        num_workers: batches that are computed at the same time. The operations of an LSTM are too
            small for more than one core each.
        threshold: of the scores of the classes in the prediction sets; None: without sets.
    """

    def __init__(
        self,
        trained: TrainedModel,
        device: Device,
        batch_size: int,
        num_workers: int = 1,
        threshold: float | None = None,
    ) -> None:
        self.encoder = trained.encoder
        self.label_names = trained.label_names
        self.batch_size = batch_size
        self.counts = Counts()  # of what has been encoded so far
        self._device = device
        self._temperature = trained.temperature
        self._threshold = threshold
        self._workers = ThreadPoolExecutor(num_workers)
        self._classifier = device.setup_module(trained.classifier.eval())
        self._num_channels = (
            self.encoder.num_channels if isinstance(self.encoder, SeriesEncoder) else 0
        )

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """A prediction for each row, in their order; a bad row's says what is wrong with it."""
        return self._begin(rows)()

    def predict_chunks(self, chunks: Iterable[Sequence[Row]]) -> Iterator[list[Prediction]]:
        """`predict` for one chunk of rows after the other.

        A chunk is read and encoded while the workers still compute the one before it.
        """
        finish = None
        for rows in chunks:
            begun = self._begin(rows)
            if finish is not None:
                yield finish()
            finish = begun
        if finish is not None:
            yield finish()

    def _begin(self, rows: Sequence[Row]) -> Callable[[], list[Prediction]]:
        """Encode the rows and hand them to the workers; call the result for what they say."""
        problems = [find_problem(row, self._num_channels) for row in rows]
        sound = [row for row, problem in zip(rows, problems, strict=True) if problem is None]
        steps = encode_values(self.encoder, [row.value for row in sound], self.counts)
        order = sorted(range(len(sound)), key=lambda number: len(steps[number]))
        starts = range(0, len(order), self.batch_size)
        batches = [order[start : start + self.batch_size] for start in starts]
        inputs = [[steps[number] for number in batch] for batch in batches]
        answers = self._workers.map(self._predict_batch, inputs)

        def finish() -> list[Prediction]:
            predictions: dict[int, Prediction] = {}
            for batch, results in zip(batches, answers, strict=True):
                for number, (probabilities, attention) in zip(batch, results, strict=True):
                    label = self.label_names[int(probabilities.argmax())]
                    labels = self._prediction_set(probabilities)
                    predictions[number] = Prediction(
                        sound[number], None, label, probabilities, attention, labels
                    )
            in_order = (predictions[number] for number in range(len(sound)))
            return [
                next(in_order) if problem is None else Prediction(row, " ".join(problem).strip())
                for row, problem in zip(rows, problems, strict=True)
            ]

        return finish

    def _prediction_set(self, probabilities: np.ndarray) -> list[str] | None:
        if self._threshold is None:
            return None
        is_in = in_prediction_set(torch.from_numpy(probabilities).unsqueeze(0), self._threshold)[0]
        order = (-probabilities).argsort(kind="stable")
        return [self.label_names[number] for number in order if is_in[number]]

    @torch.inference_mode()
    def _predict_batch(self, steps: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """The probabilities [class] and the attention [time] of each row."""
        lengths = [len(row) for row in steps]
        inputs = self._device.to_device(pad(steps))
        logits, attention, _ = self._classifier(inputs, torch.tensor(lengths))
        probabilities = calibrated_probabilities(logits, self._temperature).numpy()
        if attention is None:
            return [(row, None) for row in probabilities]
        weights = at_least_float32(attention).cpu().numpy()  # [batch, time]
        return [
            (row, weights[number, : lengths[number]]) for number, row in enumerate(probabilities)
        ]
