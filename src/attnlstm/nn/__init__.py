"""Plain PyTorch modules: the LSTM, poolings from a sequence to a vector, and the classifier."""

from attnlstm.nn.classifier import Classification, SequenceClassifier
from attnlstm.nn.embedding import TokenEmbedding
from attnlstm.nn.ensemble import ClassifierEnsemble
from attnlstm.nn.lstm import LSTM
from attnlstm.nn.pooling import (
    HnQueryAttention,
    LastState,
    LearnedQueryAttention,
    MaxPooling,
    MeanPooling,
    Pooling,
    build_pooling,
)

__all__ = [
    "LSTM",
    "Classification",
    "ClassifierEnsemble",
    "HnQueryAttention",
    "LastState",
    "LearnedQueryAttention",
    "MaxPooling",
    "MeanPooling",
    "Pooling",
    "SequenceClassifier",
    "TokenEmbedding",
    "build_pooling",
]
