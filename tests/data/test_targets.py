"""What labels become: the task that they are for, the targets, and even parts of the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.config.data import DataConfig
from attnlstm.data.parts import LabelledParts
from attnlstm.data.rows import RowSource
from attnlstm.data.splits import split_sources
from attnlstm.data.targets import Targets
from attnlstm.errors import UserError


def split(train: RowSource, task: str = "auto", **sources: RowSource) -> LabelledParts:
    parts = {"train": train, **sources}
    return split_sources(parts, DataConfig(), 0, task=task)  # type: ignore[arg-type]


def refusal(train: RowSource, task: str = "auto", **sources: RowSource) -> str:
    with pytest.raises(UserError) as caught:
        split(train, task, **sources)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def rows(make_rows):
    """`rows(labels)`: different texts with these labels, in train.csv."""

    def build(labels, name="train.csv", columns=None):
        source = make_rows([f"{name} {number}" for number in range(len(labels))], labels, name=name)
        source.target_names = columns
        return source

    return build


DECIMALS = [f"{number / 7:.3f}" for number in range(60)]


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (DECIMALS, "regression"),
        (DECIMALS[:55] + DECIMALS[:5], "regression"),  # some repeat
        (list("ab") * 20, "classification"),
        ([str(number % 5) for number in range(40)], "classification"),
        ([f"{number % 9 / 2}" for number in range(90)], "classification"),  # half stars
        ([("a", "b"), ("b",), (), ("a",)] * 10, "multilabel"),
    ],
)
def test_the_task_is_noticed_where_it_is_plain(rows, labels, task: str) -> None:
    found = split(rows(labels))
    assert (found.task, found.warnings) == (task, ())


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([str(number) for number in range(60)], ["60 different labels", "if they are neither"]),
        ([f"{number % 30 / 4}" for number in range(300)], ["30 different labels in 300 rows"]),
    ],
)
def test_it_is_asked_for_where_numbers_may_be_either(rows, labels, words: list[str]) -> None:
    message = refusal(rows(labels))
    for word in [*words, "task=regression", "task=classification"]:
        assert word in message
    for task in ("regression", "classification"):
        if task == "regression" or "300" in words[0]:
            assert split(rows(labels), task).task == task


def test_test_rows_tell_numbers_from_classes(rows) -> None:
    train, other = DECIMALS, [f"{number / 3 + 0.01:.3f}" for number in range(9)]
    found = split(rows(train), test=rows(other, "test.csv"))
    assert found.task == "regression"
    np.testing.assert_array_equal(found.parts["test"].targets[:, 0], list(map(float, other)))
    few = [str(number) for number in range(15)]
    assert "task=regression" in refusal(rows(few))


def test_columns_of_flags_are_classes_and_columns_of_numbers_a_regression(rows) -> None:
    flags = [("0", "1"), ("1", "0"), ("True", "False"), ("1", "1")] * 10
    found = split(rows(flags, columns=["dog", "cat"]))
    assert (found.task, found.label_names) == ("multilabel", ["dog", "cat"])
    assert found.parts["train"].targets.dtype == np.int8
    test = rows(flags[:3], "test.csv", columns=["dog", "cat"])
    train = rows(flags, columns=["dog", "cat"])
    of_model = split_sources(
        {"test": test}, DataConfig(), 0, label_names=["dog", "cat"], task="multilabel"
    )
    for found in (split(train, test=test), split(train, "multilabel", test=test), of_model):
        assert found.parts["test"].targets.tolist() == [[0, 1], [1, 0], [1, 0]]
    numbers = [("0.5", "-3"), ("1e3", "7"), ("2", "1")] * 10
    found = split(rows(numbers, columns=["x", "y"]))
    assert (found.task, found.label_names) == ("regression", ["x", "y"])
    assert sorted(set(found.parts["train"].targets[:, 0])) == [0.5, 2, 1000]
    message = refusal(rows([("a", "1"), ("b", "0")] * 10, columns=["x", "y"]))
    assert "'x', 'y' hold neither only 0 and 1" in message
    message = refusal(rows(numbers, columns=["x", "y"]), "multilabel")
    assert "label '0.5' instead of 0 or 1 in train.csv" in message


def test_columns_of_flags_beside_numbers_may_be_either(rows) -> None:
    """A single mistyped flag must not make a regression of several classes."""
    labels = [("0", "1"), ("1", "0"), ("2", "1")] * 10
    message = refusal(rows(labels, columns=["dog", "cat"]))
    assert "'cat' hold only 0 and 1, and 'dog' other numbers: add task=regression" in message
    assert split(rows(labels, columns=["dog", "cat"]), "regression").task == "regression"
    message = refusal(rows(labels, columns=["dog", "cat"]), "multilabel")
    assert "label '2' instead of 0 or 1 in train.csv, 10 rows: row 2" in message


@pytest.mark.parametrize("task", ["auto", "multilabel"])
def test_test_rows_have_columns_of_flags_too(rows, task: str) -> None:
    labels = [("0", "1"), ("1", "0"), ("1", "1")] * 10
    train = rows(labels, columns=["dog", "cat"])
    other = rows([("True", "False")], "test.csv", ["dog", "cat"])
    found = split(train, task, test=other)
    assert found.parts["test"].targets.tolist() == [[1, 0]]
    with pytest.raises(UserError, match="instead of 0 or 1 in test"):
        split(train, task, test=rows([("x", "1")], "test.csv", ["dog", "cat"]))


def evaluate(source: RowSource, task: str) -> list[list[float]]:
    names, sources = ["dog", "cat"], {"test": source}
    found = split_sources(sources, DataConfig(), 0, names, task=task)  # type: ignore[arg-type]
    targets: list[list[float]] = found.parts["test"].targets.tolist()
    return targets


def test_columns_for_a_trained_model_can_be_in_another_order(rows) -> None:
    assert evaluate(rows([("0", "1")], columns=["dog", "cat"]), "multilabel") == [[0, 1]]
    assert evaluate(rows([("0", "1")], columns=["cat", "dog"]), "multilabel") == [[1, 0]]
    assert evaluate(rows([("5", "7")], columns=["cat", "dog"]), "regression") == [[7, 5]]
    assert evaluate(rows([("5", "7")], columns=["height", "age"]), "regression") == [[5, 7]]
    with pytest.raises(UserError, match="'dog', 'cow' are not the classes of the model"):
        evaluate(rows([("0", "1")], columns=["dog", "cow"]), "multilabel")


def test_a_separator_that_no_label_has(rows) -> None:
    (warning,) = split(rows([("a;b",), ("c",), ()] * 10)).warnings
    assert warning.startswith("no row of train.csv has more than one class: check data.label_sep")


def test_numbers_that_single_precision_can_hardly_tell_apart(rows) -> None:
    labels = [f"{1e7 + number / 3}" for number in range(30)]
    (warning,) = split(rows(labels), "regression").warnings
    assert "'target' of train.csv differs by 2.89 around 1e+07" in warning


@pytest.mark.parametrize(
    ("task", "labels", "said"),
    [
        ("regression", [*DECIMALS, "n/a"], "label is not a number in train.csv, 1 row: row 60"),
        ("regression", [*DECIMALS, "inf"], "label is not a number"),
        ("regression", ["1.5", "2.5"], "there are no two different rows: add rows"),
        ("regression", [*DECIMALS, "1e39"], "label is not a number"),
        ("regression", ["1.5"] * 30, "has only one value of 'target'"),
        ("regression", [f"{1e9 + number % 3}" for number in range(30)], "only one value of"),
        ("multilabel", [("a",), ()] * 15, "has only one class, 'a'"),
        ("multilabel", [()] * 30, "has no classes: there is nothing to tell apart"),
        ("multilabel", ["0", "1"] * 15, "has no labels but '0', '1'"),
        ("auto", [("1", "0"), ("0", "1")] * 15, "a column of 0 and 1 for each class"),
        ("auto", [(number, "0.5") for number in DECIMALS], "has lists of numbers as labels"),
        ("regression", [("1", "2")] * 30, "several numbers in one column"),
        ("regression", [*DECIMALS, "1_000"], "label is not a number in train.csv, 1 row: row 60"),
        ("auto", [f"${number}" for number in DECIMALS[:57]] + ["$1"] * 3, "these are not classes"),
        ("auto", ['["a", "b"]', "[]"] * 15, "look like lists written as text"),
        ("classification", [("a", "b")] * 30, "several labels (see task=multilabel)"),
        ("ordinal", ["good", "bad"] * 20, "task=ordinal needs classes with an order"),
    ],
)
def test_labels_that_do_not_fit_the_task(rows, task: str, labels: list, said: str) -> None:
    assert said in refusal(rows(labels), task)


def test_a_column_of_a_class_that_no_row_has(rows) -> None:
    message = refusal(rows([("0", "1", "0"), ("1", "0", "0")] * 15, columns=["a", "b", "c"]))
    assert "train.csv has no row of class 'c': leave such columns out" in message


def test_ordinal_classes_are_in_order(rows) -> None:
    found = split(rows(["10", "2", "1"] * 15), "ordinal")
    assert (found.task, found.label_names) == ("ordinal", ["1", "2", "10"])


def test_unknown_classes_of_a_trained_model(rows) -> None:
    with pytest.raises(UserError, match=r"label 'z', which no training row has, in rows.csv"):
        split_sources(
            {"test": rows([("a",), ("a", "z")], "rows.csv")},
            DataConfig(),
            0,
            label_names=["a", "b"],
            task="multilabel",
        )


SETS = st.lists(st.sets(st.sampled_from("abcd")).map(lambda names: tuple(sorted(names))))


@given(SETS)
def test_targets_of_several_classes_give_their_labels_back(labels: list) -> None:
    targets = Targets("multilabel", list("abcd"))
    encoded = targets.encode(labels)
    assert encoded.shape == (len(labels), 4)
    assert [targets.decode(row) for row in encoded] == labels


@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2)))
def test_numbers_are_exact(numbers: list) -> None:
    targets = Targets("regression", ["x", "y"])
    encoded = targets.encode([tuple(map(repr, pair)) for pair in numbers])
    assert [tuple(row) for row in encoded.tolist()] == numbers
    assert [targets.decode(row) for row in encoded] == [tuple(map(repr, p)) for p in numbers]


def test_parts_get_even_shares_of_the_numbers(rows) -> None:
    """Each tenth of the range of the training rows gives a fifth of its rows to the test."""
    labels = [f"{number * 1.37 + 0.25:.4f}" for number in range(1000)]
    found = split(rows(labels), "regression")
    test = np.sort(found.parts["test"].targets[:, 0])
    everything = np.array(list(map(float, labels)))
    counts, _ = np.histogram(test, np.quantile(everything, np.linspace(0, 1, 11)))
    np.testing.assert_allclose(counts, 20, atol=1)


def test_parts_get_even_shares_of_rare_classes(rows) -> None:
    labels: list = [("common",)] * 300 + [("common", "rare")] * 50 + [()] * 50
    found = split(rows(labels), "multilabel")
    assert found.label_names == ["common", "rare"]
    assert found.parts["test"].targets.sum(axis=0)[1] == 10
    assert (~found.parts["test"].targets.any(axis=1)).sum() == 10
