"""What every source of data yields: rows that can be read again and again.

A source is read from the beginning each time, one row at a time, so a file may be larger than
memory. A bad row does not stop it: the row says what is wrong, and the reader decides.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from attnlstm.console import shorten
from attnlstm.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from attnlstm.config.data import Axes, Task

T = TypeVar("T")

Label = str | tuple[str, ...]
"""The name of a class or a number as text, or several of them."""


class Row(NamedTuple):  # four times as fast to make as a frozen dataclass
    """One example: a text or a series, and its label.

    file: the name of the file (or data set) that holds it.
    number: its position in the file, from 0; a header does not count.
    value: a text, or a series `[time, channel]` of floats; None if it cannot be read.
    label: see `Label`; None if the row has none.
    problem: what is wrong with the value, such as "no text", worded the same for all rows with the
        same problem; None if the value can be used. A missing label is not a problem.
    line: in a file of lines, the line (from 1) on which it begins.
    name: what the source calls the row, such as the id of a series in a long table.
    kept: the values, as text, of the columns that `RowSource.keep_columns` asked for.
    group: rows of one group, such as those of one user, go to the same part of the data.
    step: of a window that was cut from a series, its first step in that series, from 0.
    step_labels: the label of each step, of a series that is to be cut into windows.
    """

    file: str
    number: int
    value: "str | np.ndarray | None"
    label: Label | None = None
    problem: str | None = None
    line: int | None = None
    name: str | None = None
    kept: tuple[str | None, ...] = ()
    group: str | None = None
    step: int | None = None
    step_labels: Sequence[Label | None] | None = None

    @property
    def place(self) -> str:
        """The position within the file, such as "row 3 (line 5)"."""
        parts = [f"line {self.line}"] if self.line is not None else []
        parts += [f"id {shorten(self.name)}"] if self.name is not None else []
        parts += [f"step {self.step}"] if self.step is not None else []
        return f"row {self.number}" + (f" ({', '.join(parts)})" if parts else "")


class RowSource(ABC):
    """Rows of one or more files, of a folder, or of a data set that a package contains.

    name: what messages call it, such as "train.csv".
    label_names: the classes in the order in which the source declares them, if it does.
    task: what the source declares its labels to be for, if it does.
    target_names: the columns of the labels if each label is a tuple of one value for each of them:
        0 or 1 if the column is a class that a row may have, otherwise numbers.
    channel_names: the columns that hold the channels of series, if they have names.
    columns_used: the column that each role is read from, such as
        {"text": "review", "label": "stars"}, without the channels.
    read_as: how the files are written, such as "UTF-8 with delimiter ','".
    left_out: by the name of a column that is not read, why not.
    layout: how the rows lie in the file, and why it is read so, if there are several ways.
    doubt: a sentence about what looks wrong with the data, if anything does.
    axes: the order in which arrays are read, for other arrays of the same model; see `data.axes`.
    notes: lines for the log about what was read, such as padding that was cut off; complete once
        all rows have been read.
    """

    name: str
    label_names: list[str] | None = None
    task: "Task | None" = None
    target_names: list[str] | None = None
    channel_names: list[str] | None = None
    columns_used: Mapping[str, str] = MappingProxyType({})
    read_as: str | None = None
    left_out: Mapping[str, str] = MappingProxyType({})
    layout: str | None = None
    doubt: str | None = None
    axes: "Axes | None" = None
    notes: Sequence[str] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[Row]:
        """Yield the same rows in the same order each time, from the first."""

    def keep_columns(self, wanted: Sequence[str] | None) -> list[str]:
        """Have each row carry the values of these columns of its table; return their names.

        None are all that are not read for another purpose.

        Raises:
            UserError: there is no such column.
        """
        if wanted:
            raise UserError(
                f"keep=[{','.join(wanted)}]: {self.name} has no columns that can be kept: leave "
                "keep out, or give keep=none"
            )
        return []

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest that changes with the content and with the way it is read."""


def name_columns(**columns: str | None) -> dict[str, str]:
    """Return the columns that exist, for `RowSource.columns_used`."""
    return {role: column for role, column in columns.items() if column is not None}


def join_descriptions(read_as: Iterable[str | None]) -> str | None:
    """Return how several files are written, for `RowSource.read_as`."""
    found = list(dict.fromkeys(filter(None, read_as)))
    more = f" and {len(found) - 3} other ways" * (len(found) > 3)
    return "; ".join(found[:3]) + more or None


def as_tuple(label: Label) -> tuple[str, ...]:
    """Return the items of a label of several, or the label itself as the only item."""
    return (label,) if isinstance(label, str) else label


def to_number(text: str) -> float | None:
    """Return the finite number that a label is, or None; "1_000" is a number in Python only."""
    try:
        value = float("nan" if "_" in text else text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def to_numbers(label: Label, count: int) -> list[float] | None:
    """Return the numbers of a label, or None if it has not this many numbers."""
    numbers = [to_number(item) for item in as_tuple(label)]
    found = [number for number in numbers if number is not None]
    return found if len(found) == len(numbers) == count else None


def chunked(
    items: Iterable[T], size_of: Callable[[T], int], most_items: int, most_size: int
) -> Iterator[list[T]]:
    """Yield lists of consecutive items that reach a number of items or a total size."""
    chunk: list[T] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += size_of(item)
        if len(chunk) >= most_items or size >= most_size:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
