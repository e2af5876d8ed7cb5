from pathlib import Path

import aeon.datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.errors import UserError

BUNDLED = Path(aeon.datasets.__file__).parent / "data"

HEADER = """\
# A comment
@problemName Walks
@timeStamps false
@univariate false
@dimensions 2
@classLabel true walking running
@data
"""  # the first row is on line 8


def read(path, **options):
    return list(SeriesFiles([path], key="data.train", **options))


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "walks.ts"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def message_of(path, **options):
    with pytest.raises(UserError) as caught:
        SeriesFiles([path], key="data.train", **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"data.train: {path} ")
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["JapaneseVowels", "BasicMotions", "PickupGestureWiimoteZ", "ItalyPowerDemand"]
)
@pytest.mark.parametrize("split", ["TRAIN", "TEST"])
def test_the_same_as_aeon(name, split):
    path = BUNDLED / name / f"{name}_{split}.ts"
    series, labels, header = aeon.datasets.load_from_ts_file(str(path), return_meta_data=True)
    rows = read(path)
    assert [row.number for row in rows] == list(range(len(series)))
    for row, expected, label in zip(rows, series, labels, strict=True):
        assert row.problem is None
        assert row.value.dtype == np.float64
        np.testing.assert_array_equal(row.value, expected.T)
        assert row.label.lower() == label
    names = SeriesFiles([path], key="data.train").label_names
    assert [name.lower() for name in names] == header["class_values"]


def test_rows_lines_and_labels(write):
    path = write(HEADER + "1,2,3:4,5,6:running\n\n# between\n 7 , 8 : 9e0,-1 : walking \n")
    source = SeriesFiles([path], key="data.train")
    assert (source.name, source.label_names) == ("walks.ts", ["walking", "running"])
    first, second = source
    assert (first.file, first.number, first.line, first.name) == ("walks.ts", 0, 8, None)
    assert (second.number, second.line) == (1, 11)
    assert (first.label, second.label) == ("running", "walking")
    np.testing.assert_array_equal(first.value, [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(second.value, [[7, 9], [8, -1]])
    assert [row.number for row in source] == [0, 1]  # and again from the first


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1,2:walking", "wrong number of channels"),
        ("1,2:3,4:5,6:walking", "wrong number of channels"),
        ("1,2:3,4", "wrong number of channels"),
        ("nonsense", "wrong number of channels"),
        ("1,2:3:walking", "channels of different lengths"),
        ("1,2::walking", "channels of different lengths"),
        ("1,x:3,4:walking", "value that is not a number"),
        ("1,1_0:3,4:walking", "value that is not a number"),
        ("(0,1),(1,2):3,4:walking", "value that is not a number"),
        ("1,?:3,4:walking", "missing values (NaN)"),
        ("1,NaN:3,inf:walking", "missing values (NaN)"),
        ("1,:3,4:walking", "missing values (NaN)"),
        ("1,2:3,-inf:walking", "infinite values"),
        ("1,2:3,1e999:walking", "infinite values"),
        ("::walking", "empty series"),
        ("1,2:3,4:Walking", "label that the @classLabel line does not declare"),
        ("1,2:3,4:running walking", "label that the @classLabel line does not declare"),
        (b"1,2:3,4:walk\xffing", "not UTF-8"),
    ],
)
def test_a_bad_row_has_a_problem_and_the_others_are_read(write, line, problem):
    bad = line if isinstance(line, bytes) else line.encode()
    good = b"1,2:3,4:walking\n"
    rows = read(write(HEADER.encode() + good + bad + b"\n" + good))
    assert [row.problem for row in rows] == [None, problem, None]
    assert (rows[1].number, rows[1].line) == (1, 9)
    assert rows[1].value is rows[1].label is None
    assert rows[2].value.tolist() == [[1, 3], [2, 4]]


def test_a_label_may_be_missing(write):
    rows = read(write(HEADER + "1:2:\n1:2:?\n"))
    assert [(row.label, row.problem, row.value.tolist()) for row in rows] == [
        (None, None, [[1, 2]])
    ] * 2


def test_tags_in_any_case_and_windows_lines(write):
    header = "% comment\r\n\r\n@CLASSLABEL TRUE A b A\r\n@UniVariate True\r\n@DATA\r\n"
    source = SeriesFiles([write("\ufeff" + header + "1,2:A\r\n")], key="data.train")
    (row,) = source
    assert (source.label_names, row.label, row.line) == (["A", "b"], "A", 6)
    assert row.value.tolist() == [[1], [2]]


def test_comments_of_any_encoding(write):
    (row,) = read(write(b"# Sch\xe4fer\n" + HEADER.encode() + b"1:2:walking\n"))
    assert row.label == "walking"


def test_the_number_of_channels_may_be_left_open(write):
    header = "@univariate false\n@classLabel true a\n@data\n"
    assert [row.value.shape for row in read(write(header + "1:2:3:a\n1,1:2,2:a\n"))] == [
        (1, 3),
        (2, 2),
    ]


def test_without_labels(write):
    path = write("@dimension 2\n@classLabel false\n@data\n1,2:3,4\n")
    assert "has no labels (@classLabel false)" in message_of(path)
    source = SeriesFiles([path], key="input", needs_labels=False)
    (row,) = source
    assert (row.label, row.problem, source.label_names) == (None, None, None)
    assert row.value.tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "has no @data line"),
        ("@classLabel true a\n", "has no @data line"),
        ("@univariate true\n@data\n1:a\n", "has no @classLabel line: add one before @data"),
        ("@classLabel true\n@data\n", "has a @classLabel line without class names"),
        ("@classLabel\n@data\n", "has a @classLabel line without class names"),
        ("@timeStamps True\n@classLabel true a\n@data\n(0,1):a\n", "has time stamps: save it"),
        ("@dimensions two\n@classLabel true a\n@data\n", "has a @dimensions line without a count"),
        ("@dimensions\n@classLabel true a\n@data\n", "has a @dimensions line without a count"),
        ("id,time,x\na,0,1\n", "is not a .ts file: line 1 comes before @data"),
        ("# fine\n@univariate true\n1,2:a\n", "is not a .ts file: line 3 comes before @data"),
        (b"PK\x03\x04\x00\x00", "is not a .ts file: line 1"),
        (b"@classLabel true \xff\n@data\n", "is not UTF-8 in line 1"),
    ],
)
def test_files_that_are_refused(write, content, part):
    assert part in message_of(write(content))


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.ts cannot be read"):
        SeriesFiles([tmp_path / "none.ts"], key="data.train")


VALUES = st.floats(allow_nan=False, allow_infinity=False)


@given(
    shapes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    channels=st.integers(1, 4),
    data=st.data(),
)
def test_what_is_written_is_read(tmp_path_factory, shapes, channels, data):
    names = ["walking", "Running", "7"]
    labels = [data.draw(st.sampled_from(names)) for _ in shapes]
    series = [
        np.array(
            data.draw(st.lists(VALUES, min_size=length * channels, max_size=length * channels))
        )
        for length in shapes
    ]
    lines = [f"@dimensions {channels}", f"@classLabel true {' '.join(names)}", "@data"]
    for values, label in zip(series, labels, strict=True):
        fields = [",".join(map(repr, channel.tolist())) for channel in values.reshape(channels, -1)]
        lines.append(":".join([*fields, label]))
    path = tmp_path_factory.mktemp("ts") / "law.ts"
    path.write_text("\n".join(lines))
    rows = read(path)
    assert [row.label for row in rows] == labels
    for row, values in zip(rows, series, strict=True):
        np.testing.assert_array_equal(row.value, values.reshape(channels, -1).T)
