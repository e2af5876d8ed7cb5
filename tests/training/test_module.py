"""The training module's own pieces."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from attnlstm.checkpoint.classifier import build_configured
from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.cli.composition import compose_config
from attnlstm.config.data import TokenizerConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.data.batches import SequenceBatch
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.encoders.tokenizer import train_tokenizer
from attnlstm.errors import UserError
from attnlstm.nn import ConvStem, HnQueryAttention, MaxPooling, MeanPooling
from attnlstm.training.module import (
    ClassificationModule,
    restore_module,
)
from attnlstm.training.objective import balanced_class_weights
from attnlstm.training.optimization import build_optimizer

CONF = Path(__file__).parents[2] / "conf"

MODEL = {
    "embedding": {
        "size": 6,
        "vectors": None,
        "freeze": False,
        "word_dropout": 0.1,
        "embedding_dropout": 0.2,
        "variational_dropout": 0.3,
    },
    "lstm": {"hidden_size": 4, "backend": "auto"},
    "stem": {"name": "none"},
    "pooling": ["hn_query"],
    "scaled_attention": False,
    "skip_pooling": [],
    "ngrams": None,
    "random_convolutions": None,
    "max_steps": None,
    "dropout": 0.0,
    "ensemble_size": 1,
}


def test_balanced_class_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    torch.testing.assert_close(balanced_class_weights([3, 1, 2]), torch.tensor(expected).float())


def test_the_loss_is_cross_entropy_as_configured(run_train: Callable, tmp_path: Path) -> None:
    overrides = ("loss.label_smoothing=0.2", "loss.class_weights=balanced", "model.dropout=0")
    result = run_train(tmp_path, *overrides)
    module = restore_module(load_checkpoint(result.checkpoint)).train()
    batch = SequenceBatch(
        torch.randn(3, 5, 12), torch.tensor([5, 2, 3]), torch.tensor([0, 4, 8]), torch.arange(3)
    )
    module.log = lambda *_, **__: None  # there is no trainer to log to
    loss = module.training_step(batch, 0)
    logits = module.classifier(batch.inputs, batch.lengths).logits  # uncalibrated
    weight = balanced_class_weights([24] * 9)
    torch.testing.assert_close(
        loss, F.cross_entropy(logits, batch.targets, weight=weight, label_smoothing=0.2)
    )


@pytest.fixture
def make_module() -> Callable[..., ClassificationModule]:
    """An untrained module for 9 classes: `make_module("loss.focal_gamma=2")`."""

    def make(*overrides: str) -> ClassificationModule:
        config = compose_config(CONF, "train", TrainConfig, overrides)
        encoder = SeriesEncoder.fit([np.zeros((1, 12))]).to_dict()
        labels = [str(label) for label in range(9)]
        return ClassificationModule(
            config.model_dump(), labels, list(range(3, 12)), encoder, ["train"]
        )

    return make


FOCAL = "loss.focal_gamma=2"


@pytest.mark.parametrize(
    "overrides",
    [
        [FOCAL],
        ["loss.focal_gamma=0.5", "loss.label_smoothing=0"],
        [FOCAL, "loss.label_smoothing=0", "loss.class_weights=balanced"],
    ],
    ids=str,
)
def test_the_focal_loss_matches_its_formula(make_module: Callable, overrides: list[str]) -> None:
    module = make_module(*overrides)
    loss = module.config["loss"]
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 9, dtype=torch.float64), torch.tensor([0, 4, 8, 4, 1, 0])
    p = (logits.exp() / logits.exp().sum(dim=1, keepdim=True)).numpy()
    smoothing, gamma = loss["label_smoothing"], loss["focal_gamma"]
    weights = (
        np.ones(9)
        if module.objective.class_weights is None
        else module.objective.class_weights.numpy()
    )
    rows = []
    for row, target in enumerate(targets.tolist()):
        wanted = np.full(9, smoothing / 9)
        wanted[target] += 1 - smoothing
        cross_entropy = -(weights * wanted * np.log(p[row])).sum()
        rows.append((1 - p[row, target]) ** gamma * cross_entropy)
    assert module.compute_loss(logits, targets).item() == pytest.approx(
        sum(rows) / weights[targets].sum()  # the mean, where there are no weights
    )


def test_without_a_gamma_the_focal_loss_is_cross_entropy(make_module: Callable) -> None:
    logits, targets = torch.randn(6, 9), torch.tensor([0, 4, 8, 4, 1, 0])
    module = make_module("loss.focal_gamma=0", "loss.label_smoothing=0")
    torch.testing.assert_close(
        module.compute_loss(logits, targets), F.cross_entropy(logits, targets)
    )
    slightly = make_module("loss.focal_gamma=1e-6", "loss.label_smoothing=0")
    torch.testing.assert_close(
        slightly.compute_loss(logits, targets), F.cross_entropy(logits, targets)
    )


def series_encoder(channels: int) -> SeriesEncoder:
    return SeriesEncoder.fit([np.zeros((2, channels))])


def text_encoder() -> TextEncoder:
    tokenizer = train_tokenizer(["one two three"], TokenizerConfig())
    return TextEncoder(tokenizer, max_length=None, truncation="head")


def test_an_impossible_lstm_is_the_users_error() -> None:
    model = MODEL | {"lstm": {"hidden_size": 4, "backend": "torch", "layer_norm": True}}
    with pytest.raises(UserError, match=r"model\.lstm: backend='torch' cannot run"):
        build_configured(model, series_encoder(3), num_classes=2)


def test_pooling_options_reach_the_pooling() -> None:
    model = MODEL | {"scaled_attention": True}
    classifier = build_configured(model, series_encoder(3), num_classes=2)
    assert repr(classifier.pooling) == "HnQueryAttention(scaled=True)"
    assert classifier.skip_pooling is None
    assert isinstance(classifier.head, nn.Linear)
    model |= {"pooling": ["max", "hn_query"], "skip_pooling": ["mean"]}
    classifier = build_configured(model, series_encoder(3), num_classes=2)
    assert [type(pooling) for pooling in classifier.pooling.poolings] == [
        MaxPooling,
        HnQueryAttention,
    ]
    assert isinstance(classifier.skip_pooling, MeanPooling)
    assert classifier.head.in_features == 2 * 4 + 3  # two poolings of the LSTM, one of its inputs


def test_stem_options_reach_the_stem() -> None:
    stem = {"name": "conv", "stride": 4, "num_filters": 5, "bottleneck": None, "kernel_sizes": None}
    classifier = build_configured(MODEL | {"stem": stem}, series_encoder(3), num_classes=2)
    assert isinstance(classifier.stem, ConvStem)
    assert (classifier.stem.stride, classifier.stem.feature_size) == (4, 5)
    assert classifier.lstm.input_size == 5


@pytest.mark.parametrize(
    ("stem", "message"),
    [
        ({"name": "conv", "bottleneck": 3}, "model.stem.bottleneck means nothing to model/stem=co"),
        ({"name": "conv", "stride": 6}, "model.stem: stride should be a power of 2, got 6"),
        ({"name": "inception", "kernel_sizes": [4]}, r"model.stem: kernel_sizes .* got \[4\]"),
        ({"name": "inception", "num_filters": 32}, "model.stem: num_filters .* got 32"),
    ],
)
def test_an_impossible_stem_is_the_users_error(stem: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_configured(MODEL | {"stem": stem}, series_encoder(3), num_classes=2)


def test_the_input_size_is_the_encoders() -> None:
    for encoder, input_size in ((series_encoder(3), 3), (None, 1), (text_encoder(), 6)):
        classifier = build_configured(MODEL, encoder, num_classes=2)
        assert classifier.lstm.input_size == input_size
        assert (classifier.embedding is None) == (input_size != 6)
    embedding = classifier.embedding
    assert embedding is not None
    assert embedding.weight.shape == (4, 6)  # three words and the unknown one
    assert embedding.unknown_id == 0
    assert (embedding.word_dropout, embedding.embedding_dropout) == (0.1, 0.2)
    assert embedding.variational_dropout == 0.3
    assert MODEL["embedding"]["size"] == 6  # the configuration is left as it was
    assert classifier(torch.tensor([[1, 2, 0]]), [2]).logits.shape == (1, 2)


def test_the_focal_loss_of_a_certain_row_has_a_gradient(make_module: Callable) -> None:
    module = make_module("loss.focal_gamma=0.5", "loss.label_smoothing=0")
    logits = torch.zeros(1, 9)
    logits[0, 0] = 40.0  # p rounds to 1
    logits.requires_grad_()
    module.compute_loss(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_every_expert_of_texts_learns_by_itself() -> None:
    values = ["data=text_files", "data.train=a.csv", "model.dropout=0", "loss.label_smoothing=0.2"]
    values += ["model.embedding.word_dropout=0", "model.embedding.embedding_dropout=0"]
    values += ["model.embedding.variational_dropout=0", "model.lstm.hidden_size=4"]
    config = compose_config(CONF, "train", TrainConfig, values)
    module = ClassificationModule(
        config.model_dump(), ["a", "b"], [1, 1], text_encoder().to_dict(), ["train"]
    )
    lengths, targets = torch.tensor([3, 1]), torch.tensor([0, 1])
    batch = SequenceBatch(torch.tensor([[1, 2, 3], [2, 0, 0]]), lengths, targets, torch.arange(2))
    of_lstm, of_ngrams = module.classifier(batch.inputs, lengths).experts
    expected = F.cross_entropy(of_lstm, targets, label_smoothing=0.2)
    expected = expected + F.cross_entropy(of_ngrams, targets, label_smoothing=0.2)
    torch.testing.assert_close(module.training_loss(batch), expected)
    module.training_loss(batch).backward()
    together = module.classifier.expert.weight.grad.clone()
    module.zero_grad()
    F.cross_entropy(of_ngrams, targets, label_smoothing=0.2).backward()
    torch.testing.assert_close(module.classifier.expert.weight.grad, together)
    optimizer = build_optimizer(module._parameter_groups(), module.config["optimizer"])
    rest, ngrams = optimizer.param_groups
    assert ngrams["lr"] == pytest.approx(10 * rest["lr"])
    assert (ngrams["weight_decay"], len(ngrams["params"])) == (0, 2)
    assert len(rest["params"]) + 2 == len(list(module.parameters()))
