"""The embedding is a table; its three dropouts and its frozen vectors do what they say."""

import io
import math

import pytest
import torch
from torch import nn

from attnlstm.nn.embedding import TokenEmbedding

IDS = torch.tensor([[3, 1, 4, 1], [5, 2, 6, 5]])


def build(seed=0, **options):
    torch.manual_seed(seed)
    return TokenEmbedding(8, 5, **options)


def test_it_is_a_table():
    embedding = build(
        unknown_id=0, word_dropout=0.5, embedding_dropout=0.5, variational_dropout=0.5
    )
    reference = nn.Embedding(8, 5)
    reference.weight = embedding.weight
    assert torch.equal(embedding.eval()(IDS), reference(IDS))
    assert torch.equal(embedding(IDS.int()), reference(IDS))
    assert torch.equal(build().train()(IDS), reference(IDS))
    assert embedding(IDS[:0]).shape == (0, 4, 5)
    assert embedding(IDS[:, :0]).shape == (2, 0, 5)


def test_initial_values_are_a_tenth_of_those_of_nn_embedding():
    torch.manual_seed(0)
    expected = nn.Embedding(8, 5).weight / 10
    torch.testing.assert_close(build().weight, expected)


@pytest.mark.parametrize("unknown_id", [0, None])
def test_word_dropout_makes_tokens_unknown(unknown_id):
    embedding = build(unknown_id=unknown_id, word_dropout=0.3)
    ids = torch.randint(1, 8, (100, 200))
    vectors = embedding(ids)
    gone = torch.zeros(5) if unknown_id is None else embedding.weight[unknown_id]
    is_dropped = (vectors == gone).all(-1)
    assert torch.equal(vectors[~is_dropped], embedding.weight[ids[~is_dropped]])
    # the mean of 20,000 draws: within five standard errors
    assert abs(is_dropped.float().mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 20_000)
    by_step = is_dropped.float().mean(0)
    assert by_step.min() > 0  # drawn for each step
    assert by_step.max() < 1
    if unknown_id is None:
        vectors.sum().backward()
        counts = torch.bincount(ids[~is_dropped], minlength=8).float()
        assert torch.equal(embedding.weight.grad, counts[:, None].expand(8, 5))


def test_embedding_dropout_drops_words_for_the_batch():
    embedding = build(embedding_dropout=0.4)
    ids = torch.arange(8).repeat(3, 2)  # [3, 16]
    mean, draws = torch.zeros(3, 16, 5), 2000
    dropped_words = torch.zeros(8)
    for _ in range(draws):
        vectors = embedding(ids).detach()
        ratio = vectors / embedding.weight[ids]  # 0 or 1 / (1 - p)
        assert torch.equal(ratio[..., :1].expand(3, 16, 5) == 0, ratio == 0)
        is_dropped = ratio[0, :8, 0] == 0
        assert torch.equal(is_dropped.repeat(3, 2), ratio[..., 0] == 0)
        torch.testing.assert_close(ratio[ratio != 0], torch.full_like(ratio[ratio != 0], 1 / 0.6))
        dropped_words += is_dropped
        mean += vectors / draws
    standard_error = math.sqrt(0.4 * 0.6 / draws)
    assert (dropped_words / draws - 0.4).abs().max() < 5 * standard_error
    expected = embedding.weight[ids].detach()
    bound = 5 * standard_error / 0.6 * expected.abs()
    assert ((mean - expected).abs() <= bound + 1e-6).all()


def test_variational_dropout_drops_features_of_a_sequence():
    embedding = build(variational_dropout=0.25)
    ids = torch.randint(8, (400, 6))
    vectors = embedding(ids)
    ratio = vectors / embedding.weight[ids]
    assert torch.equal(ratio[:, :1].expand_as(ratio) == 0, ratio == 0)  # at all steps
    torch.testing.assert_close(ratio[ratio != 0], torch.full_like(ratio[ratio != 0], 1 / 0.75))
    share = (ratio[:, 0] == 0).float()  # [400, 5], drawn for each sequence
    assert abs(share.mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 2000)
    assert share.std(0).min() > 0
    assert share.std(1).max() > 0


def test_dropout_is_determined_by_the_seed():
    embedding = build(
        unknown_id=0, word_dropout=0.5, embedding_dropout=0.5, variational_dropout=0.5
    )
    torch.manual_seed(1)
    first = embedding(IDS)
    second = embedding(IDS)
    torch.manual_seed(1)
    assert torch.equal(embedding(IDS), first)
    assert not torch.equal(first, second)


def test_the_unknown_token_can_be_dropped_too():
    embedding = build(unknown_id=0, word_dropout=1.0, embedding_dropout=0.5)
    outcomes = {embedding(IDS).abs().sum().item() > 0 for _ in range(50)}
    assert outcomes == {True, False}


