"""Find the columns of a table that hold texts and labels, or the parts of series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from attnlstm.console import shorten
from attnlstm.data.formats.column_names import (
    INDEX_NAME,
    SERIES_TABLE,
    TEXT_TABLE,
    WIDER_INDEX_NAMES,
    WIDER_SERIES_TABLE,
    WIDER_TEXT_TABLE,
    Finder,
)
from attnlstm.data.formats.sample import Sample
from attnlstm.data.formats.series import SeriesOptions
from attnlstm.data.formats.table import FormatOptions, Table
from attnlstm.errors import UserError

COUNTS = "counts the rows"

MOST_GUESSED = 1000
"""Records that show which column of a table without a header holds texts."""


class TableOptions(FormatOptions, total=False):
    """How a table of series is read: the settings of `data` with the same names; None finds out.

    `time_column` is False for the order of the file.
    """

    layout: Literal["long", "wide"] | None
    id_column: str | None
    time_column: str | Literal[False] | None
    time_format: str | None
    label_column: str | Sequence[str] | None
    channel_columns: Sequence[str] | None


@dataclass(frozen=True)
class Columns:
    """The columns of a long table by role; without `id`, the whole table is one series.

    left_out: by the name of a column that is not read, why not.
    """

    id: str | None
    time: str | None
    label: str | None
    channels: list[str]
    group: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def find_text_columns(
    columns: Sequence[str],
    where: str,
    describe: Callable[[], str],
    text_column: str | Sequence[str] | None,
    label_column: str | None,
    needs_labels: bool,
    group_column: str | None = None,
) -> tuple[list[str], str | None]:
    """Return the columns of the texts and of the labels, as named or with a usual name.

    Args:
        where: what messages call the table.
        describe: returns the end of a message, about the columns there are.
        text_column: one column, or several whose texts are joined.
        needs_labels: otherwise the label column may be missing, and is None if it is unclear.
        group_column: must exist, and is neither of the others.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    texts = [text_column] if isinstance(text_column, str) else list(text_column or ())
    named: dict[str, str | Sequence[str] | None] = {"text": texts or None, "label": label_column}
    if not needs_labels and label_column is not None and label_column not in columns:
        del named["label"]
    named["group"] = group_column
    finder = Finder(columns, where, describe, TEXT_TABLE, WIDER_TEXT_TABLE)
    candidates = finder.find_candidates(named)
    texts, label = texts or [finder.choose("text", candidates)], None
    if needs_labels or len(candidates.get("label", ())) == 1:
        label = finder.choose("label", candidates)
    return texts, label


def guess_text_columns(table: Table, needs_labels: bool) -> tuple[str, str | None] | None:
    """Return the columns of texts and labels of a table without a header, where they are plain.

    Of two columns, one repeats its values, and the other has longer ones that mostly differ. A
    table without labels may have one column.
    """
    columns = table.column_names()
    if len(columns) == 1 and not needs_labels:
        return columns[0], None
    if len(columns) != 2:
        return None
    records = [record.values for record in islice(table.records(columns), MOST_GUESSED)]
    values = [[str(record[column]) for record in records if record] for column in columns]
    (label, labels), (text, texts) = sorted(
        zip(columns, values, strict=True), key=lambda column: len(set(column[1]))
    )
    is_plain = len(set(labels)) <= len(labels) / 2 < len(set(texts))
    return (text, label) if is_plain and sum(map(len, labels)) < sum(map(len, texts)) else None


@dataclass(frozen=True)
class InspectedTable:
    """A table of series with its first records, and how it is to be read.

    where: what messages call the table.
    needs_labels: otherwise the label column may be missing, even if it is named.
    label_column: as the user names it; None finds it.
    options: `channel_columns` of None stands for all other columns that can be channels.
    series: with `axes` of "time,channel", a table without an id is one series.
    sample: the first records.
    """

    table: Table
    where: str
    needs_labels: bool
    label_column: str | None
    options: TableOptions
    series: SeriesOptions
    sample: Sample

    @property
    def group(self) -> str | None:
        """The column of the groups, which other files than those for training may lack."""
        group = self.series.group_column
        return group if self.series.needs_groups or group in self.table.column_names() else None

    def named_roles(self) -> dict[str, str | None]:
        """Return the columns that the user names, by role."""
        named = {
            "id": self.options.get("id_column"),
            "time": self.options.get("time_column") or None,
            "label": self.label_column,
            "group": self.group,
        }
        if not self.needs_labels and named["label"] not in self.table.column_names():
            named["label"] = None
        if named["group"] == named["id"]:
            del named["group"]
        return named

    def finder(self) -> Finder:
        """Return the finder of the roles."""
        return Finder(
            self.table.column_names(),
            self.where,
            self.table.describe_columns,
            SERIES_TABLE,
            WIDER_SERIES_TABLE,
        )


