from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.data.checks import find_problem, show_progress, survey
from attnlstm.data.rows import Row
from attnlstm.data.targets import Targets


def zeros(*lengths, channels=2):
    return [np.zeros((length, channels)) for length in lengths]


def problems_of(source, **options):
    return survey(source, **options).describe_problems()


def problem_of(value, num_channels=1):
    problem = find_problem(Row("file", 0, value), num_channels)
    return None if problem is None else " ".join(filter(None, problem))


def test_good_rows_have_no_problem(make_rows):
    found = survey(make_rows(zeros(3, 1, 4), ["b", "a", "b"]))
    assert found.describe_problems() == []
    assert found.usable.tolist() == [True] * 3
    assert found.labels.tolist() == [0, 1, 0]
    assert found.names == ["b", "a"]
    assert found.num_channels == 2


def test_texts_have_no_channels(make_rows):
    found = survey(make_rows(["one", "two words"], ["b", "a"]))
    assert found.describe_problems() == []
    assert found.num_channels == 0


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    channels=st.integers(1, 3),
    fault=st.sampled_from(
        [(np.nan, "missing values (NaN)"), (np.inf, "infinite"), (-np.inf, "infinite")]
    ),
    data=st.data(),
)
def test_one_bad_value_is_found(make_rows, lengths, channels, fault, data):
    series = zeros(*lengths, channels=channels)
    row = data.draw(st.integers(0, len(lengths) - 1))
    step = data.draw(st.integers(0, lengths[row] - 1))
    channel = data.draw(st.integers(0, channels - 1))
    value, what = fault
    series[row][step, channel] = value
    found = survey(make_rows(series, name="walks.ts"))
    (message,) = found.describe_problems()
    assert message.startswith(what)
    assert message.endswith(f" in walks.ts, 1 row: row {row}, channel {channel}")
    assert found.usable.tolist() == [number != row for number in range(len(lengths))]


@pytest.mark.filterwarnings("error")
def test_values_beyond_float32_are_infinite():
    assert problem_of(np.array([[1e39]])) == "infinite values channel 0"
    assert problem_of(np.array([[3e38]])) is None


def test_bad_channels_are_listed():
    value = np.zeros((4, 30))
    value[1, [3, 5]] = np.nan
    value[2, 7] = np.inf  # named only if nothing is missing
    assert problem_of(value, 30) == "missing values (NaN) channels 3, 5"
    value[0, :] = np.nan
    assert problem_of(value, 30).endswith("channels 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...")


def test_every_problem_is_named(make_rows):
    series = zeros(3, 3, 3, 3)
    series[0][2, 1] = series[2][0, 0] = series[2][1, 1] = np.nan
    series[1][0, 0] = np.inf
    assert problems_of(make_rows(series, ["a", "a", "a", None])) == [
        "missing values (NaN) in rows.csv, 2 rows: row 0, channel 1; row 2, channels 0, 1",
        "infinite values in rows.csv, 1 row: row 1, channel 0",
        "no label in rows.csv, 1 row: row 3",
    ]


def test_every_file_is_named(make_rows):
    class TwoFiles(type(make_rows([]))):
        def __iter__(self):
            for number, file in ((0, "b.csv"), (1, "b.csv"), (0, "a.csv")):
                yield Row(file, number, " ", "label")

    assert problems_of(TwoFiles([])) == [
        "no text in b.csv, 2 rows: row 0; row 1",
        "no text in a.csv, 1 row: row 0",
    ]


def test_many_rows_are_counted_and_the_first_ten_shown(make_rows):
    texts = ["text"] * 5 + [""] * 1200
    (message,) = problems_of(make_rows(texts, first_line=2))
    shown = "; ".join(f"row {row} (line {row + 2})" for row in range(5, 15))
    assert message == f"no text in rows.csv, 1,200 rows: {shown}, ..."


