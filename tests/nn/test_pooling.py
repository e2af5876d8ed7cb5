"""Poolings against the documents' formulas and against sequences pooled alone."""

import pytest
import torch
from torch import Tensor, nn

from attnlstm.nn import (
    LSTM,
    HnQueryAttention,
    LastState,
    LearnedQueryAttention,
    MaxPooling,
    MeanPooling,
    Pooling,
    SideBySide,
    build_pooling,
)

LENGTHS = torch.tensor([3, 5, 1])


def learned_query() -> LearnedQueryAttention:
    pooling = LearnedQueryAttention(8)
    nn.init.normal_(pooling.w)
    return pooling


POOLINGS = [
    HnQueryAttention(),
    HnQueryAttention(scaled=True),
    learned_query(),
    LastState(),
    MeanPooling(),
    MaxPooling(),
    SideBySide([MaxPooling(), learned_query(), HnQueryAttention()]),
]


@pytest.fixture
def lstm() -> LSTM:
    torch.manual_seed(0)
    return LSTM(3, 4, 2, batch_first=True, bidirectional=True)


def test_hn_query_is_the_documents_three_lines() -> None:
    torch.manual_seed(0)
    outputs, (h_n, _) = LSTM(3, 4, batch_first=True)(torch.randn(2, 5, 3))
    scores = torch.bmm(outputs, h_n.squeeze(0).unsqueeze(2)).squeeze(2)
    weights = torch.softmax(scores, dim=1)
    expected = torch.bmm(weights.unsqueeze(1), outputs).squeeze(1)
    context, attention = HnQueryAttention()(outputs, h_n)
    torch.testing.assert_close(attention, weights)
    torch.testing.assert_close(context, expected)


def test_scaled_divides_the_scores_by_sqrt_d() -> None:
    torch.manual_seed(0)
    outputs, (h_n, _) = LSTM(3, 4, batch_first=True)(torch.randn(2, 5, 3))
    scores = torch.einsum("btf,bf->bt", outputs, h_n[-1])
    _, attention = HnQueryAttention(scaled=True)(outputs, h_n)
    torch.testing.assert_close(attention, torch.softmax(scores / 2, dim=1))


def test_hn_query_takes_both_directions_of_the_last_layer(lstm: LSTM) -> None:
    outputs, (h_n, _) = lstm(torch.randn(2, 5, 3))
    query = torch.cat([h_n[2], h_n[3]], dim=1)
    _, attention = HnQueryAttention()(outputs, h_n)
    torch.testing.assert_close(attention, torch.einsum("btf,bf->bt", outputs, query).softmax(1))
    torch.testing.assert_close(LastState()(outputs, h_n)[0], query)


def test_learned_query_is_softmax_of_tanh_outputs_dot_w(lstm: LSTM) -> None:
    pooling = learned_query()
    outputs, (h_n, _) = lstm(torch.randn(2, 5, 3))
    weights = torch.softmax(torch.tanh(outputs) @ pooling.w, dim=1)
    context, attention = pooling(outputs, h_n)
    torch.testing.assert_close(attention, weights)
    torch.testing.assert_close(context, (weights.unsqueeze(2) * outputs).sum(1))


