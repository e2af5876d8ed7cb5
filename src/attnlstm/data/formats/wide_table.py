"""Series in a wide table: each record is a series, whose steps are its columns.

For example, as a CSV file, with one channel or with two:

    id,t0,t1,t2,label            x_0,x_1,x_2,y_0,y_1,y_2,label
    a,0.1,0.2,0.2,walking        0.1,0.2,0.2,1.5,1.5,1.4,walking

Or each channel is a column whose cells hold all of its steps, as in sktime's nested tables:

    {"x": [0.1, 0.2, 0.2], "y": [1.5, 1.5, 1.4], "label": "walking"}
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from attnlstm.console import enumerate_names, shorten
from attnlstm.data.formats.column_names import SERIES_TABLE, WIDER_WIDE_TABLE, Finder
from attnlstm.data.formats.columns import InspectedTable, find_indices, find_left_out
from attnlstm.data.formats.headerless import find_label, is_archive_name
from attnlstm.data.formats.labels import RowProblemError, read_name
from attnlstm.data.formats.layouts import Layout
from attnlstm.data.formats.number_blocks import read_blocks
from attnlstm.data.formats.sample import Sample
from attnlstm.data.formats.series import (
    NOT_A_NUMBER,
    check_series_values,
    describe_padding,
    to_numbers,
)
from attnlstm.data.formats.series_table import SeriesTable
from attnlstm.data.formats.steps import Steps, check_steps, group_steps, has_gaps
from attnlstm.data.formats.table import Record
from attnlstm.data.formats.texts import show_value
from attnlstm.data.missing import trim_padding
from attnlstm.data.rows import Row, name_columns
from attnlstm.errors import UserError


@dataclass(frozen=True)
class WideColumns:
    """The columns of a wide table by role; `is_nested` if a cell holds all steps of a channel."""

    id: str | None
    label: str | None
    channels: list[Steps]
    is_nested: bool
    group: str | None = None


class WideTable(SeriesTable):
    """The series of one wide table, in the order of its records.

    Steps are in the order of the numbers of their columns. Missing values at the end of a record
    are padding: the series is shorter.
    """

    columns: WideColumns

    def __iter__(self) -> Iterator[Row]:
        identity, label, group = self.columns.id, self.columns.label, self.columns.group
        values = self._value_columns()
        named = [column for column in (identity, label, group) if column is not None]
        others = list(dict.fromkeys([*named, *self._kept]))
        num_records = self._num_padded = 0
        if not self.columns.is_nested:
            names = self._table.column_names()
            for block in read_blocks(self._table.path, names, values, others):
                texts = zip(*block.texts.values(), strict=True)
                for place, numbers in enumerate(block.numbers):
                    record = Record(num_records, dict(zip(others, next(texts, ()), strict=True)))
                    yield self._to_row(record._replace(line=block.line + place), numbers)
                    num_records += 1
        for record in islice(self._table.records([*values, *others]), num_records, None):
            num_records += 1
            yield self._to_row(record, values)
        self._conclude(len(values), num_records)

    def _conclude(self, num_columns: int, num_records: int) -> None:
        """Note what only shows once all records have been read."""
        self.notes = describe_padding(self.name, self._num_padded)
        is_certain = self.columns.is_nested or not self._table.has_header
        if self.doubt is None and not is_certain and num_columns > num_records:
            self.doubt = (
                f"{self._where} has more columns ({num_columns:,}) than rows ({num_records:,}): if "
                "each column is a series, transpose the table"
            )

    def _to_row(self, record: Record, steps: Sequence[str] | np.ndarray) -> Row:
        """Return the row of a record; `steps` are its numbers, or the columns that have them."""
        problem, line, number = record.problem, record.line, record.number
        if record.values is None:
            return Row(self.name, number, None, problem=problem, line=line)
        name, group = (
            None if column is None else read_name(record.values[column])
            for column in (self.columns.id, self.columns.group)
        )
        kept = tuple(show_value(record.values[column]) for column in self._kept)
        try:
            series = self._shape(
                steps if isinstance(steps, np.ndarray) else self._read(record.values, steps)
            )
            label = None
            if self.columns.label is not None:
                label = self._table.read_label(record.values[self.columns.label])
        except RowProblemError as error:
            return Row(
                *(self.name, number, None),
                problem=str(error),
                line=line,
                name=name,
                kept=kept,
            )
        return Row(
            *(self.name, number, series, label), line=line, name=name, kept=kept, group=group
        )

    def _read(self, values: dict[str, Any], columns: Sequence[str]) -> np.ndarray:
        """Return the numbers of all channels, one after the other, `[channel * time]`."""
        if not self.columns.is_nested:
            return to_numbers([values[column] for column in columns])
        channels = [_read_cell(values[column]) for column in columns]
        if len(set(map(len, channels))) > 1:
            raise RowProblemError("channels of different lengths")
        return np.concatenate(channels)

    def _shape(self, numbers: np.ndarray) -> np.ndarray:
        """Return the series `[time, channel]`, without padding."""
        series = numbers.reshape(len(self.columns.channels), -1).T
        padded, series = series, trim_padding(series)
        self._num_padded += len(series) < len(padded)
        check_series_values(series, self._series.allows_missing)
        return series.copy()  # which does not keep the numbers of other rows in memory

    def _find_columns(self, inspected: InspectedTable, layout: Layout) -> None:
        sample, group = inspected.sample, inspected.group
        identity, label, rest = self._find_roles(inspected)
        chosen = inspected.options.get("channel_columns")
        nested = [column for column in rest if column in sample.nested]
        if nested:
            channels = [Steps(column, [column], []) for column in nested]
        else:
            channels = self._find_steps(rest, chosen, sample)
        if chosen is not None:
            channels = self._choose(channels, chosen)
        check_steps(channels, self._where)
        self.columns = WideColumns(identity, label, channels, bool(nested), group)
        self.columns_used = name_columns(id=identity, label=label, group=group)
        unnamed = len(channels) == 1 and channels[0].channel is None
        self.channel_names = None if unnamed else self._channels()
        used = {identity, label, group, *(column for steps in channels for column in steps.columns)}
        left = [column for column in sample.columns if column not in used]
        self.left_out = dict.fromkeys(left, "not a step") | find_left_out(left, sample)
        self.layout = self._describe(layout)
        gaps = [steps for steps in channels if has_gaps(steps)]
        if gaps:
            self.doubt = (
                f"{self._where}: the numbers of columns {gaps[0].describe()} are not evenly spaced:"
                " are steps missing?"
            )

    def _find_roles(self, inspected: InspectedTable) -> tuple[str | None, str | None, list[str]]:
        """Return the columns of the ids and of the labels, and those that may be steps."""
        table, sample, needs_labels = inspected.table, inspected.sample, inspected.needs_labels
        named = inspected.named_roles()
        if named.pop("time") is not None:
            raise UserError(
                f"{self._where} is read with a series in each row, which has no time: leave "
                "data.time_column out, or say data.layout=long"
            )
        finder = Finder(
            sample.columns, self._where, table.describe_columns, SERIES_TABLE, WIDER_WIDE_TABLE
        )
        candidates = finder.find_candidates(named)
        ids, labels = candidates["id"], candidates["label"]
        identity = ids[0] if len(ids) == 1 else None
        if table.has_header:
            label = finder.choose("label", candidates) if needs_labels or labels else None
            dropped = find_indices(sample.columns, sample)
        else:
            is_archive = is_archive_name(table.path) or table.path.suffix.lower() == ".tsv"
            label = (
                labels[0] if labels else find_label(sample, self._where, is_archive, needs_labels)
            )
            texts = [name for name in sample.columns if not sample.has_number(name)]
            if identity is None and (others := [name for name in texts if name != label]):
                identity = others[0]
            dropped = find_left_out(sample.columns, sample) | dict.fromkeys(texts, "a text")
        times = {*SERIES_TABLE["time"], *WIDER_WIDE_TABLE["time"]}
        taken = {identity, label, *candidates.get("group", ()), *dropped}
        rest = [
            column
            for column in sample.columns
            if column not in taken and column.strip().lower() not in times
        ]
        return identity, label, rest

    def _find_steps(
        self, columns: Sequence[str], chosen: Sequence[str] | None, sample: Sample
    ) -> list[Steps]:
        """Return the channels of numbered columns, or all columns of numbers as one channel."""
        if channels := group_steps(columns, chosen):
            return channels
        left_out = find_left_out(columns, sample)
        columns = [column for column in columns if column not in left_out]
        if texts := [column for column in columns if not sample.has_number(column)]:
            raise UserError(
                f"{self._where} has a column {shorten(texts[0])!r} without numbers, and no numbered"
                " columns that would tell which are the steps: remove it. "
                f"{self._table.describe_columns()}"
            )
        if not columns:
            raise UserError(f"{self._where} has no channels: add columns of numbers")
        return [Steps(None, list(columns), [])]

    def _choose(self, channels: Sequence[Steps], names: Sequence[str]) -> list[Steps]:
        """Return the channels with these names, in this order."""
        if len(names) == len(channels) == 1 and channels[0].channel is None:
            return [replace(channels[0], channel=names[0])]
        known = {steps.name: steps for steps in channels}
        if missing := [name for name in names if name not in known]:
            raise UserError(
                f"{self._where} has no channel {shorten(missing[0])!r} (data.channel_columns): as "
                f"a table with a series in each row, it has {enumerate_names(list(known))}; "
                "data.layout=long reads each row as a step. "
                f"{self._table.describe_columns()}"
            )
        return [known[name] for name in names]

    def _value_columns(self) -> list[str]:
        return [column for steps in self.columns.channels for column in steps.columns]

    def _channels(self) -> list[str]:
        return [steps.name for steps in self.columns.channels]

    def _set_channels(self, names: Sequence[str]) -> None:
        self.columns = replace(self.columns, channels=self._choose(self.columns.channels, names))

    def _describe(self, layout: Layout) -> str:
        """Return how the table is read, for the log."""
        columns = self.columns
        if columns.is_nested:
            return f"wide: a series in each row, {layout.reason}"
        parts = [
            f"{shorten(steps.name)!r} from {len(steps.columns)} columns, {steps.describe()}"
            for steps in columns.channels[:4]
        ]
        more = f" and {len(columns.channels) - 4} more" * (len(columns.channels) > 4)
        return f"wide: a series in each row, {layout.reason}; channel {', '.join(parts)}{more}"


def _read_cell(cell: Any) -> np.ndarray:
    """Return the steps `[time]` in a cell: a list, or an object whose keys count."""
    if isinstance(cell, dict):
        if list(cell) != [str(place) for place in range(len(cell))]:
            raise RowProblemError("keys that do not count the steps from 0")
        cell = list(cell.values())
    if cell is None:
        cell = []
    if not isinstance(cell, list):
        raise RowProblemError(NOT_A_NUMBER)
    return to_numbers(cell)
