"""Find the columns of a table that hold texts and labels, or the parts of series."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypedDict

from attnlstm.console import enumerate_names, shorten
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.series import SeriesOptions, to_numbers
from attnlstm.data.formats.table import Table, missing_column
from attnlstm.errors import UserError

UsualNames = Mapping[str, Sequence[str]]
"""By role, the names of columns that are found without being named, in lower case."""

TEXT_TABLE: UsualNames = {
    "text": (
        *("text", "texts", "sentence", "review", "review_text", "content", "document", "article"),
        *("body", "message", "comment", "comment_text", "description", "tweet", "headline"),
        *("question", "utterance"),
    ),
    "label": (
        *("label", "labels", "target", "class", "category", "sentiment", "topic", "intent"),
        "emotion",
    ),
}

SERIES_TABLE: UsualNames = {  # without `y`, which may be a channel
    "id": ("id", "series_id", "series", "sequence_id", "sequence", "case_id", "case"),
    "time": ("time", "timestamp", "datetime", "date", "time_step", "timestep", "step", "t"),
    "label": ("label", "class", "category", "target"),
}

SAMPLE = 100  # records after which a column without any number is refused as a channel


class TableOptions(TypedDict, total=False):
    """How a long table is read: the settings of `data` with the same names; None finds out."""

    id_column: str | None
    time_column: str | None
    label_column: str | None
    channel_columns: Sequence[str] | None
    delimiter: str | None


@dataclass(frozen=True)
class Columns:
    """The columns of a long table by role; without `id`, the whole table is one series."""

    id: str | None
    time: str | None
    label: str | None
    channels: list[str]
    group: str | None = None


def find_text_columns(
    columns: Sequence[str],
    where: str,
    describe: Callable[[], str],
    text_column: str | None,
    label_column: str | None,
    needs_labels: bool,
    group_column: str | None = None,
) -> tuple[str, str | None]:
    """Return the columns of the texts and of the labels, as named or with a usual name.

    Args:
        where: what messages call the table.
        describe: returns the end of a message, about the columns there are.
        needs_labels: otherwise the label column may be missing, and is None if it is unclear.
        group_column: must exist, and is neither of the others.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    named = {"text": text_column, "label": label_column}
    if not needs_labels and label_column is not None and label_column not in columns:
        del named["label"]
    named["group"] = group_column
    finder = _Finder(columns, where, describe, TEXT_TABLE)
    candidates = finder.find_candidates(named)
    text, label = finder.choose("text", candidates), None
    if needs_labels or len(candidates.get("label", ())) == 1:
        label = finder.choose("label", candidates)
    return text, label


def find_series_columns(
    table: Table, where: str, needs_labels: bool, options: TableOptions, series: SeriesOptions
) -> Columns:
    """Return the columns of a long table, as named or with a usual name.

    Args:
        where: what messages call the table.
        needs_labels: otherwise the label column may be missing, even if it is named.
        options: `channel_columns` of None stands for all other columns.
        series: with `axes` of "time,channel", a table without an id is one series.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    columns, channels = table.column_names(), options.get("channel_columns")
    named = {
        "id": options.get("id_column"),
        "time": options.get("time_column"),
        "label": options.get("label_column"),
        "group": series.group_column,
    }
    if not needs_labels and named["label"] not in columns:
        named["label"] = None
    if not series.needs_groups and named["group"] not in columns:
        named["group"] = None
    if named["group"] is not None and named["group"] == named["id"]:
        del named["group"]
    finder = _Finder(columns, where, table.describe_columns, SERIES_TABLE)
    candidates = finder.find_candidates(named, channels or ())
    group = named.get("group", named["id"])
    needs_label = needs_labels and not series.is_labelled
    found = Columns(
        _find_id(finder, candidates, group, series),
        finder.choose("time", candidates) if candidates["time"] else None,
        finder.choose("label", candidates) if needs_label or candidates["label"] else None,
        list(channels or ()),
        group,
    )
    if channels is None:
        taken = (found.id, found.time, found.label, found.group)
        found.channels.extend(column for column in columns if column not in taken)
        _refuse_texts(table, where, found.channels)
    if not found.channels:
        raise UserError(f"{where} has no channels: add columns of numbers")
    return found


def _find_id(
    finder: "_Finder",
    candidates: Mapping[str, list[str]],
    group: str | None,
    series: SeriesOptions,
) -> str | None:
    """Return the id column; None if the whole table is one series."""
    if not candidates["id"] and series.has_windows and group is not None:
        return group  # each user's or session's steps are one stream
    if not candidates["id"] and series.axes == "time,channel":
        return None
    reason = ", as each record is a step and must say of which series"
    return finder.choose("id", candidates, f"{reason}; or say data.axes=time,channel if it is one")


@dataclass
class _Finder:
    """The columns of a table, and the messages about them; see `find_text_columns`."""

    columns: Sequence[str]
    where: str
    describe: Callable[[], str]
    usual_names: UsualNames

    def find_candidates(
        self, named: Mapping[str, str | None], channels: Sequence[str] = ()
    ) -> dict[str, list[str]]:
        """Return for each role the column that is named, or all others with a usual name."""
        settings = [
            (f"data.{role}_column", name) for role, name in named.items() if name is not None
        ]
        settings += [("data.channel_columns", name) for name in channels]
        taken = Counter(name for _, name in settings)
        for setting, name in settings:
            if name not in self.columns:
                raise missing_column(self.where, name, self.columns, self.describe(), setting)
            if taken[name] > 1:
                keys = " and ".join(dict.fromkeys(key for key, other in settings if other == name))
                raise UserError(
                    f"{self.where}: column {name!r} is named twice, by {keys}: name it once"
                )
        left = [column for column in self.columns if column not in taken]
        usual = {
            role: [
                column
                for column in left
                if column.strip().lower() in self.usual_names.get(role, ())
            ]
            for role in named
        }
        return usual | {role: [name] for role, name in named.items() if name is not None}

    def choose(self, role: str, candidates: Mapping[str, list[str]], reason: str = "") -> str:
        """Return the only candidate, or raise a UserError; `reason` says why there must be one."""
        found = candidates[role]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{self.where} has several columns that may be the {role} "
                f"({enumerate_names(found)}): choose one, such as data.{role}_column="
                f"{shorten(found[0])}. {self.describe()}"
            )
        raise UserError(
            f"{self.where} has no column with a usual name for the {role} "
            f"({', '.join(self.usual_names[role])}): name one with data.{role}_column{reason}. "
            f"{self.describe()}"
        )


def _refuse_texts(table: Table, where: str, channels: Sequence[str]) -> None:
    """Raise a UserError for a column of texts, which would make every series unusable."""
    numberless, has_records = list(channels), False
    for record in islice(table.records(channels), SAMPLE):
        if record.values is not None:
            has_records = True
            numberless = [name for name in numberless if not _is_number(record.values[name])]
        if not numberless:
            return
    if has_records:
        raise UserError(
            f"{where} has a column {shorten(numberless[0])!r} without numbers: name the channels "
            f"with data.channel_columns. {table.describe_columns()}"
        )


def _is_number(value: Any) -> bool:
    try:
        to_numbers([value])
    except RowProblemError:
        return False
    return True
