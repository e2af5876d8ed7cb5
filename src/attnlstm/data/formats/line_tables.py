"""Tables in files of lines: CSV and JSON."""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from attnlstm.console import shorten
from attnlstm.data.formats.labels import read_label
from attnlstm.data.formats.table import NOT_UTF8, Record, Table, check_names, register_table
from attnlstm.errors import UserError
from attnlstm.files import cannot_read, is_cut, read_line

LONGEST_LINE = 1 << 22  # characters; more than that are never held at a time
SCANNED_LINES = 1000  # lines of JSON in which the names of the columns are looked for

TOO_LONG = "longer than 4 Mi characters"
WRONG_WIDTH = "wrong number of columns"
BAD_QUOTE = 'a quote (") that is not closed or not doubled'
NUL = "NUL character"
NOT_JSON = "not a JSON object"
KEY_TWICE = "key twice in a JSON object"
BAD_UNICODE = "invalid Unicode"

WHOLE_NUMBER = re.compile(r"\s*([+-]?(?:0|[1-9]\d*))\.0+\s*", re.ASCII)
"""Such as 1.0: what a column of whole numbers with gaps turns into."""


def open_lines(path: Path, newline: str) -> TextIO:
    """Opened so that bytes that are not UTF-8 become lone surrogates, which `is_unicode` finds."""
    try:
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)
    except OSError as error:
        raise cannot_read(path, error) from error


