"""What every source of data gives: rows that can be gone through again and again.

A source is read from its beginning each time, a row at a time, so that a file may be larger than
memory. It never stops at a bad row: it says what is wrong with it, and the reader decides.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from attnlstm.console import shorten

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One example: a text or a series, and its label.

    file: the name of the file (or set) that it is in.
    number: its place in the file, from 0; a header does not count.
    value: a text, or a series `[time, channel]` of floats; None where it cannot be read.
    label: the class name; None where the row has none.
    problem: what is wrong with the value, such as "no text", in a few words that are the same for
        all rows with the same problem; None if it can be used. A missing label is no problem.
    line: in a file of lines, the line (from 1) on which it begins.
    name: what the source calls the row (the id of a series in a long table), None without names.
    """

    file: str
    number: int
    value: "str | np.ndarray | None"
    label: str | None = None
    problem: str | None = None
    line: int | None = None
    name: str | None = None

    @property
    def place(self) -> str:
        """Within the file, such as "row 3 (line 5)"."""
        parts = [f"line {self.line}"] if self.line is not None else []
        parts += [f"id {shorten(self.name)}"] if self.name is not None else []
        return f"row {self.number}" + (f" ({', '.join(parts)})" if parts else "")


class RowSource(ABC):
    """Rows of one or more files, of a folder, or of a set that a package brings along.

    name: what messages call it, such as "train.csv".
    label_names: the classes in the order in which the source declares them; None if it does not.
    channel_names: the columns that the channels of series come from; None where they have no names.
    columns_used: what is read from which column, such as {"text": "review", "label": "stars"}, but
        for the channels; empty where there are no columns.
    doubt: what looks wrong with the data as it is read, in a sentence; None if nothing does.
    """

    name: str
    label_names: list[str] | None = None
    channel_names: list[str] | None = None
    columns_used: Mapping[str, str] = MappingProxyType({})
    doubt: str | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Row]:
        """The rows in their own order, from the first, the same ones each time."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest that changes when the content changes, or the way in which it is read."""


def name_columns(**columns: str | None) -> dict[str, str]:
    """Those of the columns that there are, for `RowSource.columns_used`."""
    return {role: column for role, column in columns.items() if column is not None}
