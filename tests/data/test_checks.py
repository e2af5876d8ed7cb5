import numpy as np
import pytest
from datasets import DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.data import check_series
from attnlstm.errors import UserError


@pytest.fixture(scope="session")
def make_splits(make_rows):
    """`make_splits(train, test)`: series of two classes, in turn."""

    def make(**splits):
        names = ["first", "second"]
        return DatasetDict(
            {
                split: make_rows(series, [names[i % 2] for i in range(len(series))], names)
                for split, series in splits.items()
            }
        )

    return make


def message_of(dataset):
    with pytest.raises(UserError) as caught:
        check_series(dataset)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zeros(*lengths, channels=2):
    return [np.zeros((length, channels)).tolist() for length in lengths]


def test_sound_series_pass(make_splits):
    check_series(make_splits(train=zeros(3, 1, 4), test=zeros(2)))


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    channels=st.integers(1, 3),
    split=st.sampled_from(["train", "test"]),
    fault=st.sampled_from(
        [(float("nan"), "missing"), (None, "missing"), (np.inf, "infinite"), (-np.inf, "infinite")]
    ),
    data=st.data(),
)
def test_one_bad_value_is_found(make_splits, lengths, channels, split, fault, data):
    series = {
        "train": zeros(*lengths, 1, 1, channels=channels),
        "test": zeros(*lengths, channels=channels),
    }
    row = data.draw(st.integers(0, len(lengths) - 1))
    step = data.draw(st.integers(0, lengths[row] - 1))
    channel = data.draw(st.integers(0, channels - 1))
    value, name = fault
    series[split][row][step][channel] = value
    message = message_of(make_splits(**series))
    assert f"split '{split}' has {name} values" in message
    assert f"in 1 row: row {row} (channel {channel}) (" in message
    assert message.count("split '") == 1


def test_values_beyond_float32_are_infinite(make_splits):
    assert "infinite values in 1 row: row 1" in message_of(
        make_splits(train=[[[0.0]], [[np.float64(1e39)]]])
    )


def test_every_problem_is_named(make_splits):
    train, test = zeros(3, 3, 3), zeros(3, 3)
    train[0][2][1] = train[2][0][0] = train[2][1][1] = np.nan
    test[1][0][0] = np.inf
    message = message_of(make_splits(train=train, test=test))
    assert (
        "split 'train' has missing values (NaN) in 2 rows: row 0 (channel 1), row 2 (channels 0, 1)"
        in message
    )
    assert "split 'test' has infinite values in 1 row: row 1 (channel 0)" in message


def test_many_rows_are_counted(make_splits):
    series = zeros(*[2] * 30)
    for row in range(5, 20):
        series[row][1][0] = np.nan
    message = message_of(make_splits(train=series))
    assert "in 15 rows: row 5 (channel 0), " in message
    assert "row 14 (channel 0), ..." in message
    assert "row 15" not in message


def test_empty_series_and_splits(make_splits):
    message = message_of(make_splits(train=[*zeros(2, 2), [], None], test=[]))
    assert "split 'train' has empty series in 2 rows: row 2, row 3" in message
    assert "split 'test' has no rows" in message


def test_wrong_channel_counts(make_splits):
    train = zeros(2, 2, 2, channels=3)
    train[1][1] = [0.0, 0.0]
    message = message_of(make_splits(train=train, test=zeros(9, 9, 9, 9, channels=4)))
    assert "'train' has steps with 2 instead of 3 channels in 1 row: row 1" in message
    assert "'test' has steps with 4 instead of 3 channels in 4 rows: row 0, row 1" in message


def test_a_bad_value_after_a_ragged_step_is_located(make_splits):
    train = zeros(2, 2, 2)
    train[0][0] = [0.0]
    train[2][0][1] = np.nan
    assert "in 1 row: row 2 (channel 1)" in message_of(make_splits(train=train))


def test_series_without_any_channel(make_splits):
    assert "instead of 1 channels" in message_of(make_splits(train=[[[], []], [[]]]))


def test_labels_that_training_has_not(make_rows):
    names = ["cat", "dog", "owl"]
    dataset = DatasetDict(
        train=make_rows(zeros(1, 1), ["cat", "dog"], names),
        test=make_rows(zeros(1, 1, 1), ["dog", "owl", "owl"], names),
    )
    assert (
        "split 'test' has label 'owl', which no training row has, in 2 rows: row 1, row 2"
        in message_of(dataset)
    )


def test_rows_without_a_label(make_rows):
    dataset = DatasetDict(train=make_rows(zeros(1, 1), ["cat", None]))
    assert "split 'train' has no label in 1 row: row 1" in message_of(dataset)
