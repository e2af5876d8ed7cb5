import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.data import carve_validation
from attnlstm.errors import UserError


@pytest.fixture(scope="session")
def numbered(make_rows):
    """`numbered([3, 4])`: 3 rows of class `c0` and 4 of `c1`; the value of a row is its number."""

    def make(counts):
        labels = [f"c{label}" for label, count in enumerate(counts) for _ in range(count)]
        return make_rows([[[row]] for row in range(len(labels))], labels)

    return make


def numbers_of(rows):
    return [int(series[0][0]) for series in rows["series"]]


def message_of(rows, fraction):
    with pytest.raises(UserError) as caught:
        carve_validation(rows, fraction, seed=0)
    return str(caught.value)


@given(
    counts=st.lists(st.integers(5, 12), min_size=1, max_size=4),
    fraction=st.floats(0.2, 0.8),
    seed=st.integers(0, 3),
)
def test_every_class_is_shared_in_proportion(numbered, counts, fraction, seed):
    parts = carve_validation(numbered(counts), fraction, seed)
    assert list(parts) == ["train", "validation"]
    train, validation = numbers_of(parts["train"]), numbers_of(parts["validation"])
    assert sorted(train + validation) == list(range(sum(counts)))
    assert len(validation) == math.ceil(fraction * sum(counts))
    for label, count in enumerate(counts):
        carved = parts["validation"]["label"][:].count(label)
        assert abs(carved - fraction * count) <= 1.5
        assert 0 < carved < count
        assert parts["train"]["label"][:].count(label) == count - carved


def test_rows_keep_their_labels(numbered):
    for rows in carve_validation(numbered([6, 6]), 0.5, seed=0).values():
        assert rows["label"][:] == [number // 6 for number in numbers_of(rows)]


def test_the_seed_decides(numbered):
    def carved(seed):
        return numbers_of(carve_validation(numbered([20, 20]), 0.25, seed)["validation"])

    assert carved(3) == carved(3)
    assert sorted(carved(3)) != sorted(carved(4))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, 5, math.nan])
def test_fractions_out_of_range(numbered, fraction):
    message = message_of(numbered([5, 5]), fraction)
    assert f"data.val_fraction={fraction}" in message
    assert "between 0 and 1" in message


def test_a_class_of_one_row(numbered):
    message = message_of(numbered([5, 1, 5]), 0.3)
    assert "'c1'" in message
    assert "one training row" in message


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.95, 0.99])
def test_fractions_that_leave_a_class_out(numbered, fraction):
    rows = numbered([60, 4, 60])
    message = message_of(rows, fraction)
    assert f"data.val_fraction={fraction} leaves class 'c1' (4 rows)" in message
    assert "from 0.25 to 0.75" in message
    for mended in (0.25, 0.75):
        parts = carve_validation(rows, mended, seed=0)
        assert all(1 in part["label"] for part in parts.values())


def test_declared_classes_without_rows_do_not_count(make_rows):
    rows = make_rows([[[0.0]]] * 8, ["a", "b"] * 4, names=["a", "b", "unused"])
    assert len(carve_validation(rows, 0.25, seed=0)["validation"]) == 2
