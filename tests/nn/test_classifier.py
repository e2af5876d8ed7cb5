"""The classifier composes its parts, and padding never changes its prediction."""

import copy
import itertools

import pytest
import torch

from attnlstm.nn import (
    LSTM,
    NgramClassifier,
    SequenceClassifier,
    TokenEmbedding,
    build_pooling,
    build_stem,
)
from attnlstm.nn.backends import BACKENDS


@pytest.mark.parametrize(
    ("backend", "pooling"),
    list(
        itertools.product(["auto", *BACKENDS], ["hn_query", "learned_query", "last_state", "max"])
    ),
)
def test_other_sequences_and_padding_change_nothing(backend: str, pooling: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, 2, batch_first=True, bidirectional=True, backend=backend)
    classifier = SequenceClassifier(lstm, build_pooling(pooling, 8), num_classes=5, dropout=0.5)
    classifier.eval()
    inputs, lengths = torch.randn(4, 9, 3), torch.tensor([2, 7, 9, 1])
    logits, attention, _ = classifier(inputs, lengths)
    shuffled = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(classifier(inputs[shuffled], lengths[shuffled])[0], logits[shuffled])
    for row, length in enumerate(lengths.tolist()):
        alone = classifier(inputs[row : row + 1, :length])
        torch.testing.assert_close(alone.logits[0], logits[row], atol=1e-6, rtol=1e-5)
        if attention is not None:
            torch.testing.assert_close(alone.attention[0], attention[row, :length])


def build_with_all_parts(stem: str, stride: int, backend: str = "auto") -> SequenceClassifier:
    """Build one for series of 3 channels and 5 classes, in evaluation, with random statistics."""
    torch.manual_seed(0)
    options = {"conv": {"num_filters": 6}, "inception": {"num_filters": 6, "bottleneck": 2}}
    lstm = LSTM(6, 4, batch_first=True, bidirectional=True, backend=backend)
    classifier = SequenceClassifier(
        lstm,
        build_pooling(["hn_query", "max"], lstm.feature_size, scaled_attention=True),
        num_classes=5,
        dropout=0.5,
        stem=build_stem(stem, 3, stride=stride, **options[stem]),
        skip_pooling=build_pooling("mean", lstm.input_size),
    )
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.normal_(module.bias)
    return classifier.eval()


@pytest.mark.parametrize(
    ("stem", "stride"), list(itertools.product(["conv", "inception"], [1, 4, 16])), ids=str
)
def test_with_all_parts_other_sequences_and_padding_change_nothing(stem: str, stride: int) -> None:
    classifier = build_with_all_parts(stem, stride)
    lengths = torch.tensor([2, 37, 50, 1, 16])
    inputs = torch.randn(5, 55, 3)
    inputs[torch.arange(55) >= lengths.unsqueeze(1)] = float("nan")  # which nothing may read
    logits, attention, experts = classifier(inputs, lengths)
    assert experts == ()
    assert attention.shape == (5, 55)  # on the original steps
    shuffled = torch.tensor([2, 0, 4, 3, 1])
    again = classifier(inputs[shuffled], lengths[shuffled])
    torch.testing.assert_close(again.logits, logits[shuffled])
    torch.testing.assert_close(again.attention, attention[shuffled])
    for row, length in enumerate(lengths.tolist()):
        alone = classifier(inputs[row : row + 1, :length])
        torch.testing.assert_close(alone.logits[0], logits[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.attention[0], attention[row, :length])
        torch.testing.assert_close(alone.attention.sum(), torch.tensor(1.0))
        assert (attention[row, length:] == 0).all()
    copied = copy.deepcopy(classifier)
    torch.testing.assert_close(copied(inputs, lengths).logits, logits)


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_all_parts_all_backends_agree(backend: str) -> None:
    inputs, lengths = torch.randn(4, 30, 3), [30, 3, 17, 8]
    expected = build_with_all_parts("inception", 4, "naive")(inputs, lengths)
    found = build_with_all_parts("inception", 4, backend)(inputs, lengths)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.attention, expected.attention, atol=1e-5, rtol=1e-5)


def test_the_context_is_that_of_the_poolings_and_of_the_skip_pooling() -> None:
    classifier = build_with_all_parts("conv", 4)
    inputs, lengths = torch.randn(2, 30, 3), [30, 9]
    steps, short = classifier.stem(inputs, lengths)
    outputs, (h_n, _) = classifier.lstm(steps, lengths=short)
    contexts = [
        build_pooling("hn_query", 8, scaled_attention=True)(outputs, h_n, short)[0],
        build_pooling("max", 8)(outputs, h_n, short)[0],
        torch.stack([steps[0].mean(0), steps[1, :3].mean(0)]),
    ]
    expected = classifier.head(torch.cat(contexts, dim=1))
    torch.testing.assert_close(classifier(inputs, lengths).logits, expected)


def test_without_the_other_parts_the_weights_have_the_names_of_older_checkpoints() -> None:
    lstm = LSTM(3, 4, batch_first=True)
    classifier = SequenceClassifier(lstm, build_pooling(["learned_query"], 4), num_classes=2)
    names = [f"lstm.{name}" for name in lstm.state_dict()]
    assert list(classifier.state_dict()) == [*names, "pooling.w", "head.weight", "head.bias"]


