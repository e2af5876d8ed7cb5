"""Series in a long table: each record is a step of a series, whose id it has.

For example, as a CSV file:

    id,time,x,y,label
    a,0,0.1,1.5,walking
    a,1,0.2,1.5,walking
    b,0,0.9,1.2,running

The records of a series follow each other in time; those of others may stand between them.
"""

import hashlib
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from functools import cached_property
from math import isfinite
from operator import itemgetter, lt
from typing import Any, Unpack

import numpy as np

from attnlstm.console import enumerate_names
from attnlstm.data.formats.columns import TableOptions, find_series_columns
from attnlstm.data.formats.labels import RowProblemError, read_label
from attnlstm.data.formats.series import check_series_values, to_numbers
from attnlstm.data.formats.table import Record, Table
from attnlstm.data.rows import Row, RowSource, name_columns
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint

NO_ID = "no id"
NOT_A_TIME = "time that is not a number or date"
TIME_GOES_BACK = "time that goes back"
TIME_TWICE = "time step twice"
SEVERAL_LABELS = "several labels in one series"
PARTLY_LABELLED = "label on some steps only"


@dataclass
class _OpenSeries:
    """A series of which not all records have been read.

    steps: the values of each record up to the first bad one, and `lines` where these begin.
    bad: the problem of that one and its line.
    """

    number: int
    name: str | None
    complete: bool = False
    steps: list[tuple[Any, ...]] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)
    bad: tuple[str, int | None] | None = None


