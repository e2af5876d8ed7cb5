"""What a classifier that fits in seconds reaches on the same rows.

TF-IDF with logistic regression for texts, MiniRocket with ridge regression for series, each with
its usual settings, so that its accuracy is the one that anybody gets with scikit-learn or aeon. On
large data it is fitted, and evaluated, on a stratified random part of the rows: seconds and memory
stay bounded, and a note says how many rows were used.
"""

from abc import ABC, abstractmethod
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from attnlstm.data.splits import LabelledParts, Part

NOT_PREDICTED = -1
"""Stands in predictions for rows that were left out of the evaluation."""

MOST_LOOKED_AT = 2**20
"""Rows among which the choice is made, so that it takes little memory for itself."""

ROWS_AT_ONCE = 256
"""Rows that are predicted together."""


class Scores(NamedTuple):
    """Accuracies on validation and test rows, in [0, 1]; None where there are no such rows."""

    name: str
    validation: float | None
    test: float | None


class Baseline(NamedTuple):
    """What a baseline has reached.

    test_predictions: class numbers `[row]`, `NOT_PREDICTED` for rows that were left out; None
        without test rows.
    notes: what it has done with the data that a reader of the numbers should know.
    """

    scores: Scores
    test_predictions: np.ndarray | None
    notes: list[str]


def measure_baseline(
    rows: LabelledParts, is_text: bool, seed: int, folds: np.ndarray | None = None
) -> Baseline:
    """Fit the baseline of these rows and evaluate it.

    Validation rows are predicted by a fit on the training rows, test rows by a fit on training and
    validation rows.

    Args:
        rows: "train" and any of "validation" and "test".
        is_text: whether the rows are texts; otherwise they are series.
        seed: of MiniRocket, and of the choice of rows where there are too many.
        folds: the fold of each training row `[row]`, where validation is out of fold: each fold is
            predicted by a fit on the others. It takes the place of the part "validation".

    Raises:
        ValueError: it cannot be fitted, such as on texts without a word.
    """
    notes: list[str] = []  # of the last fit, which has the most rows

    def predict(fitted: Part, evaluated: Part) -> np.ndarray:
        cls = TextBaseline if is_text else SeriesBaseline
        baseline = cls(len(rows.label_names), seed)
        baseline.fit(fitted)
        predictions = baseline.predict(evaluated)
        notes[:] = baseline.notes
        return predictions

    train, test = rows.parts["train"], rows.parts.get("test")
    held_out = None if folds is not None else rows.parts.get("validation")
    validation = None
    if folds is not None:
        predictions = np.full(len(train), NOT_PREDICTED)
        for fold in np.unique(folds):
            inside = np.flatnonzero(folds == fold)
            outside = np.flatnonzero(folds != fold)
            predictions[inside] = predict(train.select(outside), train.select(inside))
        validation = accuracy(predictions, train.targets)
    elif held_out is not None:
        validation = accuracy(predict(train, held_out), held_out.targets)
    test_predictions = None
    if test is not None:
        test_predictions = predict(train if held_out is None else train + held_out, test)
    scores = Scores(
        TextBaseline.name if is_text else SeriesBaseline.name,
        validation,
        None if test is None else accuracy(test_predictions, test.targets),
    )
    return Baseline(scores, test_predictions, notes)


def measure_majority(rows: LabelledParts, folds: np.ndarray | None = None) -> Scores:
    """The accuracies of always predicting the most frequent class of the rows fitted on.

    Arguments are those of `measure_baseline`.
    """
    train = rows.parts["train"].targets
    test = rows.parts["test"].targets if "test" in rows.parts else None
    fitted, validation = train, None
    if folds is not None:
        predictions = np.empty_like(train)
        for fold in np.unique(folds):
            predictions[folds == fold] = np.bincount(train[folds != fold]).argmax()
        validation = accuracy(predictions, train)
    elif "validation" in rows.parts:
        held_out = rows.parts["validation"].targets
        validation = accuracy(np.bincount(train).argmax(), held_out)
        fitted = np.concatenate([train, held_out])
    return Scores(
        "majority class",
        validation,
        None if test is None else accuracy(np.bincount(fitted).argmax(), test),
    )


