import csv
import hashlib
import io
import json
import math
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from hypothesis import assume, example, given
from hypothesis import strategies as st

from attnlstm.data.formats import arrow_tables, line_tables
from attnlstm.data.formats.table import Table
from attnlstm.data.formats.tables import open_table
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint, find_files

ROWS = [
    ("good film", "pos"),
    ("a, b", "neg"),
    ('so "called"', "pos"),
    ("two\nlines", ""),
    ("é€😀", "ø"),
]
COLUMNS = ["text", "label"]
DEEP = "[" * 100_000


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_csv(path, rows, delimiter=",", **options):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, **options).writerows([COLUMNS, *rows])
    return path


def write_json(path, rows):
    lines = [json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows]
    return write(path, "".join(lines))


def write_parquet(path, rows):
    texts, labels = zip(*rows, strict=True) if rows else ([], [])
    strings = [pa.array(list(values), pa.string()) for values in (texts, labels)]
    pq.write_table(pa.table(strings, names=COLUMNS), path)
    return path


def write_saved(path, rows):
    features = Features({name: Value("string") for name in COLUMNS})
    texts, labels = zip(*rows, strict=True) if rows else ([], [])
    Dataset.from_dict({"text": texts, "label": labels}, features=features).save_to_disk(path)
    return path


def found(table: Table, columns=COLUMNS):
    """(number, line, values as a tuple or the problem) of each record."""
    return [
        (r.number, r.line, r.problem if r.values is None else tuple(r.values[c] for c in columns))
        for r in table.records(columns)
    ]


