import datetime
import json
from decimal import Decimal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlstm.data.formats import opening
from attnlstm.data.formats.line_tables import CSVTable
from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.errors import UserError

WALKS = """\
id,time,x,y,label
a,0,0.1,1,walking
a,1,0.2,2,walking
b,0,0.9,3,running
"""


@pytest.fixture
def write(tmp_path):
    def write(content, name="walks.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def write_table(tmp_path):
    def write_table(**columns):
        path = tmp_path / "walks.parquet"
        pq.write_table(pa.table(columns), path)
        return path

    return write_table


def read(path, **options):
    return list(SeriesFiles([path], key="data.train", **options))


def summary(rows):
    return [(row.name, row.label, row.line, row.problem) for row in rows]


def test_a_csv_file(write):
    source = SeriesFiles([write(WALKS)], key="data.train")
    assert (source.name, source.label_names, source.channel_names) == (
        "walks.csv",
        None,
        ["x", "y"],
    )
    first, second = source
    assert summary(source) == [("a", "walking", 2, None), ("b", "running", 4, None)]
    assert (first.file, first.number, second.number) == ("walks.csv", 0, 1)
    assert first.value.dtype == np.float64
    assert first.value.tolist() == [[0.1, 1], [0.2, 2]]
    assert second.value.tolist() == [[0.9, 3]]


@pytest.mark.parametrize("kind", ["csv", "semicolons", "tsv", "jsonl", "parquet", "folder"])
def test_all_kinds_of_tables_give_the_same(tmp_path, kind):
    records = [
        {"id": 7, "t": 1, "x": 0.5, "n": 3, "label": 1},
        {"id": 7, "t": 2, "x": -1.5, "n": 4, "label": 1},
        {"id": 5, "t": 1, "x": 2.0, "n": 5, "label": 0},
    ]
    table = datasets.Dataset.from_list(records)
    path = tmp_path / "walks"
    options = {}
    if kind in ("csv", "tsv", "semicolons"):
        separator = {"csv": ",", "tsv": "\t", "semicolons": ";"}[kind]
        path = path.with_suffix(".tsv" if kind == "tsv" else ".csv")
        table.to_csv(path, sep=separator, index=False)
        options = {"delimiter": ";"} if kind == "semicolons" else {}
    elif kind == "jsonl":
        path = path.with_suffix(".jsonl")
        table.to_json(path)
    elif kind == "parquet":
        path = path.with_suffix(".parquet")
        table.to_parquet(path)
    else:
        table.save_to_disk(path)
    first, second = read(path, **options)
    assert (first.name, first.label, second.name, second.label) == ("7", "1", "5", "0")
    assert first.value.tolist() == [[0.5, 3], [-1.5, 4]]
    assert second.value.tolist() == [[2, 5]]


def test_interleaved_ids_come_in_the_order_of_their_first_step(write):
    rows = read(
        write(
            "id,time,x,label\n"
            "b,0,1,two\na,0,2,one\nc,0,3,one\nc,1,4,one\nb,1,5,two\na,1,6,one\na,2,7,one\n"
        )
    )
    assert summary(rows) == [("b", "two", 2, None), ("a", "one", 3, None), ("c", "one", 4, None)]
    assert [row.value.ravel().tolist() for row in rows] == [[1, 5], [2, 6, 7], [3, 4]]
    assert [row.number for row in rows] == [0, 1, 2]


def test_series_are_given_as_soon_as_they_are_complete(write, monkeypatch):
    lines_read = []

    class Watched(CSVTable):
        def records(self, columns):
            for record in super().records(columns):
                lines_read.append(record.line)
                yield record

    monkeypatch.setattr(opening, "open_table", lambda path, **_: Watched(path))
    path = write("id,x,label\na,1,up\na,2,up\nb,3,up\nc,4,up\nd,5,up\nc,6,up\ne,7,up\n")
    rows = iter(SeriesFiles([path], key="data.train"))
    last_lines = []
    for _ in rows:
        last_lines.append(lines_read[-1])
    assert last_lines == [3, 4, 7, 7, 8]  # "d" waits for "c", which began before it


@pytest.mark.parametrize("channels", [1, 30])
def test_any_number_of_channels(write, channels):
    names = [f"c{number}" for number in range(channels)]
    steps = np.arange(2 * channels).reshape(2, channels)
    lines = [f"a,{','.join(map(str, step))},up" for step in steps.tolist()]
    (row,) = read(write("\n".join([f"series_id,{','.join(names)},target", *lines])))
    np.testing.assert_array_equal(row.value, steps)
    assert row.label == "up"


# Problems


@pytest.mark.parametrize(
    ("second_step", "problem"),
    [
        ("1,?,walking", "missing values (NaN)"),
        ("1,nan,walking", "missing values (NaN)"),
        ("1,,walking", "missing values (NaN)"),
        ("1,inf,walking", "infinite values"),
        ("1,1e999,walking", "infinite values"),
        ("1,high,walking", "value that is not a number"),
        ("1,1_000,walking", "value that is not a number"),
        ("0,1,walking", "time step twice"),
        ("-1,1,walking", "time that goes back"),
        ("noon,1,walking", "time that is not a number or date"),
        (",1,walking", "time that is not a number or date"),
        ("nan,1,walking", "time that is not a number or date"),
        ("2024-01-01,1,walking", "time that is not a number or date"),
        ("1,1,running", "several labels in one series"),
        ("1,1,", "label on some steps only"),
        ("1,1", "wrong number of columns"),
        (b"1,1,walk\xffing", "not UTF-8"),
        (b"1,\xff,walking", "not UTF-8"),
    ],
)
def test_a_bad_series_has_a_problem_and_the_others_are_read(write, second_step, problem):
    second_step = second_step if isinstance(second_step, bytes) else second_step.encode()
    content = b"id,time,x,label\na,0,1,walking\nb,0,1,walking\nb,%b\nb,2,1,walking\nc,0,1,walking\n"
    rows = read(write(content % second_step))
    if problem == "wrong number of columns":  # then nobody knows which column is the id
        assert summary(rows) == [
            ("a", "walking", 2, None),
            ("b", "walking", 3, None),
            (None, None, 4, problem),
            ("c", "walking", 6, None),
        ]
    else:
        assert summary(rows) == [
            ("a", "walking", 2, None),
            ("b", None if "label" in problem else "walking", 4, problem),
            ("c", "walking", 6, None),
        ]
    assert [row.number for row in rows] == list(range(len(rows)))
    assert all((row.value is None) == (row.problem is not None) for row in rows)


def test_the_first_problem_in_the_file_is_named(write):
    steps = [f"a,{time},{time},up" for time in range(50)]
    steps[20] = "a,20,,up"
    steps[10] = "a,9,10,up"
    steps[30] = "a,30,x,up"
    (row,) = read(write("\n".join(["id,time,x,label", *steps])))
    assert (row.problem, row.line) == ("time step twice", 12)
    steps[5] = "a,5,x\0,up"
    (row,) = read(write("\n".join(["id,time,x,label", *steps])))
    assert (row.problem, row.line) == ("NUL character", 7)
    steps[3] = "a,3,3,down"
    (row,) = read(write("\n".join(["id,time,x,label", *steps])))
    assert (row.problem, row.line) == ("several labels in one series", 5)


def test_records_without_an_id_are_rows_of_their_own(write):
    rows = read(write("id,x,label\na,1,up\n,2,up\n a ,3,up\n  ,4,up\nb,5,up\n"))
    assert summary(rows) == [
        ("a", "up", 2, None),
        (None, None, 3, "no id"),
        (None, None, 5, "no id"),
        ("b", "up", 6, None),
    ]
    assert rows[0].value.tolist() == [[1], [3]]


def test_bad_records_between_interleaved_series(write):
    content = (
        b"id,x,label\na,1,up\nb,\xff,up\nc,1,up\nbroken\n"
        b"a,2,up\nc,\xff,up\n\xff,1,up\nb,1,up\nb,\xff,up\n"
    )
    assert summary(read(write(content))) == [
        ("a", "up", 2, None),
        ("b", None, 3, "not UTF-8"),
        ("c", "up", 7, "not UTF-8"),
        (None, None, 5, "wrong number of columns"),
        (None, None, 8, "not UTF-8"),
    ]


def test_bad_values_of_json(write):
    values = ["1", "null", "true", '"2"', '"x"', "[1]", "Infinity", "1" + "0" * 400]
    lines = [f'{{"id": {n}, "x": {value}, "label": "up"}}' for n, value in enumerate(values)]
    rows = read(write("\n".join(lines), "walks.jsonl"), channel_columns=["x"])
    assert [row.problem for row in rows] == [
        None,
        "missing values (NaN)",
        "value that is not a number",
        None,
        "value that is not a number",
        "value that is not a number",
        "infinite values",
        "infinite values",
    ]


def test_ids_and_labels_of_json_that_are_lists(write):
    lines = [{"id": [1], "x": 1, "label": ["up"]}, {"id": [2], "x": 1, "label": "up"}]
    rows = read(write("\n".join(map(json.dumps, lines)), "walks.jsonl"))
    assert summary(rows) == [
        ("[1]", ("up",), 1, None),
        ("[2]", "up", 2, None),
    ]


# Labels, ids and times of all types


@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        ([" up", "up ", ""], ["up", "up", None]),
        ([1, -2, None], ["1", "-2", None]),
        ([True, False, None], ["True", "False", None]),
        ([1.0, -2.0, float("nan")], ["1", "-2", None]),
        ([1.0, -2.5, float("nan")], ["1", "-2.5", None]),
    ],
)
def test_labels_of_all_types(write_table, labels, texts):
    rows = read(write_table(id=[0, 1, 2], x=[1.0, 2.0, 3.0], label=labels))
    assert [row.label for row in rows] == texts
    assert all(row.problem is None for row in rows)


