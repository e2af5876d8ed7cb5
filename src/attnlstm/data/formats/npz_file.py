"""Series in one `.npz` file, as `numpy.savez` writes it, read a series at a time."""

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import IO, ClassVar, Literal

import numpy as np

from attnlstm.config.data import Axes
from attnlstm.console import enumerate_names
from attnlstm.data.formats import register_reader
from attnlstm.data.formats.arrays import (
    MAX_BYTES,
    WITHOUT_ROWS,
    ArrayError,
    Header,
    Labels,
    check_vector,
    guess_by_lengths,
    guess_by_padding,
    name_targets,
    read_header,
    read_labels,
    read_shape,
    to_labels,
)
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.series import EMPTY, SeriesFile
from attnlstm.data.rows import Label
from attnlstm.files import file_fingerprint, fingerprint_of, open_binary, read_zip_directory_size

BROKEN = (
    zipfile.BadZipFile,  # the directory, the header of a part, or a checksum is wrong
    UnicodeDecodeError,  # the name of a part is not UTF-8
    NotImplementedError,  # a version or a compression that zipfile lacks
    *(zlib.error, lzma.LZMAError, EOFError, OSError),  # from the decompressors
)
"""What zipfile raises for a broken file, or one that numpy did not write."""

LARGEST_DIRECTORY = 2**18  # bytes of the list of parts: zipfile needs ten times as much memory
LARGEST_BOMB = 2**26
MOST_COMPRESSED = 200
"""A file that claims to unpack to more than LARGEST_BOMB bytes and to more than MOST_COMPRESSED
times its size is refused: reading it would take hours."""


Content = tuple[np.ndarray, int | None, Label | list[Label | None] | None]


