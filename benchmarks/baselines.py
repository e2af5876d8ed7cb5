"""Baselines for benchmarks.accuracy: TF-IDF, MiniRocket, and the most frequent class.

A stopgap until each run writes `baseline.json`; the names are the same there.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from attnlstm.data import LabelledParts
from benchmarks.sets import Kind

MAJORITY = "majority class"

Score = Callable[[list[Any], np.ndarray], float]
"""The accuracy of a fitted classifier on these values and class numbers `[row]`."""


def measure_baselines(rows: LabelledParts, kind: Kind) -> dict[str, float]:
    """Test accuracies by name, of fits on all rows but those of the test."""
    train, test = rows.parts["train"], rows.parts["test"]
    if "validation" in rows.parts:
        train = train + rows.parts["validation"]
    majority = float((test.targets == np.bincount(train.targets).argmax()).mean())
    name = "TF-IDF + logistic regression" if kind == "text" else "MiniRocket + ridge"
    fit = fit_texts if kind == "text" else fit_series
    score = fit([row.value for row in train], train.targets)
    reached = score([row.value for row in test], test.targets)
    return {name: float(reached), MAJORITY: majority}


def fit_texts(texts: list[Any], targets: np.ndarray) -> Score:
    """TF-IDF and logistic regression of scikit-learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    return model.fit(texts, targets).score


def fit_series(series: list[Any], targets: np.ndarray) -> Score:
    """MiniRocket and the ridge classifier of aeon, on series stretched to one length."""
    from aeon.classification.convolution_based import MiniRocketClassifier

    length = max(9, *map(len, series))  # it needs 9 steps

    def prepare(part: list[Any]) -> np.ndarray:
        return np.stack([stretch(steps, length) for steps in part])

    model = MiniRocketClassifier(n_jobs=1, random_state=0).fit(prepare(series), targets)
    return lambda part, targets: model.score(prepare(part), targets)


def stretch(series: np.ndarray, length: int) -> np.ndarray:
    """A series `[time, channel]` as `[channel, length]`, interpolated linearly."""
    places = np.linspace(0, len(series) - 1, length)
    channels = [np.interp(places, np.arange(len(series)), channel) for channel in series.T]
    return np.array(channels, dtype=np.float32)
