"""What `.npz` and `.npy` files share: the order of the axes, labels and groups, and the errors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from tokenize import TokenError
from typing import IO, NamedTuple

import numpy as np

from attnlstm.config.data import Axes
from attnlstm.data.formats.labels import BAD_LABEL, RowProblemError, read_label
from attnlstm.data.formats.lines import is_unicode
from attnlstm.data.rows import Label

MAX_BYTES = 2**28
"""That are read at once, such as one series, as float64."""

WITHOUT_ROWS = ("time,channel", "channel,time")


HEADER_ERRORS = (
    *(ValueError, TypeError, IndexError),  # from numpy
    *(SyntaxError, TokenError, RecursionError, MemoryError),  # from Python's parser
)
"""What numpy raises for a header that is not a dictionary with a type and a shape."""


class ArrayError(Exception):
    """What is wrong with an array; the message continues the name of the file."""


class Header(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype


def read_header(stream: IO[bytes], name: str) -> Header:
    """Read the header of an array as `numpy.save` writes it.

    name: what messages call the array.

    Raises:
        ArrayError: numpy cannot read it.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            header = Header(*np.lib.format.read_array_header_1_0(stream))
        elif version == (2, 0):
            header = Header(*np.lib.format.read_array_header_2_0(stream))
        else:
            raise ValueError(f"version {version}")
        if any(isinstance(size, bool) or size < 0 for size in header.shape):
            raise ValueError(f"shape {header.shape}")
    except HEADER_ERRORS as error:
        raise ArrayError(f"has {name} that numpy cannot read: save it again with numpy") from error
    return header


@dataclass(frozen=True)
class SeriesArray:
    """How an array of series is read.

    shape: `[row, time, channel]` or `[row, channel, time]`; a missing axis has the size 1.
    axes: the order, as in `data.axes`; None if there is one channel and so no other order.
    """

    shape: tuple[int, int, int]
    axes: Axes | None

    @property
    def description(self) -> str:
        """Which order was taken, for the log; empty if there is no other."""
        if self.axes is None:
            return ""
        order = self.axes.replace(",", ", ")
        shape = self.shape[-1 - order.count(",") :]
        return f"array of shape {list(shape)} read as [{order}]"

    @property
    def num_rows(self) -> int:
        return self.shape[0]

    @property
    def is_transposed(self) -> bool:
        """Whether time is the last axis."""
        return self.axes in ("row,channel,time", "channel,time")

    @property
    def num_steps(self) -> int:
        return self.shape[2 if self.is_transposed else 1]

    def to_series(self, values: np.ndarray) -> np.ndarray:
        """Return the values of a row as a series `[time, channel]` of float64."""
        values = values.reshape(self.shape[1:])
        return (values.T if self.is_transposed else values).astype(np.float64)


def read_shape(
    shape: tuple[int, ...],
    dtype: np.dtype,
    axes: Axes | None,
    num_channels: int | None,
    guess: Callable[[], Axes | None],
) -> SeriesArray:
    """Return how an array X is read.

    Args:
        axes: the order if it is given.
        num_channels: of the model that is to read the series; None: any.
        guess: returns the order if something other than the shape makes it certain.

    Raises:
        ArrayError: it holds no series, or the order is not certain.
    """
    if dtype.kind not in "iuf":
        raise ArrayError(f"has X of type {dtype}: save it as floats")
    if 0 in shape[1:]:  # any number of rows takes no bytes then
        raise ArrayError(f"has X of shape {list(shape)}, without values: save it with values")
    if axes in WITHOUT_ROWS:
        if len(shape) not in (1, 2):
            raise ArrayError(
                f"has X of shape {list(shape)}: with data.axes={axes} it must be one series, "
                "[time, channel] or [channel, time]"
            )
        if len(shape) == 1:
            shape = (shape[0], 1) if axes == "time,channel" else (1, shape[0])
        return SeriesArray((1, shape[0], shape[1]), axes)
    if len(shape) not in (2, 3):
        single = (
            "" if len(shape) != 1 else ". For a file that is one series say data.axes=time,channel"
        )
        raise ArrayError(
            f"has X of shape {list(shape)}: it must be [row, time, channel], or [row, time] for "
            f"one channel{single}"
        )
    if len(shape) == 2:
        return SeriesArray((shape[0], shape[1], 1), None)
    size = (shape[0], shape[1], shape[2])
    if axes is None:
        axes = _guess_by_channels(size, num_channels) or _guess_by_shape(size) or guess()
    if axes is None:
        raise ArrayError(
            f"has X of shape {list(shape)}, which may be [row, time, channel] ({shape[1]:,} steps "
            f"of {shape[2]:,} channels) or [row, channel, time] ({shape[2]:,} steps of "
            f"{shape[1]:,} channels): say data.axes=row,time,channel or data.axes=row,channel,time"
        )
    return SeriesArray(size, axes)


