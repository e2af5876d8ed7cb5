"""Files: found by name, written as a whole, read within bounds, told apart by their content."""

import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, AnyStr, BinaryIO

from attnlstm.errors import UserError

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


def find_files(patterns: str | Sequence[str], key: str) -> list[Path]:
    """The files of a path, of a glob such as `data/*.csv` (sorted), or of several of these.

    key: what messages call the patterns, such as "data.train".

    Raises:
        UserError: a path does not exist, a glob matches nothing, or a file is named twice.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise UserError(f"{key} names no file: give a path")
    files: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if os.path.exists(path) and pattern.strip():
            if not (path.is_file() or path.is_dir()):  # a pipe would be waited for
                raise UserError(f"{key}={pattern} is neither a file nor a folder: give one of them")
            files.append(path)
            continue
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
        matches = [match for match in matches if match.is_file() or is_saved(match)]
        if not matches:
            what = "matches no file" if glob.has_magic(pattern) else "does not exist"
            raise UserError(f"{key}={pattern} {what} (seen from {Path.cwd()}): check the path")
        files += matches
    for file, count in Counter(file.resolve() for file in files).items():
        if count > 1:
            raise UserError(f"{key} names {file} {count} times: name it once")
    return files


def file_fingerprint(path: Path) -> str:
    """The SHA-256 of a file's content; for a folder, of the names and contents of its files."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(path)}\0{file_fingerprint(file)}\n".encode())
        return digest.hexdigest()
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise cannot_read(path, error) from error


def open_binary(path: Path) -> BinaryIO:
    """Open a file to read; raise a UserError if it cannot be opened."""
    try:
        return path.open("rb")
    except OSError as error:
        raise cannot_read(path, error) from error


def cannot_read(path: Path, error: Exception) -> UserError:
    """The complaint about a file that cannot be opened or is broken."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return UserError(
        f"{path} cannot be read ({reason}): check the path, the file and its permissions"
    )


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk`."""
    return (path / "state.json").is_file()
