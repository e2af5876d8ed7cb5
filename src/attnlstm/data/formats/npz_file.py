"""Series in one `.npz` file, as `numpy.savez` writes it, read a series at a time."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np

from attnlstm.console import enumerate_names
from attnlstm.data.formats.labels import BAD_LABEL, RowProblemError, read_label
from attnlstm.data.formats.series import EMPTY, check_series_values, register_series
from attnlstm.data.rows import Row, RowSource
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint, open_binary, read_zip_directory_size

BAD_LENGTH = "length beyond the padded length"
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error, lzma.LZMAError, UnicodeDecodeError),
    *(EOFError, NotImplementedError, OSError),
)
"""What zipfile raises for a broken file, or one that no numpy has written."""

LARGEST_DIRECTORY = 2**18
"""Bytes of the list of all parts: zipfile takes ten times as much memory for it, and its time."""

MAX_BYTES = 2**28
"""Of what is read at once, such as one series, as float64."""

FEW_STEPS, MANY_CHANNELS, CHANNELS_PER_STEP = 16, 24, 4
"""The most steps, the fewest channels and the fewest channels a step that raise a doubt."""

LARGEST_BOMB = 2**26
MOST_COMPRESSED = 200
"""A file that claims to unpack to more than LARGEST_BOMB bytes, and to more than MOST_COMPRESSED
times its size, is refused: reading it would take hours."""


class _Array(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype


@register_series(".npz")
class NpzFile(RowSource):
    """The series of one `.npz` file with the arrays `X`, and perhaps `y` and `lengths`.

    X: `[row, time, channel]`, or `[row, time]` for one channel; whole numbers or floats.
    y: `[row]` labels: texts, whole numbers or truth values.
    lengths: `[row]` whole numbers from 1 to time, for series of different lengths: what follows a
        series in its row of X is padding, and not looked at. Without `lengths` every step counts,
        and NaN is a missing value, also at the end of a row.

    Args:
        path: the file.
        key: what messages call the choice of this file, such as "data.train".
        name: what rows and messages call the file.
        needs_labels: whether a file without `y` is refused.

    Raises:
        UserError: the file is no `.npz` file or broken, an array is missing, or has a shape or
            type other than those above. Arrays of Python objects are never unpickled.
    """

    def __init__(self, path: str | Path, *, key: str, name: str, needs_labels: bool = True) -> None:
        self.path = Path(path)
        self.key = key
        self.name = name
        with self._archive() as archive:
            arrays = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            self._check_sizes(archive)
            self._has_labels, self._has_lengths = "y" in arrays, "lengths" in arrays
            if "X" not in arrays:
                raise self._error(
                    f"has no array X, only {enumerate_names(arrays) or 'nothing'}: save it with "
                    "numpy.savez(path, X=..., y=...)"
                )
            if needs_labels and not self._has_labels:
                raise self._error("has no labels: save them as the array y, [row]")
            with self._array(archive, "X") as (_, array):
                self._check_series_array(array)
            self._num_rows = array.shape[0]
            self.doubt = None if self._has_lengths else self._doubt_axes(array.shape)
            self._read_labels(archive)
            self._read_lengths(archive)

    def __iter__(self) -> Iterator[Row]:
        with self._archive() as archive:
            labels = self._read_labels(archive)
            lengths = self._read_lengths(archive)
            for number, padded in enumerate(self._padded_series(archive)):
                length = len(padded) if lengths is None else int(lengths[number])
                try:
                    if length <= 0:
                        raise RowProblemError(EMPTY)
                    if length > len(padded):
                        raise RowProblemError(BAD_LENGTH)
                    series = padded[:length].astype(np.float64)
                    check_series_values(series)
                except RowProblemError as problem:
                    yield Row(self.name, number, None, problem=str(problem))
                else:
                    yield Row(self.name, number, series, labels[number] if labels else None)

    def fingerprint(self) -> str:
        return file_fingerprint(self.path)

    def _check_sizes(self, archive: zipfile.ZipFile) -> None:
        packed = max(1, sum(member.compress_size for member in archive.infolist()))
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > LARGEST_BOMB and unpacked > MOST_COMPRESSED * packed:
            raise self._error(
                f"has {packed:,} bytes that would unpack to {unpacked:,}: save it with numpy.savez "
                "instead of savez_compressed"
            )

    def _check_series_array(self, array: _Array) -> None:
        if array.dtype.kind not in "iuf":
            raise self._error(f"has X of type {array.dtype}: save it as floats")
        if len(array.shape) not in (2, 3):
            raise self._error(
                f"has X of shape {list(array.shape)}: it must be [row, time, channel], or "
                "[row, time] for one channel"
            )
        if array.shape[2:] == (0,):
            raise self._error("has X without channels: it must be [row, time, channel]")

    def _doubt_axes(self, shape: tuple[int, ...]) -> str | None:
        """What to say of an X that looks like `[row, channel, time]`, the order of aeon."""
        if len(shape) != 3:
            return None
        _, steps, channels = shape
        is_odd = steps == 1 < channels or (
            steps <= FEW_STEPS and channels >= max(MANY_CHANNELS, CHANNELS_PER_STEP * steps)
        )
        if not is_odd:
            return None
        return (
            f"{self.key}: {self.path} has X of shape {list(shape)}, read as [row, time, channel]: "
            f"{steps} step{'s' * (steps > 1)} of {channels:,} channels. If it is [row, channel, "
            "time], save numpy.swapaxes(X, 1, 2)"
        )

    def _padded_series(self, archive: zipfile.ZipFile) -> Iterator[np.ndarray]:
        """The rows of X, each `[time, channel]`."""
        with self._array(archive, "X") as (stream, array):
            shape = (*array.shape[1:], 1)[:2]
            if array.fortran_order:  # a row is then scattered over the whole array
                values = self._read(stream, array.shape, array, order="F")
                yield from values.reshape(-1, *shape)
                return
            for _ in range(array.shape[0]):
                yield self._read(stream, shape, array)

    def _read_labels(self, archive: zipfile.ZipFile) -> list[str | None] | None:
        if not self._has_labels:
            return None
        values = self._read_vector(archive, "y")
        try:
            if values.dtype.kind not in "iufbSU":
                raise RowProblemError(BAD_LABEL)
            if values.dtype.kind == "S":
                values = np.char.decode(values, "utf-8")
            return [read_label(value) for value in values.tolist()]
        except (RowProblemError, ValueError) as error:  # bytes or numbers that are no characters
            raise self._error(
                "has labels y that are neither texts nor whole numbers: save the classes as texts"
            ) from error

    def _read_lengths(self, archive: zipfile.ZipFile) -> np.ndarray | None:
        if not self._has_lengths:
            return None
        lengths = self._read_vector(archive, "lengths")
        if lengths.dtype.kind not in "iu":
            raise self._error(f"has lengths of type {lengths.dtype}: save them as whole numbers")
        return lengths

    def _read_vector(self, archive: zipfile.ZipFile, name: str) -> np.ndarray:
        """An array with one value for each row of X."""
        with self._array(archive, name) as (stream, array):
            if array.shape != (self._num_rows,):
                raise self._error(
                    f"has {name} of shape {list(array.shape)}: it must be [{self._num_rows}], "
                    "with a value for each row of X"
                )
            return self._read(stream, array.shape, array)

    def _read(
        self,
        stream: IO[bytes],
        shape: tuple[int, ...],
        array: _Array,
        order: Literal["C", "F"] = "C",
    ) -> np.ndarray:
        """The next values of `stream`, in `shape`."""
        num_bytes = prod(shape) * array.dtype.itemsize
        needed = prod(shape) * max(array.dtype.itemsize, 8)
        if needed > MAX_BYTES:
            raise self._error(
                f"has {needed / 2**20:,.0f} MiB to be read at once: save shorter series, made "
                "contiguous by numpy.ascontiguousarray(X), and shorter labels"
            )
        content = stream.read(num_bytes)
        if len(content) < num_bytes:
            raise EOFError
        return np.ndarray(shape, array.dtype, content, order=order)

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        """The opened file; what is wrong with it becomes a UserError."""
        problem = "is broken or not an .npz file: save it again with numpy.savez"
        with open_binary(self.path) as file:
            if (read_zip_directory_size(file, file.seek(0, 2)) or 0) > LARGEST_DIRECTORY:
                raise self._error("has too many arrays: save it with X, y and lengths only")
            try:
                archive = zipfile.ZipFile(file)
            except (*BROKEN, ValueError) as error:  # such as a place before the beginning
                raise self._error(problem) from error
            try:
                with archive:
                    yield archive
            except BROKEN as error:
                raise self._error(problem) from error

    @contextmanager
    def _array(self, archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], _Array]]:
        """The content of an array as a stream, and its header."""
        member = archive.getinfo(f"{name}.npy")
        if member.flag_bits & 1:
            raise self._error("is encrypted: save it again with numpy.savez")
        with archive.open(member) as stream:
            try:
                # version 2 is for headers of more than 64 KiB, which only records need
                if np.lib.format.read_magic(stream) != (1, 0):
                    raise ValueError("version")
                array = _Array(*np.lib.format.read_array_header_1_0(stream))
            except BROKEN:
                raise
            except Exception as error:  # whatever a header makes Python's own parser raise
                raise self._error(
                    f"has an array {name} that numpy cannot read: save it again with numpy.savez"
                ) from error
            if array.dtype.hasobject:
                raise self._error(
                    f"has an array {name} of Python objects, which could run code: save texts as "
                    "numpy.array(texts, dtype=str), and series of different lengths padded to one "
                    "array X [row, time, channel], with their lengths as the array lengths [row]"
                )
            if prod(array.shape) * array.dtype.itemsize != member.file_size - stream.tell():
                raise self._error(
                    f"has an array {name} of another size than it says: save it again with "
                    "numpy.savez"
                )
            yield stream, array

    def _error(self, problem: str) -> UserError:
        return UserError(f"{self.key}: {self.path} {problem}")
