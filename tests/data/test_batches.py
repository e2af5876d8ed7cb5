import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from attnlstm.data import BucketedBatchSampler, EncodedSplit
from attnlstm.errors import UserError

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=80).map(torch.tensor)


def encoded(lengths):
    """A split whose values are all different and none of them 0."""
    total = int(lengths.sum())
    steps = torch.arange(1, 2 * total + 1, dtype=torch.float32).reshape(total, 2)
    return EncodedSplit(steps, lengths.cumsum(0) - lengths, lengths, torch.arange(len(lengths)) % 3)


@given(lengths=LENGTHS, data=st.data())
def test_collate_against_pad_sequence(lengths, data):
    split = encoded(lengths)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    batch = split.collate(rows)
    sequences = split.steps.split(lengths.tolist())
    expected = pad_sequence([sequences[row] for row in rows], batch_first=True)
    assert torch.equal(batch.inputs, expected)
    assert batch.inputs.dtype == torch.float32
    assert torch.equal(batch.lengths, lengths[rows])
    assert batch.targets.tolist() == [row % 3 for row in rows]
    assert batch.rows.tolist() == rows


def test_collate_leaves_the_split_alone():
    split = encoded(torch.tensor([2, 3]))
    before = split.steps.clone()
    split.collate([0, 1]).inputs.fill_(-1)
    assert torch.equal(split.steps, before)


def test_as_a_torch_dataset():
    split = encoded(torch.tensor([2, 3, 1]))
    assert len(split) == 3
    assert list(split) == [0, 1, 2]
    batches = list(DataLoader(split, batch_size=2, collate_fn=split.collate))
    assert [batch.rows.tolist() for batch in batches] == [[0, 1], [2]]


@given(
    lengths=LENGTHS,
    batch_size=st.integers(1, 9),
    num_replicas=st.integers(1, 4),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 50),
)
def test_every_row_exactly_once(lengths, batch_size, num_replicas, shuffle, seed, epoch):
    if len(lengths) < num_replicas:
        lengths = lengths.repeat(num_replicas)
    ranks = []
    for rank in range(num_replicas):
        sampler = BucketedBatchSampler(
            lengths,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            num_replicas=num_replicas,
        )
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
        assert len(sampler) == len(ranks[rank]) == len(ranks[0])
    batches = [batch for batches in ranks for batch in batches]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    most = batch_size if num_replicas == 1 else batch_size + 1
    assert all(1 <= len(batch) <= most for batch in batches)
    for same_step in zip(*ranks, strict=True):
        sizes = [len(batch) for batch in same_step]
        assert max(sizes) - min(sizes) <= 1


@given(lengths=LENGTHS, batch_size=st.integers(1, 9))
def test_without_shuffle_padding_is_the_least(lengths, batch_size):
    sampler = BucketedBatchSampler(lengths, batch_size, shuffle=False, seed=0)
    rows = [row for batch in sampler for row in batch]
    assert rows == sorted(range(len(lengths)), key=lambda row: lengths[row])  # both are stable
    first = list(sampler)
    sampler.set_epoch(7)
    assert list(sampler) == first


def epochs(seed, number=4, **options):
    lengths = torch.arange(1, 201) % 30 + 1
    sampler = BucketedBatchSampler(lengths, 8, shuffle=True, seed=seed, **options)
    orders = []
    for epoch in range(number):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    return orders


def test_seed_and_epoch_alone_decide():
    first = epochs(seed=5)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert epochs(seed=5) == first
    assert torch.equal(torch.get_rng_state(), state)


def test_every_epoch_and_every_seed_has_its_own_order():
    orders = [order for seed in range(4) for order in epochs(seed)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    composition = [sorted(tuple(sorted(batch)) for batch in order) for order in orders]
    assert all(a != b for i, a in enumerate(composition) for b in composition[:i])


def test_without_set_epoch_the_order_stays():
    sampler = BucketedBatchSampler(torch.arange(1, 40), 4, shuffle=True, seed=0)
    assert list(sampler) == list(sampler)


def test_shuffled_batches_pad_little_and_come_in_any_order():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 200, (3000,), generator=generator)
    batches = list(BucketedBatchSampler(lengths, 16, shuffle=True, seed=0))
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    assert padded < 1.15 * int(lengths.sum())
    longest = torch.tensor([int(lengths[batch].max()) for batch in batches])
    assert 0.35 < (longest.diff() > 0).float().mean() < 0.65


def test_batch_sizes():
    sampler = BucketedBatchSampler(torch.ones(10, dtype=torch.int64), 4, shuffle=True, seed=0)
    assert sorted(map(len, sampler)) == [2, 4, 4]


def test_too_few_rows_for_the_processes():
    with pytest.raises(UserError, match=r"3 rows .* 4 processes"):
        BucketedBatchSampler(torch.ones(3), 2, shuffle=True, seed=0, num_replicas=4)


def test_batches_need_a_size():
    with pytest.raises(UserError, match=r"data\.batch_size=0"):
        BucketedBatchSampler(torch.ones(3), 0, shuffle=True, seed=0)
