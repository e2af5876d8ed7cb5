"""The estimator of a checkpoint."""

from pathlib import Path

from attnlstm.checkpoint.find import find_checkpoint
from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.estimator.classifier import AttentionLSTMClassifier
from attnlstm.estimator.multilabel_classifier import AttentionLSTMMultilabelClassifier
from attnlstm.estimator.regressor import AttentionLSTMRegressor

AnyEstimator = AttentionLSTMClassifier | AttentionLSTMMultilabelClassifier | AttentionLSTMRegressor


def load(path: str | Path, backend: str | None = None) -> AnyEstimator:
    """Return the fitted estimator of a checkpoint's task; nothing in the file is executed.

    It also has the attributes of the `TrainedModel`, such as `classifier` and `encoder`. The labels
    are strings, unless an estimator was fitted on others and saved.

    Args:
        path: a file that `attnlstm train` or the method `save` of an estimator has written, a run
            folder, or "last" for the newest run in runs/.
        backend: runs the LSTM; None: the one it was trained with.

    Raises:
        UserError: see `read_checkpoint`; or the backend cannot run this LSTM.
    """
    checkpoint = find_checkpoint(str(path), "runs")
    trained = load_checkpoint(checkpoint, backend)
    kinds = (AttentionLSTMClassifier, AttentionLSTMMultilabelClassifier, AttentionLSTMRegressor)
    model = next(kind for kind in kinds if trained.task in kind.TASKS)()
    model._adopt(trained, checkpoint.read_bytes(), backend)
    return model