def problem_of(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WRITERS = {
    "rows.csv": write_csv,
    "rows.CSV": write_csv,
    "rows.tsv": lambda path, rows: write_csv(path, rows, "\t"),
    "rows.tab": lambda path, rows: write_csv(path, rows, "\t"),
    "rows.jsonl": write_json,
    "rows.ndjson": write_json,
    "rows.json": write_json,
    "rows.parquet": write_parquet,
    "rows": write_saved,
}


class TestEveryFormat:
    @pytest.mark.parametrize("name", WRITERS)
    def test_what_was_written_is_read_again_and_again(self, tmp_path, name):
        table = open_table(WRITERS[name](tmp_path / name, ROWS))
        assert table.column_names() == COLUMNS
        assert table.label_names("label") is None
        first = list(table.records(COLUMNS))
        assert [record.number for record in first] == list(range(len(ROWS)))
        assert [tuple(record.values.values()) for record in first] == ROWS
        assert list(table.records(COLUMNS)) == first
        both = zip(table.records(COLUMNS), table.records(COLUMNS), strict=True)
        assert all(one == other for one, other in both)

    @pytest.mark.parametrize("name", WRITERS)
    def test_only_the_columns_that_are_asked_for(self, tmp_path, name):
        table = open_table(WRITERS[name](tmp_path / name, ROWS))
        assert [r.values for r in table.records(["label"])] == [{"label": b} for _, b in ROWS]

    @pytest.mark.parametrize("name", WRITERS)
    def test_a_missing_column_is_named_with_the_nearest(self, tmp_path, name):
        table = open_table(WRITERS[name](tmp_path / name, ROWS))
        message = problem_of(table.records, ["text", "lable"])
        assert (
            "has no column 'lable': did you mean 'label'? Its columns are 'text', 'lab" in message
        )
        assert str(tmp_path / name) in message

    @pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.parquet"])
    def test_a_missing_file(self, tmp_path, name):
        message = problem_of(open_table(tmp_path / name).column_names)
        assert message.startswith(f"{tmp_path / name} cannot be read (")
        assert "No such file or directory): check the path" in message

    @pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.parquet"])
    def test_an_empty_file(self, tmp_path, name):
        message = problem_of(open_table(write(tmp_path / name, "")).column_names)
        assert str(tmp_path / name) in message

    def test_an_unknown_ending(self, tmp_path):
        message = problem_of(open_table, tmp_path / "rows.xlsx")
        for ending in (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet"):
            assert f" {ending}" in message

    # without NUL, and between tabs without a text of several records: problems of their own
    @example(rows=[("\r", "\t")], name="rows.tsv")
    @given(
        rows=st.lists(
            st.tuples(*[st.text(st.characters(exclude_characters="\0", codec="utf-8"))] * 2),
            min_size=1,
        ),
        name=st.sampled_from(["rows.csv", "rows.tsv", "rows.jsonl", "rows.parquet"]),
    )
    def test_any_strings_come_back(self, tmp_path_factory, rows, name):
        texts = [text for row in rows for text in row]
        assume(name != "rows.tsv" or not any("\t" in t and {*"\r\n"} & {*t} for t in texts))
        path = WRITERS[name](tmp_path_factory.mktemp("any") / name, rows)
        assert [tuple(r.values.values()) for r in open_table(path).records(COLUMNS)] == rows


class TestCSV:
    def test_bad_rows_are_found_and_the_others_read(self, tmp_path):
        content = (
            b"text,label\n"  # line 1
            b"fine,0\n"
            b"caf\xe9,1\n"
            b"too,many,cells\n"
            b"\n"  # no record
            b"few\n"
            b"nul\x00,1\n"  # 7
            b'"two\nlines",1\n'
            b'"open,2\n'  # 10
            b"after,3\n"
            b'"a "word" here",4\n'
            b"last,5"
        )
        assert found(open_table(write(tmp_path / "rows.csv", content))) == [
            (0, 2, ("fine", "0")),
            (1, 3, "not UTF-8"),
            (2, 4, "wrong number of columns"),
            (3, 6, "wrong number of columns"),
            (4, 7, "NUL character"),
            (5, 8, ("two\nlines", "1")),
            (6, 10, 'a quote (") that is not closed or not doubled'),
            (7, 11, ("after", "3")),
            (8, 12, 'a quote (") that is not closed or not doubled'),
            (9, 13, ("last", "5")),
        ]

    def test_a_quote_that_is_never_closed_costs_one_record(self, tmp_path):
        rows = [f"text {i},{i}\n" for i in range(50)]
        rows[7] = '"text 7,7\n'
        path = write(tmp_path / "rows.csv", "text,label\n" + "".join(rows))
        records = found(open_table(path))
        assert len(records) == 50
        assert records[7] == (7, 9, 'a quote (") that is not closed or not doubled')
        assert records[49] == (49, 51, ("text 49", "49"))

    def test_encoding_of_other_columns_does_not_matter(self, tmp_path):
        path = write(tmp_path / "rows.csv", b"text,author,label\na,Andr\xe9,1\n")
        assert found(open_table(path)) == [(0, 2, ("a", "1"))]

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    def test_ends_of_lines(self, tmp_path, newline):
        path = write(tmp_path / "rows.csv", newline.join(["text,label", "a,1", "", "b,2", "c,3"]))
        assert found(open_table(path)) == [
            (0, 2, ("a", "1")),
            (1, 4, ("b", "2")),
            (2, 5, ("c", "3")),
        ]

    def test_byte_order_mark(self, tmp_path):
        path = write(tmp_path / "rows.csv", b"\xef\xbb\xbftext,label\na,1\n")
        assert found(open_table(path)) == [(0, 2, ("a", "1"))]

    def test_a_field_larger_than_what_csv_allows(self, tmp_path):
        long = "x" * 1_000_000
        csv.field_size_limit(131072)
        path = write_csv(tmp_path / "rows.csv", [(long, "1")])
        assert found(open_table(path)) == [(0, 2, (long, "1"))]

    def test_lines_and_fields_beyond_the_limit(self, tmp_path, monkeypatch):
        monkeypatch.setattr(line_tables, "LONGEST_LINE", 40)
        long = "x" * 100
        rows = [("a", "1"), (long, "2"), ("b", "3"), ("\n".join(["y" * 15] * 3), "4"), ("c", "5")]
        records = found(open_table(write_csv(tmp_path / "rows.csv", rows)))
        assert records[:3] == [
            (0, 2, ("a", "1")),
            (1, 3, "longer than 4 Mi characters"),
            (2, 4, ("b", "3")),
        ]
        assert records[3] == (3, 5, 'a quote (") that is not closed or not doubled')
        assert records[-1][1:] == (8, ("c", "5"))

    def test_a_line_beyond_the_limit_after_an_open_quote(self, tmp_path, monkeypatch):
        monkeypatch.setattr(line_tables, "LONGEST_LINE", 40)
        path = write(tmp_path / "rows.csv", f'text,label\n"a,1\nb,2\n{"x" * 95},3\nc,4\n')
        assert found(open_table(path)) == [
            (0, 2, 'a quote (") that is not closed or not doubled'),
            (1, 3, ("b", "2")),
            (2, 4, "longer than 4 Mi characters"),
            (3, 5, ("c", "4")),
        ]

    def test_another_delimiter(self, tmp_path):
        path = write_csv(tmp_path / "rows.csv", ROWS, ";")
        assert [values for _, _, values in found(open_table(path, ";"))] == ROWS
        path = write_csv(tmp_path / "tabs.csv", ROWS, "\t")
        assert [values for _, _, values in found(open_table(path, r"\t"))] == ROWS

    @pytest.mark.parametrize(("delimiter", "shown"), [(";", ";"), ("\t", r"\t"), ("|", "|")])
    def test_the_delimiter_that_the_header_shows_is_named(self, tmp_path, delimiter, shown):
        table = open_table(write_csv(tmp_path / "rows.csv", ROWS[:2], delimiter))
        assert f"say data.delimiter='{shown}'" in problem_of(table.records, ["text"])

    @pytest.mark.parametrize("delimiter", [";;", '"', "\n"])
    def test_what_is_no_delimiter(self, tmp_path, delimiter):
        assert "data.delimiter=" in problem_of(open_table, tmp_path / "rows.csv", delimiter)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "is empty: its first line must name the columns"),
            ("\n\n", "is empty: its first line must name the columns"),
            ("text,label\n", "has only a header line"),
            ("text,label", "has only a header line"),
            ("text,label,text\na,b,c\n", "has several columns named 'text'"),
            (b"t\xe9xt,label\na,b\n", "is not UTF-8: save the file as UTF-8"),
            ("text,label\na,b\n".encode("utf-16"), "is not UTF-8: save the file as UTF-8"),
            ("text,label\na,b\n".encode("utf-16-le"), "is not UTF-8: save the file as UTF-8"),
            ('"text,label\na,b\n', 'a quote (") that is not closed'),
        ],
    )
    def test_files_without_a_header_that_can_be_used(self, tmp_path, content, words):
        path = write(tmp_path / "rows.csv", content)
        message = problem_of(open_table(path).column_names)
        assert words in message
        assert str(path) in message
        assert problem_of(open_table(path).records, ["text"]) == message

    @given(
        st.lists(st.lists(st.text('a,"\n\r', max_size=6), min_size=2, max_size=2), max_size=6),
        st.text('a,"\n\r', max_size=20),
    )
    def test_no_bytes_make_it_fail_or_lose_lines(self, tmp_path_factory, rows, rubbish):
        good = io.StringIO()
        csv.writer(good, quoting=csv.QUOTE_ALL).writerows(rows)
        path = tmp_path_factory.mktemp("any") / "rows.csv"
        write(path, "text,label\n" + good.getvalue() + rubbish + '\n"",""\nthe,end\n')
        records = found(open_table(path))
        assert [values for _, _, values in records[: len(rows)]] == [tuple(row) for row in rows]
        numbers, lines, values = zip(*records, strict=True)
        assert numbers == tuple(range(len(records)))
        assert list(lines) == sorted(set(lines))
        assert values[-1] == ("the", "end")


