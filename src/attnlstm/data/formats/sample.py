"""The first records of a table, which show its layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.series import to_numbers
from attnlstm.data.formats.table import Table
from attnlstm.errors import UserError

MOST_RECORDS = 1000
MOST_CELLS = 1 << 20
FEW_RECORDS = 20
"""With fewer records, numbers may ascend, or match a label, by chance."""

MISSING = (None, "", "?")


@dataclass(frozen=True)
class Sample:
    """The first records of a table that can be read.

    records: the values of all columns, by name.
    is_whole: whether the table has no more records.
    """

    columns: list[str]
    records: list[dict[str, Any]]
    is_whole: bool

    def values(self, column: str) -> list[Any]:
        return [record[column] for record in self.records]

    def keys(self, columns: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the values of columns as texts, so that they can be compared."""
        return [tuple(map(str, (record[name] for name in columns))) for record in self.records]

    def numbers(self, column: str) -> np.ndarray | None:
        """Return a column as float64 with NaN for missing values; None if others are no numbers."""
        try:
            return to_numbers(self.values(column))
        except RowProblemError:
            return None

    def has_number(self, column: str) -> bool:
        """Return whether any value of a column is a number or missing."""
        return any(map(is_number, self.values(column)))

    @cached_property
    def counters(self) -> set[str]:
        """The columns that number the records, such as 5, 6, 7, ..., in any order."""
        if len(self.records) < FEW_RECORDS:
            return set()
        return {column for column in self.columns if self._counts(column)}

    @cached_property
    def nested(self) -> list[str]:
        """The columns whose cells hold whole series."""
        return [column for column in self.columns if self._is_nested(column)]

    def _counts(self, column: str) -> bool:
        if to_int(self.records[0][column]) is None:  # most columns end here
            return False
        values = [number for value in self.values(column) if (number := to_int(value)) is not None]
        if len(values) < len(self.records):
            return False
        in_order = list(range(values[0], values[0] + len(values)))
        if values == in_order:
            return True
        return self.is_whole and sorted(values) == list(
            range(min(values), min(values) + len(values))
        )

    def are_distinct(self, column: str) -> bool:
        """Return whether each record has a different whole number in a column."""
        values = {to_int(value) for value in self.values(column)}
        return None not in values and len(values) == len(self.records)

    def _is_nested(self, column: str) -> bool:
        cells = [cell for cell in self.values(column) if cell is not None]
        return bool(cells) and all(isinstance(cell, list | dict) for cell in cells)


def read_sample(table: Table) -> Sample:
    """Read the first records of a table, fewer if it has many columns.

    Raises:
        UserError: it is no table.
    """
    columns = table.column_names()
    if columns.count("") > 1:  # as no data.*_column can name one of them
        columns = list(filter(None, columns))
    if not columns:
        raise UserError(f"{table.path} has only columns without names: name them in the file")
    most = min(MOST_RECORDS, max(FEW_RECORDS, MOST_CELLS // len(columns)))
    records: list[dict[str, Any]] = []
    for record in table.records(columns):
        if record.number >= most:
            return Sample(columns, records, is_whole=False)
        if record.values is not None:
            records.append(record.values)
    return Sample(columns, records, is_whole=True)


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or missing."""
    try:
        to_numbers([value])
    except RowProblemError:
        return False
    return True


def to_int(value: Any) -> int | None:
    """Return a value such as 3, "3" or 3.0 as an int; None if it is no whole number."""
    if isinstance(value, str) and len(value) < 64:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None
