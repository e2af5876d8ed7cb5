"""Series in one `.npy` file, memory-mapped, with the labels in another `.npy` file."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from attnlstm.config.data import Axes
from attnlstm.console import enumerate_names
from attnlstm.data.formats import register_reader
from attnlstm.data.formats.arrays import (
    MAX_BYTES,
    ArrayError,
    Labels,
    SeriesArray,
    guess_by_padding,
    name_targets,
    read_header,
    read_labels,
    read_shape,
)
from attnlstm.data.formats.series import SeriesFile
from attnlstm.data.rows import Label
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint, fingerprint_of, reading

Content = tuple[np.ndarray, Label | list[Label | None] | None]


@register_reader(".npy")
class NpyFile(SeriesFile):
    """The series of one `.npy` file, with labels from another.

    The array is `[row, time, channel]` or `[row, channel, time]`, or `[row, time]` for one channel.
    `data.axes` chooses between the first two unless the array makes it certain; with
    `data.axes=time,channel` the file is one series. The labels are `[row]`, or `[row, time]` for
    series that are cut into windows.

    Arrays of Python objects are refused, and never unpickled.
    """

    def _read_header(self, needs_labels: bool) -> None:
        array = read_array(self.path, self.key)
        self._series = self._read_shape(array)
        self.axes, self._description = self._series.axes, self._series.description
        self._label_file = self.options.labels
        if self._label_file is None and not self.options.is_labelled:
            self._label_file = find_labels(self.path, self.key)
        if self._label_file is None and needs_labels:
            names = ", ".join(path.name for path in label_candidates(self.path))
            raise self._error(
                f"has no label file in its folder ({names}): name it with "
                f"{labels_key(self.key)}, or take the labels from folders or file names with "
                "data.label_from"
            )
        self.target_names = name_targets(self._read_labels())

    def fingerprint(self) -> str:
        files = [self.path] if self._label_file is None else [self.path, self._label_file]
        return fingerprint_of([*map(file_fingerprint, files), self.axes])

    def _contents(self) -> Iterator[tuple[None, Content]]:
        labels = self._read_labels()
        array = read_array(self.path, self.key).reshape(self._series.shape)
        for number, values in enumerate(array):
            yield None, (values, None if labels is None else labels[number])

    def _parse(self, content: Content) -> tuple[np.ndarray, Label | list[Label | None] | None]:
        values, label = content
        return self._series.to_series(values), label

    def _read_shape(self, array: np.ndarray) -> SeriesArray:
        options = self.options

        def guess() -> Axes | None:
            return guess_by_padding(array) if array.dtype.kind == "f" else None

        try:
            series = read_shape(array.shape, array.dtype, options.axes, options.num_channels, guess)
        except ArrayError as error:
            raise self._error(str(error)) from error
        size = series.shape[1] * series.shape[2] * 8
        if size > MAX_BYTES:
            raise self._error(
                f"has series of {size / 2**20:,.0f} MiB to be read at once: save shorter series"
            )
        return series

    def _read_labels(self) -> Labels | None:
        if self._label_file is None:
            return None
        values = read_array(self._label_file, self.key)
        try:
            return read_labels(values, self._series, self.options.has_windows, name="labels")
        except ArrayError as error:
            raise UserError(
                f"{self.key}: {self._label_file}, the labels of {self.path.name}, {error}"
            ) from error


def read_array(path: Path, key: str) -> np.ndarray:
    """Open an array, memory-mapped, without unpickling anything.

    Raises:
        UserError: it is not an array of numbers or texts.
    """
    with reading(path, ValueError):  # for a shape beyond the sizes of numpy
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise UserError(f"{key}: {path} is not an .npy file: save it with numpy.save")
            file.seek(0)
            try:
                shape, _, dtype = read_header(file, "a header")
            except ArrayError as error:
                raise UserError(f"{key}: {path} {error}") from error
            if dtype.hasobject:
                raise UserError(
                    f"{key}: {path} is an array of Python objects, which could run code: save "
                    "texts as numpy.array(texts, dtype=str), and series of different lengths "
                    "padded with NaN to one array [row, time, channel]"
                )
            size = path.stat().st_size - file.tell()
        if size != dtype.itemsize * int(np.prod(shape, dtype=object)):
            raise UserError(
                f"{key}: {path} has another size than it says: save it again with numpy.save"
            )
        if not size:
            return np.empty(shape, dtype)  # nothing to map
        return np.load(path, mmap_mode="r", allow_pickle=False)


def labels_key(key: str) -> str:
    """Return the key of the label files that go with the files of a key, such as data.train."""
    part = key.removeprefix("data.")
    return f"data.{part}_labels" if part in ("validation", "test") else "data.labels"


def label_candidates(path: Path) -> list[Path]:
    """Return the possible label files of an array, such as y_train.npy for X_train.npy."""
    stem = path.stem
    names = [
        re.sub(r"(?i)(?<![a-z0-9])X(?![a-z0-9])", name, stem, count=1)
        for name in ("y", "Y", "labels")
    ]
    names = [name for name in names if name != stem] or [f"{stem}_y", f"{stem}_labels"]
    return [path.with_name(f"{name}.npy") for name in names]


def find_labels(path: Path, key: str) -> Path | None:
    """Return the label file in the folder of an array, or None.

    Raises:
        UserError: there are several.
    """
    # on some systems y.npy and Y.npy are the same file
    found = {file.resolve(): file for file in label_candidates(path) if file.is_file()}
    if len(found) > 1:
        names = enumerate_names([file.name for file in found.values()])
        raise UserError(
            f"{key}: the labels of {path} may be in several files of its folder ({names}): "
            f"choose one with {labels_key(key)}"
        )
    return next(iter(found.values()), None)
