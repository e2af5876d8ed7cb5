"""Small estimators and what they learn."""

from typing import Any

import numpy as np
import torch

import attnlstm

FAST = [
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "model.lstm.hidden_size=4",
    "validation=holdout",
    "refit=false",
]
SERIES = [*FAST, "model/stem=none", "model.random_convolutions=null", "optimizer.lr=0.02"]
TEXTS = [*FAST, "model.embedding.size=4", "model.ngrams=null"]


def make_texts(count: int = 60) -> tuple[list[str], list[str]]:
    words = {"good": ["fine", "lovely", "great"], "bad": ["dull", "awful", "slow"]}
    labels = [("good", "bad")[row % 2] for row in range(count)]
    texts = [
        f"row {row} was {' '.join(words[label][(row + step) % 3] for step in range(row % 4 + 1))}"
        for row, label in enumerate(labels)
    ]
    return texts, labels


def make_series(count: int = 48, channels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return `[row, channel, time]` and labels 0, 1, 2: the mean of all values."""
    labels = np.arange(count) % 3
    noise = np.random.default_rng(0).normal(size=(count, channels, 10))
    return noise + 3 * labels[:, None, None], labels


def fit_series(**parameters: Any) -> attnlstm.AttentionLSTMClassifier:
    return attnlstm.AttentionLSTMClassifier(SERIES, **parameters).fit(*make_series())


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return model.classifier.state_dict()


def assert_same_weights(first: Any, second: Any) -> None:
    ours, theirs = weights_of(first), weights_of(second)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name
