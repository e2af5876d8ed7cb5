import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.config.data import DataConfig
from attnlstm.data.parts import Part
from attnlstm.data.splits import stratified_choice
from attnlstm.data.targets import sort_labels
from attnlstm.errors import UserError
from tests.data.rows_to_split import LABELLED_TEXTS, PARTS, counted, split, values_of

# ----------------------------------------------------------------- a fraction of every class


def choose(counts, fraction=0.25, seed=0):
    """Choose from these numbers of rows of the classes 0, 1, ..."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels, stratified_choice(labels, fraction, seed)


def message_of(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(
    counts=st.lists(st.integers(5, 12), min_size=1, max_size=4),
    fraction=st.floats(0.2, 0.8),
    seed=st.integers(0, 3),
)
def test_every_class_is_shared_in_proportion(counts, fraction, seed):
    labels, chosen = choose(counts, fraction, seed)
    assert chosen.sum() == math.ceil(fraction * sum(counts) - 1e-9)
    for label, count in enumerate(counts):
        carved = int(chosen[labels == label].sum())
        assert abs(carved - fraction * count) <= 1.5
        assert 0 < carved < count


def test_the_seed_decides():
    first, again, other = (choose([20, 20], seed=seed)[1].tolist() for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, 5, math.nan])
def test_fractions_out_of_range(fraction):
    for key in ("val_fraction", "test_fraction"):
        with pytest.raises(ValueError, match=rf"{key}\s+Input should be"):
            DataConfig(**{key: fraction})


def test_a_class_of_one_row_is_not_chosen(make_rows):
    labels, chosen = choose([5, 1, 5, 1], 0.3)
    assert not chosen[(labels == 1) | (labels == 3)].any()
    train = counted(make_rows, {"c0": 5, "c1": 1, "c2": 5, "c3": 1})
    found = split(train=train, test=counted(make_rows, {"c0": 1}, "test.csv"), val_fraction=0.3)
    assert found.warnings == ("data.val_fraction=0.3 takes no row of the rare classes 'c1', 'c3'",)


@pytest.mark.parametrize("part", ["val", "test"])
def test_too_few_rows_to_carve(make_rows, part):
    train, other = counted(make_rows, {"a": 1, "b": 1}), counted(make_rows, {"a": 1}, "other.csv")
    given_part = {"val": "test", "test": "validation"}[part]
    message = message_of(lambda: split(train=train, **{given_part: other}))
    assert message == (
        f"train.csv: data.{part}_fraction=0.2: no class has two different rows: add rows"
    )


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.95, 0.99])
def test_a_class_always_keeps_a_row(make_rows, fraction):
    train = counted(make_rows, {"c0": 60, "c1": 4, "c2": 60})
    test = counted(make_rows, {"c0": 1}, "test.csv")
    for seed in range(4):
        labels, chosen = choose([60, 4, 60], fraction, seed=seed)
        assert (~chosen)[labels == 1].any()
        assert chosen.any()
        warnings = split(seed, train=train, test=test, val_fraction=fraction).warnings
        assert ("'c1'" in str(warnings)) == (not chosen[labels == 1].any())


def test_many_classes_of_few_rows():
    """There are more classes than rows to choose, which libraries refuse to split."""
    labels, chosen = choose([3] * 100, 0.05)
    assert chosen.sum() == 15
    assert np.bincount(labels[chosen]).max() == 1


def test_declared_classes_without_rows_do_not_count():
    labels = np.array([0, 1] * 4)
    assert stratified_choice(labels, 0.25, 0).sum() == 2


# ------------------------------------------------------------------- which rows are for training


def test_parts_without_a_source_are_carved_out_of_training(make_rows):
    train = counted(make_rows, {"a": 40, "b": 60})
    other = counted(make_rows, {"b": 3, "a": 2}, "other.csv")
    for given_parts, sizes in (
        ({}, (64, 16, 20)),
        ({"test": other}, (80, 20, 5)),
        ({"validation": other}, (80, 5, 20)),
        ({"validation": other, "test": counted(make_rows, {"a": 1}, "test.csv")}, (100, 5, 1)),
    ):
        parts, label_names, *_ = split(train=train, **given_parts)
        assert label_names == ["a", "b"]
        assert tuple(parts) == PARTS
        assert tuple(len(part) for part in parts.values()) == sizes
        ours = [name for name in PARTS if name not in given_parts]
        together = [text for name in ours for text in values_of(parts[name])]
        assert sorted(together) == sorted(train.values)
        for name, source in given_parts.items():
            assert values_of(parts[name]) == source.values
        for name, part in parts.items():
            labels = [label_names[target] for target in part.targets]
            assert labels == [row.label for row in part]
            if name not in given_parts:
                assert abs(labels.count("a") - 0.4 * len(labels)) <= 1


def test_the_configuration_decides_the_fractions(make_rows):
    train = counted(make_rows, {"a": 50, "b": 50})
    parts = split(train=train, test_fraction=0.5, val_fraction=0.1).parts
    assert [len(parts[name]) for name in PARTS] == [45, 5, 50]
    parts = split(train=train, test_fraction=0.001).parts
    assert len(parts["test"]) == 1


def test_the_seed_decides_the_carving(make_rows):
    train = counted(make_rows, {"a": 30, "b": 30})
    first, again, other = (split(seed, train=train).parts for seed in (1, 1, 2))
    for name in PARTS:
        assert values_of(first[name]) == values_of(again[name]) != values_of(other[name])


@given(rows=LABELLED_TEXTS, seed=st.integers(0, 3), has_test=st.booleans(), data=st.data())
def test_equal_texts_always_stay_together(make_rows, rows, seed, has_test, data):
    texts, labels = zip(*rows, strict=True)
    sources = {"train": make_rows(texts, labels)}
    if has_test:
        known = data.draw(st.lists(st.sampled_from(labels), min_size=1, max_size=3))
        sources["test"] = make_rows(["x", "q", "r"][: len(known)], known)
    try:
        parts, label_names, *_ = split(seed, **sources, val_fraction=0.4, test_fraction=0.3)
    except UserError:
        return  # too few rows of a class, or only one class
    carved = [name for name in PARTS if name not in sources or name == "train"]
    contents = [{text.strip().lower() for text in values_of(parts[name])} for name in carved]
    assert all(not a & b for i, a in enumerate(contents) for b in contents[:i])
    together = [text for name in carved for text in values_of(parts[name])]
    assert Counter(together) == Counter(texts)
    assert set(parts["train"].targets) == set(range(len(label_names)))


def test_a_class_of_one_row_stays_in_training_with_a_warning(make_rows):
    train = counted(make_rows, {"a": 10, "rare": 1, "b": 10})
    for seed in range(5):
        parts, label_names, _, warnings, _ = split(seed, train=train)
        where = [name for name in PARTS if label_names.index("rare") in parts[name].targets]
        assert where == ["train"]
        assert len(warnings) == 2
        assert all("takes no row of the rare class 'rare'" in warning for warning in warnings)


def test_a_rare_class_that_shares_a_text_stays_in_training(make_rows):
    texts = [*"abcdefghij", "b"]
    for seed in range(10):
        parts, label_names, *_ = split(seed, train=make_rows(texts, [*"xyxyxyxyxy", "rare"]))
        assert label_names.index("rare") in parts["train"].targets


def test_training_rows_that_are_also_for_validation_are_left_out(make_rows):
    train = make_rows(["One", "two", "three", "four"], ["a", "b", "a", "b"], name="train.csv")
    validation = make_rows(["one ", "TWO", "five"], ["a", "b", "a"], name="validation.csv")
    test = make_rows(["six"], ["a"])
    parts, *_, warnings, _ = split(train=train, validation=validation, test=test)
    assert values_of(parts["train"]) == ["three", "four"]
    assert values_of(parts["validation"]) == validation.values
    assert warnings == ("2 rows of train.csv are left out, as validation.csv holds the same",)


def test_a_validation_source_that_leaves_no_training_row_is_refused(make_rows):
    train = make_rows(["one", "two", "three"], ["a", "b", "a"], name="train.csv")
    test = make_rows(["six"], ["a"])
    for texts in (["one", "two", "three"], ["two"]):
        same = make_rows(texts, [train.labels[train.values.index(text)] for text in texts])
        with pytest.raises(UserError, match=r"train\.csv has no row to train on of class .*'b': "):
            split(train=train, validation=same, test=test)


def test_test_rows_that_are_also_training_rows_are_kept_with_a_warning(make_rows):
    train = counted(make_rows, {"a": 10, "b": 10})
    test = make_rows([train.values[0].upper(), "new", train.values[15]], ["a", "b", "b"])
    parts, *_, warnings, _ = split(train=train, test=test)
    assert values_of(parts["test"]) == test.values
    assert warnings == ("2 of 3 test rows are also training rows: they make the test look easier",)
    assert split(train=train, test=make_rows(["new"], ["a"])).warnings == ()


# ------------------------------------------------------------------------ what cannot be split


def test_one_message_names_the_bad_rows_of_all_sources(make_rows):
    texts = [f"text {row}" for row in range(20)]
    texts[3] = texts[7] = " "
    train = make_rows(texts, ["a", "b"] * 10, name="train.csv", first_line=2)
    test = make_rows(["fine", "x", "y", "z"], ["c", None, "a", "b"], name="test.csv")
    message = message_of(lambda: split(train=train, test=test))
    assert message.startswith("no text in train.csv, 2 rows: row 3 (line 5); row 7 (line 9); ")
    assert "label 'c', which no training row has, in test.csv, 1 row: row 0; " in message
    assert "no label in test.csv, 1 row: row 1. " in message
    assert "data.on_bad_row=drop" in message


def test_bad_rows_can_be_dropped(make_rows):
    texts = [f"text {row}" for row in range(20)]
    texts[3] = texts[7] = " "
    train = make_rows(texts, ["a", "b"] * 10, name="train.csv")
    test = make_rows(["fine", "x", "y", "z"], ["c", "a", None, "b"], name="test.csv")
    parts, label_names, _, warnings, _ = split(train=train, test=test, on_bad_row="drop")
    assert label_names == ["a", "b"]
    kept = values_of(parts["train"] + parts["validation"])
    assert kept == [text for text in texts if text != " "]
    assert values_of(parts["test"]) == ["x", "z"]
    assert parts["test"].targets.tolist() == [0, 1]
    assert warnings == (
        "dropped 4 bad rows:",
        "  no text in train.csv, 2 rows: row 3; row 7",
        "  label 'c', which no training row has, in test.csv, 1 row: row 0",
        "  no label in test.csv, 1 row: row 2",
    )


def test_a_doubt_about_a_source_is_a_warning_and_part_of_the_message(make_rows):
    train = make_rows(["one", " ", *"abcdefgh"], ["a", "b"] * 5, name="train.csv")
    train.doubt = "train.csv looks odd"
    found = split(train=train, on_bad_row="drop")
    assert found.warnings[:2] == ("train.csv looks odd", "dropped 1 bad row:")
    message = message_of(lambda: split(train=train))
    assert message.startswith("no text in train.csv, 1 row: row 1. train.csv looks odd. Rows and")


def test_sources_without_usable_rows(make_rows):
    train = counted(make_rows, {"a": 5, "b": 5})
    with pytest.raises(UserError, match=r"empty\.csv has no usable rows"):
        split(train=make_rows([], name="empty.csv"))
    blank = make_rows([" ", ""], name="blank.csv")
    with pytest.raises(UserError, match=r"blank\.csv has no usable rows"):
        split(train=train, test=blank, on_bad_row="drop!")


def test_one_class_is_too_few(make_rows):
    with pytest.raises(UserError, match=r"train\.csv has only one class, 'a': .*label_column"):
        split(train=counted(make_rows, {"a": 5}))


def test_series_must_have_the_channels_of_the_training_series(make_rows):
    train = make_rows([[[float(row), 1.0]] for row in range(10)], ["a", "b"] * 5)
    test = make_rows([[[1.0, 2.0, 3.0]]] * 3, ["a", "b", "a"], name="test.npz")
    message = message_of(lambda: split(train=train, test=test))
    assert message.startswith("3 instead of 2 channels in test.npz, 3 rows: row 0; row 1; row 2.")


# ------------------------------------------------------------------ classes of a trained model


def test_a_trained_model_decides_the_classes(make_rows):
    test = make_rows(["x", "y"], ["b", "a"])
    parts, label_names, *_ = split(test=test, label_names=["c", "b", "a"])
    assert list(parts) == ["test"]
    assert label_names == ["c", "b", "a"]
    assert parts["test"].targets.tolist() == [1, 2]
    with pytest.raises(UserError, match="label 'b', which no training row has"):
        split(test=test, label_names=["a", "c"])


def test_a_trained_model_gets_the_carving_of_its_training(make_rows):
    train = counted(make_rows, {"a": 20, "b": 20, "c": 1})
    first, label_names, *_ = split(3, train=train)
    again = split(3, train=train, label_names=label_names).parts
    assert all(values_of(first[name]) == values_of(again[name]) for name in PARTS)


def test_classes_are_in_the_order_in_which_they_are_declared(make_rows):
    declared = ["unused", "b", "a"]
    train = make_rows([f"{row}" for row in range(10)], ["a", "b"] * 5, label_names=declared)
    assert split(train=train).label_names == ["b", "a"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "9", "-1.5"], ["-1.5", "9", "10"]),
        (["b", "10", "9"], ["10", "9", "b"]),
        (["1.0", "1", "01"], ["01", "1", "1.0"]),
        (["b", "B", "ä"], ["B", "b", "ä"]),
    ],
)
def test_classes_are_sorted_as_numbers_if_all_are_numbers(labels, expected):
    assert sort_labels(labels) == expected


@given(labels=st.permutations(["3", "1", "nan", "inf", "2"]))
def test_the_order_of_rows_does_not_change_that_of_classes(labels):
    assert sort_labels(labels) == sort_labels(["nan", "1", "2", "3", "inf"])


# --------------------------------------------------------------------------------------- a part


def part_of(source, rows, targets):
    return Part(((source, np.array(rows), np.array(targets)),))


def test_parts_of_a_source_are_merged_in_its_order(make_rows):
    source, other = make_rows(list("abcdef")), make_rows(list("xyz"))
    both = part_of(source, [1, 4], [0, 1]) + part_of(source, [0, 5], [2, 3])
    assert values_of(both) == ["a", "b", "e", "f"]
    assert both.targets.tolist() == [2, 0, 1, 3]
    all_of_them = part_of(other, [2], [7]) + both
    assert values_of(all_of_them) == ["z", "a", "b", "e", "f"]
    assert all_of_them.targets.tolist() == [7, 2, 0, 1, 3]
    assert len(all_of_them) == 5


def test_a_part_can_be_read_again(make_rows):
    part = part_of(make_rows(list("abc")), [0, 2], [0, 0])
    assert values_of(part) == values_of(part) == ["a", "c"]


def test_the_fingerprint_depends_on_rows_content_and_classes(make_rows):
    source = make_rows(list("abc"))
    original = part_of(source, [0, 2], [0, 1]).fingerprint()
    assert part_of(make_rows(list("abc")), [0, 2], [0, 1]).fingerprint() == original
    others = [
        part_of(make_rows(list("abd")), [0, 2], [0, 1]),
        part_of(source, [0, 1], [0, 1]),
        part_of(source, [0, 2], [1, 0]),
        part_of(source, [0], [0]),
        part_of(source, [0, 2], [0, 1]) + part_of(make_rows(list("abc")), [1], [0]),
    ]
    assert original not in [part.fingerprint() for part in others]
    assert len({part.fingerprint() for part in others}) == len(others)
