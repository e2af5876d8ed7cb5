import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from attnlstm.data import SeriesEncoder, load_archive
from attnlstm.errors import UserError


@pytest.fixture(scope="session")
def random_rows(make_rows):
    def make(lengths, channels=3, seed=0, scale=5.0, offset=2.0):
        generator = np.random.default_rng(seed)
        series = [
            (generator.normal(size=(length, channels)) * scale + offset).tolist()
            for length in lengths
        ]
        return make_rows(series, ["a"] * len(lengths))

    return make


def steps_of(rows):
    return np.concatenate([np.float32(series) for series in rows["series"]])


@given(
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    channels=st.integers(1, 4),
    seed=st.integers(0, 100),
)
def test_against_scikit_learn(random_rows, lengths, channels, seed):
    train, other = random_rows(lengths, channels, seed), random_rows(lengths, channels, seed + 1)
    scaler = StandardScaler().fit(steps_of(train).astype(np.float64))
    encoder = SeriesEncoder.fit(train)
    assert encoder.num_channels == channels
    np.testing.assert_allclose(encoder.mean, scaler.mean_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(encoder.std, scaler.scale_, rtol=1e-9, atol=1e-12)
    for rows in (train, other):
        expected = scaler.transform(steps_of(rows).astype(np.float64))
        found = encoder.encode(rows).steps
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_rows_lengths_and_targets(make_rows):
    rows = make_rows([[[1, 2], [3, 4], [5, 6]], [[7, 8]]], ["b", "a"])
    split = SeriesEncoder.fit(rows, normalize=False).encode(rows)
    assert split.steps.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert split.lengths.tolist() == [3, 1]
    assert split.offsets.tolist() == [0, 3]
    assert split.targets.tolist() == [1, 0]
    assert split.lengths.dtype == split.offsets.dtype == split.targets.dtype == torch.int64


def test_a_selection_of_rows_is_encoded_in_its_order(random_rows):
    rows = random_rows([3, 1, 4, 2]).select([2, 0, 3])
    split = SeriesEncoder.fit(rows, normalize=False).encode(rows)
    assert split.lengths.tolist() == [4, 3, 2]
    np.testing.assert_array_equal(split.steps, steps_of(rows))


def test_constant_channels_become_zero(make_rows):
    rows = make_rows([[[0.1, step] for step in range(7)]] * 3, ["a"] * 3)
    encoder = SeriesEncoder.fit(rows)
    assert encoder.std[0] == 1
    steps = encoder.encode(rows).steps
    assert (steps[:, 0] == 0).all()
    np.testing.assert_allclose(steps[:, 1].std(unbiased=False), 1, rtol=1e-6)


def test_small_changes_on_a_large_offset_survive(make_rows):
    rows = make_rows([[[2.0**20 + step / 4] for step in range(64)]], ["a"])
    steps = SeriesEncoder.fit(rows).encode(rows).steps.double()
    np.testing.assert_allclose(steps.mean(), 0, atol=1e-6)
    np.testing.assert_allclose(steps.std(unbiased=False), 1, rtol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_round_trip_is_exact(random_rows, normalize):
    rows = random_rows([5, 9], scale=1 / 3)
    encoder = SeriesEncoder.fit(rows, normalize)
    state = json.loads(json.dumps(encoder.to_dict()))
    assert state["kind"] == "series"
    again = SeriesEncoder.from_dict(state)
    assert torch.equal(again.mean, encoder.mean)
    assert torch.equal(again.std, encoder.std)
    assert torch.equal(again.encode(rows).steps, encoder.encode(rows).steps)


def test_other_channels_are_refused(random_rows):
    encoder = SeriesEncoder.fit(random_rows([4], channels=12))
    with pytest.raises(UserError, match="6 channels, the model was trained on 12"):
        encoder.encode(random_rows([4], channels=6))


def test_an_archive_set():
    train = load_archive("JapaneseVowels")["train"]
    split = SeriesEncoder.fit(train).encode(train)
    assert len(split) == 270
    assert split.lengths.sum() == len(split.steps) == sum(map(len, train["series"]))
    np.testing.assert_allclose(split.steps.double().mean(dim=0), 0, atol=1e-6)
    np.testing.assert_allclose(split.steps.double().std(dim=0, unbiased=False), 1, rtol=1e-6)