def is_unicode(text: str) -> bool:
    """Whether a string has no lone surrogates, which cannot be encoded."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@register_table(".csv")
def open_csv(path: Path, delimiter: str | None) -> "CSVTable":
    return CSVTable(path, delimiter or ",")


@register_table(".tsv", ".tab")
def open_tsv(path: Path, delimiter: str | None) -> "CSVTable":
    return CSVTable(path, delimiter or "\t")


@register_table(".jsonl", ".ndjson", ".json")
def open_json(path: Path, _: str | None) -> "JSONTable":
    return JSONTable(path)


class CSVTable(Table):
    """Columns between delimiters, quoted with `"` where needed; names in the first line.

    A blank line is no record. After a bad quote the reading goes on with the next line, so that
    one quote that is never closed costs one record and not all that follow. Between tabs, a quoted
    field with both a tab and a line break counts as one, too: it is far more likely that the file
    was written without quoting, and a text that begins with a quote would swallow other records.
    """

    def __init__(self, path: Path, delimiter: str) -> None:
        super().__init__(path)
        self.delimiter = "\t" if delimiter == r"\t" else delimiter
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise UserError(
                f"data.delimiter={delimiter!r} is not one character: such as ',' or ';'"
            )

    def column_names(self) -> list[str]:
        with open_lines(self.path, newline="") as file:
            rows = self._rows(file)
            names = self._header(rows)
            if next(rows, None) is None:
                raise UserError(f"{self.path} has only a header line: add records")
        return names

    def describe_columns(self) -> str:
        names = self.column_names()
        others = [other for other in ",;\t|" if other in names[0]]
        if len(names) == 1 and others:
            wanted = others[0].replace("\t", r"\t")
            return f"Its only column is {shorten(names[0])!r}: say data.delimiter='{wanted}'"
        return f"{super().describe_columns()}, as its first line says"

    def read_label(self, cell: Any) -> str | None:
        found = WHOLE_NUMBER.fullmatch(cell)
        return read_label(int(found[1]) if found and len(found[1]) < 4300 else cell)

    def _header(self, rows: Iterator[tuple[int, list[str] | str]]) -> list[str]:
        _, names = next(rows, (0, None))
        if names is None:
            raise UserError(f"{self.path} is empty: its first line must name the columns")
        if isinstance(names, str):
            raise UserError(f"the header line of {self.path} cannot be read ({names}): fix it")
        if not all(is_unicode(name) and "\0" not in name for name in names):
            raise UserError(f"the header line of {self.path} is not UTF-8: save the file as UTF-8")
        check_names(self.path, names)
        return names

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        with open_lines(self.path, newline="") as file:
            rows = self._rows(file)
            names = self._header(rows)
            wanted = [(column, names.index(column)) for column in columns]
            for number, (line, fields) in enumerate(rows):
                if isinstance(fields, str):
                    yield Record(number, None, fields, line)
                elif len(fields) != len(names):
                    yield Record(number, None, WRONG_WIDTH, line)
                else:
                    values = {column: fields[place] for column, place in wanted}
                    problem = None
                    for value in values.values():
                        if "\0" in value:
                            problem = NUL
                        elif not is_unicode(value):
                            problem = NOT_UTF8
                    yield Record(number, None if problem else values, problem, line)

    def _rows(self, file: TextIO) -> Iterator[tuple[int, list[str] | str]]:
        """The line on which each row begins, and its fields, or what is wrong with it."""
        csv.field_size_limit(LONGEST_LINE)  # for all readers, but nothing else here is one
        lines = _Lines(file)
        # strict: a bad quote is an error, and not read as something that nobody wrote
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        while True:
            lines.row.clear()
            line = lines.number + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield line, TOO_LONG if is_cut(lines.row[0], LONGEST_LINE) else BAD_QUOTE
                lines.go_back()
            else:
                if self._swallows(fields):
                    yield line, BAD_QUOTE
                    lines.go_back()
                elif fields:
                    yield line, fields

    def _swallows(self, fields: Sequence[str]) -> bool:
        """Whether a quoted field seems to be of several records, see above."""
        return self.delimiter == "\t" and any(
            "\t" in field and ("\n" in field or "\r" in field) for field in fields
        )


class _Lines:
    """The lines of a file for `csv.reader`, which remembers those of the row that it is in."""

    def __init__(self, file: TextIO) -> None:
        self.number = 0  # of the line that was given last
        self.row: list[str] = []
        self._size = 0  # characters of the row
        self._file = file
        self._again: deque[str] = deque()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else read_line(self._file, LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        self._size = self._size + len(line) if self.row else len(line)
        self.row.append(line)
        if is_cut(line, LONGEST_LINE) or self._size > LONGEST_LINE:
            raise csv.Error(TOO_LONG)
        return line

    def go_back(self) -> None:
        """The lines of this row after its first are given again."""
        self.number -= len(self.row) - 1
        self._again.extendleft(reversed(self.row[1:]))


class JSONTable(Table):
    """One JSON object a line. A key that an object lacks is None; a blank line is no record.

    The columns are the keys in the first 1000 lines.
    """

    def column_names(self) -> list[str]:
        names: dict[str, None] = {}
        is_empty = True
        with open_lines(self.path, newline="\n") as file:
            for _, found in islice(self._objects(file), SCANNED_LINES):
                is_empty = False
                if isinstance(found, dict):
                    names.update(dict.fromkeys(filter(is_unicode, found)))
                    check_names(self.path, list(names))
            file.seek(0)
            start = file.read(1000).lstrip()
        if is_empty:
            raise UserError(f"{self.path} is empty: it must have one JSON object a line")
        if not names:
            found = (
                "is one JSON array" if start.startswith("[") else "has no JSON objects with keys"
            )
            raise UserError(
                f"{self.path} {found}: save it as UTF-8 with one object a line, as "
                "to_json(orient='records', lines=True) of pandas does"
            )
        return list(names)

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        with open_lines(self.path, newline="\n") as file:
            for number, (line, found) in enumerate(self._objects(file)):
                if isinstance(found, str):
                    yield Record(number, None, found, line)
                    continue
                values = {column: found.get(column) for column in columns}
                if all(is_unicode(value) for value in values.values() if isinstance(value, str)):
                    yield Record(number, values, None, line)
                else:
                    yield Record(number, None, BAD_UNICODE, line)

    def _objects(self, file: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The line of each object, and the object, or what is wrong with the line."""
        number = 0
        while line := read_line(file, LONGEST_LINE):
            number += 1
            if is_cut(line, LONGEST_LINE):
                yield number, TOO_LONG
            elif not is_unicode(line):
                yield number, NOT_UTF8
            elif not line.isspace():
                try:
                    value = json.loads(line, object_pairs_hook=_to_object)
                except _KeyTwiceError:
                    yield number, KEY_TWICE
                    continue
                except (ValueError, RecursionError):  # of brackets by the thousand
                    value = None
                yield number, value if isinstance(value, dict) else NOT_JSON


class _KeyTwiceError(ValueError):
    """An object has a key twice, of which Python would take the last."""


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _KeyTwiceError
    return found
