"""Files: written as a whole, read line by line within bounds, told apart by their content."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, AnyStr, BinaryIO

ZIP_END, ZIP_END_SIZE = b"PK\x05\x06", 22
"""The record that ends a zip archive; its last two bytes are the length of a comment."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place once it is on the disk.

    After an error, or where the folder is gone, `path` is as it was before. Processes that write
    the same file at the same time do not disturb each other: the last one wins.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_line(file: IO[AnyStr], longest: int) -> AnyStr:
    """The next line with its end, nothing after the last one; of a longer line, its beginning."""
    line = file.readline(longest)
    rest = line
    while is_cut(rest, longest):
        rest = file.readline(longest)
    return line


def is_cut(line: str | bytes, longest: int) -> bool:
    """Whether `read_line` has returned only the beginning of a line."""
    if len(line) < longest:
        return False
    return not (line.endswith(("\r", "\n")) if isinstance(line, str) else line.endswith(b"\n"))


def read_zip_directory_size(file: BinaryIO, size: int) -> int | None:
    """How many bytes the list of parts of a zip archive takes.

    Args:
        file: it begins with the archive.
        size: of the archive.

    Returns:
        None where no archive without a comment ends there.
    """
    file.seek(max(0, size - ZIP_END_SIZE))
    end = file.read(ZIP_END_SIZE)
    if len(end) < ZIP_END_SIZE or not end.startswith(ZIP_END) or end[-2:] != b"\0\0":
        return None
    return int.from_bytes(end[12:16], "little")


def fingerprint_of(values: Iterable[Any]) -> str:
    """The SHA-256 of the JSON list of plain values, of which one at a time is in memory."""
    digest = hashlib.sha256(b"[")
    for number, value in enumerate(values):
        separator = ", " if number else ""
        digest.update(f"{separator}{json.dumps(value, sort_keys=True)}".encode())
    digest.update(b"]")
    return digest.hexdigest()
