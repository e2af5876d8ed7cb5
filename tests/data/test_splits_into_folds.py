"""Training rows dealt into folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.config.data import DataConfig
from attnlstm.data.splits import split_sources
from attnlstm.errors import UserError
from tests.data.rows_to_split import LABELLED_TEXTS, counted, split, values_of

FOLDS = "folds"


def deal(train, seed=0, num_folds=5, **options):
    """The training rows' values, their classes, and the fold of each, by `validation=folds`."""
    found = split_sources(
        {"train": train, **options}, DataConfig(), seed, validation=FOLDS, num_folds=num_folds
    )
    assert "validation" not in found.parts
    train = found.parts["train"]
    assert found.folds.shape == (len(train),)
    return values_of(train), train.targets, found.folds


@given(rows=LABELLED_TEXTS, seed=st.integers(0, 3), num_folds=st.integers(2, 6))
def test_every_row_is_in_one_fold_and_equal_texts_are_in_the_same(make_rows, rows, seed, num_folds):
    texts, labels = zip(*rows, strict=True)
    if len(set(labels)) < 2 or len({text.strip().lower() for text in texts}) < 2:
        return
    test = make_rows(["q"], [labels[0]])
    values, _, folds = deal(make_rows(texts, labels), seed, num_folds, test=test)
    assert values == list(texts)
    contents = [text.strip().lower() for text in texts]
    assert set(folds) == set(range(min(num_folds, len(set(contents)))))  # and none is empty
    assert len(set(zip(contents, folds, strict=True))) == len(set(contents))


@given(
    counts=st.lists(st.integers(1, 20), min_size=2, max_size=5),
    num_folds=st.integers(2, 7),
    seed=st.integers(0, 3),
)
def test_every_fold_has_its_share_of_every_class(make_rows, counts, num_folds, seed):
    train = counted(make_rows, {f"c{label}": count for label, count in enumerate(counts)})
    test = make_rows(["q"], ["c0"])
    _, targets, folds = deal(train, seed, num_folds, test=test)
    num_folds = min(num_folds, sum(counts))
    for label in (*range(len(counts)), None):
        chosen = folds if label is None else folds[targets == label]
        sizes = np.bincount(chosen, minlength=num_folds)
        assert sizes.max() - sizes.min() <= 1


def test_test_rows_are_in_no_fold(make_rows):
    train = counted(make_rows, {"a": 40, "b": 60})
    values, targets, folds = deal(train)
    assert (len(values), len(targets)) == (80, 80)  # the other 20 are carved for the test
    assert np.bincount(folds).tolist() == [16] * 5
    test = split(train=train).parts["test"]
    assert set(values_of(test)).isdisjoint(values)  # the same that a holdout would be tested on


def test_the_seed_deals_the_folds(make_rows):
    train = counted(make_rows, {"a": 30, "b": 30})
    test = make_rows(["q"], ["a"])
    first, again, other = (deal(train, seed, test=test)[2].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_folds_need_rows_that_differ(make_rows):
    rows, test = make_rows(["same", "Same "], ["a", "b"]), make_rows(["q"], ["a"])
    with pytest.raises(UserError, match="validation=folds needs rows that differ: add rows"):
        deal(rows, test=test)


def test_folds_and_a_validation_source_contradict_each_other(make_rows):
    train, other = counted(make_rows, {"a": 9, "b": 9}), make_rows(["x", "y"], ["a", "b"])
    sources = {"train": train, "validation": other}
    with pytest.raises(
        UserError, match=r"leave data\.validation out, or choose validation=holdout"
    ):
        split_sources(sources, DataConfig(), 0, validation=FOLDS)
    by_itself = split_sources(sources, DataConfig(), 0, validation="auto")
    assert by_itself.folds is None
    assert values_of(by_itself.parts["validation"]) == other.values


def test_auto_uses_a_holdout_for_many_rows(make_rows, monkeypatch):
    monkeypatch.setattr("attnlstm.data.splits.MOST_FOLDED", 20)
    test = make_rows(["q"], ["a"])
    for rows, validation, by_folds in (
        (20, "auto", True),
        (22, "auto", False),
        (22, "folds", True),
        (20, "holdout", False),
    ):
        train = counted(make_rows, {"a": rows // 2, "b": rows // 2})
        found = split_sources(
            {"train": train, "test": test}, DataConfig(), 0, validation=validation
        )
        assert (found.folds is not None, "validation" not in found.parts) == (by_folds, by_folds)
