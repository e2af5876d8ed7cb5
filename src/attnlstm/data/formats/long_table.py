"""Series in a long table: each record is a step of the series whose id it has.

For example, as a CSV file:

    id,time,x,y,label
    a,0,0.1,1.5,walking
    a,1,0.2,1.5,walking
    b,0,0.9,1.2,running

The records of a series follow each other in time; those of other series may stand in between.
"""

import hashlib
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from functools import cached_property
from math import isfinite
from operator import itemgetter, lt
from typing import Any

import numpy as np

from attnlstm.console import enumerate_names
from attnlstm.data.formats.columns import TableOptions, find_series_columns
from attnlstm.data.formats.labels import RowProblemError, read_name
from attnlstm.data.formats.series import SeriesOptions, check_series_values, to_numbers
from attnlstm.data.formats.table import Record, Table
from attnlstm.data.rows import Row, RowSource, name_columns
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint

NOT_A_TIME = "time that is not a number or date"

WHOLE = ""
"""The id of all records of a table without an id column."""


@dataclass
class _OpenSeries:
    """A series that is being read.

    num_left: the number of its records still to come.
    steps: the values of each record up to the first bad one; `lines` says where they begin.
    bad: the problem of that one and its line.
    """

    number: int
    name: str | None
    num_left: int
    steps: list[tuple[Any, ...]] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)
    bad: tuple[str, int | None] | None = None


