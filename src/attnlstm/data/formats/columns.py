"""Which columns of a table hold the texts, or the ids, times and channels of series; and labels."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypedDict

from attnlstm.console import enumerate_names, shorten
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.series import to_numbers
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

SERIES_TABLE: UsualNames = {  # `y` is missing because it may be a channel
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
    """The columns of a long table by role."""

    id: str
    time: str | None
    label: str | None
    channels: list[str]


def find_text_columns(
    columns: Sequence[str],
    where: str,
    describe: Callable[[], str],
    text_column: str | None,
    label_column: str | None,
    needs_labels: bool,
) -> tuple[str, str | None]:
    """Return the columns of the texts and of the labels, as named or with a usual name.

    Args:
        where: what messages call the table.
        describe: the end of a message, about the columns there are.
        needs_labels: otherwise the label column may be missing, and is None if it is unclear.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    named = {"text": text_column, "label": label_column}
    if not needs_labels and label_column is not None and label_column not in columns:
        del named["label"]
    candidates = _Candidates(columns, where, describe, TEXT_TABLE, named)
    text, label = candidates.choose("text"), None
    if needs_labels or len(candidates.by_role.get("label", ())) == 1:
        label = candidates.choose("label")
    return text, label


def find_series_columns(
    table: Table, where: str, options: TableOptions, needs_labels: bool
) -> Columns:
    """Return the columns of a long table, as named or with a usual name.

    Args:
        where: what messages call the table.
        options: `channel_columns` of None stands for all other columns.
        needs_labels: otherwise the label column may be missing, even if it is named.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    columns, channels = table.column_names(), options.get("channel_columns")
    named = {
        "id": options.get("id_column"),
        "time": options.get("time_column"),
        "label": options.get("label_column"),
    }
    if not needs_labels and named["label"] not in columns:
        named["label"] = None
    candidates = _Candidates(
        columns, where, table.describe_columns, SERIES_TABLE, named, channels or ()
    )
    found = Columns(
        candidates.choose("id", ", as each record is a step and must say of which series"),
        candidates.choose("time") if candidates.by_role["time"] else None,
        candidates.choose("label") if needs_labels or candidates.by_role["label"] else None,
        list(channels or ()),
    )
    if channels is None:
        taken = (found.id, found.time, found.label)
        found.channels.extend(column for column in columns if column not in taken)
        _refuse_texts(table, where, found.channels)
    if not found.channels:
        raise UserError(f"{where} has no channels: add columns of numbers")
    return found


class _Candidates:
    """For each role the column that is named, or all other columns with a usual name."""

    def __init__(
        self,
        columns: Sequence[str],
        where: str,
        describe: Callable[[], str],
        usual_names: UsualNames,
        named: Mapping[str, str | None],
        channels: Sequence[str] = (),
    ) -> None:
        self._where = where
        self._describe = describe
        self._usual_names = usual_names
        settings = [(f"data.{role}_column", name) for role, name in named.items()]
        settings += [("data.channel_columns", name) for name in channels]
        taken = [name for _, name in settings if name is not None]
        for setting, name in settings:
            if name is not None and name not in columns:
                raise missing_column(where, name, columns, describe(), setting)
        for name, count in Counter(taken).items():
            if count > 1:
                keys = " and ".join(dict.fromkeys(key for key, other in settings if other == name))
                raise UserError(f"{where}: column {name!r} is named twice, by {keys}: name it once")
        left = [column for column in columns if column not in taken]
        self.by_role = {
            role: [name] if name is not None else self._with_usual_name(role, left)
            for role, name in named.items()
        }

    def choose(self, role: str, reason: str = "") -> str:
        """Return the only candidate, or raise a UserError; `reason` says why there must be one."""
        columns = self.by_role[role]
        if len(columns) == 1:
            return columns[0]
        if columns:
            raise UserError(
                f"{self._where} has several columns that may be the {role} "
                f"({enumerate_names(columns)}): choose one, such as data.{role}_column="
                f"{shorten(columns[0])}. {self._describe()}"
            )
        raise UserError(
            f"{self._where} has no column with a usual name for the {role} "
            f"({', '.join(self._usual_names[role])}): name one with data.{role}_column{reason}. "
            f"{self._describe()}"
        )

    def _with_usual_name(self, role: str, columns: Sequence[str]) -> list[str]:
        return [name for name in columns if name.strip().lower() in self._usual_names[role]]


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
