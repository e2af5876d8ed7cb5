"""Texts in files: a column of a table with a column of labels, or plain lines."""

from collections import Counter
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

from attnlstm.config.checks import nearest
from attnlstm.config.data import Delimiter, TextColumns, TextConfig
from attnlstm.config.schema import register_source
from attnlstm.console import shorten
from attnlstm.data.formats.line_tables import (
    LONGEST_LINE,
    NUL,
    TOO_LONG,
    is_unicode,
    open_lines,
)
from attnlstm.data.formats.table import NOT_UTF8, Record
from attnlstm.data.formats.tables import open_table
from attnlstm.data.rows import Row, RowSource, name_columns
from attnlstm.data.sources.source import FileSource
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint, fingerprint_of, is_cut, read_line

TEXT_COLUMNS = (
    "text",
    "texts",
    "sentence",
    "review",
    "review_text",
    "content",
    "document",
    "article",
    "body",
    "message",
    "comment",
    "comment_text",
    "description",
    "tweet",
    "headline",
    "question",
    "utterance",
)
LABEL_COLUMNS = (
    "label",
    "labels",
    "target",
    "class",
    "category",
    "sentiment",
    "topic",
    "intent",
    "emotion",
)
"""What these columns are called, in any case, where the configuration does not say."""

NO_TEXT = "no text"
NO_STRING = "text is not a string"
NO_LABEL_TYPE = "label is not a string, integer or boolean"


@register_source
class TextFilesSource(FileSource, TextColumns, Delimiter, TextConfig):
    """Tables of texts: CSV, TSV, JSON lines, Parquet, folders saved by datasets."""

    source: Literal["text_files"] = "text_files"

    def open_files(self, files: Sequence[Path], key: str, needs_labels: bool = True) -> RowSource:
        return TextFiles(
            files,
            key=key,
            text_column=self.text_column,
            label_column=self.label_column,
            delimiter=self.delimiter,
            needs_labels=needs_labels,
        )


class TextFiles(RowSource):
    """The rows of tables with a text and a label each, one file after the other.

    key: what messages call the files, such as "data.train".
    text_column, label_column: their names; None takes the one column whose name says what it is.
    needs_labels: without it, a file that has no label column gives rows without labels.

    Raises:
        UserError: a file is no table, or the columns are not in all files or cannot be guessed.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        key: str,
        text_column: str | None = None,
        label_column: str | None = None,
        delimiter: str | None = None,
        needs_labels: bool = True,
    ) -> None:
        self._tables = [open_table(file, delimiter) for file in files]
        first, others = files[0], len(files) - 1
        self.name = first.name + f" and {others} more" * (others > 0)
        self.text_column, self.label_column = choose_columns(
            self._tables[0].column_names(),
            f"{key}={first}",
            self._tables[0].describe_columns(),
            text_column,
            label_column,
            needs_labels,
        )
        self.columns_used = name_columns(text=self.text_column, label=self.label_column)
        for table in self._tables:
            table.check_columns([self.text_column])
            if needs_labels and self.label_column is not None:
                table.check_columns([self.label_column])
        self.label_names = self._declared_names()

    def __iter__(self) -> Iterator[Row]:
        counts = Counter(table.path.name for table in self._tables)
        for table in self._tables:
            path = table.path
            file = path.name if counts[path.name] == 1 else str(path)
            label_column = self._label_column_of(table.column_names())
            columns = [self.text_column, label_column] if label_column else [self.text_column]
            for record in table.records(columns):
                if label_column and record.values is not None:
                    record.values[label_column] = table.read_label(record.values[label_column])
                yield to_row(file, record, self.text_column, label_column)

    def fingerprint(self) -> str:
        files = [file_fingerprint(table.path) for table in self._tables]
        delimiters = [getattr(table, "delimiter", None) for table in self._tables]
        return fingerprint_of([*files, delimiters, self.text_column, self.label_column])

    def _label_column_of(self, columns: Sequence[str]) -> str | None:
        return self.label_column if self.label_column in columns else None

    def _declared_names(self) -> list[str] | None:
        declared = []
        for table in self._tables:
            column = self._label_column_of(table.column_names())
            declared.append(table.label_names(column) if column else None)
        return declared[0] if all(names == declared[0] for names in declared) else None


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


def choose_columns(
    columns: Sequence[str],
    where: str,
    described: str,
    text_column: str | None,
    label_column: str | None,
    needs_labels: bool,
) -> tuple[str, str | None]:
    """The columns of the texts and of the labels: as named, or the only ones that look like it.

    where, described: the data and its columns, in the words of a message.

    Raises:
        UserError: there is no such column, none or several could be it, or both are the same.
    """
    candidates = {
        "text": [c for c in columns if c.strip().lower() in TEXT_COLUMNS and c != label_column],
        "label": [c for c in columns if c.strip().lower() in LABEL_COLUMNS and c != text_column],
    }

    def choose(kind: str, named: str | None, is_needed: bool) -> str | None:
        found = candidates[kind]
        if named is not None and (named in columns or not is_needed):
            return named if named in columns else None
        if named is not None:
            raise UserError(
                f"{where} has no column data.{kind}_column={named}: did you mean "
                f"{shorten(nearest(named, columns))}? {described}"
            )
        if len(found) == 1:
            return found[0]
        if not is_needed:
            return None
        which = f"several columns ({', '.join(found)})" if found else "no column"
        raise UserError(
            f"{where} has {which} with a name for the {kind}s: say "
            f"data.{kind}_column={found[0] if found else '...'}. {described}"
        )

    text = choose("text", text_column, is_needed=True)
    label = choose("label", label_column, is_needed=needs_labels)
    assert text is not None
    if text == label:
        raise UserError(
            f"data.text_column and data.label_column are both {text} of {where}: name two columns. "
            f"{described}"
        )
    return text, label


def to_row(file: str, record: Record, text_column: str, label_column: str | None) -> Row:
    """A record's text and label, or what is wrong with them."""
    if record.values is None:
        return Row(file, record.number, None, None, record.problem, record.line)
    text: Any = record.values[text_column]
    label, problem = None, None
    if label_column is not None:
        label, problem = read_label(record.values[label_column])
    if text is None or text != text:  # NaN, a missing text to pandas
        text, problem = None, NO_TEXT
    elif not isinstance(text, str):
        text, problem = None, NO_STRING
    elif len(text) > LONGEST_LINE:  # in any kind of file
        text, problem = None, TOO_LONG
    elif not text or text.isspace():
        text, problem = None, NO_TEXT
    return Row(file, record.number, text, label, problem, record.line)


def read_label(value: Any) -> tuple[str | None, str | None]:
    """A cell as the name of a class, None where it has none; and what is wrong with it.

    An integral float is an integer: that is what a column of integers with gaps turns into.
    """
    if isinstance(value, str):
        return value.strip() or None, None
    if value is None:
        return None, None
    if isinstance(value, bool | int):
        return str(value), None
    if isinstance(value, float):
        if value != value:
            return None, None
        if value.is_integer():
            return str(int(value)), None
    return None, NO_LABEL_TYPE