@pytest.mark.parametrize("pooling", POOLINGS, ids=repr)
def test_padding_changes_nothing(pooling: Pooling, lstm: LSTM) -> None:
    inputs = torch.randn(3, 5, 3)
    outputs, (h_n, _) = lstm(inputs, lengths=LENGTHS)
    outputs[torch.arange(5) >= LENGTHS.unsqueeze(1)] = float("nan")  # which nothing may read
    context, attention = pooling(outputs, h_n, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, (h_alone, _) = lstm(inputs[row : row + 1, :length])
        context_alone, attention_alone = pooling(alone, h_alone)
        torch.testing.assert_close(context[row], context_alone[0])
        assert (attention is None) == (attention_alone is None)
        if attention is not None:
            torch.testing.assert_close(attention[row, :length], attention_alone[0])
            assert (attention[row, length:] == 0).all()


@pytest.mark.parametrize("pooling", POOLINGS, ids=repr)
def test_an_empty_sequence_gives_zeros_and_no_nan(pooling: Pooling, lstm: LSTM) -> None:
    lengths = torch.tensor([0, 5])
    inputs = torch.randn(2, 5, 3, requires_grad=True)
    outputs, (h_n, _) = lstm(inputs, (torch.ones(4, 2, 4), torch.ones(4, 2, 4)), lengths=lengths)
    context, attention = pooling(outputs, h_n, lengths)
    assert (context[0] == 0).all()
    assert attention is None or (attention[0] == 0).all()
    context.sum().backward()
    gradients = [inputs.grad, *(p.grad for p in [*lstm.parameters(), *pooling.parameters()])]
    assert all(g is None or g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("pooling", POOLINGS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtypes(pooling: Pooling, dtype: torch.dtype) -> None:
    outputs, h_n = torch.randn(3, 5, 8, dtype=dtype), torch.randn(2, 3, 4, dtype=dtype)
    context, attention = pooling.to(dtype)(outputs, h_n, LENGTHS)
    pooling.float()
    assert context.dtype == dtype
    if attention is not None:  # bfloat16 weights would not sum to 1
        assert attention.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(attention.sum(1), torch.ones_like(attention[:, 0]))


@pytest.mark.parametrize("pooling", POOLINGS, ids=repr)
@pytest.mark.parametrize("lengths", [[2], [6, 1, 1], [-1, 1, 1], [1.0, 2.0, 3.0]])
def test_wrong_lengths_are_rejected(pooling: Pooling, lengths: list) -> None:
    with pytest.raises(ValueError, match="lengths"):
        pooling(torch.randn(3, 5, 8), torch.randn(2, 3, 4), lengths)


def test_half_precision_scores_do_not_overflow() -> None:
    outputs, h_n = torch.full((1, 3, 8), 100.0).half(), torch.full((1, 1, 8), 100.0).half()
    context, attention = HnQueryAttention()(outputs, h_n)
    torch.testing.assert_close(attention, torch.full((1, 3), 1 / 3))
    torch.testing.assert_close(context, outputs[:, 0], atol=0.1, rtol=0)


def test_large_scores_do_not_overflow() -> None:
    outputs = torch.full((1, 4, 8), 200.0)
    outputs[0, 2] = 201.0
    h_n = torch.full((2, 1, 4), 300.0)
    context, attention = HnQueryAttention()(outputs, h_n, torch.tensor([4]))
    torch.testing.assert_close(attention, torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
    torch.testing.assert_close(context, outputs[:, 2])


@pytest.mark.parametrize("name", ["hn_query", "learned_query", "last_state", "mean", "max"])
def test_every_pooling_is_built_by_name(name: str) -> None:
    outputs, h_n = torch.randn(3, 5, 8), torch.randn(2, 3, 4)
    context: Tensor = build_pooling(name, 8)(outputs, h_n, LENGTHS)[0]
    assert context.shape == (3, 8)


def test_several_poolings_are_concatenated() -> None:
    outputs, h_n = torch.randn(3, 5, 8), torch.randn(2, 3, 4)
    names = ["max", "hn_query", "mean", "learned_query"]
    pooling = build_pooling(names, 8, scaled_attention=True)
    context, attention = pooling(outputs, h_n, LENGTHS)
    assert pooling.context_size(8) == context.size(1) == 32
    alone = [build_pooling(name, 8, scaled_attention=True)(outputs, h_n, LENGTHS) for name in names]
    torch.testing.assert_close(context, torch.cat([one[0] for one in alone], dim=1))
    torch.testing.assert_close(attention, alone[1][1])  # that of the first pooling that has one
    without, none = build_pooling(["max", "mean"], 8)(outputs, h_n, LENGTHS)
    assert (without.shape, none) == ((3, 16), None)


@pytest.mark.parametrize("names", [[], ["mean", "mean"], ["mean", "men"], "men"], ids=str)
def test_impossible_poolings_are_rejected(names: list[str] | str) -> None:
    with pytest.raises(ValueError, match="pooling should be one"):
        build_pooling(names, 8)
