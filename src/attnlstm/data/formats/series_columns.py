"""Which column of a long table holds what."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from attnlstm.config.checks import nearest
from attnlstm.console import enumerate_names, shorten
from attnlstm.data.formats.series_values import RowProblemError, to_numbers
from attnlstm.data.formats.table import Table
from attnlstm.errors import UserError

USUAL_NAMES = {
    "id": ["id", "series_id", "series", "sequence_id", "sequence", "case_id", "case"],
    "time": ["time", "timestamp", "datetime", "date", "time_step", "timestep", "step", "t"],
    "label": ["label", "class", "category", "target"],
}
"""Columns that are found without being named, in any case of letters; `y` may be a channel."""

SAMPLE = 100  # records in which a column without any number is found to be no channel


@dataclass(frozen=True)
class Columns:
    """The columns of a table by what they hold."""

    id: str
    time: str | None
    label: str | None
    channels: list[str]


def find_columns(
    table: Table,
    where: str,
    named: Mapping[str, str | None],
    channel_columns: Sequence[str] | None,
    needs_labels: bool,
) -> Columns:
    """The columns that are named, and for the others the one with a usual name.

    Args:
        table: the table.
        where: what messages call it.
        named: the columns "id", "time" and "label" where they are named, else None.
        channel_columns: None for all columns that are left.
        needs_labels: whether there must be a label column; otherwise one that is named may be
            missing.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    names = table.column_names()
    named = dict(named)
    if not needs_labels and named["label"] not in names:
        named["label"] = None
    _check_named(table, where, names, named, channel_columns or [])
    taken = [*filter(None, named.values()), *(channel_columns or [])]
    left = [name for name in names if name not in taken]
    found = {role: name or _find_usual(where, role, left) for role, name in named.items()}
    if found["id"] is None:
        raise _not_found(table, where, "id", "each line is a step and must say of which series")
    if found["label"] is None and needs_labels:
        raise _not_found(table, where, "label", "each series needs a class")
    if channel_columns is None:
        channel_columns = [name for name in left if name not in found.values()]
        _refuse_texts(table, where, channel_columns)
    if not channel_columns:
        raise UserError(f"{where} has no channels: add columns of numbers")
    return Columns(found["id"], found["time"], found["label"], list(channel_columns))


def _check_named(
    table: Table,
    where: str,
    names: Sequence[str],
    named: Mapping[str, str | None],
    channel_columns: Sequence[str],
) -> None:
    settings = [(f"data.{role}_column", name) for role, name in named.items() if name is not None]
    settings += [("data.channel_columns", name) for name in channel_columns]
    for setting, name in settings:
        if name not in names:
            raise UserError(
                f"{where} has no column {name!r}, which {setting} names: did you mean "
                f"{shorten(nearest(name, names))!r}? {table.describe_columns()}"
            )
    for name, count in Counter(name for _, name in settings).items():
        if count > 1:
            found = " and ".join(dict.fromkeys(key for key, other in settings if other == name))
            raise UserError(f"{where}: column {name!r} is named twice, by {found}: name it once")


def _find_usual(where: str, role: str, names: Sequence[str]) -> str | None:
    usual = [name for name in names if name.strip().lower() in USUAL_NAMES[role]]
    if len(usual) > 1:
        raise UserError(
            f"{where} has several columns that may be the {role} ({enumerate_names(usual)}): "
            f"choose one with data.{role}_column"
        )
    return usual[0] if usual else None


def _not_found(table: Table, where: str, role: str, reason: str) -> UserError:
    return UserError(
        f"{where} has no column with a usual name of the {role} "
        f"({', '.join(USUAL_NAMES[role])}): name one with data.{role}_column, as {reason}. "
        f"{table.describe_columns()}"
    )


def _refuse_texts(table: Table, where: str, channels: Sequence[str]) -> None:
    """A column of texts is no channel, and would make every series a bad one."""
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