def test_values_that_are_not_labels(write_table):
    (row,) = read(write_table(id=[0], x=[1.0], label=[datetime.date(2026, 1, 31)]))
    assert row.problem == "label is not a string, number or boolean"


def test_declared_class_names(tmp_path):
    features = datasets.Features(
        id=datasets.Value("int8"),
        x=datasets.Value("float32"),
        label=datasets.ClassLabel(names=["up", "down", "level"]),
    )
    table = datasets.Dataset.from_dict(
        {"id": [0, 1, 2], "x": [1.0, 2.0, 3.0], "label": [1, 0, -1]}, features=features
    )
    table.to_parquet(tmp_path / "walks.parquet")
    source = SeriesFiles([tmp_path / "walks.parquet"], key="data.train")
    assert source.label_names == ["up", "down", "level"]
    assert [row.label for row in source] == ["down", "up", None]


DAY = datetime.datetime(2024, 1, 1)


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ([1, 1, 2], ["1", "2"]),
        ([1.0, 1.0, 2.5], ["1", "2.5"]),
        ([DAY.date(), DAY.date(), None], ["2024-01-01", None]),
    ],
)
def test_ids_of_all_types(write_table, ids, names):
    rows = read(write_table(id=ids, x=[1.0, 2.0, 3.0], label=["up"] * 3))
    assert [row.name for row in rows] == names
    assert rows[0].value.tolist() == [[1], [2]]


