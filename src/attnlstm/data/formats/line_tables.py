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
from attnlstm.data.formats import register_reader
from attnlstm.data.formats.labels import read_label
from attnlstm.data.formats.lines import (
    LONGEST_LINE,
    NOT_UTF8,
    NUL,
    TOO_LONG,
    check_lines,
    is_cut,
    is_unicode,
    open_lines,
    read_line,
)
from attnlstm.data.formats.table import Record, Table, check_names
from attnlstm.errors import UserError

SCANNED_LINES = 1000  # of JSON, whose keys are the columns

BAD_QUOTE = 'a quote (") that is not closed or not doubled'
NOT_JSON = "not a JSON object"

WHOLE_NUMBER = re.compile(r"\s*([+-]?(?:0|[1-9]\d*))\.0+\s*", re.ASCII)
"""Such as 1.0, which is how a column of integers with gaps is often saved."""


@register_reader(".csv")
class CSVTable(Table):
    """Columns between delimiters, quoted with `"` where needed; names in the first line.

    A blank line is no record. After a bad quote reading continues with the next line, so that a
    quote that is never closed costs one record and not all that follow. Between tabs, a quoted
    field with both a tab and a line break counts as a bad quote, too: the file was probably
    written without quoting, and a text that begins with a quote would swallow other records.
    """

    usual_delimiter = ","

    def __init__(self, path: Path, delimiter: str | None = None) -> None:
        super().__init__(path)
        delimiter = delimiter or self.usual_delimiter
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
        if _find_problem(names):
            raise UserError(f"the header line of {self.path} is not UTF-8: save the file as UTF-8")
        check_names(self.path, names)
        return names

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        with open_lines(self.path, newline="") as file:
            rows = self._rows(file)
            names = self._header(rows)
            place_of = {name: place for place, name in enumerate(names)}
            places = [place_of[column] for column in columns]
            for number, (line, fields) in enumerate(rows):
                if isinstance(fields, str):
                    yield Record(number, None, fields, line)
                elif len(fields) != len(names):
                    yield Record(number, None, "wrong number of columns", line)
                else:
                    values = [fields[place] for place in places]
                    problem = _find_problem(values)
                    named = None if problem else dict(zip(columns, values, strict=True))
                    yield Record(number, named, problem, line)

    def _rows(self, file: TextIO) -> Iterator[tuple[int, list[str] | str]]:
        """Yield the line on which each row begins, and its fields, or what is wrong with it."""
        csv.field_size_limit(LONGEST_LINE)  # a setting of the whole process
        lines = _Lines(file)
        # strict: otherwise a bad quote would be read as something that nobody wrote
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
        """Return whether a quoted field seems to hold several records, see above."""
        return self.delimiter == "\t" and any(
            "\t" in field and ("\n" in field or "\r" in field) for field in fields
        )


@register_reader(".tsv", ".tab")
class TSVTable(CSVTable):
    """A CSV table with tabs unless another delimiter is given."""

    usual_delimiter = "\t"


class _Lines:
    """The lines of a file for `csv.reader`; those of the current row can be read again."""

    def __init__(self, file: TextIO) -> None:
        self.number = 0  # of the line read last
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
        """Return to the second line of the row."""
        self.number -= len(self.row) - 1
        self._again.extendleft(reversed(self.row[1:]))


def _find_problem(fields: Sequence[str]) -> str | None:
    content = "".join(fields)
    if "\0" in content:
        return NUL
    return None if is_unicode(content) else NOT_UTF8


@register_reader(".jsonl", ".ndjson", ".json")
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
            is_array = file.read(1000).lstrip().startswith("[")
        if is_empty:
            raise UserError(f"{self.path} is empty: it must have one JSON object a line")
        if not names:
            what = "is one JSON array" if is_array else "has no JSON objects with keys"
            raise UserError(
                f"{self.path} {what}: save it as UTF-8 with one object a line, as "
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
                    yield Record(number, None, "invalid Unicode", line)

    def _objects(self, file: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """Yield the line of each object, and the object, or what is wrong with the line."""
        for number, line, problem in check_lines(file):
            if problem is not None:
                yield number, problem
            elif not line.isspace():
                yield number, _parse(line)


def _parse(line: str) -> dict[str, Any] | str:
    try:
        value = json.loads(line, object_pairs_hook=_to_object)
    except _KeyTwiceError:
        return "key twice in a JSON object"
    except (ValueError, RecursionError):  # the latter from thousands of brackets
        return NOT_JSON
    return value if isinstance(value, dict) else NOT_JSON


class _KeyTwiceError(ValueError):
    """An object has a key twice; Python would silently use the last one."""


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _KeyTwiceError
    return found