class LongTable(RowSource):
    """The series of one long table, in the order in which their ids first appear.

    The records of a series need not stand together: the table is read twice, first to count the
    records of each id, and then a series is given as soon as it is complete and those before it
    are. In memory are thus the ids, and the series that are begun and not complete: one where the
    records of an id stand together, all where the table is sorted by time. Times must increase from
    record to record of an id; without a time column, the order of the file is that of time.

    A record that cannot be read spoils its series; if its id cannot be read either, it is a row of
    its own. `Row.line` is the first line of a series, or the one that has the problem.

    Args:
        table: its records are the steps.
        key: what messages call the choice of this file, such as "data.train".
        name: what rows and messages call the file.
        needs_labels: whether a table without a label column is refused.
        options: the names of the columns, and the delimiter of a CSV file.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """

    def __init__(
        self,
        table: Table,
        *,
        key: str,
        name: str,
        needs_labels: bool = True,
        **options: Unpack[TableOptions],
    ) -> None:
        self.name = name
        self._where = f"{key}: {table.path}"
        self._delimiter = options.get("delimiter")
        self._table = table
        self.columns = find_series_columns(self._table, self._where, options, needs_labels)
        self.columns_used = name_columns(
            id=self.columns.id, time=self.columns.time, label=self.columns.label
        )
        if self.columns.label is not None:
            self.label_names = self._table.label_names(self.columns.label)

    def __iter__(self) -> Iterator[Row]:
        remaining = self._num_records.copy()
        begun: dict[str | None, _OpenSeries] = {}
        waiting: deque[_OpenSeries] = deque()
        number = 0
        for identity, record, step in self._read():
            series = begun.get(identity)
            if series is None:
                series = begun[identity] = _OpenSeries(number, identity)
                waiting.append(series)
                number += 1
            if step is None:
                series.bad = series.bad or (record.problem or NO_ID, record.line)
            elif series.bad is None:
                series.steps.append(step)
                series.lines.append(record.line)
            remaining[identity] -= 1
            if identity is None or not remaining[identity]:
                series.complete = True
                del begun[identity]
            while waiting and waiting[0].complete:
                yield self._to_row(waiting.popleft())
        if waiting:
            raise UserError(f"{self._where} has changed while it was read: start again")

    def fingerprint(self) -> str:
        content = file_fingerprint(self._table.path)
        return hashlib.sha256(repr((content, self._delimiter, self.columns)).encode()).hexdigest()

    def adopt_columns(self, first: "LongTable") -> None:
        """Reads the channels in the order of another table, which must have the same."""
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
        """How many records each id has, and how many have none or cannot be read."""
        column = self.columns.id
        return Counter(
            None if record.values is None else _id_text(record.values[column])
            for record in self._table.records([column])
        )

    def _read(self) -> Iterator[tuple[str | None, Record, tuple[Any, ...] | None]]:
        """Each record with its id and its values; None for what it lacks.

        The values are those of the id, the channels, and the time and label where there are such.
        """
        others = [self.columns.time, self.columns.label]
        wanted = [self.columns.id, *self.columns.channels, *filter(None, others)]
        take = itemgetter(*wanted)
        ids: _Ids | None = None
        for record in self._table.records(wanted):
            if record.values is None:
                ids = ids or _Ids(self._table, self.columns.id)
                yield ids.find(record.number), record, None
                continue
            step = take(record.values)
            identity = _id_text(step[0])
            yield identity, record, step if identity is not None else None

    def _to_row(self, series: _OpenSeries) -> Row:
        try:
            problem, line = series.bad or (None, None)
            if series.steps:
                values, label = self._assemble(series.steps)
        except RowProblemError:
            problem, line = self._first_problem(series)
        if problem is not None:
            return Row(self.name, series.number, None, problem=problem, line=line, name=series.name)
        return Row(self.name, series.number, values, label, line=series.lines[0], name=series.name)

    def _assemble(self, steps: list[tuple[Any, ...]]) -> tuple[np.ndarray, str | None]:
        """The series `[time, channel]` and its label."""
        _, *columns = zip(*steps, strict=True)
        num_channels = len(self.columns.channels)
        values = np.stack([to_numbers(column) for column in columns[:num_channels]], axis=1)
        check_series_values(values)
        if self.columns.time is not None:
            _check_times(columns[num_channels])
        if self.columns.label is None:
            return values, None
        return values, self._common_label(columns[-1])

    def _common_label(self, values: Sequence[Any]) -> str | None:
        """The label of a series whose steps all have to say the same."""
        if values.count(values[0]) == len(values):
            return self._table.read_label(values[0])
        labels = set(map(self._table.read_label, values))
        if len(labels) > 1:
            raise RowProblemError(PARTLY_LABELLED if None in labels else SEVERAL_LABELS)
        return labels.pop()

    def _first_problem(self, series: _OpenSeries) -> tuple[str, int | None]:
        """The problem of a series that comes first in the file, and its line.

        What is wrong with some first steps is wrong with more of them, so this can be bisected.
        """

        def problem_of(num_steps: int) -> str:
            try:
                self._assemble(series.steps[:num_steps])
            except RowProblemError as problem:
                return str(problem)
            return ""

        place = bisect_left(
            range(1, len(series.steps)), True, key=lambda number: bool(problem_of(number))
        )
        return problem_of(place + 1), series.lines[place]


class _Ids:
    """Looks up the ids of single records whose other columns cannot be read, in their order."""

    def __init__(self, table: Table, column: str) -> None:
        self._column = column
        self._records = table.records([column])

    def find(self, number: int) -> str | None:
        for record in self._records:
            if record.number == number:
                return None if record.values is None else _id_text(record.values[self._column])
        return None


def _id_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    try:
        return read_label(value)
    except RowProblemError:  # such as a date
        return str(value)


def _check_times(values: Sequence[Any]) -> None:
    """Refuses times that do not increase from each to the next."""
    times = _to_times(values)
    try:
        if all(map(lt, times, times[1:])):
            return
        goes_back = any(map(lt, times[1:], times))
    except TypeError:  # a number beside a date, or a date with a time zone beside one without
        raise RowProblemError(NOT_A_TIME) from None
    raise RowProblemError(TIME_GOES_BACK if goes_back else TIME_TWICE)


def _to_times(values: Sequence[Any]) -> Sequence[Any]:
    """Numbers or dates, which can be compared; texts of either are parsed."""
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
