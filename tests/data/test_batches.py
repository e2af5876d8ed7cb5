import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from attnlstm.data.batches import BucketedBatchSampler, EncodedSplit, pad
from attnlstm.errors import UserError

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=80).map(torch.tensor)
FEW_LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=15).map(torch.tensor)


def encoded(lengths, step_size=2, chunk=1000):
    """Return a split of token ids or series, and its sequences; no two values are the same."""
    shape = (-1,) if step_size is None else (-1, step_size)
    kind = np.uint16 if step_size is None else np.float32
    sizes = (step_size or 1) * lengths.numpy()
    rows = np.split(np.arange(1, sizes.sum() + 1, dtype=kind), sizes.cumsum()[:-1])
    targets = np.arange(len(rows)) % 3
    batches = [
        pa.record_batch(
            {
                "steps": pa.array(rows[start : start + chunk], pa.list_(pa.from_numpy_dtype(kind))),
            }
        )
        for start in range(0, len(rows), chunk)
    ]
    table = datasets.table.InMemoryTable(pa.Table.from_batches(batches))
    kept = np.int64 if step_size is None else np.float32
    sequences = [torch.from_numpy(row.reshape(shape).astype(kept)) for row in rows]
    return EncodedSplit(datasets.Dataset(table), targets, step_size), sequences


@given(
    lengths=FEW_LENGTHS,
    step_size=st.sampled_from([None, 1, 3]),
    chunk=st.integers(1, 20),
    data=st.data(),
)
def test_collate_against_pad_sequence(lengths, step_size, chunk, data):
    split, sequences = encoded(lengths, step_size, chunk)
    assert split.lengths.tolist() == lengths.tolist()
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    batch = split.collate(rows)
    expected = pad_sequence([sequences[row] for row in rows], batch_first=True)
    assert torch.equal(batch.inputs, expected)
    assert batch.inputs.dtype == (torch.int64 if step_size is None else torch.float32)
    assert torch.equal(batch.lengths, lengths[rows])
    assert batch.targets.tolist() == [row % 3 for row in rows]
    assert batch.rows.tolist() == rows
    for row in rows:
        assert split.steps(row).tolist() == sequences[row].tolist()


def test_collate_does_not_change_the_split():
    split, sequences = encoded(torch.tensor([2, 3]))
    split.collate([0, 1]).inputs.fill_(-1)
    assert [split.steps(row).tolist() for row in (0, 1)] == [row.tolist() for row in sequences]


def test_as_a_torch_dataset():
    split, _ = encoded(torch.tensor([2, 3, 1]))
    assert len(split) == 3
    assert list(split) == [0, 1, 2]
    batches = list(DataLoader(split, batch_size=2, collate_fn=split.collate))
    assert [batch.rows.tolist() for batch in batches] == [[0, 1], [2]]


def test_pad():
    tokens = pad([np.array([5, 6], np.uint16), np.array([7], np.int32)])
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[5, 6], [7, 0]]
    series = pad([np.array([[1.0, 2.0]], np.float32), np.ones((2, 2), np.float32)])
    assert series.dtype == torch.float32
    assert series.tolist() == [[[1, 2], [0, 0]], [[1, 1], [1, 1]]]


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


def test_only_seed_and_epoch_decide():
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


def test_without_set_epoch_the_order_is_the_same():
    sampler = BucketedBatchSampler(torch.arange(1, 40), 4, shuffle=True, seed=0)
    assert list(sampler) == list(sampler)


def test_shuffled_batches_pad_little_and_are_in_random_order():
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


@pytest.mark.parametrize("option", ["batch_size", "batch_tokens"])
def test_batches_need_a_size(option):
    with pytest.raises(UserError, match=rf"data\.{option}=0"):
        BucketedBatchSampler(torch.ones(3), **{"batch_size": 1, option: 0}, shuffle=True, seed=0)


@given(
    lengths=FEW_LENGTHS,
    batch_size=st.integers(1, 9),
    batch_tokens=st.none() | st.integers(1, 60),
)
def test_padding_share(lengths, batch_size, batch_tokens):
    split, _ = encoded(lengths)
    sampler = BucketedBatchSampler(
        lengths, batch_size, shuffle=True, seed=0, batch_tokens=batch_tokens
    )
    inputs = [split.collate(batch).inputs for batch in sampler]
    is_padding = torch.cat([(batch[:, :, 0] == 0).flatten() for batch in inputs])  # no value is 0
    assert sampler.padding_share() == pytest.approx(is_padding.double().mean().item())


# ------------------------------------------------------------------------ with a budget of tokens


@given(
    # long enough that lengths which count as equal are not
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=60).map(torch.tensor),
    batch_tokens=st.integers(1, 1000),
    num_replicas=st.integers(1, 4),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_no_batch_is_over_its_budget(lengths, batch_tokens, num_replicas, shuffle, seed):
    if len(lengths) < num_replicas:
        lengths = lengths.repeat(num_replicas)
    ranks = [
        BucketedBatchSampler(
            lengths,
            1,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            num_replicas=num_replicas,
            batch_tokens=batch_tokens,
        )
        for rank in range(num_replicas)
    ]
    counts = set()
    for epoch in range(3):
        rows, over = [], []
        for sampler in ranks:
            sampler.set_epoch(epoch)
            batches = list(sampler)
            counts |= {len(batches), len(sampler)}
            rows += [row for batch in batches for row in batch]
            for batch in batches:
                assert len(batch) > 0
                padded = len(batch) * int(lengths[batch].max())
                if len(batch) > 1 and padded > batch_tokens:
                    over.append(batch)
        assert sorted(rows) == list(range(len(lengths)))
        # several ranks: a row each of a remainder too small to be a batch for all of them
        assert len(over) < num_replicas
        for batch in over:
            assert (len(batch) - 1) * int(lengths[batch].max()) <= batch_tokens or len(batch) == 2
    assert len(counts) == 1


