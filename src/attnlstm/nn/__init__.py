"""Plain PyTorch modules: the LSTM, poolings from a sequence to a vector, and the classifier."""

from attnlstm.nn.classifier import Classification, SequenceClassifier
from attnlstm.nn.embedding import TokenEmbedding
from attnlstm.nn.ensemble import ClassifierEnsemble
from attnlstm.nn.lstm import LSTM
from attnlstm.nn.ngrams import NgramClassifier
from attnlstm.nn.pooling import (
    HnQueryAttention,
    LastState,
    LearnedQueryAttention,
    MaxPooling,
    MeanPooling,
    Pooling,
    SideBySide,
    build_pooling,
)
from attnlstm.nn.random_convolutions import RandomConvolutionClassifier
from attnlstm.nn.stem import STEMS, ConvStem, InceptionStem, Stem, build_stem, register_stem

__all__ = [
    "LSTM",
    "STEMS",
    "Classification",
    "ClassifierEnsemble",
    "ConvStem",
    "HnQueryAttention",
    "InceptionStem",
    "LastState",
    "LearnedQueryAttention",
    "MaxPooling",
    "MeanPooling",
    "NgramClassifier",
    "Pooling",
    "RandomConvolutionClassifier",
    "SequenceClassifier",
    "SideBySide",
    "Stem",
    "TokenEmbedding",
    "build_pooling",
    "build_stem",
    "register_stem",
]