def test_a_problem_that_the_source_has_found_comes_first(make_rows):
    source = make_rows(["", None, "text"], ["a", None, None], problems={0: "not UTF-8"})
    assert problems_of(source) == [
        "not UTF-8 in rows.csv, 1 row: row 0",
        "no value in rows.csv, 1 row: row 1",
        "no label in rows.csv, 1 row: row 2",
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000\xa0"])
def test_a_blank_text_is_none(text):
    assert problem_of(text) == "no text"


@pytest.mark.parametrize("value", [np.zeros((0, 1)), np.zeros((0, 2)), np.zeros((3, 0))])
def test_empty_series(value):
    assert problem_of(value) == "empty series"


def test_series_without_any_channel_are_empty(make_rows):
    (message,) = problems_of(make_rows([np.zeros((3, 0)), np.zeros((1, 0))]))
    assert message.startswith("empty series in rows.csv, 2 rows")


def test_wrong_channel_counts(make_rows):
    series = [*zeros(9, channels=2), *zeros(2, 2, 2, channels=3), np.zeros((0, 7))]
    found = survey(make_rows(series))
    assert found.num_channels == 3  # as most series have
    assert found.describe_problems() == [
        "2 instead of 3 channels in rows.csv, 1 row: row 0",
        "empty series in rows.csv, 1 row: row 4",
    ]
    assert problems_of(make_rows(zeros(2, 2, channels=4)), num_channels=3) == [
        "4 instead of 3 channels in rows.csv, 2 rows: row 0; row 1"
    ]


def test_labels_that_are_not_known(make_rows):
    source = make_rows(["x", "y", "z"], ["dog", "owl", "w" * 100])
    found = survey(source, Targets("classification", ["cat", "dog"]).find_problem)
    assert found.describe_problems() == [
        "label 'owl', which no training row has, in rows.csv, 1 row: row 1",
        f"label '{'w' * 57}...', which no training row has, in rows.csv, 1 row: row 2",
    ]
    assert found.labels.tolist() == [0, -1, -1]
    assert found.names == ["dog"]


TEXTS = st.text(st.sampled_from("aAbB \n"), max_size=5)


@given(texts=st.lists(TEXTS, max_size=8))
def test_case_and_white_space_do_not_tell_texts_apart(make_rows, texts):
    groups = defaultdict(set)
    for text, content in zip(texts, survey(make_rows(texts)).contents, strict=True):
        groups[" ".join(text.lower().split())].add(int(content))
    assert all(len(contents) == 1 for contents in groups.values())
    assert len(set.union(set(), *groups.values())) == len(groups)


def test_series_are_the_same_if_values_and_shape_are(make_rows):
    series = [[[1.0], [2.0]], [[1.0], [2.0]], [[1.0, 2.0]], [[1.0], [2.5]], [[1.0]]]
    contents = survey(make_rows(series)).contents.tolist()
    assert contents[0] == contents[1]
    assert len(set(contents)) == 4


def test_progress_gives_the_rows_themselves(make_rows):
    source = make_rows([str(number) for number in range(2500)])
    assert [row.value for row in show_progress(source, "reading")] == source.values


def test_missing_values_that_are_filled_in():
    nan = np.nan
    gaps = np.array([[1, nan], [nan, 2]])
    assert problem_of(gaps, 2) == "missing values (NaN) channels 0, 1"
    half = np.array([[1, nan], [2, nan]])
    for missing, value, problem in (
        ("interpolate", gaps, None),
        ("mask", gaps, None),
        ("mask", half, None),
        ("interpolate", half, ("no values to interpolate", "channel 1")),
        ("mask", np.full((2, 2), nan), ("no values", "channels 0, 1")),
        ("mask", np.array([[1, nan], [np.inf, 2]]), ("infinite values", "channel 0")),
    ):
        assert find_problem(Row("file", 0, value), 2, missing) == problem


def test_missing_values_are_counted(make_rows):
    nan = np.nan
    rows = make_rows([[[1, nan], [2, 3]], [[nan, nan], [2, 3]], [[1, 2]]])
    assert survey(rows, missing="mask").describe_gaps("mask") == [
        "rows.csv has missing values, set to 0 and marked, in channels (series): 0 (1), 1 (2)"
    ]
    assert survey(make_rows([[[1, 2]]]), missing="mask").describe_gaps("mask") == []
