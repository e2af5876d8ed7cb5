"""What a model that is fitted in seconds reaches on the same rows.

TF-IDF with logistic regression (for numbers, ridge regression) for texts and MiniRocket with ridge
regression for series, with their usual settings: anybody gets the same from scikit-learn or aeon.
To bound time and memory, large data is replaced by a stratified random part of its rows; a note
says how large.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from attnlstm.config.data import Task
from attnlstm.data.missing import interpolate
from attnlstm.data.parts import LabelledParts, Part
from attnlstm.data.rows import Row
from attnlstm.data.targets import Targets

MOST_CANDIDATES = 2**20
"""Most rows among which others are chosen, which bounds the memory that the choice takes."""

PREDICTION_BATCH = 256

MAJORITY: dict[Task, str] = {
    "classification": "majority class",
    "ordinal": "majority class",
    "multilabel": "classes of most rows",
    "regression": "mean",
}
"""What `measure_majority` predicts."""


class Predictions(NamedTuple):
    """What was predicted for some rows of a part.

    values: in the form of `attnlstm.data.targets`; of other rows, they mean nothing.
    is_known: which rows were predicted, `[row]` bool.
    """

    values: np.ndarray
    is_known: np.ndarray


class Scores(NamedTuple):
    """The `MAIN_METRIC` on validation and test rows; None without such rows."""

    name: str
    validation: float | None
    test: float | None


class Baseline(NamedTuple):
    """The result of a baseline."""

    scores: Scores
    test_predictions: Predictions | None
    """None without test rows"""
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

    def predict(fitted: Part, evaluated: Part) -> Predictions:
        baseline = cls(Targets(dataset.task, dataset.label_names), seed)
        baseline.fit(fitted)
        predictions = baseline.predict(evaluated)
        notes[:] = baseline.notes
        return predictions

    name = cls.name_for_numbers if dataset.task == "regression" else cls.name
    return Baseline(*_evaluate(dataset, name, predict), notes)


def measure_majority(dataset: LabelledParts) -> Scores:
    """Evaluate always predicting the most frequent class, the classes of most rows, or the mean.

    See `measure_baseline`.
    """

    def predict(fitted: Part, evaluated: Part) -> Predictions:
        targets = fitted.targets
        if dataset.task == "regression":
            usual = targets.mean(axis=0)
        elif dataset.task == "multilabel":
            usual = (targets.mean(axis=0) > 0.5).astype(targets.dtype)
        else:
            usual = np.bincount(targets).argmax()
        values = np.broadcast_to(usual, evaluated.targets.shape)
        return Predictions(values, np.ones(len(evaluated), bool))

    return _evaluate(dataset, MAJORITY[dataset.task], predict)[0]


def _evaluate(
    dataset: LabelledParts, name: str, predict: Callable[[Part, Part], Predictions]
) -> tuple[Scores, Predictions | None]:
    """Return the scores and the test predictions of `predict(rows to fit, rows to evaluate)`."""
    train, test, folds = dataset.parts["train"], dataset.parts.get("test"), dataset.folds
    held_out = dataset.parts.get("validation") if folds is None else None
    validation = None
    if folds is not None:
        predictions = Predictions(np.zeros_like(train.targets), np.zeros(len(train), bool))
        for fold in np.unique(folds):
            inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            of_fold = predict(train.select(outside), train.select(inside))
            predictions.values[inside], predictions.is_known[inside] = of_fold
        validation = score(predictions, train.targets, dataset.task)
    elif held_out is not None:
        validation = score(predict(train, held_out), held_out.targets, dataset.task)
    if test is None:
        return Scores(name, validation, None), None
    predictions = predict(train if held_out is None else train + held_out, test)
    return Scores(name, validation, score(predictions, test.targets, dataset.task)), predictions


def score(predictions: Predictions, targets: np.ndarray, task: Task) -> float:
    """Return the `MAIN_METRIC` of the rows that have a prediction; NaN if there is none."""
    from sklearn.metrics import f1_score, r2_score

    values, targets = predictions.values[predictions.is_known], targets[predictions.is_known]
    if task == "regression":
        return float(r2_score(targets, values)) if len(values) > 1 else float("nan")
    if task == "multilabel":
        return float(f1_score(targets, values, average="micro", zero_division=0))
    return float((values == targets).mean())


def count_errors(predictions: Predictions, targets: np.ndarray, task: Task) -> np.ndarray:
    """Return how wrong each prediction is, `[row]`: 0 or 1, wrong classes, or absolute errors.

    Those of a regression are in standard deviations of the targets, and summed over the targets.
    """
    if task == "regression":
        errors = np.abs(predictions.values - targets) / targets.std(axis=0).clip(min=1e-300)
    else:
        errors = predictions.values != targets
    return errors.reshape(len(targets), -1).sum(axis=1)


def choose_rows(
    strata: np.ndarray, costs: np.ndarray, most_rows: int, most_cost: float, seed: int
) -> np.ndarray:
    """Choose rows at random, with the same share of each stratum; all if they are few enough.

    The choice has at most `most_rows` rows, and ends with the one that exceeds `most_cost`. The
    first row of each stratum comes before the second of any.

    Args:
        strata: numbers, `[row]`; see `Targets.stratify`.
        costs: what each row costs, `[row]`.

    Returns:
        Row numbers, ascending.
    """
    if len(strata) <= most_rows and costs.sum() <= most_cost:
        return np.arange(len(strata))
    shuffled = np.random.default_rng(seed).permutation(len(strata))
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    counts = np.bincount(strata)
    starts = np.cumsum(counts) - counts
    numbers = strata[by_stratum]
    place = (np.arange(len(strata)) - starts[numbers]) / counts[numbers]  # in the class, [0, 1)
    order = by_stratum[np.argsort(place, kind="stable")]
    before = np.cumsum(costs[order]) - costs[order]
    return np.sort(order[:most_rows][before[:most_rows] < most_cost])


class _Baseline(ABC):
    """The choice of rows and the batches of prediction, which both baselines share."""

    name: str
    name_for_numbers: str
    most_rows: int
    """Most rows that it is fitted on."""
    most_fitted_cost: float
    most_evaluated_cost: float
    """Limits of the costs of the rows that it is fitted on, and that it predicts."""

    def __init__(self, targets: Targets, seed: int) -> None:
        self.targets = targets
        self.num_classes = len(targets.names)
        self.seed = seed
        self.notes: list[str] = []

    def fit(self, part: Part) -> None:
        """Fit on the rows of a part, or on as many as the limits allow."""
        rows = self._choose(part, self.most_rows, self.most_fitted_cost)
        if len(rows) < len(part):
            self.notes.append(f"fitted on {len(rows):,} of {len(part):,} training rows")
        self.model = self._build_model()
        targets = part.targets[rows]
        if self.targets.task == "regression" and self.num_classes == 1:
            targets = targets[:, 0]
        self.model.fit(self._inputs(part.select(rows)), targets)

    def predict(self, part: Part) -> Predictions:
        """Predict the rows of a part, or as many as the limits allow."""
        chosen = self._choose(part, len(part), self.most_evaluated_cost)
        if len(chosen) < len(part):
            self.notes.append(f"evaluated on {len(chosen):,} of {len(part):,} rows")
        values, rows = np.zeros_like(part.targets), iter(part.select(chosen))
        for start in range(0, len(chosen), PREDICTION_BATCH):
            predicted = self.model.predict(self._inputs(islice(rows, PREDICTION_BATCH)))
            here = chosen[start : start + PREDICTION_BATCH]
            values[here] = predicted.reshape(len(here), *values.shape[1:])
        return Predictions(values, np.isin(np.arange(len(part)), chosen))

    def _choose(self, part: Part, most_rows: int, most_cost: float) -> np.ndarray:
        rows = np.arange(len(part))
        if len(rows) > MOST_CANDIDATES:
            generator = np.random.default_rng(self.seed)
            rows = np.sort(generator.choice(rows, MOST_CANDIDATES, replace=False))
        part = part.select(rows)
        strata = self.targets.stratify(part.targets)
        return rows[choose_rows(strata, self._costs(part), most_rows, most_cost, self.seed)]

    @abstractmethod
    def _costs(self, part: Part) -> np.ndarray:
        """Return the time and memory that each row takes, `[row]`."""

    @abstractmethod
    def _inputs(self, rows: Iterable[Row]) -> Any: ...

    @abstractmethod
    def _build_model(self) -> Any: ...


class TextBaseline(_Baseline):
    """TfidfVectorizer and LogisticRegression, or Ridge for numbers, of scikit-learn.

    A row's cost is its characters.
    """

    name = "TF-IDF + logistic regression"
    name_for_numbers = "TF-IDF + ridge regression"
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
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.pipeline import make_pipeline

        most_words = self.most_weights // (1 if self.num_classes == 2 else self.num_classes)
        vectorizer = TfidfVectorizer(max_features=most_words)
        model: Any = LogisticRegression(max_iter=1000)
        if self.targets.task == "multilabel":
            model = OneVsRestClassifier(model)
        elif self.targets.task == "regression":
            model = Ridge()
        return make_pipeline(vectorizer, model)


class WithoutTargets:
    """A transformer of aeon that is fitted without targets, which it refuses in several columns."""

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def fit(self, inputs: np.ndarray, targets: np.ndarray) -> "WithoutTargets":
        self.transformer.fit(inputs)
        return self

    def transform(self, inputs: np.ndarray) -> np.ndarray:
        features: np.ndarray = self.transformer.transform(inputs)
        return features


class SeriesBaseline(_Baseline):
    """aeon's MiniRocketClassifier, or its features with the same ridge regression for other tasks.

    A row's cost is its steps.

    It needs series of one length, of at least 9 steps: others are stretched or compressed linearly
    to the length of the longest one that it is fitted on. Missing values are interpolated.
    """

    name = name_for_numbers = "MiniRocket + ridge"
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
        from aeon.transformations.collection.convolution_based import MiniRocket
        from sklearn.linear_model import RidgeClassifierCV, RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if not self.targets.has_classes:
            strengths = np.logspace(-3, 3, 10)
            is_regression = self.targets.task == "regression"
            ridge = (RidgeCV if is_regression else RidgeClassifierCV)(alphas=strengths)
            features = WithoutTargets(MiniRocket(random_state=self.seed))
            return make_pipeline(features, StandardScaler(with_mean=False), ridge)
        return MiniRocketClassifier(n_jobs=1, random_state=self.seed)
