"""Checkpoint files: read one that may be damaged or come from a stranger.

A checkpoint is a zip archive as written by torch.save, followed by a seal: a mark and the SHA-256
of all bytes before it. torch does not verify the archive's own checksums, which moreover leave out
a fifth of a small file; the seal reveals any flipped bit. A file without a seal, such as one that
torch.save alone has written, is accepted if its checksums match.
"""

import hashlib
import mmap
import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from attnlstm.checkpoint.find import check_path
from attnlstm.errors import UserError
from attnlstm.files import read_zip_directory_size

SEAL_MARK = b"attnlstm sha256:"
SEAL_SIZE = len(SEAL_MARK) + hashlib.sha256().digest_size

LARGEST_DIRECTORY = 1 << 24  # bytes: zipfile needs ten times as much memory
LARGEST_PICKLE = 1 << 27  # bytes; it holds everything but the tensors
MOST_OPERATIONS = 2_000_000  # of the pickle: each may make an object of 60 bytes or more
DEEPEST = 50  # levels of containers
LARGEST_TUPLE = 10_000  # values, with those of tuples in it; a tensor's arguments are about ten

CONSTRUCTORS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"} | {
    f"torch {kind}Storage"
    for kind in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long")
}
"""All names in the pickles of our checkpoints. torch's own list is longer and has bytearray, of
which 20 bytes can make one of any size."""

CALLS_BY_NAME = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")

BROKEN = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, LookupError)
"""What damaged archives and pickles raise. zipfile: EOFError where a part ends early, RuntimeError
for encryption and unknown versions, ValueError for names that are not UTF-8; pickletools:
ValueError for everything; `_follow`: LookupError for values that do not exist."""

GIVE_OTHER = "give a file that train.py has written"
TAKE_COPY = "take another copy"


class _RefusalError(Exception):
    """What is wrong with a file, and the fix."""


def seal(path: Path) -> None:
    """Append the seal to a file that torch.save has written."""
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.write(SEAL_MARK + digest)


def read_file(path: Path, key: str) -> dict[str, Any]:
    """Return a checkpoint's plain values and tensors, without executing anything in it.

    The tensors are memory-mapped: only the parts that are used get read.

    Args:
        path: a file that `train.py` has written.
        key: the configuration key that chose the file, for messages.

    Raises:
        UserError: the file cannot be read, is damaged, or was not written by `train.py`.
    """
    try:
        check_path(path, key)
        with path.open("rb") as file:
            archive_size = _check_bytes(file)
            _check_archive(file, archive_size)
            loaded = _load(path)
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise _RefusalError("was replaced while it was read: try again")
        _check_expansion(loaded)
        return loaded
    except OSError as error:
        raise UserError(
            f"{key}={path} cannot be read ({error.strerror}): check the path"
        ) from error
    except _RefusalError as refusal:
        raise UserError(f"{key}={path} {refusal}") from refusal