class TestJSONLines:
    def test_bad_rows_are_found_and_the_others_read(self, tmp_path):
        content = (
            b'{"text": "a", "label": 1}\n'
            b"{broken\n"
            b"\n"
            b"[1, 2]\n"
            b'{"text": "caf\xe9"}\n'
            b'{"text": "\\ud800"}\n'
            b'{"label": null, "text": "b", "more": [1.5, NaN]}\r\n'
            + b"[" * 100_000
            + b"\n"
            + b'{"text": '
            + b"9" * 5000
            + b"}\n"
            b'{"label": true}'
        )
        records = found(open_table(write(tmp_path / "rows.jsonl", content)))
        assert records == [
            (0, 1, ("a", 1)),
            (1, 2, "not a JSON object"),
            (2, 4, "not a JSON object"),
            (3, 5, "not UTF-8"),
            (4, 6, "invalid Unicode"),
            (5, 7, ("b", None)),
            (6, 8, "not a JSON object"),
            (7, 9, "not a JSON object"),
            (8, 10, (None, True)),
        ]

    def test_columns_are_those_of_all_objects(self, tmp_path):
        path = write(tmp_path / "rows.jsonl", '\ufeff{"b": 1}\n{"a": 2, "b": 3}\n')
        assert open_table(path).column_names() == ["b", "a"]
        assert found(open_table(path), ["a", "b"]) == [(0, 1, (None, 1)), (1, 2, (2, 3))]

    def test_a_line_beyond_the_limit(self, tmp_path, monkeypatch):
        monkeypatch.setattr(line_tables, "LONGEST_LINE", 40)
        path = write_json(tmp_path / "rows.jsonl", [("a", "1"), ("x" * 100, "2"), ("b", "3")])
        assert found(open_table(path)) == [
            (0, 1, ("a", "1")),
            (1, 2, "longer than 4 Mi characters"),
            (2, 3, ("b", "3")),
        ]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ('[{"text": "a"}, {"text": "b"}]', "is one JSON array"),
            ('[\n  {\n    "text": "a"\n  }\n]\n', "is one JSON array"),
            ('{\n  "text": "a"\n}\n', "has no JSON objects with keys"),
            ("text,label\n", "has no JSON objects with keys"),
            ('{"text": "a"}\n'.encode("utf-16"), "has no JSON objects with keys"),
            ("\n \n", "is empty"),
        ],
    )
    def test_files_that_are_no_json_lines(self, tmp_path, content, words):
        message = problem_of(open_table(write(tmp_path / "rows.json", content)).column_names)
        assert words in message
        assert "one" in message
        assert "object" in message


