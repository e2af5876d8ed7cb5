import datetime
import io
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from attnlstm.data.formats import excel
from attnlstm.data.formats.opening import open_table
from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.data.sources.text_files import TextFiles
from tests.data.formats.written import COLUMNS, ROWS, found, problem_of, write

openpyxl = pytest.importorskip("openpyxl")

FRAME = pd.DataFrame([(text, label or None) for text, label in ROWS], columns=COLUMNS)


@pytest.fixture
def path(tmp_path):
    FRAME.to_excel(tmp_path / "rows.xlsx", index=False)
    return tmp_path / "rows.xlsx"


def write_cells(path, *sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, cells in enumerate(sheets):
        sheet = book.create_sheet(f"rows {number}")
        for row in cells:
            sheet.append(row)
    book.save(path)
    return path


def test_what_pandas_writes_is_read_again_and_again(path):
    table = open_table(path)
    expected = [(text, label or None) for text, label in ROWS]
    for _ in range(2):
        assert [values for _, _, values in found(table)] == expected
    assert [line for _, line, _ in found(table)] == [2, 3, 4, 5, 6]
    assert table.column_names() == COLUMNS
    assert table.read_as == "sheet 'Sheet1' of a workbook"
    rows = list(TextFiles([path], key="data.train"))
    assert [(row.value, row.label) for row in rows] == expected


def test_types_of_cells(tmp_path):
    day = datetime.datetime(2026, 1, 31)
    cells = [["a", "b", "c", "d"], [1, 2.5, True, day], ["=1+1", None, "x", "#N/A"]]
    table = open_table(write_cells(tmp_path / "a.xlsx", cells))
    assert found(table, list("abcd")) == [
        (0, 2, (1, 2.5, True, day)),
        (1, 3, (None, None, "x", "#N/A")),  # Excel has not computed the formula
    ]


def test_labels_are_those_of_other_formats(tmp_path):
    labels = [1, 1.5, 2.0, True, "a", None]
    cells = [["text", "label"], *(["fine", label] for label in labels)]
    rows = TextFiles([write_cells(tmp_path / "a.xlsx", cells)], key="data.train")
    assert [row.label for row in rows] == ["1", "1.5", "2", "True", "a", None]


def test_series(tmp_path):
    frame = pd.DataFrame({"id": np.repeat(list("ab"), 3), "time": [0, 1, 2] * 2})
    frame["x"] = np.random.default_rng(0).normal(size=6).round(6)
    frame["label"] = np.repeat(["up", "down"], 3)
    frame.to_excel(tmp_path / "walks.xlsx", index=False)
    rows = list(SeriesFiles([tmp_path / "walks.xlsx"], key="data.train"))
    assert [row.label for row in rows] == ["up", "down"]
    np.testing.assert_array_equal([row.value[:, 0] for row in rows], frame.x.values.reshape(2, 3))


def test_empty_rows_and_columns(tmp_path):
    cells = [[], ["text", None, "label"], [], ["a", "note", "x"], [None, None, None], ["b"]]
    table = open_table(write_cells(tmp_path / "a.xlsx", cells))
    assert table.column_names() == ["text", "", "label"]
    assert found(table) == [(0, 4, ("a", "x")), (1, 6, ("b", None))]


def test_a_header_that_is_missing(tmp_path):
    cells = [["spam" if n % 2 else "ham", f"message number {n}"] for n in range(10)]
    path = write_cells(tmp_path / "a.xlsx", cells)
    rows = list(TextFiles([path], key="data.train"))
    assert [[row.label, row.value] for row in rows] == cells
    rows = list(
        TextFiles([path], key="data.train", header=False, text_column="1", label_column="0")
    )
    assert [[row.label, row.value] for row in rows] == cells


def test_several_sheets(tmp_path):
    cells = [["text", "label"], ["a", "x"]]
    path = write_cells(tmp_path / "a.xlsx", cells, [], [["text", "label"], ["b", "y"]])
    message = problem_of(open_table(path).column_names)
    assert "has several sheets ('rows 0', 'rows 2'): choose one, such as data.sheet=rows 0" in (
        message
    )
    assert found(open_table(path, sheet="rows 2")) == [(0, 2, ("b", "y"))]
    assert "its sheets are 'rows 0', " in problem_of(open_table(path, sheet="x").column_names)
    path = write_cells(tmp_path / "b.xlsx", [], cells)
    assert found(open_table(path)) == [(0, 2, ("a", "x"))]


def test_sheets_without_records(tmp_path):
    for cells, words in (([], "no sheet with anything"), ([["text"]], "only a header line")):
        path = write_cells(tmp_path / "a.xlsx", cells)
        assert words in problem_of(open_table(path).column_names)


def test_broken_workbooks(path):
    whole = path.read_bytes()
    for content in (b"", b"text,label\na,b\n", whole[: len(whole) // 2], whole[:-30]):
        message = problem_of(open_table(write(path, content)).column_names)
        assert message.startswith(f"{path} ")
        assert "save it again as .xlsx" in message


def change(path, part, old, new):
    """Replace bytes in a part of a workbook."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(buffer, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, content.replace(old, new) if name == part else content)
    return write(path, buffer.getvalue())


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("xl/worksheets/sheet1.xml", b"</row>", b"<row>"),
        ("xl/worksheets/sheet1.xml", b'r="A2"', b'r="?"'),
        ("xl/workbook.xml", b"<sheets>", b"<sheeps>"),
        ("[Content_Types].xml", b"</Types>", b"</Tips>"),
    ],
)
def test_broken_parts(path, part, old, new):
    change(path, part, old, new)
    assert "save it again as .xlsx" in problem_of(lambda: found(open_table(path)))


def test_entities_that_would_fill_the_memory(path):
    entities = "<!ENTITY a0 'aaaaaaaaaa'>" + "".join(
        f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10)
    )
    declared = f"<!DOCTYPE a [{entities}]><worksheet".encode()
    change(path, "xl/worksheets/sheet1.xml", b"<worksheet", declared)
    row = b'<row r="9"><c r="A9" t="inlineStr"><is><t>&a9;</t></is></c></row></sheetData>'
    change(path, "xl/worksheets/sheet1.xml", b"</sheetData>", row)
    assert "cannot be read" in problem_of(lambda: found(open_table(path)))


def test_a_workbook_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(excel, "FREE_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}", bytes(1 << 20))
    message = problem_of(open_table(tmp_path / "a.xlsx").column_names)
    assert "would unpack to 3,145,728 bytes" in message


def test_without_the_package(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    message = problem_of(open_table(path).column_names)
    assert f"{path} is an Excel workbook, which needs a package" in message
    assert "pip install 'attnlstm[excel]'" in message