def _check_bytes(file: BinaryIO) -> int:
    """Check the beginning and the end of the archive, and the seal if there is one.

    Returns:
        The size of the archive, which is the file without its seal.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    if not start:
        raise _RefusalError("is empty: take another checkpoint of the run")
    if start[:1] == b"\x80":
        raise _RefusalError(
            "is a bare pickle, not a checkpoint of this program; loading it could run code, so it "
            f"was not loaded: {GIVE_OTHER}"
        )
    if not b"PK\x03\x04".startswith(start):
        raise _RefusalError(
            "is not a checkpoint: it comes from another program, or its beginning is damaged; "
            f"{GIVE_OTHER}"
        )
    file.seek(max(0, size - SEAL_SIZE))
    tail = file.read()
    if tail.startswith(SEAL_MARK):
        size -= SEAL_SIZE
        if _digest(file, size) != tail[len(SEAL_MARK) :]:
            raise _RefusalError(
                f"is damaged: this checkpoint's content is not what was written; {TAKE_COPY}"
            )
    directory_size = read_zip_directory_size(file, size)
    if directory_size is None:
        raise _RefusalError(
            f"is not a complete checkpoint: its end is missing or damaged; {TAKE_COPY}"
        )
    if directory_size > LARGEST_DIRECTORY:
        raise _RefusalError("is not a checkpoint: it has too many parts")
    return size


def _digest(file: BinaryIO, size: int) -> bytes:
    """Return the SHA-256 of the first `size` bytes."""
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).digest()


def _check_archive(file: BinaryIO, size: int) -> None:
    """Check the sizes and checksums of the archive's parts, and what its pickle would create."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            unpacked = sum(part.file_size for part in parts)
            if unpacked > size or any(part.compress_type for part in parts):
                raise _RefusalError(
                    f"is not a checkpoint: {size:,} bytes would unpack to {unpacked:,}, but "
                    f"checkpoints are not compressed; {GIVE_OTHER}"
                )
            # torch looks parts up without regard to case, and finds the last of a name
            names = [part.filename.lower() for part in parts]
            if len(set(names)) < len(names):
                raise _RefusalError(f"is not a checkpoint: two parts share a name; {GIVE_OTHER}")
            if any(part.header_offset > size for part in parts):
                raise zipfile.BadZipFile("a part begins beyond the end of the file")
            damaged = archive.testzip()
            if damaged is not None:
                raise _RefusalError(
                    f"is damaged: the checksum of this checkpoint's part {damaged!r} does not "
                    f"match; {TAKE_COPY}"
                )
            pickles = [part for part in parts if part.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise _RefusalError(f"is a zip archive but not a checkpoint: {GIVE_OTHER}")
            if pickles[0].file_size > LARGEST_PICKLE:
                raise _RefusalError("is not a checkpoint: it is too large besides its tensors")
            _check_pickle(archive.read(pickles[0]))
    except BROKEN as error:
        raise _RefusalError(
            f"is damaged: this checkpoint's parts cannot be read; {TAKE_COPY}"
        ) from error


def _check_pickle(content: bytes) -> None:
    """Refuse a pickle that names anything but tensors and plain containers.

    Tuples are refused if they have many values in all: a tuple that is the key of a dictionary is
    hashed, each time with everything in it, however small the pickle is that refers to it.
    """
    stack: list[Any] = []  # the number of values of a tuple, 1 for all else, or a mark
    memo: dict[int, Any] = {}
    for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
        is_global = operation.name == "GLOBAL"
        if operation.name in CALLS_BY_NAME or (is_global and argument not in CONSTRUCTORS):
            named = repr(str(argument)[:100]) if is_global else "code"
            raise _RefusalError(
                f"names {named}, which is neither a tensor nor a plain value of a checkpoint and "
                f"could run code; it was not loaded: {GIVE_OTHER}"
            )
        size = _follow(operation, argument, stack, memo)
        if number == MOST_OPERATIONS or size > LARGEST_TUPLE:
            raise _RefusalError("is not a checkpoint: it has too many values besides its tensors")


def _follow(
    operation: pickletools.OpcodeInfo, argument: Any, stack: list[Any], memo: dict[int, Any]
) -> int:
    """Do to the stack and the memo what an operation does; return the size of a new value."""
    name, mark = operation.name, pickletools.markobject
    if "PUT" in name or name == "MEMOIZE":
        memo[len(memo) if argument is None else argument] = stack[-1]
        return 0
    if "GET" in name:
        stack.append(memo[argument])
        return 0
    first = len(stack) - len(operation.stack_before)
    if mark in operation.stack_before:
        first = len(stack) - 1 - stack[::-1].index(mark)
        first -= operation.stack_before.index(mark)
    taken = [value for value in stack[first:] if value is not mark]
    del stack[first:]
    size = 1 + sum(taken) if "TUPLE" in name else 1
    for made in operation.stack_after:
        stack.append(mark if made is mark else size)
    return size


def _check_expansion(loaded: Any) -> None:
    """Bound the size of the values as they count for code that visits each of them.

    Of 30 lists that each name the next one ten times, the file and the memory hold only 30.
    """
    # by id: the numbers of values, of characters and of levels in a container
    sizes: dict[int, tuple[int, int, int]] = {}

    def measure(value: Any, depth: int) -> tuple[int, int, int]:
        if isinstance(value, str):
            return 1, len(value), 0
        if not isinstance(value, dict | list | tuple):
            return 1, 0, 0
        if depth <= DEEPEST and id(value) not in sizes:
            items = [*value, *value.values()] if isinstance(value, dict) else value
            inner = [measure(item, depth + 1) for item in items]
            counts, lengths, levels = zip(*inner, strict=True) if inner else ((), (), ())
            sizes[id(value)] = 1 + sum(counts), sum(lengths), 1 + max(levels, default=0)
        if depth > DEEPEST or depth + sizes[id(value)][2] > DEEPEST:
            raise _RefusalError("is not a checkpoint: its values are nested too deeply")
        return sizes[id(value)]

    count, characters, _ = measure(loaded, 0)
    if count > MOST_OPERATIONS or characters > LARGEST_PICKLE:
        raise _RefusalError("is not a checkpoint: it has too many values besides its tensors")


def _load(path: Path) -> dict[str, Any]:
    try:
        # mmap: a tensor that claims more bytes than its part has gets other bytes of the file, and
        # never this process's memory.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a broken or hostile file can make the reader raise anything
        raise _RefusalError(
            "cannot be read as a checkpoint: it is damaged or comes from another program; "
            f"{GIVE_OTHER}"
        ) from error
    if not isinstance(loaded, dict):
        raise _RefusalError(
            f"is not a checkpoint of this program: it holds only tensors; {GIVE_OTHER}"
        )
    return loaded
