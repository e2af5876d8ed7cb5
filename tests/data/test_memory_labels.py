"""What a program passes as y, in every container."""

from decimal import Decimal
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array

from attnlstm.data.containers import to_list
from attnlstm.data.memory_labels import (
    check_classes,
    check_numbers,
    read_indicator,
    read_labels,
    read_numbers,
)
from attnlstm.errors import UserError


@pytest.mark.parametrize(
    ("y", "names", "kind"),
    [
        (["b", "a", "b"], ["b", "a", "b"], "str"),
        (np.array([2, 10, 2]), ["2", "10", "2"], "int"),
        ([2.0, 10.0, 2.0], ["2", "10", "2"], "float"),
        (torch.tensor([1, 0, 1]), ["1", "0", "1"], "int"),
        (np.array([True, False, True]), ["True", "False", "True"], "bool"),
        (pd.Series(["b", "a", "b"], index=[3, 1, 2], dtype="category"), ["b", "a", "b"], "str"),
        (pd.Series([1, 0, 1], dtype="Int64"), ["1", "0", "1"], "int"),
        (datasets.Dataset.from_dict({"y": [1, 0, 1]})["y"], ["1", "0", "1"], "int"),
    ],
)
def test_labels(y: Any, names: list[str], kind: str) -> None:
    assert read_labels(to_list(y)) == (names, kind)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a", None, "b", ""], "y has no label in row 1, 3"),
        ([0.0, np.nan, 1.0], "NaN"),
        ([0.5, 1.5, 2.5], "continuous"),
        (["a", 1], "strings and labels of other types"),
        (["a", "a"], "only one class, 'a'"),
        (np.ones((3, 2)), "1d array"),
        ([["a"], ["a", "b"], []], "lists of different lengths: use AttentionLSTMMultilabel"),
    ],
)
def test_labels_that_are_refused(y: Any, message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        read_labels(y)


FLAGS = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 0]])

SETS = [["a", "c"], ["c"], ["b"]]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (FLAGS, [0, 1, 2]),
        (FLAGS.astype(bool), [0, 1, 2]),
        (FLAGS.astype(np.float32), [0, 1, 2]),
        (FLAGS.tolist(), [0, 1, 2]),
        (list(FLAGS), [0, 1, 2]),
        (torch.from_numpy(FLAGS), [0, 1, 2]),
        (csr_array(FLAGS), [0, 1, 2]),
        (pd.DataFrame(FLAGS, index=[7, 3, 5], columns=list("abc")), ["a", "b", "c"]),
        (datasets.Dataset.from_dict(dict(zip("cab", FLAGS.T, strict=True))), ["c", "a", "b"]),
        (SETS, ["a", "b", "c"]),
        ([*map(set, SETS)], ["a", "b", "c"]),
        (pd.Series([*map(tuple, SETS)], index=[3, 1, 2]), ["a", "b", "c"]),
        (pd.Series(SETS).to_numpy(), ["a", "b", "c"]),
        ([np.array(row) for row in SETS], ["a", "b", "c"]),
        (datasets.Dataset.from_dict({"y": SETS})["y"], ["a", "b", "c"]),
        ([[10, 30, 10], [30], [20]], [10, 20, 30]),
    ],
)
def test_several_classes(y: Any, classes: list[Any]) -> None:
    indicator = read_indicator(y)
    np.testing.assert_array_equal(indicator.flags, FLAGS)
    assert indicator.classes == classes
    check_classes(indicator)


