"""Estimators with aeon's conventions. Importing this module imports aeon."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from aeon.classification import BaseClassifier
from aeon.regression import BaseRegressor

from attnlstm.estimator.base import AttentionLSTMEstimator
from attnlstm.estimator.classifier import AttentionLSTMClassifier
from attnlstm.estimator.regressor import AttentionLSTMRegressor

SMALL = (
    *("trainer.max_epochs=1", "model/stem=none", "model.lstm.hidden_size=4"),
    *("model.random_convolutions=null", "validation=holdout"),
)
"""Settings with which aeon's checks take seconds."""


class AeonEstimator:
    """What both estimators share; one of aeon's base classes follows it.

    X is an array `[row, channel, time]` or a list of arrays `[channel, time]` of any lengths.
    """

    ESTIMATOR: ClassVar[type[AttentionLSTMEstimator]]

    _tags: ClassVar[dict[str, Any]] = {
        "X_inner_type": ["np-list", "numpy3D"],
        "algorithm_type": "deeplearning",
        "capability:multivariate": True,
        "capability:unequal_length": True,
    }

    def __init__(self, overrides: Sequence[str] = (), random_state: Any = None) -> None:
        self.overrides = overrides
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: np.ndarray) -> Self:
        self.model_: Any = self.ESTIMATOR(self.overrides, self.random_state)
        self.model_.fit(_to_steps(X), y)
        return self

    def _predict(self, X: Any) -> np.ndarray:
        predictions: np.ndarray = self.model_.predict(_to_steps(X))
        return predictions

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return {"overrides": SMALL}


class AeonAttentionLSTMClassifier(AeonEstimator, BaseClassifier):
    """An `AttentionLSTMClassifier` of series, for programs that expect one of aeon's classifiers.

    X is an array `[row, channel, time]` or a list of arrays `[channel, time]` of any lengths.

    Args:
        overrides: see `AttentionLSTMClassifier`.
        random_state: see `AttentionLSTMClassifier`.

    Attributes:
        model_: the fitted `AttentionLSTMClassifier`, for which the axes of lists are the other way
            round.
    """

    ESTIMATOR = AttentionLSTMClassifier

    def _predict_proba(self, X: Any) -> np.ndarray:
        probabilities: np.ndarray = self.model_.predict_proba(_to_steps(X))
        return probabilities


class AeonAttentionLSTMRegressor(AeonEstimator, BaseRegressor):
    """An `AttentionLSTMRegressor` of series, for programs that expect one of aeon's regressors.

    X is an array `[row, channel, time]` or a list of arrays `[channel, time]` of any lengths.

    Args:
        overrides: see `AttentionLSTMClassifier`.
        random_state: see `AttentionLSTMClassifier`.

    Attributes:
        model_: the fitted `AttentionLSTMRegressor`, for which the axes of lists are the other way
            round.
    """

    ESTIMATOR = AttentionLSTMRegressor


def _to_steps(collection: Any) -> list[np.ndarray]:
    """Return series `[channel, time]` as `[time, channel]`."""
    return [series.T for series in collection]
