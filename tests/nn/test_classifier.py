"""The classifier composes its parts, and padding never changes what it says."""

import itertools

import pytest
import torch

from attnlstm.nn import LSTM, SequenceClassifier, TokenEmbedding, build_pooling
from attnlstm.nn.backends import BACKENDS


@pytest.mark.parametrize(
    ("backend", "pooling"),
    list(
        itertools.product(["auto", *BACKENDS], ["hn_query", "learned_query", "last_state", "max"])
    ),
)
def test_company_and_padding_change_nothing(backend: str, pooling: str) -> None:
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
    padded = tokens.masked_fill(torch.arange(9) >= lengths.unsqueeze(1), 0)  # as batches have it
    torch.testing.assert_close(classifier(padded, lengths).logits, logits)


def test_the_embedding_is_trained_with_the_rest() -> None:
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


def test_results_are_named() -> None:
    classifier = SequenceClassifier(
        LSTM(3, 4, batch_first=True), build_pooling("mean", 4), num_classes=2
    )
    result = classifier(torch.randn(2, 5, 3))
    assert result.logits.shape == (2, 2)
    assert result.attention is None


def test_batch_first_is_needed() -> None:
    with pytest.raises(ValueError, match="batch_first=True"):
        SequenceClassifier(LSTM(3, 4), build_pooling("mean", 4), num_classes=2)


def test_importing_the_modules_imports_neither_lightning_nor_hydra_nor_datasets() -> None:
    import subprocess
    import sys

    code = (
        "import sys, attnlstm.nn;"
        "assert not {'lightning', 'hydra', 'datasets', 'omegaconf'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
