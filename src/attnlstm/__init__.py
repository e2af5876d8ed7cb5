"""Sequence classification with a custom LSTM and hn-query attention pooling.

Nothing here is imported before it is used: `import attnlstm` takes no time, and
`attnlstm.LSTM` takes as long as torch does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnlstm.checkpoint.load import load_checkpoint as load
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

__version__ = "0.2.0"

__all__ = [
    "LSTM",
    "HnQueryAttention",
    "LastState",
    "LearnedQueryAttention",
    "MaxPooling",
    "MeanPooling",
    "SequenceClassifier",
    "SideBySide",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        value = import_module("attnlstm.checkpoint.load").load_checkpoint
    elif name in __all__:
        value = getattr(import_module("attnlstm.nn"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next use finds it at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