def _guess_by_shape(shape: tuple[int, int, int]) -> Axes | None:
    """Return the order if one of the axes has a single place, which is a channel and no step."""
    _, first, second = shape
    if second == 1:
        return "row,time,channel"
    return "row,channel,time" if first == 1 else None


def _guess_by_channels(shape: tuple[int, int, int], num_channels: int | None) -> Axes | None:
    """Return the order if only one axis has as many places as the model has channels."""
    if shape[1] == shape[2] or num_channels not in shape[1:]:
        return None
    return "row,time,channel" if shape[2] == num_channels else "row,channel,time"


def guess_by_lengths(shape: tuple[int, ...], lengths: np.ndarray | None) -> Axes | None:
    """Return the order in which the longest series fits exactly, if it is only one."""
    if lengths is None or not len(lengths) or shape[1] == shape[2]:
        return None
    longest = int(lengths.max())
    if longest == shape[1] or shape[2] < longest < shape[1]:
        return "row,time,channel"
    if longest == shape[2] or shape[1] < longest < shape[2]:
        return "row,channel,time"
    return None


def guess_by_padding(rows: Iterable[np.ndarray]) -> Axes | None:
    """Return the order in which NaN stands at the end of time, by the first row that tells."""
    for row in rows:
        is_missing = np.isnan(row)  # [time, channel] or [channel, time]
        if not is_missing.any() or is_missing.all():
            continue
        is_first, is_second = (_is_tail(part) for part in (is_missing, is_missing.T))
        if is_first != is_second:
            return "row,time,channel" if is_first else "row,channel,time"
        return None
    return None


def _is_tail(is_missing: np.ndarray) -> bool:
    """Return whether nothing but the last steps of `[time, channel]` is missing."""
    steps = is_missing.any(axis=1)
    return bool((is_missing.all(axis=1) == steps).all() and (np.diff(steps.astype(int)) >= 0).all())


Labels = list[Label | None] | list[list[Label | None]]
"""The label of each row, or of each step of each row."""


def read_labels(
    values: np.ndarray, array: SeriesArray, has_windows: bool, name: str = "y"
) -> Labels:
    """Return the label of each row, or of each step of each row if there are windows.

    Several columns `[row, target]` are labels of several values.

    Raises:
        ArrayError: the shape is another one, or the values are no labels.
    """
    steps = (array.num_rows, array.num_steps)
    if array.axes in WITHOUT_ROWS and values.shape == steps[1:]:
        values = values.reshape(steps)
    if values.shape == steps and values.ndim == 2:
        if not has_windows:
            raise ArrayError(
                f"has {name} of shape {list(values.shape)}, a label for each step: cut the series "
                "into windows with data.window"
            )
        labels = to_labels(values.ravel(), name)
        return [labels[row * steps[1] : (row + 1) * steps[1]] for row in range(steps[0])]
    size = values.shape[1] if values.ndim == 2 else 0
    if size == 1:
        values, size = values[:, 0], 0
    if size and len(values) == array.num_rows:
        labels = to_labels(values.ravel(), name)
        several = [labels[start : start + size] for start in range(0, len(labels), size)]
        of_rows: list[Label | None] = []
        for row in several:
            of_rows.append(None if None in row else tuple(map(str, row)))
        return of_rows
    check_vector(values.shape, array.num_rows, name)
    return to_labels(values, name)


def name_targets(labels: Labels | None) -> list[str] | None:
    """Return the numbers of the columns of labels of several values; None for other labels."""
    first = next((label for label in labels or () if label is not None), None)
    return [str(place) for place in range(len(first))] if isinstance(first, tuple) else None


def check_vector(shape: tuple[int, ...], num_rows: int, name: str) -> None:
    """Raise an ArrayError unless there is one value for each row of X."""
    if shape != (num_rows,):
        raise ArrayError(
            f"has {name} of shape {list(shape)}: it must be [{num_rows}], with a value for each "
            "row of X"
        )


def to_labels(values: np.ndarray, name: str) -> list[Label | None]:
    """Return the labels in an array of texts, whole numbers or booleans; None for missing ones.

    Raises:
        ArrayError: they are something else.
    """
    try:
        if values.dtype.kind not in "iufbSU":
            raise RowProblemError(BAD_LABEL)
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8")
        labels: list[Label | None] = [read_label(value) for value in values.tolist()]
        if not all(is_unicode(label) for label in labels if isinstance(label, str)):
            raise RowProblemError(BAD_LABEL)
        return labels
    except (RowProblemError, ValueError, SystemError) as error:
        # ValueError: bytes that are not UTF-8; SystemError: numbers beyond Unicode as characters
        raise ArrayError(
            f"has labels {name} that are neither texts nor numbers: save the classes as texts"
        ) from error