class LongTable(RowSource):
    """The series of one long table, in the order in which their ids first appear.

    The table is read twice, first to count the records of each id. A series is given as soon as it
    and those before it are complete, so that memory holds one series if the records of an id stand
    together, and all of them if the table is sorted by time. Times must increase within a series;
    without a time column, the order of the file counts.

    Without an id column, all records are one series.

    A record that cannot be read spoils its series, or is a row of its own if it has no readable id.
    `Row.line` is the first line of a series, or the one that has the problem.

    The arguments are those of `open_series`.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """

    def __init__(
        self,
        table: Table,
        key: str,
        name: str,
        needs_labels: bool,
        options: TableOptions,
        series: SeriesOptions,
    ) -> None:
        self.name = name
        self._where = f"{key}: {table.path}"
        self._delimiter = options.get("delimiter")
        self._table = table
        self._series = series
        self.columns = find_series_columns(table, self._where, needs_labels, options, series)
        self.columns_used = name_columns(
            id=self.columns.id,
            time=self.columns.time,
            label=self.columns.label,
            group=self.columns.group,
        )
        if self.columns.label is not None:
            self.label_names = table.label_names(self.columns.label)

    def __iter__(self) -> Iterator[Row]:
        num_records = self._num_records.copy()
        waiting: OrderedDict[str | int, _OpenSeries] = OrderedDict()
        number = 0
        for identity, record, step in self._read():
            key = record.number if identity is None else identity
            series = waiting.get(key)
            if series is None:
                num_left = 1 if identity is None else num_records.pop(identity, 0)
                series = waiting[key] = _OpenSeries(number, identity, num_left)
                number += 1
            if step is None:
                series.bad = series.bad or (record.problem or "no id", record.line)
            elif series.bad is None:
                series.steps.append(step)
                series.lines.append(record.line)
            series.num_left -= 1
            while waiting and next(iter(waiting.values())).num_left == 0:
                yield self._to_row(waiting.popitem(last=False)[1])
        if waiting:
            raise UserError(f"{self._where} has changed while it was read: start again")

    def fingerprint(self) -> str:
        content = file_fingerprint(self._table.path)
        return hashlib.sha256(repr((content, self._delimiter, self.columns)).encode()).hexdigest()

    def adopt_columns(self, first: "LongTable") -> None:
        """Read the channels in the order of another table, which must have the same channels."""
        ours, theirs = self.columns.channels, first.columns.channels
        if odd := sorted(set(ours) ^ set(theirs)):
            raise UserError(
                f"{self._where} and {first.name} do not have the same channels, only one has "
                f"{enumerate_names(odd)}: give files with the same columns, or name the "
                "channels with data.channel_columns"
            )
        self.columns = replace(self.columns, channels=theirs)

    @cached_property
    def _num_records(self) -> Counter[str | None]:
        """The number of records of each id; None stands for no readable id."""
        counted = self.columns.id or self.columns.channels[0]
        return Counter(map(self._id_of, self._table.records([counted])))

    def _id_of(self, record: Record) -> str | None:
        if self.columns.id is None:
            return WHOLE
        return read_name(None if record.values is None else record.values[self.columns.id])

    def _read(self) -> Iterator[tuple[str | None, Record, tuple[Any, ...] | None]]:
        """Yield each record's id, or None, and its values in the order of `wanted`, or None."""
        first = self.columns.id or self.columns.channels[0]
        wanted = [first, *self.columns.channels, *self._others.values()]
        take = itemgetter(*wanted)
        ids: Iterator[Record] | None = None  # for records that are unreadable except for their id
        for record in self._table.records(list(dict.fromkeys(wanted))):
            if record.values is None and self.columns.id is None:
                yield WHOLE, record, None
                continue
            if record.values is None:
                ids = ids or self._table.records([first])
                same = (other for other in ids if other.number == record.number)
                yield self._id_of(next(same, record)), record, None
                continue
            identity = self._id_of(record)
            yield identity, record, take(record.values) if identity is not None else None

    @property
    def _others(self) -> dict[str, str]:
        """The columns of `_OpenSeries.steps` after the id and the channels, by role."""
        columns = self.columns
        return name_columns(time=columns.time, label=columns.label, group=columns.group)

    def _to_row(self, series: _OpenSeries) -> Row:
        name = series.name or None
        try:
            problem, line = series.bad or (None, None)
            if series.steps:
                values, labels, group = self._assemble(series.steps)
        except RowProblemError:
            problem, line = self._first_problem(series)
        if problem is not None:
            return Row(self.name, series.number, None, problem=problem, line=line, name=name)
        label, step_labels = (None, labels) if isinstance(labels, list) else (labels, None)
        return Row(
            *(self.name, series.number, values, label),
            line=series.lines[0],
            name=name,
            group=group,
            step_labels=step_labels,
        )

    def _assemble(
        self, steps: list[tuple[Any, ...]]
    ) -> tuple[np.ndarray, str | list[str | None] | None, str | None]:
        """Return the series `[time, channel]`, its label, or that of each step, and its group."""
        _, *columns = zip(*steps, strict=True)
        num_channels = len(self.columns.channels)
        values = np.stack([to_numbers(column) for column in columns[:num_channels]], axis=1)
        check_series_values(values, self._series.allows_missing)
        others = dict(zip(self._others, columns[num_channels:], strict=True))
        if "time" in others:
            _check_times(others["time"])
        labels: str | list[str | None] | None = None
        group = None
        if "label" in others and self._series.has_windows:
            labels = list(map(self._table.read_label, others["label"]))
        elif "label" in others:
            labels = self._common_label(others["label"])
        if "group" in others:
            groups = set(map(read_name, set(others["group"])))
            if len(groups) > 1:
                raise RowProblemError("several groups in one series")
            group = groups.pop()
        return values, labels, group

    def _common_label(self, values: Sequence[Any]) -> str | None:
        """Return the label of a series; all of its steps must have the same."""
        if values.count(values[0]) == len(values):
            return self._table.read_label(values[0])
        labels = set(map(self._table.read_label, values))
        if len(labels) > 1:
            raise RowProblemError(
                "label on some steps only" if None in labels else "several labels in one series"
            )
        return labels.pop()

    def _first_problem(self, series: _OpenSeries) -> tuple[str, int | None]:
        """Return the problem of a bad series that comes first in the file, and its line."""

        def problem_of(num_steps: int) -> str:
            try:
                self._assemble(series.steps[:num_steps])
            except RowProblemError as problem:
                return str(problem)
            return ""

        # steps with a problem still have one after more steps, so this can be bisected
        place = bisect_left(range(1, len(series.steps)), True, key=lambda n: problem_of(n) != "")
        return problem_of(place + 1), series.lines[place]


def _check_times(values: Sequence[Any]) -> None:
    """Raise a RowProblemError if the times do not increase."""
    times = _to_times(values)
    try:
        if all(map(lt, times, times[1:])):
            return
        goes_back = any(map(lt, times[1:], times))
    except TypeError:  # numbers and dates, or dates with and without a time zone
        raise RowProblemError(NOT_A_TIME) from None
    raise RowProblemError("time that goes back" if goes_back else "time step twice")


def _to_times(values: Sequence[Any]) -> Sequence[Any]:
    """Return numbers or dates, which can be compared; texts of either are parsed."""
    types = set(map(type, values))
    if types == {str}:
        texts = [text.strip() for text in values]
        for parse in (int, float, datetime.fromisoformat):  # ints of any size are exact
            try:
                times: list[Any] = list(map(parse, texts))
            except ValueError:
                continue
            if parse is float and not all(map(isfinite, times)):
                break
            return times
    elif types <= {int, float}:
        if all(isfinite(value) for value in values if isinstance(value, float)):
            return values
    elif all(issubclass(kind, date | time | timedelta) for kind in types):
        return values
    raise RowProblemError(NOT_A_TIME)
