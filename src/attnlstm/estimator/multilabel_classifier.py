"""The estimator whose rows have any number of classes."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from attnlstm.checkpoint.load import TrainedModel
from attnlstm.data.containers import Values
from attnlstm.data.memory import MemoryRows
from attnlstm.data.memory_labels import check_classes, name_classes, read_indicator
from attnlstm.estimator.base import AttentionLSTMEstimator, as_value_error


class AttentionLSTMMultilabelClassifier(ClassifierMixin, AttentionLSTMEstimator):
    """Finds which classes a text or a time series has: none, one or several.

        model = AttentionLSTMMultilabelClassifier().fit(texts, [["sad", "long"], [], ["long"]])

    y is 0 or 1 for each class, `[row, class]`, as an array, a sparse matrix or a table whose
    columns are the classes. Or it is a list or a column with a list, tuple or set of labels for
    each row: strings, integers or booleans. Predictions are 0 or 1 `[row, class]` in both cases, as
    scikit-learn's metrics take them; `labels` names the classes.

    Everything else is as for `AttentionLSTMClassifier`, which also explains the arguments and the
    other attributes.

    Attributes:
        classes_: the labels `[class]`: the columns of y, which have the numbers 0, 1, ... without
            names, or the different labels, sorted.
    """

    TASKS = ("multilabel",)

    def predict(self, X: Any) -> np.ndarray:
        """Return 0 or 1 for each class, `[row, class]`, in the order of `classes_`.

        It is 1 if the probability reaches the threshold of the class, which is chosen on validation
        rows.
        """
        found = [prediction.label for prediction in self._predict(X)]
        return np.array([[name in row for name in self.label_names] for row in found], np.int64)

    def labels(self, X: Any) -> list[tuple[Any, ...]]:
        """Return the labels of the predicted classes of each row, in the order of `classes_`."""
        classes = self.classes_.tolist()
        return [
            tuple(label for label, flag in zip(classes, row, strict=True) if flag)
            for row in self.predict(X).tolist()
        ]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the calibrated probability of each class, `[row, class]`."""
        rows = [prediction.probabilities for prediction in self._predict(X)]
        return np.array(rows, dtype=np.float64)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of rows all of whose classes are predicted; y is as for `fit`.

        Raises:
            ValueError: y has classes that the model does not know; it is also a UserError.
        """
        check_is_fitted(self)
        with as_value_error():
            flags = read_indicator(y).arrange(self.classes_.tolist())
        return float(accuracy_score(flags, self.predict(X), sample_weight=sample_weight))

    def _read_rows(self, values: Values, y: Any) -> tuple[MemoryRows, str]:
        indicator = read_indicator(y)
        check_classes(indicator)
        names, label_type = name_classes(indicator.classes)
        labels = [tuple(names[n] for n in np.flatnonzero(row)) for row in indicator.flags]
        return MemoryRows(values, labels, label_names=names), label_type

    def _adopt(self, trained: TrainedModel, checkpoint: bytes, backend: str | None = None) -> None:
        super()._adopt(trained, checkpoint, backend)
        self.classes_ = np.array(trained.classes)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags
