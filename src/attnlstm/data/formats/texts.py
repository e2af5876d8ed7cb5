"""Rows of texts, from the records of a table or from plain lines."""

from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from attnlstm.data.formats.labels import RowProblemError, read_label, read_name
from attnlstm.data.formats.lines import LONGEST_LINE, NUL, TOO_LONG, check_lines, open_lines
from attnlstm.data.formats.table import Record
from attnlstm.data.rows import Row, RowSource
from attnlstm.files import file_fingerprint

NO_TEXT = "no text"


def to_row(
    file: str,
    record: Record,
    text_column: str,
    label_column: str | None,
    read_label: Callable[[Any], str | None] = read_label,
    group_column: str | None = None,
) -> Row:
    """Return the row of a record: its text, label and group, or what is wrong with them."""
    if record.values is None:
        return Row(file, record.number, None, None, record.problem, record.line)
    text: Any = record.values[text_column]
    label, problem = None, None
    if label_column is not None:
        try:
            label = read_label(record.values[label_column])
        except RowProblemError as error:
            problem = str(error)
    if text is None or text != text:  # NaN is how pandas writes a missing text
        text, problem = None, NO_TEXT
    elif not isinstance(text, str):
        text, problem = None, "text is not a string"
    elif len(text) > LONGEST_LINE:
        text, problem = None, TOO_LONG
    elif not text or text.isspace():
        text, problem = None, NO_TEXT
    group = None if group_column is None else read_name(record.values[group_column])
    return Row(file, record.number, text, label, problem, record.line, group=group)


class TextLines(RowSource):
    """A text in each line and no labels, from a file, or from a stream that is read once.

    Blank lines are rows without text, so that the numbers of rows and lines stay in step.
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
            raise RuntimeError(f"{self.name} is a stream: it can only be read once")
        self._used = True
        stream = TextIOWrapper(
            self._source, encoding="utf-8-sig", errors="surrogateescape", newline="\n"
        )
        try:
            yield from self._rows(stream)
        finally:
            stream.detach()  # so that the caller's stream is not closed

    def fingerprint(self) -> str:
        if isinstance(self._source, Path):
            return file_fingerprint(self._source)
        raise RuntimeError(f"{self.name} is a stream: it has no fingerprint")

    def _rows(self, file: TextIO) -> Iterator[Row]:
        for line, content, problem in check_lines(file):
            if problem is None and "\0" in content:
                problem = NUL
            elif problem is None and content.isspace():
                problem = NO_TEXT
            text = None if problem else content.removesuffix("\n").removesuffix("\r")
            yield Row(self.name, line - 1, text, problem=problem, line=line)
