"""The n-gram classifier against a plain loop, and its idf against scikit-learn's."""

import copy
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnlstm.nn import (
    LSTM,
    ClassifierEnsemble,
    NgramClassifier,
    SequenceClassifier,
    TokenEmbedding,
    build_pooling,
)

TOKENS, BUCKETS, CLASSES = 11, 7, 3


def make_ngrams(num_buckets: int = BUCKETS, sublinear_tf: bool = True) -> NgramClassifier:
    """Return a classifier in float64 with random weights and idf."""
    torch.manual_seed(0)
    ngrams = NgramClassifier(TOKENS, CLASSES, num_buckets, sublinear_tf).double()
    with torch.no_grad():
        for tensor in (ngrams.weight, ngrams.bias, ngrams.idf):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return ngrams


def rows_of(text: list[int], num_buckets: int = BUCKETS) -> list[int]:
    """Return the rows of all n-grams of a text: first its tokens, then its pairs."""
    pairs = [
        TOKENS + (first * 1_000_003 + second * 7_919) % num_buckets
        for first, second in itertools.pairwise(text)
    ]
    return [*text, *pairs]


def classify_plainly(ngrams: NgramClassifier, text: list[int]) -> Tensor:
    """Compute the logits `[class]` by the formula, one n-gram at a time."""
    rows = rows_of(text)
    terms = [(row, 1.0) for row in rows]
    if ngrams.sublinear_tf:
        terms = [(row, 1 + np.log(count)) for row, count in Counter(rows).items()]
    scores = [(row, tf * float(ngrams.idf[row])) for row, tf in terms]
    norm = np.sqrt(sum(score**2 for _, score in scores))
    logits = ngrams.bias.clone()
    for row, score in scores:
        logits = logits + score / norm * ngrams.weight[row]
    return logits


TEXTS = st.lists(
    st.lists(st.integers(0, TOKENS - 1), min_size=0, max_size=9), min_size=1, max_size=5
)


def pad_texts(texts: list[list[int]], padding: int = 0, fill: int = 0) -> Tensor:
    time = max(map(len, texts)) + padding
    rows = [text + [fill] * (time - len(text)) for text in texts]
    return torch.tensor(rows, dtype=torch.int64).view(len(texts), time)


@settings(deadline=None, max_examples=50)
@given(
    texts=TEXTS,
    padding=st.integers(0, 4),
    fill=st.integers(0, TOKENS - 1),
    sublinear_tf=st.booleans(),
)
def test_the_logits_follow_the_formula_with_any_padding(
    texts: list[list[int]], padding: int, fill: int, sublinear_tf: bool
) -> None:
    ngrams = make_ngrams(sublinear_tf=sublinear_tf)
    logits = ngrams(pad_texts(texts, padding, fill), list(map(len, texts)))
    for found, text in zip(logits, texts, strict=True):
        torch.testing.assert_close(found, classify_plainly(ngrams, text))


def test_one_token_has_no_pair_and_an_empty_text_has_only_the_bias() -> None:
    ngrams = make_ngrams()
    logits = ngrams(torch.tensor([[4], [5]]), [1, 0])
    torch.testing.assert_close(logits[0], ngrams.weight[4] + ngrams.bias)
    torch.testing.assert_close(logits[1], ngrams.bias)
    logits.sum().backward()
    assert ngrams.weight.grad is not None
    assert ngrams.weight.grad.isfinite().all()


def test_the_order_of_a_pair_matters() -> None:
    ngrams = make_ngrams(num_buckets=1000)
    one, other = ngrams(torch.tensor([[1, 2], [2, 1]]))
    assert not torch.allclose(one, other)
    assert rows_of([1, 2], 1000)[2] != rows_of([2, 1], 1000)[2]


def test_the_idf_equals_scikit_learns() -> None:
    from sklearn.feature_extraction.text import TfidfTransformer

    generator = np.random.default_rng(0)
    sizes = (1, 9, 4, 0, 6, 12)
    texts = [generator.integers(0, TOKENS - 2, size).astype(np.int32) for size in sizes]
    ngrams = NgramClassifier(TOKENS, CLASSES, BUCKETS).double()
    ngrams.fit_idf(texts)
    counts = np.zeros((len(texts), TOKENS + BUCKETS))
    for row, text in enumerate(texts):
        for ngram in rows_of(text.tolist()):
            counts[row, ngram] += 1
    expected = TfidfTransformer().fit(counts).idf_
    torch.testing.assert_close(ngrams.idf, torch.from_numpy(expected))
    assert ngrams.idf[TOKENS - 1] == np.log(1 + len(texts)) + 1  # in no text


