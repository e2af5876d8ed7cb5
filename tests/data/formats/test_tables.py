import csv
import io
import math

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from attnlstm.data.formats import dialect, lines
from attnlstm.data.formats.opening import open_table
from tests.data.formats.written import (
    COLUMNS,
    ROWS,
    found,
    problem_of,
    write,
    write_csv,
    write_json,
    write_parquet,
    write_saved,
)

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
        message = problem_of(open_table, tmp_path / "rows.xls")
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
        monkeypatch.setattr(dialect, "LONGEST_LINE", 40)
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
        monkeypatch.setattr(dialect, "LONGEST_LINE", 40)
        path = write(tmp_path / "rows.csv", f'text,label\n"a,1\nb,2\n{"x" * 95},3\nc,4\n')
        assert found(open_table(path)) == [
            (0, 2, 'a quote (") that is not closed or not doubled'),
            (1, 3, ("b", "2")),
            (2, 4, "longer than 4 Mi characters"),
            (3, 5, ("c", "4")),
        ]

    def test_another_delimiter(self, tmp_path):
        path = write_csv(tmp_path / "rows.csv", ROWS, ";")
        assert [values for _, _, values in found(open_table(path, delimiter=";"))] == ROWS
        path = write_csv(tmp_path / "tabs.csv", ROWS, "\t")
        assert [values for _, _, values in found(open_table(path, delimiter=r"\t"))] == ROWS

    @pytest.mark.parametrize(("delimiter", "shown"), [(";", ";"), ("\t", r"\t"), ("|", "|")])
    def test_a_message_names_the_delimiter_in_the_header(self, tmp_path, delimiter, shown):
        path = write_csv(tmp_path / "rows.csv", [*ROWS[:2], ("a", "b", "c")], delimiter)
        assert f"say data.delimiter='{shown}'" in problem_of(open_table(path).records, ["text"])

    @pytest.mark.parametrize("delimiter", [";;", '"', "\n"])
    def test_delimiters_that_are_refused(self, tmp_path, delimiter):
        message = problem_of(lambda: open_table(tmp_path / "rows.csv", delimiter=delimiter))
        assert "data.delimiter=" in message

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "is empty: its first line must name the columns"),
            ("\n\n", "is empty: its first line must name the columns"),
            ("text,label\n", "has only a header line"),
            ("text,label", "has only a header line"),
            ("text,label,text\na,b,c\n", "has several columns named 'text'"),
            (b"t\xe9xt,label\na,b\n", "is not UTF-8: it is probably cp1252 ('téxt,label')"),
            ("text,label\na,b\n".encode("utf-16-le"), "it is probably utf-16-le ('text,label')"),
            ('"text,label\na,b\n', 'a quote (") that is not closed'),
        ],
    )
    def test_files_without_a_usable_header(self, tmp_path, content, words):
        path = write(tmp_path / "rows.csv", content)
        message = problem_of(open_table(path).column_names)
        assert words in message
        assert str(path) in message
        assert problem_of(open_table(path).records, ["text"]) == message

    @given(
        st.lists(st.lists(st.text('a,"\n\r', max_size=6), min_size=2, max_size=2), max_size=6),
        st.text('a,"\n\r', max_size=20),
    )
    def test_rubbish_neither_fails_nor_loses_lines(self, tmp_path_factory, rows, rubbish):
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
        monkeypatch.setattr(lines, "LONGEST_LINE", 40)
        path = write_json(tmp_path / "rows.jsonl", [("a", "1"), ("x" * 100, "2"), ("b", "3")])
        assert found(open_table(path)) == [
            (0, 1, ("a", "1")),
            (1, 2, "longer than 4 Mi characters"),
            (2, 3, ("b", "3")),
        ]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ('{\n  "text": "a"\n}\n', "has no JSON objects with keys"),
            ("text,label\n", "has no JSON objects with keys"),
            ('{"text": "a"}\n'.encode("utf-16-le"), "is not UTF-8: it is probably utf-16-le"),
            ("\n \n", "is empty"),
        ],
    )
    def test_files_that_are_not_json_lines(self, tmp_path, content, words):
        message = problem_of(open_table(write(tmp_path / "rows.json", content)).column_names)
        assert words in message


def test_nan_in_json_is_a_missing_number(tmp_path):
    (record,) = open_table(write(tmp_path / "a.jsonl", '{"x": NaN}\n')).records(["x"])
    assert math.isnan(record.values["x"])