def accuracy(predictions: Any, targets: np.ndarray) -> float:
    """The share of right predictions, among the rows that have one."""
    predictions = np.broadcast_to(predictions, targets.shape)
    predicted = predictions != NOT_PREDICTED
    return float((predictions[predicted] == targets[predicted]).mean())


def choose_rows(
    targets: np.ndarray, costs: np.ndarray, most_rows: int, most_cost: float, seed: int
) -> np.ndarray:
    """Row numbers, ascending: all, or a random choice with the same share of each class.

    It has at most `most_rows` rows, and ends with the one that exceeds `most_cost`. The first row
    of each class comes before the second of any.

    Args:
        targets: class numbers, [row].
        costs: of each row, [row].
        seed: of the choice.
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
    """What the two baselines share: which rows they see, and in which portions.

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
        self._survey(part)
        rows = self._choose(part, self.most_rows, self.most_fitted_cost)
        if len(rows) < len(part):
            self.notes.append(f"fitted on {len(rows):,} of {len(part):,} training rows")
        inputs = [self._prepare(row.value) for row in part.select(rows)]
        self._fit(inputs, part.targets[rows])

    def predict(self, part: Part) -> np.ndarray:
        """Class numbers [row]; `NOT_PREDICTED` for the rows beyond the limit."""
        rows = self._choose(part, len(part), self.most_evaluated_cost)
        if len(rows) < len(part):
            self.notes.append(f"evaluated on {len(rows):,} of {len(part):,} rows")
        predictions = np.full(len(part), NOT_PREDICTED)
        inputs = (self._prepare(row.value) for row in part.select(rows))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            portion = list(islice(inputs, ROWS_AT_ONCE))
            predictions[rows[start : start + ROWS_AT_ONCE]] = self._predict(portion)
        return predictions

    def _choose(self, part: Part, most_rows: int, most_cost: float) -> np.ndarray:
        rows = np.arange(len(part))
        if len(rows) > MOST_LOOKED_AT:
            generator = np.random.default_rng(self.seed)
            rows = np.sort(generator.choice(rows, MOST_LOOKED_AT, replace=False))
        part = part.select(rows)
        return rows[choose_rows(part.targets, self._costs(part), most_rows, most_cost, self.seed)]

    @abstractmethod
    def _survey(self, part: Part) -> None:
        """Look at all rows to be fitted on."""

    @abstractmethod
    def _costs(self, part: Part) -> np.ndarray:
        """What each row takes of time and memory, [row]."""

    @abstractmethod
    def _prepare(self, value: Any) -> Any:
        """A row's value as it is kept until it is fitted on or predicted."""

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

    def _survey(self, part: Part) -> None:
        pass

    def _costs(self, part: Part) -> np.ndarray:
        # Short rows cost too, and many classes make each row dearer.
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

    def _survey(self, part: Part) -> None:
        values = (row.value for row in part)
        lengths = np.fromiter((len(value) for value in values if value is not None), int)
        shortest, longest = lengths.min(), lengths.max()
        most = self.most_steps if shortest == longest else self.most_stretched_steps
        self.length = int(np.clip(longest, self.fewest_steps, most))
        self.num_channels = np.shape(next(iter(part)).value)[1]  # type: ignore[arg-type]
        self.is_stretched = False

    def _costs(self, part: Part) -> np.ndarray:
        # A convolution reads a few of the channels only, but all of them are kept.
        return np.full(len(part), self.length * max(1, self.num_channels / 32))

    def _prepare(self, value: Any) -> np.ndarray:
        """`[channel, time]` of `[time, channel]`."""
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
