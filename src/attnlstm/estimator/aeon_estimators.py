"""Estimators with aeon's conventions. Importing this module imports aeon."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from aeon.classification import BaseClassifier
from aeon.regression import BaseRegressor

from attnlstm.estimator.classifier import AttentionLSTMClassifier
from attnlstm.estimator.regressor import AttentionLSTMRegressor

TAGS = {
    "X_inner_type": ["np-list", "numpy3D"],
    "algorithm_type": "deeplearning",
    "capability:multivariate": True,
    "capability:unequal_length": True,
}

SMALL = (
    *("trainer.max_epochs=1", "model/stem=none", "model.lstm.hidden_size=4"),
    *("model.random_convolutions=null", "validation=holdout"),
)
"""Settings with which aeon's checks take seconds."""


class AeonAttentionLSTMClassifier(BaseClassifier):
    """An `AttentionLSTMClassifier` of series, for programs that expect one of aeon's classifiers.

    X is an array `[row, channel, time]` or a list of arrays `[channel, time]` of any lengths.

    Args:
        overrides: see `AttentionLSTMClassifier`.
        random_state: see `AttentionLSTMClassifier`.

    Attributes:
        model_: the fitted `AttentionLSTMClassifier`, for which the axes of lists are the other way
            round.
    """

    _tags = TAGS

    def __init__(self, overrides: Sequence[str] = (), random_state: Any = None) -> None:
        self.overrides = overrides
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: np.ndarray) -> "AeonAttentionLSTMClassifier":
        model = AttentionLSTMClassifier(self.overrides, self.random_state)
        self.model_ = model.fit(_to_steps(X), y)
        return self

    def _predict(self, X: Any) -> np.ndarray:
        return self.model_.predict(_to_steps(X))

    def _predict_proba(self, X: Any) -> np.ndarray:
        return self.model_.predict_proba(_to_steps(X))

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return {"overrides": SMALL}


class AeonAttentionLSTMRegressor(BaseRegressor):
    """An `AttentionLSTMRegressor` of series, for programs that expect one of aeon's regressors.

    X is an array `[row, channel, time]` or a list of arrays `[channel, time]` of any lengths.

    Args:
        overrides: see `AttentionLSTMClassifier`.
        random_state: see `AttentionLSTMClassifier`.

    Attributes:
        model_: the fitted `AttentionLSTMRegressor`, for which the axes of lists are the other way
            round.
    """

    _tags = TAGS

    def __init__(self, overrides: Sequence[str] = (), random_state: Any = None) -> None:
        self.overrides = overrides
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: np.ndarray) -> "AeonAttentionLSTMRegressor":
        model = AttentionLSTMRegressor(self.overrides, self.random_state)
        self.model_ = model.fit(_to_steps(X), y)
        return self

    def _predict(self, X: Any) -> np.ndarray:
        return self.model_.predict(_to_steps(X))

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return {"overrides": SMALL}


def _to_steps(collection: Any) -> list[np.ndarray]:
    """Return series `[channel, time]` as `[time, channel]`."""
    return [series.T for series in collection]
