"""The estimator that predicts one or several numbers."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from attnlstm.checkpoint.calibration import scores_needed
from attnlstm.console import enumerate_names
from attnlstm.data.containers import Values
from attnlstm.data.memory import MemoryRows
from attnlstm.data.memory_labels import check_numbers, read_numbers
from attnlstm.errors import UserError
from attnlstm.estimator.base import AttentionLSTMEstimator, DataError, as_value_error


class AttentionLSTMRegressor(RegressorMixin, AttentionLSTMEstimator):
    """Predicts one or several numbers for each text or time series.

        model = AttentionLSTMRegressor().fit(walks, lengths)
        low, high = model.predict_interval(new, coverage=0.9).T

    y is `[row]` or, for several targets, `[row, target]`. The targets have the names of the columns
    if y is a table or a named column.

    Everything else is as for `AttentionLSTMClassifier`, which also explains the arguments and the
    attributes; there is no `classes_`.
    """

    TASKS = ("regression",)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted numbers, `[row]` for one target and `[row, target]` for several."""
        return _drop_single(np.array([prediction.numbers for prediction in self._predict(X)]))

    def predict_interval(self, X: Any, coverage: float = 0.9) -> np.ndarray:
        """Return the ends of intervals that contain the true numbers with this probability.

        They come from the errors on validation rows (split conformal prediction), and are equally
        wide for all rows.

        Returns:
            `[row, 2]` for one target and `[row, target, 2]` for several.

        Raises:
            ValueError: there are too few validation rows; it is also a UserError.
        """
        check_is_fitted(self)
        if not 0 < coverage < 1:
            raise DataError(f"coverage={coverage}: give a number between 0 and 1")
        scores = () if self.calibration is None else self.calibration.scores
        if len(scores) < (needed := scores_needed(coverage)):
            raise DataError(
                f"coverage={coverage:g} needs {needed} validation rows, and the model has scores "
                f"of {len(scores)}: fit on more rows, or ask for less"
            )
        return _drop_single(
            np.array([prediction.intervals for prediction in self._predict(X, coverage)])
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R², the mean over several targets; y is as for `fit`.

        Raises:
            ValueError: y has targets that the model does not know; it is also a UserError.
        """
        check_is_fitted(self)
        with as_value_error():
            numbers, names = read_numbers(y)
            if names is not None and len(names) > 1 and names != self.label_names:
                if set(names) != set(self.label_names):
                    raise UserError(
                        f"y has the columns {enumerate_names(names)}, and the model predicts "
                        f"{enumerate_names(self.label_names)}"
                    )
                numbers = numbers[:, [names.index(name) for name in self.label_names]]
        return super().score(X, numbers, sample_weight)

    def _read_rows(self, values: Values, y: Any) -> tuple[MemoryRows, str]:
        numbers, names = read_numbers(y)
        if names is None:
            count = numbers.shape[1]
            names = ["target"] if count == 1 else [str(number) for number in range(count)]
        labels = [tuple(map(repr, row)) for row in numbers.tolist()]
        rows = MemoryRows(values, labels, target_names=names)
        check_numbers(numbers, names)
        return rows, "str"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _drop_single(predictions: np.ndarray) -> np.ndarray:
    """Return predictions `[row, target, ...]` without the axis of a single target."""
    return predictions[:, 0] if predictions.shape[1] == 1 else predictions