def test_numbers_of_all_types(write_table):
    path = write_table(
        id=[0, 0],
        a=pa.array([1, 2], pa.uint8()),
        b=pa.array([0.5, 1.5], pa.float32()),
        c=pa.array([Decimal("1.25"), Decimal("2.5")]),
        d=["1.5", "-2e3"],
        label=["up"] * 2,
    )
    (row,) = read(path)
    assert row.value.tolist() == [[1, 0.5, 1.25, 1.5], [2, 1.5, 2.5, -2000]]


def test_a_file_that_changes_while_it_is_read(write):
    path = write(WALKS)
    source = SeriesFiles([path], key="data.train")
    list(source)
    path.write_text(WALKS.replace("b,0", "a,2"))
    with pytest.raises(UserError, match="has changed while it was read: start again"):
        list(source)


# What is written is read

IDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=4)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def collections(draw):
    """Series by id, each with its label, and a random order of all steps that keeps time."""
    channels = draw(st.integers(1, 3))
    step = st.lists(FINITE | st.integers(-(10**6), 10**6), min_size=channels, max_size=channels)
    value = st.tuples(st.lists(step, min_size=1, max_size=4), st.sampled_from(["up", "down", "7"]))
    series = draw(st.dictionaries(IDS, value, min_size=1, max_size=5))
    turns = [name for name, (steps, _) in series.items() for _ in steps]
    if draw(st.booleans()):
        turns = draw(st.permutations(turns))
    return channels, series, turns


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@settings(max_examples=40)
@given(collection=collections())
def test_what_is_written_is_read(tmp_path_factory, kind, collection):
    channels, series, turns = collection
    left = {name: iter(enumerate(steps)) for name, (steps, _) in series.items()}
    records = []
    for name in turns:
        time, values = next(left[name])
        named = {f"c{channel}": float(value) for channel, value in enumerate(values)}
        records.append({"id": name, "time": time, **named, "label": series[name][1]})
    path = tmp_path_factory.mktemp("long") / f"law.{kind}"
    if kind == "csv":
        lines = [",".join(map(str, record.values())) for record in records]
        path.write_text("\n".join([",".join(records[0]), *lines]), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(records), path)
    rows = read(path)
    assert [row.name for row in rows] == list(dict.fromkeys(turns))
    for row in rows:
        steps, label = series[row.name]
        assert (row.label, row.problem) == (label, None)
        np.testing.assert_array_equal(row.value, np.array(steps, float).reshape(-1, channels))
