"""How CSV files are written: found where it is plain, otherwise as said; read as pandas does."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from attnlstm.data.formats.opening import open_table
from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.data.sources.text_files import TextFiles
from attnlstm.errors import UserError
from tests.data.formats.written import COLUMNS, ROWS, found, problem_of, write, write_csv

NOTES = pd.DataFrame(
    {
        "label": ["spam", "ham"] * 15,
        "text": [f"win cash, {n} times; now" if n % 2 else f"see you at {n}" for n in range(30)],
    }
)


def rows_of(path, **options):
    return [(row.value, row.label) for row in TextFiles([path], key="data.train", **options)]


EXPECTED = list(zip(NOTES.text, NOTES.label, strict=True))


class TestDelimiter:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("name", ["notes.csv", "notes.tsv"])
    def test_is_found(self, tmp_path, name, delimiter):
        path = tmp_path / name
        NOTES.to_csv(path, sep=delimiter, index=False)
        assert rows_of(path) == EXPECTED
        assert repr(delimiter) in TextFiles([path], key="data.train").read_as

    def test_is_the_usual_one_where_it_is_not_plain(self, tmp_path):
        path = write(tmp_path / "a.csv", "text;label\none;x\ntwo;three;x\n")
        assert open_table(path).column_names() == ["text;label"]
        assert "say data.delimiter=';'" in problem_of(open_table(path).records, ["text"])
        path = write(tmp_path / "b.csv", "text\none;x\ntwo;x\n")
        assert open_table(path).column_names() == ["text"]

    def test_beside_others_in_quotes_and_in_the_header(self, tmp_path):
        content = '"texte, long";"label"\n"a; ""b"", c";"x"\nd, e, f;y\n'
        table = open_table(write(tmp_path / "a.csv", content))
        assert [values for _, _, values in found(table, ["texte, long", "label"])] == [
            ('a; "b", c', "x"),
            ("d, e, f", "y"),
        ]

    def test_between_decimal_commas(self, tmp_path):
        path = write(tmp_path / "a.csv", "1;0,5;0,25\n2;0,5;-1,0\n1;1e-3;2,5e2\n")
        table = open_table(path, header=False, decimal=",")
        assert [values for _, _, values in found(table, ["0", "1", "2"])] == [
            ("1", "0.5", "0.25"),
            ("2", "0.5", "-1.0"),
            ("1", "1e-3", "2.5e2"),
        ]

    def test_as_excel_writes_it(self, tmp_path):
        path = write(tmp_path / "a.csv", "sep=;\r\ntext;label\r\na, b;x\r\nc;y\r\n")
        assert found(open_table(path)) == [(0, 3, ("a, b", "x")), (1, 4, ("c", "y"))]
        assert found(open_table(write(tmp_path / "b.csv", '"sep=|"\ntext|label\na|x\n'))) == [
            (0, 3, ("a", "x"))
        ]
        path = write(tmp_path / "c.tsv", "sep=,\ntext,label\na,x\n")
        assert found(open_table(path)) == [(0, 3, ("a", "x"))]


class TestHeader:
    @pytest.mark.parametrize("name", ["notes.csv", "notes.tsv"])
    def test_that_is_missing_is_noticed(self, tmp_path, name):
        path = tmp_path / name
        NOTES.to_csv(path, sep="\t" if name.endswith("tsv") else ",", index=False, header=False)
        source = TextFiles([path], key="data.train")
        assert [(row.value, row.label) for row in source] == EXPECTED
        assert source.columns_used == {"text": "1", "label": "0"}
        assert source.read_as.endswith("without a header line")
        assert next(iter(source)).line == 1

    def test_as_said(self, tmp_path):
        path = tmp_path / "notes.csv"
        NOTES.to_csv(path, index=False, header=False)
        named = rows_of(path, header=False, text_column="1", label_column="0")
        assert named == EXPECTED
        columns = {"text_column": EXPECTED[0][0], "label_column": "spam"}
        assert rows_of(path, header=True, **columns) == EXPECTED[1:]

    def test_columns_without_a_header_are_called_as_pandas_calls_them(self, tmp_path):
        content = "a,1,x y\nb,2,y\na,3,z\n"
        path = write(tmp_path / "a.csv", content)
        frame = pd.read_csv(io.StringIO(content), header=None, dtype=str)
        table = open_table(path)
        assert table.column_names() == list(map(str, frame.columns))
        assert [values for _, _, values in found(table, ["0", "1", "2"])] == list(
            frame.itertuples(index=False, name=None)
        )

    @pytest.mark.parametrize(
        "content",
        [
            "v1,v2\nspam,win\nham,meet\nspam,cash\n",  # no word comes again
            "text,label\ntext,a\nlabel,b\nmore,a\n",  # usual names
            "0,1,2,3\n5,1,7,2\n6,1,2,1\n5,3,2,2\n",  # numbers by pandas
            ",0,1,2\n0,5,1,7\n1,6,1,2\n",  # with an index
            "400.5,410.5,420.5,kind\n1,2,3,a\n2,3,1,b\n",  # wavelengths
            "name,kind\nname,kind\na,b\nc,b\n",  # files put together
            "kind,words\na,one\n",
            "a,b\n",
        ],
    )
    def test_that_may_be_one_is_one(self, tmp_path, content):
        table = open_table(write(tmp_path / "a.csv", content))
        assert table.has_header

    @pytest.mark.parametrize(
        "content",
        [
            "spam,win\nham,meet\nspam,cash\n",
            "0,tweet 1\n4,tweet 2\n0,tweet 3\n",
            "1,0.5,0.25,-0.5\n2,0.5,0.75,1\n",  # the label and a series
            "question,what is it\nnumber,how many\nquestion,who is she\n",  # a usual name again
        ],
    )
    def test_that_is_plainly_none(self, tmp_path, content):
        table = open_table(write(tmp_path / "a.csv", content))
        assert not table.has_header
        assert len(list(table.records(["0"]))) == content.count("\n")

    def test_what_a_message_says(self, tmp_path):
        message = problem_of(rows_of, write(tmp_path / "a.csv", "v1,v2\nspam,win\nham,meet\n"))
        assert "'v1', 'v2', as its first line says" in message
        assert "data.header=false" in message
        content = "1,spam,win,now\n1,ham,meet,you\n2,spam,cash,now\n"
        message = problem_of(rows_of, write(tmp_path / "b.csv", content))
        assert "Its columns are '0', '1', '2', '3', as its first line is a record" in message
        assert "data.header=true" in message
        message = problem_of(rows_of, write(tmp_path / "c.csv", "fine day,good\n"))
        assert "has only a header line" in message

    def test_a_single_column_of_texts_to_predict(self, tmp_path):
        path = write(tmp_path / "a.csv", "fine day\ndull day\n")
        assert rows_of(path, header=False, needs_labels=False) == [
            ("fine day", None),
            ("dull day", None),
        ]


class TestColumnsWithoutNames:
    def test_that_nobody_reads(self, tmp_path):
        content = "v1,v2,,,\nspam,win,,,\nham,meet,at,noon,\nspam,cash\nham,late,,\n"
        path = write(tmp_path / "a.csv", content)
        assert rows_of(path, text_column="v2", label_column="v1") == [
            ("win", "spam"),
            ("meet", "ham"),
            ("cash", "spam"),
            ("late", "ham"),
        ]
        assert "several columns without a name" in problem_of(open_table(path).records, [""])
        table = open_table(write(tmp_path / "b.csv", ",text\n0,a\n1,b\n"))
        assert [values for _, _, values in found(table, [""])] == [("0",), ("1",)]

    def test_fields_at_the_end_of_rows(self, tmp_path):
        path = write(tmp_path / "a.csv", "text,label\na,x,\nb,y,,\nc,x,z\nd\n")
        assert [values for _, _, values in found(open_table(path))] == [
            ("a", "x"),
            ("b", "y"),
            "wrong number of columns",
            "wrong number of columns",
        ]


class TestBackslashes:
    def write(self, path, rows, **options):
        options = {"escapechar": "\\", "doublequote": False, "quoting": csv.QUOTE_ALL} | options
        return write_csv(path, rows, **options)

    def test_before_quotes_are_found(self, tmp_path):
        rows = [(f'he said "{n}, I am \\ here"', "pos") for n in range(20)]
        path = self.write(tmp_path / "a.csv", rows)
        table = open_table(path)
        assert [values for _, _, values in found(table)] == rows
        frame = pd.read_csv(path, escapechar="\\", doublequote=False)
        assert list(frame.text) == [text for text, _ in rows]
        assert "backslash escapes" in table.read_as

    @pytest.mark.parametrize("text", ["C:\\", "a \\n b", '\\"', "no \\ quote", '"'])
    def test_of_texts_stay(self, tmp_path, text):
        rows = [(text, "x"), ("b", "y")]
        path = write_csv(tmp_path / "a.csv", rows, quoting=csv.QUOTE_ALL)
        assert [values for _, _, values in found(open_table(path))] == rows

    def test_as_said(self, tmp_path):
        plain = [(f"text {n}", "x") for n in range(200)]
        path = self.write(tmp_path / "a.csv", [*plain, ('a "quoted" word', "x")])
        *_, (_, line, problem) = found(open_table(path))
        assert line == 202
        assert "data.backslash_escapes=true" in problem
        *_, last = found(open_table(path, backslash_escapes=True))
        assert last == (200, 202, ('a "quoted" word', "x"))
        assert found(open_table(path, backslash_escapes=False))[-1][2] == problem


class TestDecimalCommas:
    def walks(self, separator=";"):
        frame = pd.DataFrame({"id": np.repeat(list("abcd"), 5), "t": list(range(5)) * 4})
        frame["x"] = np.random.default_rng(0).normal(size=20).round(3)
        frame["label"] = np.repeat(["up", "down"] * 2, 5)
        return frame, frame.to_csv(sep=separator, decimal=",", index=False)

    @pytest.mark.parametrize("separator", [";", "\t", "|", ","])
    def test_are_numbers(self, tmp_path, separator):
        frame, content = self.walks(separator)
        path = write(tmp_path / "walks.csv", content)
        rows = list(SeriesFiles([path], key="data.train", decimal=","))
        for row, (_, group) in zip(rows, frame.groupby("id"), strict=True):
            assert row.value[:, 0].tolist() == group.x.tolist()

    def test_the_key_is_named(self, tmp_path):
        path = write(tmp_path / "walks.csv", self.walks()[1])
        with pytest.raises(UserError, match=r"decimal comma in column 'x', .*data\.decimal=','"):
            list(SeriesFiles([path], key="data.train"))

    def test_thousands_are_not_taken_for_decimals(self, tmp_path):
        content = 'id,x,label\na,"1,234",up\nb,"5,678",up\n'
        with pytest.raises(UserError, match="without numbers") as caught:
            SeriesFiles([write(tmp_path / "a.csv", content)], key="data.train")
        assert "data.decimal" not in str(caught.value)

    def test_texts_and_labels(self, tmp_path):
        path = write(tmp_path / "a.csv", "text;label\nso, well;3,5\n1,5 and 2;4,0\n")
        assert rows_of(path, decimal=",") == [("so, well", "3.5"), ("1,5 and 2", "4")]


def test_what_was_found_changes_the_fingerprint(tmp_path):
    path = tmp_path / "notes.csv"
    NOTES.to_csv(path, index=False, header=False)
    columns = {"text_column": "1", "label_column": "0"}
    prints = {
        TextFiles([path], key="data.train", **columns, **options).fingerprint()
        for options in ({}, {"header": False}, {"encoding": "latin-1"}, {"decimal": ","})
    }
    assert len(prints) == 3


def test_all_of_it_at_once(tmp_path):
    content = 'sep=|\r\nété|"a ""b"" c"\r\nété|e\r\nnuit|d\r\n'
    path = write(tmp_path / "a.tsv", content.encode("cp1252"))
    table = open_table(path, encoding="cp1252")
    assert [values for _, _, values in found(table, ["0", "1"])] == [
        ("été", 'a "b" c'),
        ("été", "e"),
        ("nuit", "d"),
    ]
    assert table.read_as == "cp1252 with delimiter '|', without a header line"


def test_rows_as_the_other_tests_write_them(tmp_path):
    path = write_csv(tmp_path / "a.csv", ROWS, ";")
    assert [values for _, _, values in found(open_table(path), COLUMNS)] == ROWS
