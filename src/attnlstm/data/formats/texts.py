"""Rows of texts, from the records of a table or from plain lines."""

from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from attnlstm.data.formats.labels import RowProblemError, read_label
from attnlstm.data.formats.line_tables import (
    LONGEST_LINE,
    NUL,
    TOO_LONG,
    is_unicode,
    open_lines,
)
from attnlstm.data.formats.table import NOT_UTF8, Record
from attnlstm.data.rows import Row, RowSource
from attnlstm.files import file_fingerprint, is_cut, read_line

NO_TEXT = "no text"
NO_STRING = "text is not a string"


def to_row(
    file: str,
    record: Record,
    text_column: str,
    label_column: str | None,
    read_label: Callable[[Any], str | None] = read_label,
) -> Row:
    """Return the row of a record: its text and label, or what is wrong with them."""
    if record.values is None:
        return Row(file, record.number, None, None, record.problem, record.line)
    text: Any = record.values[text_column]
    label, problem = None, None
    if label_column is not None:
        try:
            label = read_label(record.values[label_column])
        except RowProblemError as error:
            problem = str(error)
    if text is None or text != text:  # NaN, a missing text to pandas
        text, problem = None, NO_TEXT
    elif not isinstance(text, str):
        text, problem = None, NO_STRING
    elif len(text) > LONGEST_LINE:  # in any kind of file
        text, problem = None, TOO_LONG
    elif not text or text.isspace():
        text, problem = None, NO_TEXT
    return Row(file, record.number, text, label, problem, record.line)


class TextLines(RowSource):
    """A text a line and no labels, of a file or of a stream, which can be gone through once.

    Blank lines are rows without text, so that rows and lines keep in step.
    """

    def __init__(self, source: Path | BinaryIO, name: str = "standard input") -> None:
        self._source = source
        self._used = False
        self.name = source.name if isinstance(source, Path) else name

    def __iter__(self) -> Iterator[Row]:
        if isinstance(self._source, Path):
            with open_lines(self._source, newline="\n") as file:
                yield from self._rows(file)
            return
        if self._used:
            raise RuntimeError(f"{self.name} is a stream: its lines are gone after the first time")
        self._used = True
        file = TextIOWrapper(
            self._source, encoding="utf-8-sig", errors="surrogateescape", newline="\n"
        )
        try:
            yield from self._rows(file)
        finally:
            file.detach()  # the stream is not ours to close

    def fingerprint(self) -> str:
        if isinstance(self._source, Path):
            return file_fingerprint(self._source)
        raise RuntimeError(f"{self.name} is a stream: it has no fingerprint")

    def _rows(self, file: TextIO) -> Iterator[Row]:
        number = 0
        while line := read_line(file, LONGEST_LINE):
            text: str | None = line.removesuffix("\n").removesuffix("\r")
            problem = None
            if is_cut(line, LONGEST_LINE):
                problem = TOO_LONG
            elif not is_unicode(line):
                problem = NOT_UTF8
            elif "\0" in line:
                problem = NUL
            elif line.isspace():
                problem = NO_TEXT
            yield Row(
                self.name, number, None if problem else text, problem=problem, line=number + 1
            )
            number += 1
