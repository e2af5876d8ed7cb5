import numpy as np
import pytest
from aeon.datasets import load_from_arff_file
from scipy.io import arff

from attnlstm.data.formats.arff_file import ArffFile
from attnlstm.data.sources.archive import _bundled_folder
from attnlstm.errors import UserError

HEADER = """% A comment
@relation 'two walks'
@attribute t0 numeric
@ATTRIBUTE 't 1' REAL
@attribute t2 integer
@attribute target {walking, 'slow, running',3}
@data
"""
BAG = """@relation walks
@attribute bag relational
  @attribute t0 numeric
  @attribute t1 numeric
  @attribute t2 numeric
@end bag
@attribute target {a,b}
@data
"""


@pytest.fixture
def read(tmp_path):
    def read(content, **options):
        path = tmp_path / "walks.arff"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return ArffFile(path, key="data.train", name="walks.arff", **options)

    return read


@pytest.mark.parametrize("name", ["GunPoint", "ArrowHead", "BasicMotions"])
def test_the_sets_of_aeon_as_aeon_reads_them(name):
    path = _bundled_folder() / name / f"{name}_TRAIN.arff"
    source = ArffFile(path, key="data.train", name=name)
    series, labels = load_from_arff_file(str(path))
    rows = list(source)
    assert [row.label for row in rows] == labels.tolist()
    assert set(source.label_names) == set(labels)
    np.testing.assert_array_equal([row.value.T for row in rows], series)


def test_one_channel(read):
    source = read(HEADER + "1,2,3,walking\n% between\n\n4, 5e1 ,?, 'slow, running'\n-1,.5,6,?\n")
    assert source.label_names == ["walking", "slow, running", "3"]
    assert [(row.number, row.line, row.label, row.value.ravel().tolist()) for row in source] == [
        (0, 8, "walking", [1, 2, 3]),
        (1, 11, "slow, running", [4, 50]),  # what is missing at the end is padding
        (2, 12, None, [-1, 0.5, 6]),
    ]
    assert source.notes == ["walks.arff: NaN at the end of 1 series is padding"]


def test_several_channels_as_scipy_reads_them(read):
    content = BAG + "'1,2,3\\n4,5,6',a\n'7,8,?\\n9,?,?',b\n"
    source = read(content)
    rows = list(source)
    records, _ = arff.loadarff(source.path)
    for row, (bag, label) in zip(rows, records, strict=True):
        expected = np.array([list(channel) for channel in bag]).T  # [time, channel]
        assert row.label == label.decode() or row.problem
        if row.problem is None:
            np.testing.assert_array_equal(row.value, expected)
    assert rows[1].problem == "missing values (NaN)"  # one channel lacks a step that another has


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1,2,walking", "wrong number of values"),
        ("1,2,3,4,walking", "wrong number of values"),
        ("1,x,3,walking", "value that is not a number"),
        ("1,?,3,walking", "missing values (NaN)"),
        ("1,inf,3,walking", "infinite values"),
        ("?,?,?,walking", "empty series"),
        ("1,2,3,flying", "label that the header does not declare"),
        ("1,2,3,'walking", "a quote that is not closed"),
        ("{0 1, 1 2}", "wrong number of values"),
    ],
)
def test_bad_rows(read, line, problem):
    rows = list(read(f"{HEADER}1,2,3,3\n{line}\n1,2,3,3\n"))
    assert [row.problem for row in rows] == [None, problem, None]
    assert rows[1].line == 9


def test_channels_of_different_lengths(read):
    (row,) = read(BAG + "'1,2,3\\n4,5',a\n")
    assert row.problem == "channels of different lengths"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no @data line"),
        ("@attribute t numeric\n1,2\n", "is not an .arff file: line 2 comes before @data"),
        ("@data\n1,a\n", "has no attributes of values and of the label"),
        (HEADER.replace("{walking, 'slow, running',3}", "string"), "declares no classes"),
        (HEADER.replace("REAL", "string"), "has an attribute 't 1' that is no number: remove it"),
        (
            BAG.replace("@attribute target", "@attribute age numeric\n@attribute target"),
            "more than",
        ),
        (HEADER.encode() + b"\xff".join([b"% ", b"\n"]), None),
        (b"% \xff\n" + HEADER.encode(), "is not UTF-8 in line 1"),
    ],
)
def test_headers(read, content, said):
    if said is None:
        assert list(read(content)) == []
        return
    with pytest.raises(UserError) as caught:
        read(content)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_labels_for_prediction(read):
    assert [row.label for row in read(HEADER + "1,2,3,?\n", needs_labels=False)] == [None]