@pytest.fixture
def labelled():
    features = Features(
        {
            "text": Value("string"),
            "label": ClassLabel(names=["neg", "pos"]),
            "series": List(List(Value("float32"))),
        }
    )
    return Dataset.from_dict(
        {"text": ["a", "b", "c", None], "label": [1, 0, -1, None], "series": [[[0.5]]] * 4},
        features=features,
    )


class TestArrow:
    @pytest.fixture(params=["parquet", "saved"])
    def path(self, request, labelled, tmp_path):
        if request.param == "saved":
            labelled.save_to_disk(tmp_path / "rows")
            return tmp_path / "rows"
        labelled.to_parquet(tmp_path / "rows.parquet")
        return tmp_path / "rows.parquet"

    def test_class_numbers_become_names(self, path):
        table = open_table(path)
        assert table.label_names("label") == ["neg", "pos"]
        assert table.label_names("text") is None
        values = [("a", "pos"), ("b", "neg"), ("c", None), (None, None)]
        assert found(table) == [(i, None, value) for i, value in enumerate(values)]
        assert next(table.records(["series"])).values == {"series": [[0.5]]}

    def test_a_saved_selection_of_several_files(self, labelled, tmp_path):
        labelled.select([2, 0, 1]).save_to_disk(tmp_path / "rows", num_shards=2)
        table = open_table(tmp_path / "rows")
        assert [values for _, _, values in found(table)] == [
            ("c", None),
            ("a", "pos"),
            ("b", "neg"),
        ]

    def test_many_batches_are_numbered_on(self, tmp_path):
        rows = [(str(i), "x") for i in range(5000)]
        path = write_parquet(tmp_path / "rows.parquet", rows)
        assert found(open_table(path))[-1] == (4999, None, ("4999", "x"))

    def test_values_that_cannot_be_read(self, tmp_path):
        offsets, content = pa.array([0, 1, 3, 4], pa.int32()), b"a\xe9\xe9b"
        buffers = [None, offsets.buffers()[1], pa.py_buffer(content)]
        texts = pa.StringArray.from_buffers(3, buffers[1], buffers[2])
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({"text": texts, "label": [1, 2, 3]}), path)
        values = [("a", 1), "not UTF-8", ("b", 3)]
        assert found(open_table(path)) == [(i, None, value) for i, value in enumerate(values)]

    def test_numbers_beyond_the_declared_names(self, labelled, tmp_path):
        metadata = labelled.data.schema.metadata or labelled.with_format("arrow")[:].schema.metadata
        schema = pa.schema([("text", pa.string()), ("label", pa.int64())], metadata=metadata)
        table = pa.table({"text": ["a", "b", "c"], "label": [0, 2, -2]}, schema=schema)
        pq.write_table(table, tmp_path / "rows.parquet")
        undeclared = "a label number without a declared name"
        assert [v for *_, v in found(open_table(tmp_path / "rows.parquet"))] == [
            ("a", "neg"),
            undeclared,
            undeclared,
        ]

    def test_a_declaration_that_no_longer_fits_the_column(self, labelled, tmp_path):
        metadata = labelled.with_format("arrow")[:].schema.metadata
        table = pa.table({"text": ["a"], "label": ["pos"]}).replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / "rows.parquet")
        assert open_table(tmp_path / "rows.parquet").label_names("label") is None
        assert found(open_table(tmp_path / "rows.parquet")) == [(0, None, ("a", "pos"))]

    def test_column_names_with_dots(self, tmp_path):
        table = pa.table({"a.b": ["x"], "a": [{"b": "y"}]})
        pq.write_table(table, tmp_path / "rows.parquet")
        assert found(open_table(tmp_path / "rows.parquet"), ["a.b"]) == [(0, None, ("x",))]

    @pytest.mark.parametrize("size", [0.5, 0.1])
    def test_broken_files(self, tmp_path, size):
        rows = [(str(i), "x") for i in range(1000)]
        path = write_parquet(tmp_path / "rows.parquet", rows)
        whole = path.read_bytes()
        write(path, whole[: int(len(whole) * size)])
        assert f"{path} cannot be read (" in problem_of(open_table(path).column_names)
        folder = write_saved(tmp_path / "rows", rows)
        (arrow,) = folder.glob("*.arrow")
        whole = arrow.read_bytes()
        write(arrow, whole[: int(len(whole) * size)])
        message = problem_of(lambda: found(open_table(folder)))
        assert f"{arrow} cannot be read (" in message

    def test_duplicated_columns(self, tmp_path):
        table = pa.table([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
        pq.write_table(table, tmp_path / "rows.parquet")
        message = problem_of(open_table(tmp_path / "rows.parquet").column_names)
        assert "has several columns named 'a'" in message

    def test_a_folder_of_splits(self, labelled, tmp_path):
        DatasetDict(train=labelled, test=labelled).save_to_disk(tmp_path / "rows")
        message = problem_of(open_table, tmp_path / "rows")
        assert f"choose one of {tmp_path / 'rows/train'}, {tmp_path / 'rows/test'}" in message

    def test_folders_that_were_not_saved(self, tmp_path):
        assert "is a folder without the state.json" in problem_of(open_table, tmp_path)
        write(tmp_path / "state.json", "{")
        assert "state.json cannot be read" in problem_of(open_table, tmp_path)
        write(tmp_path / "state.json", "{}")
        assert "state.json names no data file" in problem_of(open_table, tmp_path)
        write(tmp_path / "state.json", '{"_data_files": [{"filename": "gone.arrow"}]}')
        assert "gone.arrow cannot be read" in problem_of(open_table(tmp_path).column_names)


class TestFindFiles:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("b.csv", "a.csv", "c.txt", "deep/d.csv", "odd[1].csv"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            write(tmp_path / name, "text\n")

    def names(self, patterns):
        return [str(path) for path in find_files(patterns, "data.train")]

    def test_paths_globs_and_lists(self, tmp_path):
        assert self.names("a.csv") == ["a.csv"]
        assert self.names("?.csv") == ["a.csv", "b.csv"]
        assert self.names("**/*.csv") == ["a.csv", "b.csv", "deep/d.csv", "odd[1].csv"]
        assert self.names(["c.txt", "?.csv"]) == ["c.txt", "a.csv", "b.csv"]
        assert self.names("odd[1].csv") == ["odd[1].csv"]
        assert self.names(str(tmp_path / "d*/*")) == [str(tmp_path / "deep/d.csv")]
        assert self.names("deep") == ["deep"]

    def test_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert self.names("~/a.csv") == [str(tmp_path / "a.csv")]

    def test_a_glob_finds_saved_folders_but_no_others(self, tmp_path):
        write_saved(tmp_path / "saved", ROWS)
        assert self.names("*[!vt]") == ["saved"]

    @pytest.mark.parametrize(
        ("patterns", "words"),
        [
            ("e.csv", "data.train=e.csv does not exist"),
            ("*.tsv", "data.train=*.tsv matches no file"),
            (["a.csv", "e.csv"], "data.train=e.csv does not exist"),
            ([], "data.train names no file"),
            ("", "data.train= does not exist"),
            (["a.csv", "./a.csv"], "a.csv 2 times: name it once"),
            (["a.csv", "*.csv"], "a.csv 2 times: name it once"),
        ],
    )
    def test_what_cannot_be_found(self, patterns, words):
        assert words in problem_of(find_files, patterns, "data.train")


class TestFingerprint:
    def test_of_a_file_is_its_sha256(self, tmp_path):
        content = b"text\n" * 100_000
        assert (
            file_fingerprint(write(tmp_path / "a", content)) == hashlib.sha256(content).hexdigest()
        )

    def test_of_a_folder_changes_with_names_and_contents(self, tmp_path):
        write(tmp_path / "a", "1")
        first = file_fingerprint(tmp_path)
        assert file_fingerprint(tmp_path) == first
        write(tmp_path / "a", "2")
        second = file_fingerprint(tmp_path)
        (tmp_path / "a").rename(tmp_path / "b")
        assert len({first, second, file_fingerprint(tmp_path)}) == 3

    def test_of_a_missing_file(self, tmp_path):
        assert "cannot be read" in problem_of(file_fingerprint, tmp_path / "a")


def test_nan_in_json_is_a_missing_number(tmp_path):
    (record,) = open_table(write(tmp_path / "a.jsonl", '{"x": NaN}\n')).records(["x"])
    assert math.isnan(record.values["x"])


def test_pipes_and_names_that_are_too_long_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")  # which would be waited for forever
    with pytest.raises(UserError, match="is neither a file nor a folder"):
        find_files(str(tmp_path / "pipe.csv"), "data.train")
    with pytest.raises(UserError, match="does not exist"):
        find_files("long" * 100, "data.train")


@pytest.mark.parametrize("name", ["../other/data.arrow", "/etc/passwd", "..", "", "a\\b"])
def test_a_saved_folder_names_only_files_of_its_own(tmp_path, name):
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(UserError, match="names no data file of this folder"):
        open_table(tmp_path)


@pytest.mark.parametrize("state", ["[]", "{", '{"_data_files": 3}', '{"_data_files": [3]}', DEEP])
def test_a_saved_folder_with_another_state(tmp_path, state):
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(UserError, match=r"state\.json"):
        open_table(tmp_path)


def test_a_stream_whose_texts_lie_beyond_its_end(tmp_path):
    offsets = np.array([0, 3, 7], dtype=np.int32).tobytes()
    batch = pa.record_batch([pa.array(["abc", "defg"])], ["text"])
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    assert stream.getvalue().count(offsets) == 1
    far = np.array([0, 3, 10**9], dtype=np.int32).tobytes()
    write(tmp_path / "data.arrow", stream.getvalue().replace(offsets, far))
    write(tmp_path / "state.json", '{"_data_files": [{"filename": "data.arrow"}]}')
    with pytest.raises(UserError, match="cannot be read"):
        list(open_table(tmp_path).records(["text"]))


@pytest.mark.parametrize(
    "declaration",
    [b"[", b"[]", b"{}", b'{"info": 3}', DEEP.encode()]
    + [
        json.dumps({"info": {"features": {"label": feature}}}).encode()
        for feature in (3, {"_type": "ClassLabel"}, {"_type": "ClassLabel", "names": [1, 2]})
    ],
)
def test_a_declaration_that_makes_no_sense_declares_nothing(tmp_path, declaration):
    table = pa.table({"label": [0, 1]}).replace_schema_metadata({b"huggingface": declaration})
    pq.write_table(table, tmp_path / "a.parquet")
    found = open_table(tmp_path / "a.parquet")
    assert found.label_names("label") is None
    assert [record.values for record in found.records(["label"])] == [{"label": 0}, {"label": 1}]


def test_values_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_tables, "LARGEST_COLUMN", 1 << 20)
    texts = pa.table({"text": ["a" * (3 << 20)], "label": ["x"]})
    pq.write_table(texts, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    table = open_table(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has 3 MiB in 1 values of column 'text': save shorter"):
        list(table.records(["text"]))
    assert [record.values for record in table.records(["label"])] == [{"label": "x"}]
