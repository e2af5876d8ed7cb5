"""What a classifier that is fitted in seconds reaches on the same rows.

TF-IDF with logistic regression for texts and MiniRocket with ridge regression for series, with
their usual settings: anybody gets the same accuracy from scikit-learn or aeon. To bound time and
memory, large data is replaced by a stratified random part of its rows; a note says how large.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from attnlstm.data.missing import interpolate
from attnlstm.data.parts import LabelledParts, Part
from attnlstm.data.rows import Row

NOT_PREDICTED = -1
"""The prediction for rows that were left out of the evaluation."""

MOST_CANDIDATES = 2**20
"""Most rows among which others are chosen, which bounds the memory that the choice takes."""

PREDICTION_BATCH = 256


class Scores(NamedTuple):
    """Accuracies on validation and test rows, in [0, 1]; None without such rows."""

    name: str
    validation: float | None
    test: float | None


class Baseline(NamedTuple):
    """The result of a baseline."""

    scores: Scores
    test_predictions: np.ndarray | None
    """class numbers `[row]`, `NOT_PREDICTED` for rows that were left out; None without test rows"""
    notes: list[str]
    """what it did with the data that a reader of the numbers should know"""


def measure_baseline(dataset: LabelledParts, is_text: bool, seed: int) -> Baseline:
    """Fit the baseline of these rows and evaluate it.

    Validation rows are predicted by a fit on the training rows, test rows by a fit on training and
    validation rows. With folds, each fold is predicted by a fit on the others. "validation" and
    "test" may be missing.

    Raises:
        ValueError: it cannot be fitted, such as on texts without a word.
    """
    cls = TextBaseline if is_text else SeriesBaseline
    notes: list[str] = []  # of the last fit, which has the most rows

    def predict(fitted: Part, evaluated: Part) -> np.ndarray:
        baseline = cls(len(dataset.label_names), seed)
        baseline.fit(fitted)
        predictions = baseline.predict(evaluated)
        notes[:] = baseline.notes
        return predictions

    return Baseline(*_evaluate(dataset, cls.name, predict), notes)


def measure_majority(dataset: LabelledParts) -> Scores:
    """Evaluate always predicting the most frequent class; see `measure_baseline`."""

    def predict(fitted: Part, evaluated: Part) -> np.ndarray:
        return np.full(len(evaluated), np.bincount(fitted.targets).argmax())

    return _evaluate(dataset, "majority class", predict)[0]


def _evaluate(
    dataset: LabelledParts, name: str, predict: Callable[[Part, Part], np.ndarray]
) -> tuple[Scores, np.ndarray | None]:
    """Return the scores and the test predictions of `predict(rows to fit, rows to evaluate)`."""
    train, test, folds = dataset.parts["train"], dataset.parts.get("test"), dataset.folds
    held_out = dataset.parts.get("validation") if folds is None else None
    validation = None
    if folds is not None:
        predictions = np.full(len(train), NOT_PREDICTED)
        for fold in np.unique(folds):
            inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            predictions[inside] = predict(train.select(outside), train.select(inside))
        validation = accuracy(predictions, train.targets)
    elif held_out is not None:
        validation = accuracy(predict(train, held_out), held_out.targets)
    if test is None:
        return Scores(name, validation, None), None
    predictions = predict(train if held_out is None else train + held_out, test)
    return Scores(name, validation, accuracy(predictions, test.targets)), predictions


def accuracy(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Return the share of correct predictions among the rows that have one."""
    predicted = predictions != NOT_PREDICTED
    return float((predictions[predicted] == targets[predicted]).mean())


def choose_rows(
    targets: np.ndarray, costs: np.ndarray, most_rows: int, most_cost: float, seed: int
) -> np.ndarray:
    """Choose rows at random, with the same share of each class; all rows if they are few enough.

    The choice has at most `most_rows` rows, and ends with the one that exceeds `most_cost`. The
    first row of each class comes before the second of any.

    Args:
        targets: class numbers, `[row]`.
        costs: what each row costs, `[row]`.

    Returns:
        Row numbers, ascending.
    """
    if len(targets) <= most_rows and costs.sum() <= most_cost:
        return np.arange(len(targets))
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    counts = np.bincount(targets)
    starts = np.cumsum(counts) - counts
    classes = targets[by_class]
    place = (np.arange(len(targets)) - starts[classes]) / counts[classes]  # in the class, [0, 1)
    order = by_class[np.argsort(place, kind="stable")]
    before = np.cumsum(costs[order]) - costs[order]
    return np.sort(order[:most_rows][before[:most_rows] < most_cost])


