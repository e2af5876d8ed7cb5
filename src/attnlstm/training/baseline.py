"""What a classifier that is fitted in seconds reaches on the same rows.

TF-IDF with logistic regression for texts and MiniRocket with ridge regression for series, with
their usual settings: anybody gets the same accuracy from scikit-learn or aeon. To bound time and
memory, large data is replaced by a stratified random part of its rows; a note says how large.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from attnlstm.data import LabelledParts, Part

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
    """The result of a baseline.

    Attributes:
        scores: its accuracies.
        test_predictions: class numbers `[row]`, `NOT_PREDICTED` for rows that were left out; None
            without test rows.
        notes: what it did with the data that a reader of the numbers should know.
    """

    scores: Scores
    test_predictions: np.ndarray | None
    notes: list[str]


def measure_baseline(dataset: LabelledParts, is_text: bool, seed: int) -> Baseline:
    """Fit the baseline of these rows and evaluate it.

    Validation rows are predicted by a fit on the training rows, test rows by a fit on training and
    validation rows. With folds, each fold is predicted by a fit on the others.

    Args:
        dataset: "train" and any of "validation" and "test".
        is_text: whether the rows are texts; otherwise they are series.
        seed: of MiniRocket, and of the choice of rows if there are too many.

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
        costs: of each row, `[row]`.
        most_rows: limit of the number of rows.
        most_cost: limit of the sum of the costs.
        seed: of the choice.

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


class _Classifier(ABC):
    """The choice of rows and the batches of prediction, which both baselines share.

    Attributes:
        most_rows, most_fitted_cost: limits of the rows that it is fitted on.
        most_evaluated_cost: limit of the rows that it predicts.
    """

    name: str
    most_rows: int
    most_fitted_cost: float
    most_evaluated_cost: float

    def __init__(self, num_classes: int, seed: int) -> None:
        self.num_classes = num_classes
        self.seed = seed
        self.notes: list[str] = []

    def fit(self, part: Part) -> None:
        """Fit on the rows of a part, or on as many as the limits allow."""
        rows = self._choose(part, self.most_rows, self.most_fitted_cost)
        if len(rows) < len(part):
            self.notes.append(f"fitted on {len(rows):,} of {len(part):,} training rows")
        inputs = [self._prepare(row.value) for row in part.select(rows)]
        self._fit(inputs, part.targets[rows])

    def predict(self, part: Part) -> np.ndarray:
        """Return class numbers `[row]`; `NOT_PREDICTED` for the rows beyond the limit."""
        rows = self._choose(part, len(part), self.most_evaluated_cost)
        if len(rows) < len(part):
            self.notes.append(f"evaluated on {len(rows):,} of {len(part):,} rows")
        predictions = np.full(len(part), NOT_PREDICTED)
        inputs = (self._prepare(row.value) for row in part.select(rows))
        for start in range(0, len(rows), PREDICTION_BATCH):
            batch = list(islice(inputs, PREDICTION_BATCH))
            predictions[rows[start : start + PREDICTION_BATCH]] = self._predict(batch)
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
    def _prepare(self, value: Any) -> Any:
        """Return the input of the model for a row's value."""

    @abstractmethod
    def _fit(self, inputs: list[Any], targets: np.ndarray) -> None: ...

    @abstractmethod
    def _predict(self, inputs: list[Any]) -> np.ndarray: ...


class TextBaseline(_Classifier):
    """TfidfVectorizer and LogisticRegression of scikit-learn. A row's cost is its characters."""

    name = "TF-IDF + logistic regression"
    most_rows = 400_000
    most_fitted_cost = most_evaluated_cost = 2**25

    most_weights = 3_000_000
    """Words times classes; the optimizer keeps about 30 numbers for each."""

    def _costs(self, part: Part) -> np.ndarray:
        # Short rows cost too, and many classes make each row more expensive.
        characters = np.fromiter((len(str(row.value)) for row in part), int).clip(min=100)
        return characters * max(1, self.num_classes / 10)

    def _prepare(self, value: Any) -> str:
        return str(value)

    def _fit(self, inputs: list[str], targets: np.ndarray) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        most_words = self.most_weights // (1 if self.num_classes == 2 else self.num_classes)
        vectorizer = TfidfVectorizer(max_features=most_words)
        self.model = make_pipeline(vectorizer, LogisticRegression(max_iter=1000))
        self.model.fit(inputs, targets)
        if len(vectorizer.vocabulary_) == most_words:
            self.notes.append(f"with the {most_words:,} most frequent words only")

    def _predict(self, inputs: list[str]) -> np.ndarray:
        return np.asarray(self.model.predict(inputs))


class SeriesBaseline(_Classifier):
    """aeon's MiniRocketClassifier. A row's cost is its steps.

    It needs series of one length, of at least 9 steps: others are stretched or compressed linearly
    to the length of the longest one that it is fitted on.
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

    def _prepare(self, value: Any) -> np.ndarray:
        """Return `[channel, time]` for `[time, channel]`."""
        series = np.ascontiguousarray(np.transpose(value), dtype=np.float32)
        steps = series.shape[1]
        if steps == self.length:
            return series
        if not self.is_stretched:
            self.is_stretched = True
            self.notes.append(f"series of other lengths are stretched to {self.length:,} steps")
        places = np.linspace(0, steps - 1, self.length)
        stretched = [np.interp(places, np.arange(steps), channel) for channel in series]
        return np.array(stretched, dtype=np.float32)

    def _fit(self, inputs: list[np.ndarray], targets: np.ndarray) -> None:
        from aeon.classification.convolution_based import MiniRocketClassifier

        self.model = MiniRocketClassifier(n_jobs=1, random_state=self.seed)
        self.model.fit(np.stack(inputs), targets)

    def _predict(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.asarray(self.model.predict(np.stack(inputs)))
