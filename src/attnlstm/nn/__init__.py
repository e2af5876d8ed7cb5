"""Plain PyTorch modules; they import nothing else of attnlstm.

lstm, cell, backends/              the LSTM, and the ways to run it
embedding, stem                    from tokens or series to the steps that the LSTM reads
pooling                            from the LSTM's outputs to one vector
head                               from that vector to the logits, and what these mean
ngrams, random_convolutions        experts: second classifiers that need few rows
classifier, ensemble               the whole model, and the mean of several
build, interop                     models from settings; weights of other LSTMs
"""

from attnlstm.nn.classifier import Classification, SequenceClassifier
from attnlstm.nn.embedding import TokenEmbedding
from attnlstm.nn.ensemble import ClassifierEnsemble
from attnlstm.nn.head import CumulativeHead
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
    "CumulativeHead",
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
