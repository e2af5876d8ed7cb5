"""Files packed with gzip, bzip2, xz or Zstandard, unpacked while they are read."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from attnlstm.errors import UserError
from attnlstm.files import open_binary, reading

FREE_BYTES = 1 << 28
"""A packed file may unpack to this many bytes whatever its own size."""

LARGEST_RATIO = 250
"""Of the unpacked to the packed size of larger files: text seldom exceeds 20."""

BUFFER_BYTES = 1 << 18


def _open_gzip(path: Path) -> BinaryIO:
    import gzip

    return gzip.open(path)  # type: ignore[return-value]


def _open_bzip2(path: Path) -> BinaryIO:
    import bz2

    return bz2.open(path)  # type: ignore[return-value]


def _open_xz(path: Path) -> BinaryIO:
    import lzma

    return lzma.open(path)  # type: ignore[return-value]


def _open_zstandard(path: Path) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")


OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": _open_gzip,
    ".bz2": _open_bzip2,
    ".xz": _open_xz,
    ".zst": _open_zstandard,
}
"""By the ending of a file's name."""

MAGIC = {
    ".gz": rb"\x1f\x8b\x08",
    ".bz2": rb"BZh[1-9]1AY&SY",
    ".xz": rb"\xfd7zXZ\0",
    ".zst": rb"\x28\xb5\x2f\xfd",
    ".zip": rb"PK\x03\x04",
}
"""How packed files begin, by their endings."""


def without_packing(path: Path) -> Path:
    """Return the name that a packed file has when it is unpacked: a.csv for a.csv.gz."""
    return path.with_suffix("") if path.suffix.lower() in OPENERS else path


def open_unpacked(path: Path) -> BinaryIO:
    """Open a file to read its bytes, unpacked if its ending says that it is packed.

    Raises:
        UserError: it cannot be opened; while reading: it is broken, or unpacks to far more than
            any table would.
    """
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        return open_binary(path)
    return io.BufferedReader(_Unpacked(path, opener), BUFFER_BYTES)


def check_is_unpacked(path: Path, start: bytes) -> None:
    """Raise a UserError if a file is packed and its ending does not say so."""
    for ending, magic in MAGIC.items():
        if re.match(magic, start):
            name = f"add {ending} to its name, or " * (ending in OPENERS)
            workbook = " (or an Excel workbook: end its name in .xlsx)" * (ending == ".zip")
            raise UserError(f"{path} is packed as {ending[1:]}{workbook}: {name}unpack it")


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a file."""

    def __init__(self, path: Path, opener: Callable[[Path], Any]) -> None:
        import lzma
        import zlib

        self._path = path
        # MemoryError for the size of an .xz dictionary
        self._errors = (EOFError, zlib.error, lzma.LZMAError, MemoryError)
        with reading(path, *self._errors):
            self._stream = opener(path)
            self._left = max(FREE_BYTES, LARGEST_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with reading(self._path, *self._errors):
            content = self._stream.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise UserError(
                f"{self._path} unpacks to more than {LARGEST_RATIO} times its size, which no "
                "table does: choose another file, or unpack it"
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
