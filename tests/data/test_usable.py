"""What is dropped and what is refused: bad rows beyond measure, and labels that are no classes."""

import pandas as pd
import pytest

from attnlstm.config.data import DataConfig, OnBadRow
from attnlstm.data.parts import LabelledParts
from attnlstm.data.rows import RowSource
from attnlstm.data.splits import split_sources
from attnlstm.errors import UserError

ADVICE = "set data.on_bad_row="


def split(on_bad_row: OnBadRow, validation: str = "holdout", **sources: RowSource) -> LabelledParts:
    config = DataConfig(on_bad_row=on_bad_row)
    return split_sources(sources, config, 0, validation=validation)  # type: ignore[arg-type]


def refusal(on_bad_row: OnBadRow, **sources: RowSource) -> str:
    with pytest.raises(UserError) as caught:
        split(on_bad_row, **sources)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def rows(make_rows):
    """`rows("a" * 3 + "B")`: three texts of class a, and one of class b that is blank."""

    def build(pattern: str, name: str = "train.csv") -> RowSource:
        texts = [
            " " if letter.isupper() else f"{name} {number}" for number, letter in enumerate(pattern)
        ]
        return make_rows(texts, list(pattern.lower()), name=name)

    return build


def num_kept(found: LabelledParts) -> int:
    return sum(map(len, found.parts.values()))


def test_half_of_the_rows_may_be_dropped_and_not_more(rows) -> None:
    assert num_kept(split("drop", train=rows("ab" * 5 + "AB" * 5))) == 10
    message = refusal("drop", train=rows("ab" * 5 + "AB" * 5 + "A"))
    assert message.startswith(
        "data.on_bad_row=drop does not remove 11 of the 21 rows of train.csv: no text in train.csv"
    )
    assert message.endswith("Fix these rows, or set data.on_bad_row=drop! to continue without them")


def test_a_class_is_not_dropped_silently(rows) -> None:
    message = refusal("drop", train=rows("ab" * 10 + "C"))
    assert "does not remove all rows of class 'c' of train.csv: " in message
    found = split("drop!", train=rows("ab" * 10 + "CD"))
    assert found.label_names == ["a", "b"]
    assert found.warnings[-1] == "  these are all rows of classes 'c', 'd' of train.csv"


def test_every_part_counts(rows) -> None:
    train = rows("ab" * 10)
    assert "3 of the 5 rows of test.csv" in refusal(
        "drop", train=train, test=rows("abABB", "test.csv")
    )
    lost = refusal("drop", train=train, test=rows("aaaaB", "test.csv"))
    assert "all rows of class 'b' of test.csv" in lost
    assert num_kept(split("drop!", train=train, test=rows("abABB", "test.csv"))) == 22


@pytest.mark.parametrize(
    ("share", "is_enough"), [(0.7, True), (0.71, True), (0.69, False), (0.3, False)]
)
def test_a_share_limits_what_is_dropped(rows, share: float, is_enough: bool) -> None:
    train = rows("ab" * 15 + "AB" * 35)  # 70 of 100
    if is_enough:
        assert num_kept(split(share, train=train)) == 30
    else:
        expected = f"data.on_bad_row={share} does not remove 70 of the 100 rows of train.csv: "
        assert refusal(share, train=train).startswith(expected)


def test_dropping_is_advised_only_where_it_helps(rows) -> None:
    assert ADVICE + "drop to continue" in refusal("stop", train=rows("ab" * 10 + "A"))
    for pattern, missing in (
        ("ab" * 5 + "AB" * 10, "without them, 20 of the 30 rows of train.csv would be missing"),
        ("ab" * 5 + "C", "without them, all rows of class 'c' of train.csv would be missing"),
    ):
        message = refusal("stop", train=rows(pattern))
        assert message.endswith(missing)
        assert ADVICE not in message
    # one class or none would be left
    for pattern in ("aaaaaaB", "ABAB"):
        assert ADVICE not in refusal("stop", train=rows(pattern))
        assert ADVICE not in refusal("drop", train=rows(pattern))


def test_labels_that_do_not_repeat_are_no_classes(make_rows) -> None:
    texts = [f"text {number}" for number in range(60)]
    words = make_rows(texts, [f"word {number}" for number in range(60)], name="train.csv")
    assert "these are not classes" in refusal("stop", train=words)


@pytest.mark.parametrize("labels", [[1, 2, 3, 4, 5], [0.5, 1.0, 1.5, 2.0, 2.5], list("abcde")])
def test_few_labels_are_classes(make_rows, labels: list) -> None:
    column = pd.Series(labels * 8).astype(str).tolist()
    train = make_rows([f"text {number}" for number in range(40)], column)
    assert split("stop", train=train).warnings == ()


def test_one_row_a_class_is_enough_if_the_test_set_has_the_same_classes(make_rows) -> None:
    classes = [str(number) for number in range(18)]
    train = make_rows([f"text {number}" for number in range(18)], classes, name="train.csv")
    test = make_rows([f"other {number}" for number in range(36)], classes * 2, name="test.csv")
    found = split("stop", validation="folds", train=train, test=test)
    assert found.folds is not None
    assert len(found.label_names) == 18
    (warning,) = found.warnings
    assert "have one row in train.csv, which is validated by a model that has not" in warning
