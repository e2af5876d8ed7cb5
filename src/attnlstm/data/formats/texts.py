"""Rows of texts, from the records of a table or from plain lines."""

import json
from collections.abc import Callable, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from attnlstm.data.formats.encodings import check_encoding, error_handler, find_encoding
from attnlstm.data.formats.labels import RowProblemError, read_cell, read_name
from attnlstm.data.formats.lines import (
    LONGEST_LINE,
    NUL,
    TOO_LONG,
    check_lines,
    is_unicode,
    open_lines,
)
from attnlstm.data.formats.table import Record
from attnlstm.data.rows import Label, Row, RowSource
from attnlstm.files import file_fingerprint

NO_TEXT = "no text"


def to_row(
    file: str,
    record: Record,
    text_columns: Sequence[str],
    label_column: str | None,
    read_label: Callable[[Any], Label | None] = read_cell,
    group_column: str | None = None,
) -> Row:
    """Return the row of a record: its text, label and group, or what is wrong with them.

    The texts of several columns are joined by line breaks; those that are missing are left out.
    """
    if record.values is None:
        return Row(file, record.number, None, None, record.problem, record.line, record.name)
    label, problem = None, None
    if label_column is not None:
        try:
            label = read_label(record.values[label_column])
        except RowProblemError as error:
            problem = str(error)
    texts = [record.values[column] for column in text_columns]
    texts = [text for text in texts if text is not None and text == text]  # NaN: pandas' missing
    if len(texts) > 1 and all(isinstance(text, str) for text in texts):
        texts = ["\n".join(text for text in texts if text.strip())]
    text: Any = texts[0] if texts else ""
    if len(texts) > 1 or not isinstance(text, str):
        text, problem = None, "text is not a string"
    elif len(text) > LONGEST_LINE:
        text, problem = None, TOO_LONG
    elif not text or text.isspace():
        text, problem = None, NO_TEXT
    group = None if group_column is None else read_name(record.values[group_column])
    return Row(*(file, record.number, text, label, problem, record.line, record.name), group=group)


def show_value(value: Any) -> str | None:
    """Return the value of a column that is kept as it would stand in a CSV file; None if missing.

    Lists and objects are JSON.
    """
    if value is None or value != value:  # NaN
        return None
    if not isinstance(value, list | dict):
        return str(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if is_unicode(text) else json.dumps(value, default=str)


class TextLines(RowSource):
    """A text in each line and no labels, from a file, or from a stream that is read once.

    Blank lines are rows without text, so that the numbers of rows and lines stay in step.
    """

    def __init__(
        self,
        source: Path | BinaryIO,
        name: str = "standard input",
        encoding: str | None = None,
    ) -> None:
        if encoding is not None:
            check_encoding(encoding)
        self._source = source
        self._encoding = encoding
        self._used = False
        self.name = source.name if isinstance(source, Path) else name

    def __iter__(self) -> Iterator[Row]:
        if isinstance(self._source, Path):
            with open_lines(self._source, "\n", self._encoding) as file:
                yield from self._rows(file)
            return
        if self._used:
            raise RuntimeError(f"{self.name} is a stream: it can only be read once")
        self._used = True
        encoding = find_encoding(b"", self._encoding)  # a stream cannot be read twice
        stream = TextIOWrapper(self._source, encoding, error_handler(encoding), newline="\n")
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