def test_only_rows_that_occur_get_a_gradient() -> None:
    ngrams = make_ngrams()
    texts = [[3, 4, 3], [8]]
    ngrams(pad_texts(texts), [3, 1]).square().sum().backward()
    assert ngrams.weight.grad is not None
    moved = ngrams.weight.grad.abs().sum(dim=1).nonzero().squeeze(1).tolist()
    assert moved == sorted(
        {row for text in texts for row in rows_of(text)}
    )  # without 0, the padding
    assert not ngrams.idf.requires_grad


def test_without_lengths_there_is_no_padding() -> None:
    ngrams, ids = make_ngrams(), torch.randint(TOKENS, (2, 5))
    torch.testing.assert_close(ngrams(ids), ngrams(ids, [5, 5]))


@pytest.mark.parametrize("lengths", [[2], [6, 1], [-1, 1], [1.0, 2.0]], ids=str)
def test_wrong_lengths_are_rejected(lengths: list) -> None:
    with pytest.raises(ValueError, match="lengths"):
        make_ngrams()(torch.zeros(2, 5, dtype=torch.int64), lengths)


def test_pairs_need_at_least_one_row() -> None:
    with pytest.raises(ValueError, match="num_buckets should be at least 1, got 0"):
        NgramClassifier(5, 2, 0)


def test_the_logits_are_the_mean_of_the_experts_logits() -> None:
    torch.manual_seed(0)
    lstm = LSTM(4, 5, batch_first=True, bidirectional=True)
    parts = lstm, build_pooling(["hn_query", "max"], 10), CLASSES
    embedding, ngrams = TokenEmbedding(TOKENS, 4), make_ngrams().float()
    both = SequenceClassifier(*parts, embedding=embedding, expert=ngrams).eval()
    alone = copy.deepcopy(both)
    alone.expert = None
    texts = [[3, 4, 3, 7], [8], [1, 1]]
    ids, lengths = pad_texts(texts, padding=2), [4, 1, 2]
    answer = both(ids, lengths)
    of_lstm, of_ngrams = answer.experts
    torch.testing.assert_close(of_lstm, alone(ids, lengths).logits)
    torch.testing.assert_close(of_ngrams, ngrams(ids, lengths))
    torch.testing.assert_close(answer.logits, (of_lstm + of_ngrams) / 2)
    assert alone(ids, lengths).experts == ()
    for row, text in enumerate(texts):
        one = both(torch.tensor([text]))
        torch.testing.assert_close(one.logits[0], answer.logits[row])
        torch.testing.assert_close(one.attention[0], answer.attention[row, : len(text)])


def test_an_ensemble_computes_shared_ngrams_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    members = []
    for _ in range(3):
        ngrams = make_ngrams().float()
        torch.nn.init.normal_(ngrams.weight)
        parts = LSTM(4, 5, batch_first=True), build_pooling("hn_query", 5), CLASSES
        embedding = TokenEmbedding(TOKENS, 4)
        members.append(SequenceClassifier(*parts, embedding=embedding, expert=ngrams).eval())
    ids, lengths = pad_texts([[3, 4, 3, 7], [8]]), [4, 1]
    alone = [member(ids, lengths).logits.softmax(dim=1) for member in members]
    calls = []
    features = NgramClassifier.features
    monkeypatch.setattr(
        NgramClassifier, "features", lambda self, *args: calls.append(1) or features(self, *args)
    )
    ensemble = ClassifierEnsemble(members).eval()
    torch.testing.assert_close(ensemble(ids, lengths).logits.exp(), torch.stack(alone).mean(dim=0))
    assert len(calls) == 1
    members[1].expert.idf[3] += 1  # now its features differ, and none are shared
    ensemble(ids, lengths)
    assert len(calls) == 4