def test_gradients_are_those_of_nn_embedding():
    embedding = build()
    reference = nn.Embedding(8, 5)
    reference.load_state_dict({"weight": embedding.weight})
    for module in (embedding, reference):
        module(IDS).square().sum().backward()
    assert torch.equal(embedding.weight.grad, reference.weight.grad)


FOUND = torch.tensor([6, 1, 2])
VECTORS = torch.arange(15.0).reshape(3, 5)


def train_a_step(embedding, optimizer):
    optimizer.zero_grad()
    (embedding(torch.arange(8).unsqueeze(0)) - 9).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("optimizer_class", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adam])
def test_pretrained_vectors(freeze, optimizer_class):
    embedding = build(unknown_id=0)
    drawn = embedding.weight.detach().clone()
    embedding.copy_vectors(FOUND, VECTORS, freeze=freeze)
    others = torch.tensor([0, 3, 4, 5, 7])
    assert torch.equal(embedding(FOUND.unsqueeze(0))[0], VECTORS)
    assert torch.equal(embedding(others.unsqueeze(0))[0], drawn[others])
    optimizer = optimizer_class(embedding.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        train_a_step(embedding, optimizer)
    found = embedding(FOUND.unsqueeze(0))[0]
    assert torch.equal(found, VECTORS) == freeze  # even by weight decay
    assert (embedding(others.unsqueeze(0))[0] != drawn[others]).all()


def test_word_dropout_of_frozen_vectors():
    embedding = build(unknown_id=0, word_dropout=1.0)
    embedding.copy_vectors(FOUND, VECTORS, freeze=True)
    assert torch.equal(embedding(FOUND.unsqueeze(0))[0], embedding.weight[[0, 0, 0]])


def test_frozen_vectors_survive_a_checkpoint():
    embedding = build()
    embedding.copy_vectors(FOUND, VECTORS, freeze=True)
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=0.1)
    train_a_step(embedding, optimizer)
    file = io.BytesIO()
    torch.save({"model": embedding.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    restored = build(seed=1)
    restored_optimizer = torch.optim.AdamW(restored.parameters(), lr=0.1)
    nn.ModuleDict({"embedding": restored}).load_state_dict(
        {f"embedding.{name}": value for name, value in saved["model"].items()}
    )
    restored_optimizer.load_state_dict(saved["optimizer"])
    for _ in range(2):
        assert torch.equal(restored(IDS), embedding(IDS))
        assert torch.equal(restored(FOUND.unsqueeze(0))[0], VECTORS)
        train_a_step(embedding, optimizer)
        train_a_step(restored, restored_optimizer)
    # back to a table without frozen vectors
    restored.load_state_dict(build(seed=2).state_dict())
    assert torch.equal(restored(IDS), build(seed=2)(IDS))


def test_the_state_of_another_table_is_rejected():
    embedding = build()
    embedding.copy_vectors(FOUND, VECTORS, freeze=True)
    with pytest.raises(RuntimeError, match="size mismatch for frozen_vectors"):
        TokenEmbedding(8, 6).load_state_dict(embedding.state_dict())
    state = embedding.state_dict() | {"frozen_vectors": torch.tensor(1.0)}
    with pytest.raises(RuntimeError, match="size mismatch for frozen_vectors"):
        build().load_state_dict(state)


def test_a_second_call_replaces_the_frozen_vectors():
    embedding = build()
    embedding.copy_vectors(FOUND, VECTORS, freeze=True)
    embedding.copy_vectors(torch.tensor([7]), torch.ones(1, 5), freeze=False)
    assert torch.equal(embedding(FOUND.unsqueeze(0))[0], VECTORS)
    embedding(IDS).sum().backward()
    assert (embedding.weight.grad[FOUND] != 0).all()


def test_it_runs_with_deterministic_algorithms():
    embedding = build(
        unknown_id=0, word_dropout=0.2, embedding_dropout=0.2, variational_dropout=0.2
    )
    embedding.copy_vectors(FOUND, VECTORS, freeze=True)
    torch.use_deterministic_algorithms(True)
    try:
        embedding(IDS).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unknown_id": 8}, "unknown_id"),
        ({"unknown_id": -1}, "unknown_id"),
        ({"word_dropout": 1.5}, "word_dropout"),
        ({"embedding_dropout": -0.1}, "embedding_dropout"),
        ({"variational_dropout": True}, "variational_dropout"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_vectors_must_fit():
    with pytest.raises(ValueError, match="Expected vectors of size"):
        build().copy_vectors(FOUND, torch.zeros(3, 4), freeze=False)
    with pytest.raises(ValueError, match="Expected vectors of size"):
        build().copy_vectors(FOUND, torch.zeros(2, 5), freeze=False)
