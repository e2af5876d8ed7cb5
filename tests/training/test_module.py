"""The training module's own pieces."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from attnlstm.data import SequenceBatch
from attnlstm.errors import UserError
from attnlstm.inference.checkpoint import load_checkpoint
from attnlstm.training.module import balanced_class_weights, build_classifier

MODEL = {
    "lstm": {"hidden_size": 4, "backend": "auto"},
    "pooling": {"name": "hn_query", "scaled": None},
    "dropout": 0.0,
}


def test_balanced_class_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    torch.testing.assert_close(balanced_class_weights([3, 1, 2]), torch.tensor(expected).float())


def test_the_loss_is_cross_entropy_as_configured(run_train: Callable, tmp_path: Path) -> None:
    result = run_train(tmp_path, "loss.label_smoothing=0.2", "loss.class_weights=balanced")
    module = load_checkpoint(result.checkpoint).module.eval()
    batch = SequenceBatch(
        torch.randn(3, 5, 12), torch.tensor([5, 2, 3]), torch.tensor([0, 4, 8]), torch.arange(3)
    )
    module.log = lambda *_, **__: None  # there is no trainer to log to
    loss = module.training_step(batch, 0)
    logits = module(batch.inputs, batch.lengths).logits
    weight = balanced_class_weights([24] * 9)
    torch.testing.assert_close(
        loss, F.cross_entropy(logits, batch.targets, weight=weight, label_smoothing=0.2)
    )


def test_an_lstm_that_cannot_be_is_the_users_error() -> None:
    model = MODEL | {"lstm": {"hidden_size": 4, "backend": "torch", "layer_norm": True}}
    with pytest.raises(UserError, match=r"model\.lstm: backend='torch' cannot run"):
        build_classifier(model, input_size=3, num_classes=2)


def test_pooling_options_reach_the_pooling() -> None:
    model = MODEL | {"pooling": {"name": "hn_query", "scaled": True}}
    classifier = build_classifier(model, input_size=3, num_classes=2)
    assert repr(classifier.pooling) == "HnQueryAttention(scaled=True)"
    assert isinstance(classifier.head, nn.Linear)