def find_series_columns(inspected: InspectedTable) -> Columns:
    """Return the columns of a long table, as named or with a usual name.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    options, series, sample = inspected.options, inspected.series, inspected.sample
    channels = options.get("channel_columns")
    finder = inspected.finder()
    candidates = finder.find_candidates(inspected.named_roles(), channels or ())
    is_file_order = options.get("time_column") is False
    needs_label = inspected.needs_labels and not series.is_labelled
    found = Columns(
        _find_id(finder, candidates, inspected.group, series),
        finder.choose("time", candidates) if candidates["time"] and not is_file_order else None,
        finder.choose("label", candidates) if needs_label or candidates["label"] else None,
        list(channels or ()),
        inspected.group,
    )
    taken = {found.id, found.time, found.label, found.group, *found.channels}
    rest = [column for column in sample.columns if column not in taken]
    if channels is not None:
        others = dict.fromkeys(rest, "not in data.channel_columns")
        found.left_out.update(others | find_indices(rest, sample))
    else:
        found.left_out.update(find_left_out(rest, sample, candidates["time"] * is_file_order))
        found.channels.extend(column for column in rest if column not in found.left_out)
        _refuse_texts(inspected, found.channels)
    if not found.channels:
        counting = [column for column, why in found.left_out.items() if why == COUNTS]
        hint = f" ({shorten(counting[0])!r} counts the rows)" if counting else ""
        raise UserError(
            f"{inspected.where} has no channels: add columns of numbers{hint}, or name the "
            "channels with data.channel_columns"
        )
    return found


def _find_id(
    finder: Finder,
    candidates: Mapping[str, list[str]],
    group: str | None,
    series: SeriesOptions,
) -> str | None:
    """Return the id column; None if the whole table is one series."""
    if not candidates["id"] and series.has_windows and group is not None:
        return group  # each user's or session's steps are one stream
    if not candidates["id"] and series.axes == "time,channel":
        return None
    reason = (
        ", as each record is a step and must say which series it belongs to; or, if each record is "
        "a whole series, say data.layout=wide; or, if the file is one series, "
        "data.axes=time,channel"
    )
    return finder.choose("id", candidates, reason)


def find_left_out(
    columns: Sequence[str], sample: Sample, times: Sequence[str] = ()
) -> dict[str, str]:
    """Return which columns are no data, and why.

    A column that counts the rows is an index if it is the only one that does.
    """
    counters = [column for column in columns if column in sample.counters]
    left_out = find_indices(columns, sample) | dict.fromkeys(
        times, "time, and the order of the file counts"
    )
    if len(counters) == 1:
        left_out.setdefault(counters[0], COUNTS)
    return left_out


def find_indices(columns: Sequence[str], sample: Sample) -> dict[str, str]:
    """Return which columns are no data by their names, and why."""
    left_out = {}
    for column in columns:
        name = column.strip().lower()
        if INDEX_NAME.fullmatch(name) or (
            name in WIDER_INDEX_NAMES and sample.are_distinct(column)
        ):
            left_out[column] = "an index"
        elif name in WIDER_SERIES_TABLE["id"]:
            left_out[column] = "another id"
        elif name in WIDER_SERIES_TABLE["time"]:
            left_out[column] = "another time"
    return left_out


def _refuse_texts(inspected: InspectedTable, channels: Sequence[str]) -> None:
    """Raise a UserError for a column of texts, which would make every series unusable."""
    for name in channels if inspected.sample.records else ():
        if not inspected.sample.has_number(name):
            raise UserError(
                f"{inspected.where} has a column {shorten(name)!r} without numbers: name the "
                f"channels with data.channel_columns. {inspected.table.describe_columns()}"
            )