class _Baseline(ABC):
    """The choice of rows and the batches of prediction, which both baselines share."""

    name: str
    most_rows: int
    """Most rows that it is fitted on."""
    most_fitted_cost: float
    most_evaluated_cost: float
    """Limits of the costs of the rows that it is fitted on, and that it predicts."""

    def __init__(self, num_classes: int, seed: int) -> None:
        self.num_classes = num_classes
        self.seed = seed
        self.notes: list[str] = []

    def fit(self, part: Part) -> None:
        """Fit on the rows of a part, or on as many as the limits allow."""
        rows = self._choose(part, self.most_rows, self.most_fitted_cost)
        if len(rows) < len(part):
            self.notes.append(f"fitted on {len(rows):,} of {len(part):,} training rows")
        self.model = self._build_model()
        self.model.fit(self._inputs(part.select(rows)), part.targets[rows])

    def predict(self, part: Part) -> np.ndarray:
        """Return class numbers `[row]`; `NOT_PREDICTED` for the rows beyond the limit."""
        chosen = self._choose(part, len(part), self.most_evaluated_cost)
        if len(chosen) < len(part):
            self.notes.append(f"evaluated on {len(chosen):,} of {len(part):,} rows")
        predictions, rows = np.full(len(part), NOT_PREDICTED), iter(part.select(chosen))
        for start in range(0, len(chosen), PREDICTION_BATCH):
            inputs = self._inputs(islice(rows, PREDICTION_BATCH))
            predictions[chosen[start : start + PREDICTION_BATCH]] = self.model.predict(inputs)
        return predictions

    def _choose(self, part: Part, most_rows: int, most_cost: float) -> np.ndarray:
        rows = np.arange(len(part))
        if len(rows) > MOST_CANDIDATES:
            generator = np.random.default_rng(self.seed)
            rows = np.sort(generator.choice(rows, MOST_CANDIDATES, replace=False))
        part = part.select(rows)
        return rows[choose_rows(part.targets, self._costs(part), most_rows, most_cost, self.seed)]

    @abstractmethod
    def _costs(self, part: Part) -> np.ndarray:
        """Return the time and memory that each row takes, `[row]`."""

    @abstractmethod
    def _inputs(self, rows: Iterable[Row]) -> Any: ...

    @abstractmethod
    def _build_model(self) -> Any: ...


class TextBaseline(_Baseline):
    """TfidfVectorizer and LogisticRegression of scikit-learn. A row's cost is its characters."""

    name = "TF-IDF + logistic regression"
    most_rows = 400_000
    most_fitted_cost = most_evaluated_cost = 2**25
    most_weights = 3_000_000
    """Words times classes; the optimizer keeps about 30 numbers for each."""

    def fit(self, part: Part) -> None:
        super().fit(part)
        vectorizer = self.model[0]
        if len(vectorizer.vocabulary_) == vectorizer.max_features:
            self.notes.append(f"with the {vectorizer.max_features:,} most frequent words only")

    def _costs(self, part: Part) -> np.ndarray:
        # Short rows cost too, and many classes make each row more expensive.
        characters = np.fromiter((len(str(row.value)) for row in part), int).clip(min=100)
        return characters * max(1, self.num_classes / 10)

    def _inputs(self, rows: Iterable[Row]) -> list[str]:
        return [str(row.value) for row in rows]

    def _build_model(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        most_words = self.most_weights // (1 if self.num_classes == 2 else self.num_classes)
        vectorizer = TfidfVectorizer(max_features=most_words)
        return make_pipeline(vectorizer, LogisticRegression(max_iter=1000))


class SeriesBaseline(_Baseline):
    """aeon's MiniRocketClassifier. A row's cost is its steps.

    It needs series of one length, of at least 9 steps: others are stretched or compressed linearly
    to the length of the longest one that it is fitted on. Missing values are interpolated.
    """

    name = "MiniRocket + ridge"
    most_rows = 1_024  # the ridge regression squares 10,000 features of each row, in float64
    most_fitted_cost = 2**19
    most_evaluated_cost = 2**21

    fewest_steps = 9
    most_steps = 4_096
    most_stretched_steps = 512  # of series that have to be stretched anyway

    def fit(self, part: Part) -> None:
        values = (row.value for row in part)
        lengths = np.fromiter((len(value) for value in values if value is not None), int)
        shortest, longest = lengths.min(), lengths.max()
        most = self.most_steps if shortest == longest else self.most_stretched_steps
        self.length = int(np.clip(longest, self.fewest_steps, most))
        self.num_channels = np.shape(next(iter(part)).value)[1]  # type: ignore[arg-type]
        self.is_stretched = False
        super().fit(part)

    def _costs(self, part: Part) -> np.ndarray:
        # A convolution reads only a few of the channels, but all of them are kept.
        return np.full(len(part), self.length * max(1, self.num_channels / 32))

    def _inputs(self, rows: Iterable[Row]) -> np.ndarray:
        """Return `[row, channel, time]`."""
        return np.stack([self._stretch(row.value) for row in rows])

    def _stretch(self, value: Any) -> np.ndarray:
        """Return `[channel, time]` for `[time, channel]`."""
        series = np.ascontiguousarray(np.transpose(interpolate(value)), dtype=np.float32)
        series = np.nan_to_num(series)  # of channels without any value
        steps = series.shape[1]
        if steps == self.length:
            return series
        if not self.is_stretched:
            self.is_stretched = True
            self.notes.append(f"series of other lengths are stretched to {self.length:,} steps")
        places = np.linspace(0, steps - 1, self.length)
        stretched = [np.interp(places, np.arange(steps), channel) for channel in series]
        return np.array(stretched, dtype=np.float32)

    def _build_model(self) -> Any:
        from aeon.classification.convolution_based import MiniRocketClassifier

        return MiniRocketClassifier(n_jobs=1, random_state=self.seed)
