"""Lines of files, none of them held in memory beyond a limit."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, AnyStr, TextIO

from attnlstm.data.formats.compression import check_is_unpacked, open_unpacked
from attnlstm.data.formats.encodings import error_handler, find_encoding, not_decoded

LONGEST_LINE = 1 << 22  # characters

NOT_UTF8 = "not UTF-8"
NUL = "NUL character"
TOO_LONG = "longer than 4 Mi characters"


def open_lines(path: Path, newline: str, encoding: str | None = None) -> TextIO:
    """Open a text file; bytes that cannot be decoded become lone surrogates, see `is_unicode`.

    encoding: as `find_encoding` takes it; the file's attribute `encoding` is what was found.
    """
    file: io.BufferedReader = open_unpacked(path)  # type: ignore[assignment]
    start = file.peek(16)
    check_is_unpacked(path, start)
    found = find_encoding(start, encoding)
    return io.TextIOWrapper(file, found, error_handler(found), newline)


def is_unicode(text: str) -> bool:
    """Return whether a string can be encoded, that is, has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_line(file: IO[AnyStr], longest: int) -> AnyStr:
    """Return the next line with its end, or the beginning of a longer line; empty at the end."""
    line = rest = file.readline(longest)
    while is_cut(rest, longest):
        rest = file.readline(longest)
    return line


def is_cut(line: str | bytes, longest: int) -> bool:
    """Return whether `read_line` has returned only the beginning of a line."""
    if len(line) < longest:
        return False
    return not (line.endswith(("\r", "\n")) if isinstance(line, str) else line.endswith(b"\n"))


def read_lines(file: IO[AnyStr], longest: int) -> Iterator[tuple[int, AnyStr]]:
    """Yield the lines of a file as `read_line` does, with their numbers from 1."""
    number = 0
    while line := read_line(file, longest):
        number += 1
        yield number, line


def check_lines(file: TextIO) -> Iterator[tuple[int, str, str | None]]:
    """Yield the lines of `open_lines` with their numbers from 1, and what is wrong with them."""
    for number, line in read_lines(file, LONGEST_LINE):
        problem = None
        if is_cut(line, LONGEST_LINE):
            problem = TOO_LONG
        elif not is_unicode(line):
            problem = not_decoded(file.encoding)
        yield number, line, problem