def test_rows_without_a_class() -> None:
    assert read_indicator([["a"], [], ("b", "a")]).flags.tolist() == [[1, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1], "0 instead of a list of labels in row 0: .*AttentionLSTMClassifier"),
        (np.array(["a|b", "c"]), r"'a\|b' instead of .*split texts, as y\.str\.split"),
        (np.array([[0, 1], [2, 1]]), "other than 0 and 1, such as 2 in row 1"),
        (pd.DataFrame({"a": [1, None]}), "such as nan in row 1"),
        (pd.DataFrame({"a": ["x"]}), "'x' instead of a number in row 0"),
        (np.ones((1, 1, 1)), r"the shape \[1, 1, 1\]"),
        ([["a"], None], "None instead of a list of labels in row 1"),
        ([["a"], ["b", None], [" "]], "a missing label in row 1, 2"),
        ([["a"], [1]], r"several types \(int, str\)"),
        ([[["a"]]], "unhashable"),
        ([[0], [1]], "one 0 or 1: if these are labels, give strings"),
        (pd.DataFrame([[0, 1]], columns=["a", "a"]), "y has several columns 'a'"),
        ("ab", "type str"),
    ],
)
def test_several_classes_that_are_refused(y: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_indicator(y)


def test_classes_that_cannot_be_learnt() -> None:
    with pytest.raises(UserError, match="no row of class 'b': leave"):
        check_classes(read_indicator(pd.DataFrame({"a": [1, 1], "b": [0, 0]})))
    with pytest.raises(UserError, match="1 class, 'a', and has to have several"):
        check_classes(read_indicator([["a"], []]))
    with pytest.raises(UserError, match="0 classes"):
        check_classes(read_indicator([[], []]))


def test_classes_in_the_order_of_a_model() -> None:
    table = pd.DataFrame(FLAGS, columns=list("cab"))
    np.testing.assert_array_equal(
        read_indicator(table).arrange(["a", "b", "c"]), table[list("abc")]
    )
    np.testing.assert_array_equal(read_indicator(SETS).arrange(["c", "b", "a"]), FLAGS[:, ::-1])
    few = read_indicator([["a"], []]).arrange(["b", "a"])
    assert few.tolist() == [[0, 1], [0, 0]]
    np.testing.assert_array_equal(read_indicator(FLAGS).arrange(["x", "y", "z"]), FLAGS)
    for y, message in (
        (FLAGS[:, :2], "2 columns and the model 3"),
        (table[["a", "b"]], "differ in the classes 'c'"),
        ([["a", "d"]], "differ in the classes 'd'"),
    ):
        with pytest.raises(UserError, match=message):
            read_indicator(y).arrange(["a", "b", "c"])


@pytest.mark.parametrize(
    ("y", "names"),
    [
        ([1, 2.5], None),
        (np.float32([1, 2.5]), None),
        (torch.tensor([1, 2.5]), None),
        ([Decimal("1"), Decimal("2.5")], None),
        (np.array([[1], [2.5]]), None),
        (pd.Series([1, 2.5], index=[4, 3]), None),
        (pd.Series([1, 2.5], index=[4, 3], name="price"), ["price"]),
        (pd.Series([1, 2.5], dtype="Float64", name="price"), ["price"]),
        (pd.DataFrame({"price": [1, 2.5]}), ["price"]),
        (datasets.Dataset.from_dict({"price": [1, 2.5]}), ["price"]),
        (datasets.Dataset.from_dict({"price": [1, 2.5]})["price"], None),
    ],
)
def test_numbers(y: Any, names: list[str] | None) -> None:
    numbers, found = read_numbers(y)
    assert numbers.dtype == np.float64
    assert (numbers.tolist(), found) == ([[1.0], [2.5]], names)


def test_several_numbers() -> None:
    numbers, names = read_numbers(pd.DataFrame({"b": [1, 2], "a": [3, 4.5]}, index=[9, 8]))
    assert (numbers.tolist(), names) == ([[1, 3], [2, 4.5]], ["b", "a"])
    assert read_numbers([[1, 3], [2, 4.5]])[0].tolist() == numbers.tolist()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, None, np.nan], r"y has missing values \(NaN\) in row 1, 2"),
        (pd.Series([1, pd.NA], dtype="Int64"), "missing values .* row 1"),
        (pd.DataFrame({"a": [1, 2], "b": [np.inf, 1]}), "infinite values in row 0"),
        ([1, 1e39], "infinite values in row 1"),
        (["1", "2"], "'1' instead of a number in row 0"),
        ([1.0, "a"], "'a' instead of a number in row 1"),
        ([1, 2j], "2j instead of a number in row 1"),
        ([[1, 2], [3]], r"\[1, 2\] instead of a number in row 0"),
        (pd.Series(pd.to_datetime(["2026-01-01"])), "Timestamp.* instead of a number"),
        (np.ones((2, 2, 2)), r"shape \[2, 2, 2\]: give \[row\] or \[row, target\]"),
        (csr_array(FLAGS), "type csr_array"),
        ({"a": 1}, "type dict"),
    ],
)
def test_numbers_that_are_refused(y: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_numbers(y)


@pytest.mark.parametrize("constant", [[2, 2], [1e9, 1e9 + 2], [0, 1e-300]])
def test_a_target_has_several_values(constant: list[float]) -> None:
    numbers = np.column_stack([[1, 2], constant])
    with pytest.raises(UserError, match="only one value of 'b' in single precision, in 2 samples"):
        check_numbers(numbers, ["a", "b"])
    with pytest.raises(UserError, match="y has 0 samples"):
        check_numbers(numbers[:0], ["a", "b"])
