"""JSON tables: one object per line, or an array of objects."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, Unpack

from attnlstm.data.formats import register_reader
from attnlstm.data.formats.encodings import (
    Undecoded,
    check_encoding,
    describe_encoding,
    not_decoded,
    not_utf8,
)
from attnlstm.data.formats.lines import LONGEST_LINE, check_lines, is_unicode, open_lines
from attnlstm.data.formats.table import FormatOptions, Record, Table, check_names
from attnlstm.errors import UserError

SCANNED_RECORDS = 1000
"""The keys of this many objects are the columns."""

CHUNK = 1 << 16
"""Characters read at a time."""

WHITE_SPACE = re.compile(r"\s*")

NOT_JSON = "not a JSON object"
KEY_TWICE = "key twice in a JSON object"


@register_reader(".jsonl", ".ndjson", ".json")
class JSONTable(Table):
    """One JSON object per line, or one array of objects; the value of a missing key is None.

    The columns are the keys of the first 1000 objects. Blank lines are skipped.
    """

    is_packable = True

    def __init__(self, path: Path, **options: Unpack[FormatOptions]) -> None:
        super().__init__(path, **options)
        self._undecoded = Undecoded()
        self._encoding = options.get("encoding")
        if self._encoding is not None:
            check_encoding(self._encoding)

    def column_names(self) -> list[str]:
        names: dict[str, None] = {}
        is_empty = True
        with self._open() as file:
            self.read_as = describe_encoding(file.encoding)
            start = file.read(CHUNK)
        with self._open() as file:
            for _, found in islice(self._objects(file), SCANNED_RECORDS):
                is_empty = False
                if isinstance(found, dict):
                    names.update(dict.fromkeys(filter(is_unicode, found)))
                    check_names(self.path, list(names))
        if is_empty:
            raise UserError(f"{self.path} is empty: it must have one JSON object a line")
        if not names:
            if "\0" in start or not is_unicode(start):
                raise not_utf8(self.path)
            raise UserError(
                f"{self.path} has no JSON objects with keys: save it with one object a line, as "
                "to_json(orient='records', lines=True) of pandas does, or as one array of objects"
            )
        return list(names)

    def _open(self) -> TextIO:
        return open_lines(self.path, "\n", self._encoding)

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        with self._open() as file:
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
        """Yield the line of each record with its object, or with what is wrong with it."""
        with self._open() as again:
            is_array = again.read(CHUNK).lstrip().startswith("[")
        if is_array:
            yield from self._items(file)
            return
        for number, line, problem in check_lines(file):
            if problem is not None:
                if problem == not_decoded(file.encoding):
                    self._undecoded.add(line, file.encoding)
                yield number, problem
            elif not line.isspace():
                yield number, _parse(line)

    def _items(self, file: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """Yield the items of a file that is one array, with their lines, reading in chunks.

        Raises:
            UserError: the array is broken, so that it is unknown where the next item begins.
        """
        text = _Characters(file)
        text.peek()
        text.take()  # the bracket
        while (character := text.peek()) != "]":
            if character == ",":
                text.take()
                character = text.peek()
            if not character:
                raise UserError(f"{self.path} is a JSON array without its end: save it again")
            line = text.line
            found = text.decode(self.path)
            yield line, found if isinstance(found, dict) or found is KEY_TWICE else NOT_JSON
        text.take()
        if text.peek():
            raise UserError(
                f"{self.path} goes on after its JSON array (line {text.line}): save it as one array"
            )

    @property
    def doubt(self) -> str | None:  # type: ignore[override]
        return self._undecoded.advise(self.path.name)


class _Characters:
    """The characters of a file; those from `_place` on are still to be read."""

    def __init__(self, file: TextIO) -> None:
        self.line = 1
        self._file = file
        self._buffer, self._place = "", 0

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            found = WHITE_SPACE.match(self._buffer, self._place)
            assert found is not None
            self.take(found.end() - self._place)
            if self._place < len(self._buffer):
                return self._buffer[self._place]
            if not self._fill():
                return ""

    def take(self, count: int = 1) -> None:
        """Advance by some characters."""
        self.line += self._buffer.count("\n", self._place, self._place + count)
        self._place += count

    def decode(self, path: Path) -> Any:
        """Return the JSON value that begins here, or what is wrong with it.

        Raises:
            UserError: there is no JSON value, or it is too long.
        """
        while True:
            found, end = self._decode()
            if end is not None and end < len(self._buffer):
                break
            if len(self._buffer) - self._place > LONGEST_LINE or not self._fill():
                break
        if end is None:
            raise UserError(
                f"{path} is a JSON array that is broken at line {self.line}: fix it, or save it "
                "with one object a line"
            )
        self.take(end - self._place)
        return found

    def _decode(self) -> tuple[Any, int | None]:
        """Return the value and its end; (None, None) if it is broken or not completely read."""
        try:
            return OBJECTS.raw_decode(self._buffer, self._place)
        except _KeyTwiceError:
            return KEY_TWICE, PLAIN.raw_decode(self._buffer, self._place)[1]
        except (ValueError, RecursionError):
            return None, None

    def _fill(self) -> bool:
        """Read more, doubling what is left to read; return whether there was any more."""
        more = self._file.read(max(CHUNK, len(self._buffer) - self._place))
        if more:
            self._buffer, self._place = self._buffer[self._place :] + more, 0
        return bool(more)


def _parse(line: str) -> dict[str, Any] | str:
    try:
        value = OBJECTS.decode(line)
    except _KeyTwiceError:
        return KEY_TWICE
    except (ValueError, RecursionError):  # the latter from thousands of brackets
        return NOT_JSON
    return value if isinstance(value, dict) else NOT_JSON


class _KeyTwiceError(ValueError):
    """An object has the same key twice; Python would silently keep the last value."""


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _KeyTwiceError
    return found


OBJECTS = json.JSONDecoder(object_pairs_hook=_to_object)
PLAIN = json.JSONDecoder()
