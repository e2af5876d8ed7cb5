"""Series in a long table: each record is a step of the series whose id it has.

For example, as a CSV file:

    id,time,x,y,label
    a,0,0.1,1.5,walking
    a,1,0.2,1.5,walking
    b,0,0.9,1.2,running

The records of a series follow each other in time; those of other series may stand in between.
"""

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np

from attnlstm.console import shorten
from attnlstm.data.formats.columns import Columns, InspectedTable, find_series_columns
from attnlstm.data.formats.labels import RowProblemError, read_name
from attnlstm.data.formats.layouts import Layout
from attnlstm.data.formats.series import check_series_values, to_numbers
from attnlstm.data.formats.series_table import SeriesTable
from attnlstm.data.formats.table import Record
from attnlstm.data.formats.texts import show_value
from attnlstm.data.formats.times import advise_times, check_time_format, check_times
from attnlstm.data.rows import Label, Row, name_columns
from attnlstm.errors import UserError

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
    kept: tuple[str | None, ...] = ()


class LongTable(SeriesTable):
    """The series of one long table, in the order in which their ids first appear.

    The table is read twice, first to count the records of each id. A series is given as soon as it
    and those before it are complete, so that memory holds one series if the records of an id stand
    together, and all of them if the table is sorted by time. Times must increase within a series;
    without a time column, the order of the file counts.

    Without an id column, all records are one series.

    A record that cannot be read spoils its series, or is a row of its own if it has no readable id.
    `Row.line` is the first line of a series, or the one that has the problem.
    """

    columns: Columns

    def __iter__(self) -> Iterator[Row]:
        num_records = self._num_records.copy()
        self._doubt_size(num_records.total())
        waiting: OrderedDict[str | int, _OpenSeries] = OrderedDict()
        number = 0
        for identity, record, step in self._read():
            key = record.number if identity is None else identity
            series = waiting.get(key)
            if series is None:
                num_left = 1 if identity is None else num_records.pop(identity, 0)
                series = waiting[key] = _OpenSeries(number, identity, num_left)
                if record.values is not None:
                    series.kept = tuple(show_value(record.values[name]) for name in self._kept)
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

    def _find_columns(self, inspected: InspectedTable, layout: Layout) -> None:
        self._time_format = inspected.options.get("time_format")
        if self._time_format is not None:
            check_time_format(self._time_format)
        self.columns = find_series_columns(inspected)
        self.columns_used = name_columns(
            id=self.columns.id,
            time=self.columns.time,
            label=self.columns.label,
            group=self.columns.group,
        )
        self._kept: list[str] = []
        self.channel_names = self.columns.channels
        self.left_out = self.columns.left_out
        order = "in the order of the file" if self.columns.time is None else "in order of time"
        self.layout = f"long: a step of a series in each row, {layout.reason}; steps {order}"

    def _channels(self) -> list[str]:
        return self.columns.channels

    def _set_channels(self, names: Sequence[str]) -> None:
        self.columns = replace(self.columns, channels=list(names))
        self.channel_names = self.columns.channels

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
        for record in self._table.records(list(dict.fromkeys([*wanted, *self._kept]))):
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
        place, kept = series.number, series.kept
        if problem is not None:
            label = self._label_of_bad(series)
            return Row(self.name, place, None, label, problem, line=line, name=name, kept=kept)
        label, step_labels = (None, labels) if isinstance(labels, list) else (labels, None)
        return Row(
            *(self.name, place, values, label),
            line=series.lines[0],
            name=name,
            kept=kept,
            group=group,
            step_labels=step_labels,
        )

    def _label_of_bad(self, series: _OpenSeries) -> Label | None:
        """Return the label of a series with a problem, if its records before that agree on one."""
        if self.columns.label is None or not series.steps:
            return None
        place = 1 + len(self.columns.channels) + list(self._others).index("label")
        try:
            return self._common_label([step[place] for step in series.steps])
        except RowProblemError:
            return None

    def keep_columns(self, wanted: Sequence[str] | None) -> list[str]:
        """See `RowSource`; the values are those of a series' first record."""
        if wanted is None:
            used = {*self.columns_used.values(), *self.columns.channels}
            wanted = [name for name in self._table.column_names() if name not in used]
        self._table.check_columns(wanted)
        self._kept = list(wanted)
        return self._kept

    def _assemble(
        self, steps: list[tuple[Any, ...]]
    ) -> tuple[np.ndarray, Label | list[Label | None] | None, str | None]:
        """Return the series `[time, channel]`, its label, or that of each step, and its group."""
        _, *columns = zip(*steps, strict=True)
        num_channels = len(self.columns.channels)
        values = np.stack([to_numbers(column) for column in columns[:num_channels]], axis=1)
        check_series_values(values, self._series.allows_missing)
        others = dict(zip(self._others, columns[num_channels:], strict=True))
        if "time" in others:
            self._check_times(others["time"])
        labels: Label | list[Label | None] | None = None
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

    def _doubt_size(self, num_records: int) -> None:
        num_channels = len(self.columns.channels)
        if self.doubt is None and num_channels > num_records:
            self.doubt = (
                f"{self._where} has more channels ({num_channels:,}) than rows ({num_records:,}), "
                "each a step of a series: is a row a whole series (data.layout=wide)?"
            )

    def _check_times(self, values: Sequence[Any]) -> None:
        """Raise a RowProblemError if the times do not increase; `doubt` says what may help."""
        try:
            check_times(values, self._time_format)
        except RowProblemError:
            if self.doubt is None:
                self.doubt = (
                    f"Column {shorten(str(self.columns.time))!r} is read as the time: "
                    f"{advise_times(values, self._time_format)}"
                )
            raise

    def _common_label(self, values: Sequence[Any]) -> Label | None:
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
