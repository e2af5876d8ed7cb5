"""How a CSV file is written: its encoding, its delimiter, its quotes, and whether it has a header.

What the user does not say is found in the beginning of the file, where it is plain.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TextIO

from attnlstm.data.formats.encodings import UTF8, describe_encoding, is_utf8
from attnlstm.data.formats.headers import has_header
from attnlstm.data.formats.lines import LONGEST_LINE, TOO_LONG, is_cut, open_lines, read_line
from attnlstm.data.formats.series import DECIMAL_COMMA
from attnlstm.data.formats.table import FormatOptions

SAMPLED_CHARACTERS = 1 << 22
SAMPLED_ROWS = 100

DELIMITERS = ",;\t|"

BAD_QUOTE = 'a quote (") that is not closed or not doubled'
BAD_ESCAPE = f'{BAD_QUOTE} (data.backslash_escapes=true reads \\" as a quote)'

EXCEL_LINE = re.compile(r'"?sep=(.)"?(\r\n|\n|\r)', re.IGNORECASE)
"""The first line by which Excel learns the delimiter."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    escapes: whether a backslash takes the meaning from a quote, as in \\".
    has_excel_line: whether its first line names the delimiter.
    may_be_utf8: whether it is read with another encoding though it is valid UTF-8.
    """

    encoding: str
    delimiter: str
    escapes: bool = False
    has_header: bool = True
    has_excel_line: bool = False
    may_be_utf8: bool = False

    def describe(self) -> str:
        """Return for example "UTF-8 with delimiter ';', without a header line"."""
        said = f"{describe_encoding(self.encoding)} with delimiter {self.delimiter!r}"
        said += " and backslash escapes" if self.escapes else ""
        return said + ("" if self.has_header else ", without a header line")

    def open(self, path: Path) -> TextIO:
        """Open a file at its first row."""
        file = open_lines(path, "", self.encoding)
        if self.has_excel_line:
            read_line(file, LONGEST_LINE)
        return file

    def split(self, file: TextIO) -> Iterator[tuple[int, list[str] | str]]:
        """Yield the line on which each row begins, and its fields, or what is wrong with it.

        A blank line is no row.
        """
        csv.field_size_limit(LONGEST_LINE)  # a setting of the whole process
        lines = _Lines(file, first=1 + self.has_excel_line)
        reader = csv.reader(
            lines,
            delimiter=self.delimiter,
            escapechar="\\" if self.escapes else None,
            strict=True,  # otherwise a bad quote would be read as something that nobody wrote
        )
        while True:
            lines.row.clear()
            line = lines.number + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield line, self._explain(lines.row[0])
                lines.go_back()
            else:
                if self._swallows(fields):
                    yield line, BAD_QUOTE
                    lines.go_back()
                elif fields:
                    yield line, fields

    def _explain(self, line: str) -> str:
        """Return why the row that begins with this line cannot be read."""
        if is_cut(line, LONGEST_LINE):
            return TOO_LONG
        return BAD_QUOTE if self.escapes or '\\"' not in line else BAD_ESCAPE

    def _swallows(self, fields: Sequence[str]) -> bool:
        """Return whether a quoted field between tabs seems to hold several records."""
        return self.delimiter == "\t" and any(
            "\t" in field and ("\n" in field or "\r" in field) for field in fields
        )


class _Lines:
    """The lines of a file for `csv.reader`; those of the current row can be read again."""

    def __init__(self, file: TextIO, first: int) -> None:
        self.number = first - 1  # of the line read last
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


def find_dialect(path: Path, usual_delimiter: str, given: FormatOptions) -> Dialect:
    """Return how a file is written, as the user says or else as its beginning shows.

    Raises:
        UserError: the file cannot be read.
    """
    with open_lines(path, "", given.get("encoding")) as file:
        sample, encoding = file.read(SAMPLED_CHARACTERS), file.encoding
    excel_line = EXCEL_LINE.match(sample)
    if excel_line:
        sample = sample[excel_line.end() :]
    if len(sample) > SAMPLED_CHARACTERS // 2:  # the last line is probably cut
        end = max(sample.rfind("\n"), sample.rfind("\r")) + 1
        sample = sample[:end] or sample
    delimiter = given.get("delimiter") or (excel_line and excel_line[1])
    delimiter = delimiter or _find_delimiter(sample, usual_delimiter)
    escapes = given.get("backslash_escapes")
    if escapes is None:
        escapes = _has_escapes(sample, delimiter)
    dialect = Dialect(encoding, delimiter, escapes, has_excel_line=excel_line is not None)
    is_named = given.get("header")
    if is_named is None:
        rows = _split_sample(sample, dialect)
        is_named = not rows or isinstance(rows[0], str) or has_header(list(_good(rows)))
    may_be_utf8 = encoding != UTF8 and is_utf8(sample, encoding)
    return replace(dialect, has_header=is_named, may_be_utf8=may_be_utf8)


def _split_sample(sample: str, dialect: Dialect) -> list[list[str] | str]:
    rows = dialect.split(io.StringIO(sample, newline=""))
    return [fields for _, fields in islice(rows, SAMPLED_ROWS)]


def _good(rows: Sequence[list[str] | str]) -> Iterator[list[str]]:
    return (fields for fields in rows if not isinstance(fields, str))


def _find_delimiter(sample: str, usual: str) -> str:
    """Return another delimiter than the usual one if only that gives a table.

    A table has several columns, as many in each row. Between semicolons, commas may be those of
    decimal numbers.
    """
    tables = {}
    for delimiter in filter(sample.__contains__, DELIMITERS):
        rows = _split_sample(sample, Dialect("", delimiter))
        good = list(_good(rows))
        if good[:1] == rows[:1] and len(set(map(len, good))) == 1 and len(good[0]) > 1:
            tables[delimiter] = good
    if usual == "," and _has_decimal_commas(tables.get(";", ())):
        return ";"
    return usual if usual in tables or len(tables) != 1 else next(iter(tables))


def _has_decimal_commas(rows: Sequence[list[str]]) -> bool:
    with_comma = [field for fields in rows for field in fields if "," in field]
    return bool(with_comma) and all(map(DECIMAL_COMMA.fullmatch, with_comma))


def _has_escapes(sample: str, delimiter: str) -> bool:
    """Return whether quotes are escaped by backslashes, and rows cannot be read otherwise."""
    if '\\"' not in sample:
        return False
    plain = _split_sample(sample, Dialect("", delimiter))
    escaped = _split_sample(sample, Dialect("", delimiter, escapes=True))
    return BAD_ESCAPE in plain and BAD_QUOTE not in escaped