@pytest.mark.parametrize("pooling", ["hn_query", "max"])
def test_tokens_go_through_the_embedding(pooling: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, batch_first=True, bidirectional=True)
    embedding = TokenEmbedding(
        7, 3, unknown_id=0, word_dropout=0.5, embedding_dropout=0.5, variational_dropout=0.5
    )
    parts = (lstm, build_pooling(pooling, 8), 5, 0.5)
    classifier = SequenceClassifier(*parts, embedding=embedding).eval()
    tokens, lengths = torch.randint(1, 7, (4, 9)), torch.tensor([2, 7, 9, 1])
    logits, attention, _ = classifier(tokens, lengths)
    vectors = embedding.weight[tokens]  # [batch, time, input]
    without = SequenceClassifier(*parts).eval()
    without.head.load_state_dict(classifier.head.state_dict())
    torch.testing.assert_close(without(vectors, lengths).logits, logits)
    for row, length in enumerate(lengths.tolist()):
        alone = classifier(tokens[row : row + 1, :length])
        torch.testing.assert_close(alone.logits[0], logits[row], atol=1e-6, rtol=1e-5)
        if attention is not None:
            torch.testing.assert_close(alone.attention[0], attention[row, :length])
    padded = tokens.masked_fill(torch.arange(9) >= lengths.unsqueeze(1), 0)  # as in batches
    torch.testing.assert_close(classifier(padded, lengths).logits, logits)


def test_the_embedding_is_trained() -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(7, 3)
    classifier = SequenceClassifier(
        LSTM(3, 4, batch_first=True), build_pooling("hn_query", 4), 2, embedding=embedding
    )
    classifier(torch.tensor([[1, 2, 5], [2, 0, 0]]), torch.tensor([3, 1])).logits.sum().backward()
    has_gradient = embedding.weight.grad.abs().sum(dim=1) > 0
    assert has_gradient.tolist() == [False, True, True, False, False, True, False]  # 0 is padding
    assert classifier.state_dict()["embedding.weight"] is not None
    assert not any(
        name.startswith("embedding")
        for name in SequenceClassifier(
            LSTM(3, 4, batch_first=True), build_pooling("hn_query", 4), 2
        ).state_dict()
    )


@pytest.mark.parametrize("reads_end", [False, True])
@pytest.mark.parametrize("stride", [None, 2])
def test_the_lstm_reads_max_steps_at_one_end(reads_end: bool, stride: int | None) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, batch_first=True, bidirectional=True)
    stem = None if stride is None else build_stem("conv", 3, stride=stride, num_filters=3)
    whole = SequenceClassifier(lstm, build_pooling("hn_query", 8), num_classes=5, stem=stem).eval()
    limited = copy.deepcopy(whole)
    limited.max_steps, limited.reads_end = 4, reads_end
    inputs, lengths = torch.randn(5, 9, 3), [2, 7, 9, 4, 0]
    answer = limited(inputs, lengths)
    for row, length in enumerate(lengths):
        start = max(0, length - 4) if reads_end else 0
        read = slice(start, min(start + 4, length))
        num_read = read.stop - read.start
        expected = whole(inputs[row : row + 1, start : start + 4], [num_read])
        torch.testing.assert_close(answer.logits[row], expected.logits[0])
        torch.testing.assert_close(answer.attention[row, read], expected.attention[0, :num_read])
        assert answer.attention[row].count_nonzero() <= num_read
        if length == 0:
            continue
        alone = limited(inputs[row : row + 1, :length])
        torch.testing.assert_close(alone.logits[0], answer.logits[row])
        torch.testing.assert_close(alone.attention[0], answer.attention[row, :length])


def test_the_expert_reads_steps_that_the_lstm_does_not() -> None:
    lstm, ngrams = LSTM(4, 5, batch_first=True), NgramClassifier(7, 2, 3)
    torch.nn.init.normal_(ngrams.weight)
    parts = lstm, build_pooling("hn_query", 5), 2
    classifier = SequenceClassifier(
        *parts, embedding=TokenEmbedding(7, 4), expert=ngrams, max_steps=2
    ).eval()
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6]])
    (of_lstm, of_ngrams), attention = classifier(ids).experts, classifier(ids).attention
    torch.testing.assert_close(of_lstm[0], of_lstm[1])
    torch.testing.assert_close(of_ngrams, ngrams(ids))
    assert not torch.allclose(of_ngrams[0], of_ngrams[1])
    assert (attention[:, 2:] == 0).all()
    with pytest.raises(ValueError, match="max_steps should be at least 1 or None, got 0"):
        SequenceClassifier(*parts, max_steps=0)


def test_results_are_named() -> None:
    classifier = SequenceClassifier(
        LSTM(3, 4, batch_first=True), build_pooling("mean", 4), num_classes=2
    )
    result = classifier(torch.randn(2, 5, 3))
    assert result.logits.shape == (2, 2)
    assert result.attention is None


def test_batch_first_is_required() -> None:
    with pytest.raises(ValueError, match="batch_first=True"):
        SequenceClassifier(LSTM(3, 4), build_pooling("mean", 4), num_classes=2)
