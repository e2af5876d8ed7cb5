"""Checkpoint files: read one that may be damaged or come from a stranger.

A checkpoint is a zip archive as written by torch.save, followed by a seal: a mark and the SHA-256
of all bytes before it. torch does not verify the archive's own checksums, which moreover leave out
a fifth of a small file; the seal reveals any flipped bit. A file without a seal, such as one that
torch.save alone has written, is accepted if its checksums match.
"""

import hashlib
import mmap
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from attnlstm.errors import UserError
from attnlstm.files import read_zip_directory_size

SEAL_MARK = b"attnlstm sha256:"
SEAL_SIZE = len(SEAL_MARK) + hashlib.sha256().digest_size

LARGEST_DIRECTORY = 1 << 24  # bytes: zipfile needs ten times as much memory
LARGEST_PICKLE = 1 << 27  # bytes; it holds everything but the tensors
MOST_OPERATIONS = 2_000_000  # of the pickle: each may make an object of 60 bytes or more

CONSTRUCTORS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"} | {
    f"torch {kind}Storage"
    for kind in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long")
}
"""All names in the pickles of our checkpoints. torch's own list is longer and has bytearray, of
which 20 bytes can make one of any size."""

CALLS_BY_NAME = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")

BROKEN = (
    *(zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, OSError),
    *(RuntimeError, ValueError),
)
"""What zipfile and pickletools raise for damaged archives and pickles."""

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
        _check_path(path)
        with path.open("rb") as file:
            _check_bytes(file)
            _check_archive(file)
        return _load(path)
    except OSError as error:
        raise UserError(
            f"{key}={path} cannot be read ({error.strerror}): check the path"
        ) from error
    except _RefusalError as refusal:
        raise UserError(f"{key}={path} {refusal}") from refusal


def _check_path(path: Path) -> None:
    if path.is_file():
        return
    what = "does not exist"
    if path.is_dir():
        what = "is a folder, not a checkpoint file"
    elif path.exists():
        what = "is not a regular file"
    raise _RefusalError(f"{what}: give a file such as runs/.../checkpoints/best.ckpt")


def _check_bytes(file: BinaryIO) -> None:
    """Check the beginning and the end of the archive, and the seal if there is one."""
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


def _digest(file: BinaryIO, size: int) -> bytes:
    """Return the SHA-256 of the first `size` bytes."""
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).digest()


def _check_archive(file: BinaryIO) -> None:
    """Check the sizes and checksums of the archive's parts, and what its pickle would create."""
    size = file.seek(0, 2)
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            unpacked = sum(part.file_size for part in parts)
            if unpacked > size or any(part.compress_type for part in parts):
                raise _RefusalError(
                    f"is not a checkpoint: {size:,} bytes would unpack to {unpacked:,}, but "
                    f"checkpoints are not compressed; {GIVE_OTHER}"
                )
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
    """Refuse a pickle that names anything but tensors and plain containers."""
    for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
        is_global = operation.name == "GLOBAL"
        if operation.name in CALLS_BY_NAME or (is_global and argument not in CONSTRUCTORS):
            named = repr(str(argument)[:100]) if is_global else "code"
            raise _RefusalError(
                f"names {named}, which is neither a tensor nor a plain value of a checkpoint and "
                f"could run code; it was not loaded: {GIVE_OTHER}"
            )
        if number == MOST_OPERATIONS:
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
