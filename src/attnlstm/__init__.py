"""Sequence classification with a custom LSTM and hn-query attention pooling.

Nothing here is imported before it is used: `import attnlstm` takes no time, and
`attnlstm.LSTM` takes as long as torch does.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnlstm.cli.in_process import train
    from attnlstm.estimator.aeon_estimators import (
        AeonAttentionLSTMClassifier,
        AeonAttentionLSTMRegressor,
    )
    from attnlstm.estimator.classifier import AttentionLSTMClassifier
    from attnlstm.estimator.loading import load
    from attnlstm.estimator.multilabel_classifier import AttentionLSTMMultilabelClassifier
    from attnlstm.estimator.regressor import AttentionLSTMRegressor
    from attnlstm.nn import (
        LSTM,
        HnQueryAttention,
        LastState,
        LearnedQueryAttention,
        MaxPooling,
        MeanPooling,
        SequenceClassifier,
        SideBySide,
    )

# A thread of torch that waits for another one keeps its core busy for a while before it sleeps: by
# default for many milliseconds, in which another program may need the core, or even the thread that
# it waits for. This shortens the time to a fraction of a millisecond. torch's library of threads
# reads the variable when torch is imported.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "5000"

__version__ = "0.2.0"

__all__ = [
    "LSTM",
    "AeonAttentionLSTMClassifier",
    "AeonAttentionLSTMRegressor",
    "AttentionLSTMClassifier",
    "AttentionLSTMMultilabelClassifier",
    "AttentionLSTMRegressor",
    "HnQueryAttention",
    "LastState",
    "LearnedQueryAttention",
    "MaxPooling",
    "MeanPooling",
    "SequenceClassifier",
    "SideBySide",
    "__version__",
    "load",
    "train",
]

_MODULES = {
    "AeonAttentionLSTMClassifier": "attnlstm.estimator.aeon_estimators",
    "AeonAttentionLSTMRegressor": "attnlstm.estimator.aeon_estimators",
    "AttentionLSTMClassifier": "attnlstm.estimator.classifier",
    "AttentionLSTMMultilabelClassifier": "attnlstm.estimator.multilabel_classifier",
    "AttentionLSTMRegressor": "attnlstm.estimator.regressor",
    "load": "attnlstm.estimator.loading",
    "train": "attnlstm.cli.in_process",
}
"""Where to find what is not in `attnlstm.nn`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES.get(name, "attnlstm.nn")), name)
    globals()[name] = value  # the next use finds it at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
