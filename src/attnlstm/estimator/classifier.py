"""The estimator whose rows have exactly one class."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin

from attnlstm.checkpoint.load import TrainedModel
from attnlstm.data.containers import Values
from attnlstm.data.memory import MemoryRows
from attnlstm.data.memory_labels import read_labels
from attnlstm.estimator.base import AttentionLSTMEstimator


class AttentionLSTMClassifier(ClassifierMixin, AttentionLSTMEstimator):
    """Classifies texts or time series; trains with the settings of `attnlstm train`.

        model = AttentionLSTMClassifier(overrides=["budget.minutes=2"]).fit(texts, labels)

    y has a label for each row, `[row]`: strings, integers or booleans. The override `task=ordinal`
    is for classes in order, such as one to five stars.

    All rows are trained and validated on, and give the same weights as the same rows in files: as
    `data.train`, beside any `data.test`. The override `data.test_fraction=0.2` holds out test rows,
    as the command line does without `data.test`.

    Only a temporary folder is written to, unless an override names `runs_dir`: then there is a run
    folder, as on the command line.

    A fitted model also has the attributes of `TrainedModel`, such as `label_names` and `encoder`.

    Args:
        overrides: settings as on the command line, such as `"model.lstm.hidden_size=64"`.
        random_state: the seed, or a RandomState to draw it from; None: the setting `seed`, 0 unless
            overridden.

    Attributes:
        classes_: the labels `[class]`, sorted.
        n_features_in_: the number of steps, if X was a table `[row, time]`.
        feature_names_in_: the columns of this table, if they have names.
        metrics_: of the test rows, such as "test/accuracy"; empty if none were held out.
        trained_: the `TrainedModel`.
        checkpoint_: the content of the checkpoint file.
    """

    TASKS = ("classification", "ordinal")

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return calibrated probabilities `[row, class]`, in the order of `classes_`."""
        rows = [prediction.probabilities for prediction in self._predict(X)]
        probabilities = np.array(rows, dtype=np.float64)[:, self._order]
        return probabilities / probabilities.sum(axis=1, keepdims=True)  # they are rounded

    def _read_rows(self, values: Values, y: Any) -> tuple[MemoryRows, str]:
        labels, label_type = read_labels(y)
        return MemoryRows(values, labels), label_type

    def _adopt(self, trained: TrainedModel, checkpoint: bytes, backend: str | None = None) -> None:
        super()._adopt(trained, checkpoint, backend)
        labels = np.array(trained.classes)
        self._order = labels.argsort()
        self.classes_ = labels[self._order]
