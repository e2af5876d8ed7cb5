"""The classifier with aeon's conventions. Importing this module imports aeon."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from aeon.classification import BaseClassifier

from attnlstm.estimator import AttentionLSTMClassifier


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

    _tags = {  # noqa: RUF012 - aeon reads it from the class
        "X_inner_type": ["np-list", "numpy3D"],
        "algorithm_type": "deeplearning",
        "capability:multivariate": True,
        "capability:unequal_length": True,
    }

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
        """Return parameters with which aeon's checks take seconds."""
        small = ["trainer.max_epochs=1", "model/stem=none", "model.lstm.hidden_size=4"]
        return {"overrides": [*small, "model.random_convolutions=null", "validation=holdout"]}


def _to_steps(collection: Any) -> list[np.ndarray]:
    """Return series `[channel, time]` as `[time, channel]`."""
    return [series.T for series in collection]
