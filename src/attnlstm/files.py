"""Files: find them by name, write them whole, check that they can be read, hash their content."""

import errno
import glob
import hashlib
import json
import os
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from attnlstm.errors import UserError

ZIP_END, ZIP_END_SIZE = b"PK\x05\x06", 22
"""The record that ends a zip archive; its last two bytes are the length of a comment."""

LEFT_OVER = 3600  # seconds without a write

MOST_MATCHES = 50_000  # of a glob

ZIP64_END, ZIP64_END_SIZE = b"PK\x06\x06", 56
ZIP64_LOCATOR, ZIP64_LOCATOR_SIZE = b"PK\x06\x07", 20
"""Two records before that one in an archive of more than 4 GB: its end, and where that is."""


NO_FILE = "it is there already and is not a regular file"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write to, which replaces `path` once it is on the disk.

    After an error, or if the folder is gone, `path` is unchanged. Processes that write the same
    file at the same time do not disturb each other: the last one wins. Only a regular file is
    replaced, never a device, a pipe or a folder.

    Raises:
        OSError: it cannot be written.
    """
    if os.path.lexists(path) and not os.path.isfile(path):
        raise FileExistsError(errno.EEXIST, NO_FILE, str(path))
    _remove_leftovers(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `replacing` whose processes were killed at least an hour ago.

    The age protects those of processes on other machines that share the folder.
    """
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        # not one of another program, nor one that another user may keep here
        with suppress(ValueError, OverflowError, OSError):
            is_old = time.time() - partial.stat().st_mtime > LEFT_OVER
            if is_old and not _is_running(int(partial.name.split(".")[-2])):
                partial.unlink()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def reading(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn an OSError, or one of `errors`, into a UserError that says why `path` is unreadable."""
    kinds: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except kinds as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read ({reason}): check the path, the file and its permissions"
        ) from error


@contextmanager
def writing(place: str) -> Iterator[None]:
    """Turn an OSError into a UserError that says why `place` cannot be written, and what to do.

    place: what messages call it, such as "output=predictions.csv".
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{place} cannot be written ({error.strerror or error}): choose a place in a folder "
            "that exists, that you may write to and that has room"
        ) from error


def check_is_file(path: Path) -> None:
    """Raise a UserError for a device or a pipe, which may be read for ever."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is not a regular file: check the path")


def open_binary(path: Path) -> BinaryIO:
    """Open a file to read its bytes; a UserError says why it cannot be opened."""
    check_is_file(path)
    with reading(path):
        return path.open("rb")


def read_zip_directory_size(file: BinaryIO, size: int) -> int | None:
    """Return the number of bytes in the list of parts of a zip archive, or None if there is none.

    The archive is the first `size` bytes of the file. One with a comment, or whose list of parts
    does not end where its end record begins, counts as none: programs would read different lists.
    """
    start = max(0, size - ZIP_END_SIZE - ZIP64_LOCATOR_SIZE - ZIP64_END_SIZE)
    file.seek(start)
    tail = file.read(size - start)
    end, rest = tail[-ZIP_END_SIZE:], tail[:-ZIP_END_SIZE]
    if len(end) < ZIP_END_SIZE or not end.startswith(ZIP_END) or end[-2:] != b"\0\0":
        return None
    place, directory_size, offset = size - ZIP_END_SIZE, *struct.unpack_from("<2I", end, 12)
    if rest[-ZIP64_LOCATOR_SIZE:].startswith(ZIP64_LOCATOR):
        place = int.from_bytes(rest[-12:-4], "little")
        if place != start or not rest.startswith(ZIP64_END):
            return None
        directory_size, offset = struct.unpack_from("<2Q", rest, 40)
    return directory_size if offset + directory_size == place else None


def check_outputs(outputs: Mapping[str, Path], inputs: Iterable[str | Path]) -> None:
    """Check that files to be written are none of those that are read, by whatever name.

    Args:
        outputs: by what messages call them, such as "output=predictions.csv".
        inputs: paths and globs; a file in a folder is one of its files.

    Raises:
        UserError: one is, or is a device, a pipe or a folder, or two are the same.
    """
    existing = {place: path for place, path in outputs.items() if os.path.lexists(path)}
    read = [name for given in inputs for name in expand(str(given))] if existing else []
    for place, path in existing.items():
        if not os.path.isfile(path):
            raise UserError(f"{place} cannot be written: {NO_FILE}; give another name")
        for name in filter(os.path.exists, read):
            folder = os.path.join(os.path.realpath(name), "")
            if os.path.samefile(path, name) or os.path.realpath(path).startswith(folder):
                raise UserError(f"{place} is an input, or lies in one: give another name")
    places = {os.path.realpath(path): place for place, path in outputs.items()}
    for place, path in outputs.items():
        if (other := places[os.path.realpath(path)]) != place:
            raise UserError(f"{place} and {other} are the same file: give another name")


def expand(pattern: str) -> list[str]:
    """Return the path if it exists, else what the glob matches, up to one more than allowed."""
    path = str(Path(pattern).expanduser())
    if not pattern.strip():
        return []
    if os.path.exists(path):
        return [path]
    return list(islice(glob.iglob(path, recursive=True), MOST_MATCHES + 1))


def find_files(patterns: str | Sequence[str], key: str) -> list[Path]:
    """Return the files of a path, of a glob such as `data/*.csv` (sorted), or of several of these.

    key: what messages call the patterns, such as "data.train".

    Raises:
        UserError: a path does not exist, a glob matches nothing, or a file is named twice.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise UserError(f"{key} names no file: give a path")
    files: list[Path] = []
    for pattern in patterns:
        path, names = Path(pattern).expanduser(), expand(pattern)
        if names == [str(path)] and os.path.exists(path):
            if not (path.is_file() or path.is_dir()):  # such as a pipe, which would block
                raise UserError(f"{key}={pattern} is neither a file nor a folder: give one of them")
            files.append(path)
            continue
        if len(names) > MOST_MATCHES:
            raise UserError(f"{key}={pattern} matches more than {MOST_MATCHES:,} names: narrow it")
        matches = sorted(map(Path, names))
        matches = [match for match in matches if os.path.isfile(match) or is_saved(match)]
        if not matches:
            what = "matches no file" if glob.has_magic(pattern) else "does not exist"
            raise UserError(f"{key}={pattern} {what} (seen from {Path.cwd()}): check the path")
        files += matches
    for file, count in Counter(file.resolve() for file in files).items():
        if count > 1:
            raise UserError(f"{key} names {file} {count} times: name it once")
    return files


def is_saved(path: Path) -> bool:
    """Return whether a folder was written by `Dataset.save_to_disk`."""
    return (path / "state.json").is_file()


def file_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file's content, or of a folder's file names and contents."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            name = os.fsencode(file.relative_to(path))  # which need not be UTF-8
            digest.update(name + f"\0{file_fingerprint(file)}\n".encode())
        return digest.hexdigest()
    check_is_file(path)
    with reading(path), path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def fingerprint_of(values: Iterable[Any]) -> str:
    """Return the SHA-256 of the JSON list of plain values, holding one at a time in memory."""
    digest = hashlib.sha256(b"[")
    for number, value in enumerate(values):
        separator = ", " if number else ""
        digest.update(f"{separator}{json.dumps(value, sort_keys=True)}".encode())
    digest.update(b"]")
    return digest.hexdigest()
