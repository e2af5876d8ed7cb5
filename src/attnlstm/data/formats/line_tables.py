"""CSV files and their kin: tables with a record a line."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

from attnlstm.console import shorten
from attnlstm.data.formats import register_reader
from attnlstm.data.formats.dialect import DELIMITERS, Dialect, find_dialect
from attnlstm.data.formats.encodings import (
    UTF8,
    Undecoded,
    check_encoding,
    not_decoded,
    not_utf8,
)
from attnlstm.data.formats.labels import read_untyped_label
from attnlstm.data.formats.lines import NUL, is_unicode
from attnlstm.data.formats.series import DECIMAL_COMMA
from attnlstm.data.formats.table import FormatOptions, Record, Table, check_names
from attnlstm.errors import UserError


@register_reader(".csv")
class CSVTable(Table):
    """Columns between delimiters, quoted with `"` where needed; names in the first line.

    A blank line is no record. After a bad quote reading continues with the next line, so that a
    quote that is never closed costs one record and not all that follow. Between tabs, a quoted
    field with both a tab and a line break counts as a bad quote, too: the file was probably
    written without quoting, and a text that begins with a quote would swallow other records.

    Empty fields beyond the last column with a name are nothing, whether a row has them or not.
    """

    usual_delimiter = ","
    is_packable = True

    def __init__(self, path: Path, **options: Unpack[FormatOptions]) -> None:
        super().__init__(path, **options)
        self._given = options
        if (encoding := options.get("encoding")) is not None:
            check_encoding(encoding)
        if (delimiter := options.get("delimiter")) is not None:
            character = options["delimiter"] = "\t" if delimiter == r"\t" else delimiter
            if len(character) != 1 or character in '"\r\n':
                raise UserError(
                    f"data.delimiter={delimiter!r} is not one character: such as ',' or ';'"
                )
        self._has_decimal_commas = options.get("decimal") == ","
        self._undecoded = Undecoded()

    @cached_property
    def dialect(self) -> Dialect:
        """How the file is written."""
        return find_dialect(self.path, self.usual_delimiter, self._given)

    @property
    def has_header(self) -> bool:  # type: ignore[override]
        return self.dialect.has_header

    @property
    def read_as(self) -> str:  # type: ignore[override]
        return self.dialect.describe() + ", decimal commas" * self._has_decimal_commas

    def column_names(self) -> list[str]:
        with self.dialect.open(self.path) as file:
            rows = self.dialect.split(file)
            names = self._header(rows)
            if self.has_header and next(rows, None) is None:
                raise UserError(f"{self.path} has only a header line: add records")
        return names

    def describe_columns(self) -> str:
        names = self.column_names()
        others = [other for other in DELIMITERS if other in names[0]]
        if len(names) == 1 and others and self.has_header:
            wanted = others[0].replace("\t", r"\t")
            return f"Its only column is {shorten(names[0])!r}: say data.delimiter='{wanted}'"
        columns = super().describe_columns()
        if self.has_header:
            return f"{columns}, as its first line says (if that is a record: data.header=false)"
        return f"{columns}, as its first line is a record (if it names them: data.header=true)"

    def read_single_label(self, cell: Any) -> str | None:
        return read_untyped_label(cell, self._has_decimal_commas)

    def _header(self, rows: Iterator[tuple[int, list[str] | str]]) -> list[str]:
        """Return the names of the columns; a header is taken from the rows."""
        _, names = next(rows, (0, None))
        if names is None:
            raise UserError(f"{self.path} is empty: its first line must name the columns")
        if not self.has_header:
            first = names if isinstance(names, list) else self._first_good(rows)
            names = list(map(str, range(len(first))))
        if isinstance(names, str):
            raise UserError(f"the header line of {self.path} cannot be read ({names}): fix it")
        if problem := self._find_problem(names):
            if self.dialect.encoding != UTF8:
                raise UserError(f"the header line of {self.path} has a problem ({problem}): fix it")
            raise not_utf8(self.path)
        check_names(self.path, names)
        return names

    def _first_good(self, rows: Iterator[tuple[int, list[str] | str]]) -> list[str]:
        good = (fields for _, fields in islice(rows, 1000) if isinstance(fields, list))
        fields = next(good, None)
        if fields is None:
            raise UserError(
                f"{self.path} cannot be read: none of its first 1,000 lines is a record"
            )
        return fields

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        with self.dialect.open(self.path) as file:
            names = self.column_names()
            rows = self.dialect.split(file)
            if self.has_header:
                next(rows)
            place_of = {name: place for place, name in enumerate(names)}
            places = [place_of[column] for column in columns]
            num_named = max((place for place, name in enumerate(names) if name), default=-1) + 1
            for number, (line, fields) in enumerate(rows):
                if isinstance(fields, str):
                    yield Record(number, None, fields, line)
                    continue
                if len(fields) != len(names):
                    if len(fields) < num_named or any(fields[len(names) :]):
                        yield Record(number, None, "wrong number of columns", line)
                        continue
                    fields += [""] * (len(names) - len(fields))
                values = [fields[place] for place in places]
                problem = self._find_problem(values)
                if self._has_decimal_commas:
                    values = list(map(_with_point, values))
                named = None if problem else dict(zip(columns, values, strict=True))
                yield Record(number, named, problem, line)

    def _find_problem(self, fields: Sequence[str]) -> str | None:
        content = "".join(fields)
        if "\0" in content:
            return NUL
        if is_unicode(content):
            return None
        bad = next(field for field in fields if not is_unicode(field))
        self._undecoded.add(bad, self.dialect.encoding)
        return not_decoded(self.dialect.encoding)

    @property
    def doubt(self) -> str | None:  # type: ignore[override]
        if self.dialect.may_be_utf8:
            return (
                f"{self.path.name} is read as {self.dialect.encoding}, but is valid UTF-8: if "
                "letters look odd, say data.encoding=utf-8"
            )
        return self._undecoded.advise(self.path.name)


@register_reader(".tsv", ".tab")
class TSVTable(CSVTable):
    """A CSV table with tabs unless another delimiter is given."""

    usual_delimiter = "\t"


def _with_point(field: str) -> str:
    """Return a number with a decimal comma as one with a point, and other fields as they are."""
    return field.replace(",", ".") if DECIMAL_COMMA.fullmatch(field) else field