@register_reader(".npz")
class NpzFile(SeriesFile):
    """The series of one `.npz` file with the arrays `X`, and perhaps `y` and `lengths`.

    X: `[row, time, channel]` or `[row, channel, time]`, or `[row, time]` for one channel; integers
        or floats. Which of the first two it is must be given, unless it is certain.
    y: `[row]` labels: strings, integers or booleans; `[row, time]` for series that are cut into
        windows.
    lengths: `[row]` integers from 1 to time, for series of different lengths: what follows a
        series in its row of X is padding, and is not looked at. Without `lengths`, last steps that
        are NaN in all channels are padding, and other NaN are missing values.
    the array that `data.group_column` names: `[row]`, the group of each row.

    Arrays of Python objects are refused, and never unpickled.
    """

    has_groups: ClassVar[bool] = True

    def _read_header(self, needs_labels: bool) -> None:
        with self._archive() as archive:
            arrays = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            self._check_sizes(archive)
            self._has_labels, self._has_lengths = "y" in arrays, "lengths" in arrays
            self._may_be_padded = not self._has_lengths
            if "X" not in arrays:
                raise self._error(
                    f"has no array X, only {enumerate_names(arrays) or 'nothing'}: save it with "
                    "numpy.savez(path, X=..., y=...)"
                )
            if needs_labels and not self._has_labels:
                raise self._error("has no labels: save them as the array y, [row]")
            with self._array(archive, "X") as (_, array):
                pass
            rows = array.shape[0] if array.shape else 0
            lengths = self._read_lengths(archive, rows)

            def guess() -> Axes | None:
                if lengths is not None or array.dtype.kind != "f":
                    return guess_by_lengths(array.shape, lengths)
                return guess_by_padding(self._rows(archive, rows, array.shape[1:]))

            options = self.options
            if options.axes in WITHOUT_ROWS and lengths is not None:
                raise self._error(f"has lengths, and data.axes={options.axes} is for one series")
            self._series = read_shape(
                array.shape, array.dtype, options.axes, options.num_channels, guess
            )
            self.axes = self._series.axes
            self._description = self._series.description
            self.target_names = name_targets(self._read_labels(archive))
            self._groups = self._read_groups(archive, arrays)

    def fingerprint(self) -> str:
        content = file_fingerprint(self.path)
        return fingerprint_of([content, self.axes]) if self._series.is_transposed else content

    def _contents(self) -> Iterator[tuple[None, Content]]:
        with self._archive() as archive:
            labels = self._read_labels(archive)
            lengths = self._read_lengths(archive, self._series.num_rows)
            num_rows, *shape = self._series.shape
            for number, values in enumerate(self._rows(archive, num_rows, tuple(shape))):
                length = None if lengths is None else int(lengths[number])
                yield None, (values, length, labels[number] if labels else None)

    def _parse(self, content: Content) -> tuple[np.ndarray, Label | list[Label | None] | None]:
        values, length, label = content
        series = self._series.to_series(values)
        if length is not None and not 0 < length <= len(series):
            raise RowProblemError(EMPTY if length <= 0 else "length beyond the padded length")
        return series[:length], label

    def _group_of(self, number: int) -> str | None:
        return None if self._groups is None else self._groups[number]

    def _check_sizes(self, archive: zipfile.ZipFile) -> None:
        packed = max(1, sum(member.compress_size for member in archive.infolist()))
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > LARGEST_BOMB and unpacked > MOST_COMPRESSED * packed:
            raise self._error(
                f"has {packed:,} bytes that would unpack to {unpacked:,}: save it with numpy.savez "
                "instead of savez_compressed"
            )

    def _rows(
        self, archive: zipfile.ZipFile, num_rows: int, shape: tuple[int, ...]
    ) -> Iterator[np.ndarray]:
        """Yield the rows of X, each in `shape`."""
        with self._array(archive, "X") as (stream, array):
            if array.fortran_order:  # each row is scattered over the whole array
                values = self._read(stream, array.shape, array, order="F")
                yield from values.reshape(num_rows, *shape)
                return
            for _ in range(num_rows):
                yield self._read(stream, shape, array)

    def _read_labels(self, archive: zipfile.ZipFile) -> Labels | None:
        if not self._has_labels:
            return None
        return read_labels(self._read_whole(archive, "y"), self._series, self.options.has_windows)

    def _read_lengths(self, archive: zipfile.ZipFile, num_rows: int) -> np.ndarray | None:
        if not self._has_lengths:
            return None
        lengths = self._read_whole(archive, "lengths")
        check_vector(lengths.shape, num_rows, "lengths")
        if lengths.dtype.kind not in "iu":
            raise self._error(f"has lengths of type {lengths.dtype}: save them as whole numbers")
        return lengths

    def _read_groups(self, archive: zipfile.ZipFile, arrays: list[str]) -> list[str | None] | None:
        name = self.options.group_column
        if name is None or (name not in arrays and not self.options.needs_groups):
            return None
        if name not in arrays:
            raise self._error(
                f"has no array {name!r} (data.group_column), only {enumerate_names(arrays)}"
            )
        values = self._read_whole(archive, name)
        check_vector(values.shape, self._series.num_rows, name)
        return [None if label is None else str(label) for label in to_labels(values, name)]

    def _read_whole(self, archive: zipfile.ZipFile, name: str) -> np.ndarray:
        with self._array(archive, name) as (stream, array):
            return self._read(stream, array.shape, array, "F" if array.fortran_order else "C")

    def _read(
        self,
        stream: IO[bytes],
        shape: tuple[int, ...],
        array: Header,
        order: Literal["C", "F"] = "C",
    ) -> np.ndarray:
        """Return the next values of `stream`, in `shape`."""
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
        """Open the file; turn what is wrong with it into a UserError."""
        problem = "is broken or not an .npz file: save it again with numpy.savez"
        with open_binary(self.path) as file:
            if (read_zip_directory_size(file, file.seek(0, 2)) or 0) > LARGEST_DIRECTORY:
                raise self._error("has too many arrays: save it with X, y and lengths only")
            try:
                archive = zipfile.ZipFile(file)
            except BROKEN as error:
                raise self._error(problem) from error
            try:
                with archive:
                    yield archive
            except BROKEN as error:
                raise self._error(problem) from error
            except ArrayError as error:
                raise self._error(str(error)) from error

    @contextmanager
    def _array(self, archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], Header]]:
        """Open an array as a stream, after its header."""
        member = archive.getinfo(f"{name}.npy")
        if member.flag_bits & 1:
            raise self._error("is encrypted: save it again with numpy.savez")
        with archive.open(member) as stream:
            array = read_header(stream, f"an array {name}")
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
