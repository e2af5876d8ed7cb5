import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.sources.archive import ArchiveRows
from attnlstm.errors import UserError


def random_series(lengths, channels=3, seed=0, scale=5.0, offset=2.0):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(length, channels)) * scale + offset for length in lengths]


@given(
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    channels=st.integers(1, 4),
    seed=st.integers(0, 100),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_against_scikit_learn(lengths, channels, seed, dtype):
    train, other = (
        [steps.astype(dtype) for steps in random_series(lengths, channels, number)]
        for number in (seed, seed + 1)
    )
    scaler = StandardScaler().fit(np.concatenate(train).astype(np.float64))
    encoder = SeriesEncoder.fit(iter(train))
    assert encoder.num_channels == channels
    np.testing.assert_allclose(encoder.mean, scaler.mean_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(encoder.std, scaler.scale_, rtol=1e-9, atol=1e-12)
    for series in (train, other):
        encoded = encoder.encode(series)
        assert [len(steps) for steps in encoded] == lengths
        for found, steps in zip(encoded, series, strict=True):
            assert found.dtype == np.float32
            expected = scaler.transform(steps.astype(np.float64))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@given(cuts=st.sets(st.integers(1, 59)))
def test_the_statistics_do_not_depend_on_where_series_end(cuts):
    (steps,) = random_series([60], scale=1.0, offset=1e6)
    pieces = [steps[start:stop] for start, stop in pairwise([0, *sorted(cuts), 60])]
    encoder = SeriesEncoder.fit(pieces)
    np.testing.assert_allclose(encoder.mean, steps.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(encoder.std, steps.std(axis=0), rtol=1e-8)


def with_gaps(series, share=0.3, seed=1):
    generator = np.random.default_rng(seed)
    return [np.where(generator.random(steps.shape) < share, np.nan, steps) for steps in series]


def test_statistics_are_of_the_values_that_are_not_missing():
    train = with_gaps(random_series([9, 4, 7]))
    train[1][:, 2] = np.nan  # a series without a channel
    steps = np.concatenate(train)
    for missing in ("interpolate", "mask"):
        encoder = SeriesEncoder.fit(train, missing=missing)
        np.testing.assert_allclose(encoder.mean, np.nanmean(steps, axis=0))
        np.testing.assert_allclose(encoder.std, np.nanstd(steps, axis=0))


def test_missing_values_are_interpolated():
    train = with_gaps(random_series([9, 14, 7]))
    encoder = SeriesEncoder.fit(train, missing="interpolate")
    assert encoder.num_features == encoder.num_channels == 3
    mean, std = encoder.mean.numpy(), encoder.std.numpy()
    for found, steps in zip(encoder.encode(train), train, strict=True):
        filled = pd.DataFrame(steps).interpolate(limit_direction="both").to_numpy()
        np.testing.assert_allclose(found, (filled - mean) / std, rtol=1e-5, atol=1e-5)


def test_missing_values_are_marked():
    train = [steps.copy() for steps in random_series([9, 14, 7])]
    train[0][2:5, 0] = train[2][1, 2] = np.nan
    encoder = SeriesEncoder.fit(train, missing="mask")
    assert encoder.masked_channels == [0, 2]
    assert (encoder.num_channels, encoder.num_features) == (3, 5)
    again = SeriesEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    complete = SeriesEncoder(encoder.mean, encoder.std)
    other = random_series([5], seed=7)
    other[0][0] = np.nan  # channel 1 has no mark, as training had no gaps there
    for series in (train, other):
        for found, steps in zip(again.encode(series), series, strict=True):
            is_missing = np.isnan(steps)
            (expected,) = complete.encode([np.where(is_missing, 0, steps)])
            np.testing.assert_array_equal(found[:, :3], np.where(is_missing, 0, expected))
            np.testing.assert_array_equal(found[:, 3:], is_missing[:, [0, 2]])


def test_a_channel_without_any_value():
    series = [np.array([[1.0, np.nan], [3.0, np.nan]])]
    encoder = SeriesEncoder.fit(series, missing="mask")
    assert (encoder.mean.tolist(), encoder.std.tolist()) == ([2, 0], [1, 1])
    assert encoder.encode(series)[0].tolist() == [[-1, 0, 1], [1, 0, 1]]


@pytest.mark.parametrize(
    "changes",
    [
        {"missing": "guess"},
        {"axes": "time,row"},
        {"masked_channels": [3]},
        {"masked_channels": [0, 0]},
        {"masked_channels": None},
    ],
)
def test_manipulated_states(changes):
    state = SeriesEncoder.fit(random_series([4])).to_dict()
    with pytest.raises(ValueError, match=r"its missing or axes|its masked_channels"):
        SeriesEncoder.from_dict(state | changes)


def test_without_normalizing_values_do_not_change():
    series = [np.array([[1, 2], [3, 4], [5, 6]]), np.array([[7, 8]])]
    encoded = SeriesEncoder.fit(series, normalize=False).encode(series)
    assert [steps.tolist() for steps in encoded] == [[[1, 2], [3, 4], [5, 6]], [[7, 8]]]


def test_constant_channels_become_zero():
    series = [np.array([[0.1, step] for step in range(7)])] * 3
    encoder = SeriesEncoder.fit(series)
    assert encoder.std[0] == 1
    steps = np.concatenate(encoder.encode(series))
    assert (steps[:, 0] == 0).all()
    np.testing.assert_allclose(steps[:, 1].std(), 1, rtol=1e-6)


def test_small_changes_on_a_large_offset_survive():
    series = [np.array([[2.0**20 + step / 4] for step in range(64)])]
    (steps,) = SeriesEncoder.fit(series).encode(series)
    np.testing.assert_allclose(steps.astype(np.float64).mean(), 0, atol=1e-6)
    np.testing.assert_allclose(steps.astype(np.float64).std(), 1, rtol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("channel_names", [None, ["x", "y", "z"]])
def test_the_round_trip_is_exact(normalize, channel_names):
    series = random_series([5, 9], scale=1 / 3)
    encoder = SeriesEncoder.fit(series, normalize, channel_names)
    state = json.loads(json.dumps(encoder.to_dict()))
    assert state["kind"] == "series"
    again = SeriesEncoder.from_dict(state)
    assert torch.equal(again.mean, encoder.mean)
    assert torch.equal(again.std, encoder.std)
    assert again.channel_names == encoder.channel_names == channel_names
    for found, expected in zip(again.encode(series), encoder.encode(series), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_other_channels_are_refused():
    encoder = SeriesEncoder.fit(random_series([4], channels=12))
    with pytest.raises(UserError, match="6 channels, the model was trained on 12"):
        encoder.encode(random_series([4], channels=6))


def test_an_archive_set():
    series = [row.value for row in ArchiveRows("JapaneseVowels", "train")]
    encoded = SeriesEncoder.fit(series).encode(series)
    assert [steps.shape for steps in encoded] == [steps.shape for steps in series]
    steps = np.concatenate(encoded).astype(np.float64)
    np.testing.assert_allclose(steps.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(steps.std(axis=0), 1, rtol=1e-6)
