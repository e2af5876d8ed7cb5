"""Checkpoint files: reading one that may be damaged or come from a stranger.

A checkpoint is a zip archive as torch.save writes it, and behind it a seal: a mark and the SHA-256
of all bytes before it. torch does not look at the archive's own checksums, and these leave out a
fifth of a small file; with the seal, any flipped bit is noticed. A file without a seal, such as one
that torch.save alone has written, is taken if its checksums hold.
"""

import hashlib
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from attnlstm.errors import UserError
from attnlstm.files import read_zip_directory_size

SEAL_MARK = b"attnlstm sha256:"
SEAL_SIZE = len(SEAL_MARK) + hashlib.sha256().digest_size

LARGEST_DIRECTORY = 1 << 24  # bytes: zipfile needs ten times as much memory
LARGEST_PICKLE = 1 << 27  # bytes; it holds everything but the tensors
MOST_OPERATIONS = 2_000_000  # of the pickle: each may make an object, of 60 bytes and more

CONSTRUCTORS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"} | {
    f"torch {kind}Storage"
    for kind in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long")
}
"""All that our checkpoints' pickles name. torch's own list is longer, and has bytearray, which 20
bytes make as large as they like."""

BROKEN = (
    *(zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, OSError),
    *(RuntimeError, ValueError),
)
"""What zipfile and pickletools raise for damaged archives and pickles."""

CALLS_BY_NAME = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")


class _RefusalError(Exception):
    """What is wrong with a file, and the fix."""


def seal(path: Path) -> None:
    """Append the seal to a file that torch.save has written."""
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.write(SEAL_MARK + digest)


def read_file(path: Path, key: str) -> dict[str, Any]:
    """The plain values and tensors of a checkpoint; nothing in it is executed.

    The tensors are mapped from the file, so that only what is used of them is read.

    Args:
        path: a file that `train.py` has written.
        key: what messages call the choice of this file, such as "ckpt".

    Raises:
        UserError: there is no such file, or it is none that `train.py` can have written.
    """
    try:
        _check_path(path)
        with path.open("rb") as file:
            _check_bytes(file)
            _check_archive(file)
        loaded = _load(path)
    except OSError as error:
        raise UserError(
            f"{key}={path} cannot be read ({error.strerror}): check the path"
        ) from error
    except _RefusalError as refusal:
        raise UserError(f"{key}={path} {refusal}") from refusal
    return loaded


def _check_path(path: Path) -> None:
    what = None
    if path.is_dir():
        what = "is a folder, not a checkpoint file"
    elif not path.exists():
        what = "does not exist"
    elif not path.is_file():
        what = "is not a regular file"
    if what is not None:
        raise _RefusalError(f"{what}: give a file such as runs/.../checkpoints/best.ckpt")


def _check_bytes(file: BinaryIO) -> None:
    """The beginning and the end of an archive, and the seal if there is one."""
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    if not start:
        raise _RefusalError("is empty: take another checkpoint of the run")
    if start[:1] == b"\x80":
        raise _RefusalError(
            "is a bare pickle and no checkpoint of this program; loading it could run code, so it "
            "was not loaded: give a file that train.py has written"
        )
    if not b"PK\x03\x04".startswith(start):
        raise _RefusalError(
            "is of another program, or damaged at its beginning, and no checkpoint: give a file "
            "that train.py has written"
        )
    file.seek(max(0, size - SEAL_SIZE))
    tail = file.read()
    if tail.startswith(SEAL_MARK):
        size -= SEAL_SIZE
        if _digest(file, size) != tail[len(SEAL_MARK) :]:
            raise _RefusalError(
                "is damaged: this checkpoint's content is not what was written; take another copy"
            )
    directory_size = read_zip_directory_size(file, size)
    if directory_size is None:
        raise _RefusalError(
            "is no whole checkpoint: its end is missing or damaged; take another copy"
        )
    if directory_size > LARGEST_DIRECTORY:
        raise _RefusalError("is no checkpoint: it has too many parts for one")


def _digest(file: BinaryIO, size: int) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    while size:
        block = file.read(min(size, 1 << 20))
        digest.update(block)
        size -= len(block)
    return digest.digest()


def _check_archive(file: BinaryIO) -> None:
    """Sizes and checksums of the archive's parts, and what its pickle would make."""
    size = file.seek(0, 2)
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            unpacked = sum(part.file_size for part in parts)
            if unpacked > size or any(part.compress_type for part in parts):
                raise _RefusalError(
                    f"is no checkpoint: {size:,} bytes would unpack to {unpacked:,}, and "
                    "checkpoints are not compressed; give a file that train.py has written"
                )
            damaged = archive.testzip()
            if damaged is not None:
                raise _RefusalError(
                    f"is damaged: this checkpoint's part {damaged!r} does not have the checksum "
                    "that was written; take another copy"
                )
            pickles = [part for part in parts if part.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise _RefusalError(
                    "is a zip archive, but no checkpoint: give a file that train.py has written"
                )
            if pickles[0].file_size > LARGEST_PICKLE:
                raise _RefusalError("is no checkpoint: it is too large besides its tensors")
            _check_pickle(archive.read(pickles[0]))
    except BROKEN as error:
        raise _RefusalError(
            "is damaged: this checkpoint's parts cannot be read; take another copy"
        ) from error


def _check_pickle(content: bytes) -> None:
    """Refuse to load what names anything but tensors and plain containers."""
    for number, (name, argument) in enumerate(_operations(content)):
        if name in CALLS_BY_NAME or (name == "GLOBAL" and argument not in CONSTRUCTORS):
            named = repr(str(argument)[:100]) if name == "GLOBAL" else "code"
            raise _RefusalError(
                f"names {named}, which is neither a tensor nor a plain value of a checkpoint and "
                "could run code; it was not loaded: give a file that train.py has written"
            )
        if number == MOST_OPERATIONS:
            raise _RefusalError("is no checkpoint: it has too many values besides its tensors")


def _operations(content: bytes) -> Iterator[tuple[str, Any]]:
    for operation, argument, _ in pickletools.genops(content):
        yield operation.name, argument


def _load(path: Path) -> dict[str, Any]:
    try:
        # mapped: a tensor that claims more than its part then holds other bytes of the file, and
        # not of this process
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a broken or hostile file makes the reader raise
        raise _RefusalError(
            "cannot be read as a checkpoint: it is damaged or of another program; give a file "
            "that train.py has written"
        ) from error
    if not isinstance(loaded, dict):
        raise _RefusalError(
            "is no checkpoint of this program, only tensors: give a file that train.py has written"
        )
    return loaded