def test_every_epoch_has_other_batches_of_tokens():
    orders = epochs(seed=5, batch_tokens=100)
    assert epochs(seed=5, batch_tokens=100) == orders
    orders += epochs(seed=6, batch_tokens=100)
    compositions = [sorted(tuple(sorted(batch)) for batch in order) for order in orders]
    for i, composition in enumerate(compositions):
        assert composition not in compositions[:i]
        assert orders[i] not in orders[:i]


def test_batches_of_tokens_are_nearly_full_and_in_random_order():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 200, (3000,), generator=generator)
    sampler = BucketedBatchSampler(lengths, 1, shuffle=True, seed=0, batch_tokens=2000)
    assert len(sampler) < 1.2 * int(lengths.sum()) / 2000
    assert max(len(batch) * int(lengths[batch].max()) for batch in sampler) <= 2000
    assert sampler.padding_share() < 0.1
    longest = torch.tensor([int(lengths[batch].max()) for batch in sampler])
    assert 0.35 < (longest.diff() > 0).float().mean() < 0.65


def test_without_shuffle_batches_of_tokens_are_always_the_same():
    lengths = torch.tensor([3, 9, 1, 9, 4, 20])
    sampler = BucketedBatchSampler(lengths, 1, shuffle=False, seed=0, batch_tokens=18)
    assert list(sampler) == [[5], [1, 3], [4, 0, 2]]
    sampler.set_epoch(7)
    assert list(sampler) == [[5], [1, 3], [4, 0, 2]]


# ------------------------------------------------------------------------- balanced classes

COUNTS = [4000, 900, 90, 10]
CLASSES = torch.repeat_interleave(torch.tensor([2, 0, 5, 1]), torch.tensor(COUNTS))  # none of 3, 4


def balanced(seed=0, epochs=1, num_replicas=1, **options):
    """The batches of each epoch, and of each rank."""
    lengths = torch.arange(len(CLASSES)) * 7919 % 23 + 1
    drawn = []
    for epoch in range(epochs):
        ranks = []
        for rank in range(num_replicas):
            sampler = BucketedBatchSampler(
                lengths,
                10,
                shuffle=True,
                seed=seed,
                rank=rank,
                num_replicas=num_replicas,
                balanced=CLASSES,
                **options,
            )
            sampler.set_epoch(epoch)
            ranks.append(list(sampler))
            assert len(sampler) == len(ranks[-1])
        drawn.append(ranks)
    return drawn


@pytest.mark.parametrize("options", [{}, {"batch_tokens": 150}, {"num_replicas": 2}], ids=str)
def test_balanced_classes_are_equally_frequent(options):
    epochs = balanced(epochs=3, **options)
    assert len({len(batches) for ranks in epochs for batches in ranks}) == 1
    for ranks in epochs:
        rows = torch.tensor([row for batches in ranks for batch in batches for row in batch])
        assert abs(len(rows) / len(CLASSES) - 1) < 0.05
        shares = CLASSES[rows].bincount(minlength=6) / len(rows)
        # 5000 draws: a standard deviation of a share is 0.006
        torch.testing.assert_close(
            shares, torch.tensor([0.25, 0.25, 0.25, 0, 0, 0.25]), atol=0.03, rtol=0
        )


def test_balanced_rows_of_a_class_are_equally_frequent():
    rows = [row for ranks in balanced(epochs=8) for batch in ranks[0] for row in batch]
    counts = torch.tensor(rows).bincount(minlength=len(CLASSES))
    rarest, middle = counts[CLASSES == 1], counts[CLASSES == 0]
    # about 8 * 5000 / 4 draws: 1000 of each of the 10 rows, 11 of each of the 900
    assert ((rarest > 850) & (rarest < 1150)).all()
    assert abs(middle.float().mean() - 11.1) < 0.6
    assert abs(middle.float().var() - 11.1) < 2.5  # Poisson


@pytest.mark.parametrize("options", [{}, {"batch_tokens": 150}], ids=str)
def test_balanced_draws_are_decided_by_seed_and_epoch(options):
    first = balanced(seed=1, epochs=2, **options)
    torch.manual_seed(99)
    assert balanced(seed=1, epochs=2, **options) == first
    assert first[0] != first[1]
    assert balanced(seed=2, epochs=2, **options)[0] != first[0]


@given(lengths=LENGTHS, batch_tokens=st.integers(1, 60), epoch=st.integers(0, 9), data=st.data())
def test_balanced_batches_keep_to_their_budget_and_number(lengths, batch_tokens, epoch, data):
    classes = data.draw(
        st.lists(st.integers(0, 2), min_size=len(lengths), max_size=len(lengths)).map(torch.tensor)
    )
    options = {"shuffle": True, "seed": 0, "batch_tokens": batch_tokens}
    sampler = BucketedBatchSampler(lengths, 1, **options, balanced=classes)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler) == len(BucketedBatchSampler(lengths, 1, **options))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * int(lengths[batch].max()) <= batch_tokens
