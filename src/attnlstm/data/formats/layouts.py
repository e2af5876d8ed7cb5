"""Whether the records of a table are steps of series (long) or whole series (wide).

Only what is certain is decided; where a table can be read in two ways, the user is asked.
"""

from typing import Literal, NamedTuple

from attnlstm.console import enumerate_names
from attnlstm.data.formats.column_names import WIDER_SERIES_TABLE
from attnlstm.data.formats.columns import InspectedTable, find_indices, find_left_out
from attnlstm.data.formats.headerless import ARCHIVE_NAME
from attnlstm.data.formats.steps import CHANNEL_WORDS, StepNumbersError, Steps, group_steps
from attnlstm.errors import UserError

FEWEST_STEPS = 3
"""Fewer numbered columns may as well be channels."""

FEWEST_COLUMNS = 8
"""Fewer columns without names may as well be an id, a time and channels."""


class Layout(NamedTuple):
    """How the records of a table are read, and why."""

    name: Literal["long", "wide"]
    reason: str


def find_layout(inspected: InspectedTable) -> Layout:
    """Return the layout of a table, as `data.layout` says or the records show.

    Raises:
        UserError: the table can be read in two ways; the message names both and their keys.
    """
    if inspected.options.get("layout") is None:
        if inspected.series.axes == "time,channel":
            return Layout("long", "as data.axes says")
        if inspected.series.has_windows:
            return Layout("long", "as data.window says")
    return _LayoutFinder(inspected).find()


class _LayoutFinder:
    """What is known about a table; see `find_layout`."""

    def __init__(self, inspected: InspectedTable) -> None:
        self.table, self.where = inspected.table, inspected.where
        self.options, self.sample = inspected.options, inspected.sample
        self.roles = inspected.finder().find_candidates(inspected.named_roles())
        self.ids, self.times = self.roles["id"], self.roles["time"]
        roles = {name for found in self.roles.values() for name in found}
        rest = [column for column in self.sample.columns if column not in roles]
        left_out = find_indices(rest, self.sample)
        self.values = [column for column in rest if column not in left_out]
        self.chosen = self.options.get("channel_columns")

    def find(self) -> Layout:
        if asked := self.options.get("layout"):
            return Layout(asked, "as data.layout says")
        if self.options.get("time_column") is not None:
            return Layout("long", "as data.time_column says")
        if not self.table.has_header:
            return self._without_header()
        if nested := [name for name in self.sample.nested if name in self.values]:
            return Layout("wide", f"as the cells of {enumerate_names(nested[:3])} hold series")
        repeats = self._ids_repeat()
        try:
            steps = group_steps(self.values, self.chosen)
        except StepNumbersError as error:
            if repeats and self._ids_are_sure():
                steps = []
            else:
                raise UserError(f"{self.where}: {error}; or say data.layout=long") from error
        if self.chosen is not None:
            is_long = set(self.chosen) <= set(self.sample.columns)
            is_wide = set(self.chosen) <= {channel.name for channel in steps}
            if is_wide and not is_long:
                return Layout("wide", "as its columns are the steps of the channels")
            if is_long and not is_wide and not self._are_steps(group_steps(self.chosen)):
                return Layout("long", "as its columns are the channels")
        if not self._are_steps(steps):
            return self._without_numbers(repeats)
        if len(self.ids) == 1:
            return self._with_id(steps, repeats)
        if not self.ids and not self.times and not _count_channels(steps):
            return Layout("wide", f"as its columns {steps[0].describe()} are numbered")
        if len(self.ids) > 1 and not self._repeat(self.ids):
            return Layout("wide", f"as its columns {steps[0].describe()} are numbered")
        raise self._ask(steps)

    def _without_header(self) -> Layout:
        is_named = ARCHIVE_NAME.search(self.table.path.stem) is not None
        if len(self.sample.columns) < FEWEST_COLUMNS and not is_named:
            raise UserError(
                f"{self.where} has no header line and only {len(self.sample.columns)} columns: say "
                "data.layout=wide if each line is a series, or add a line with the names of the "
                "columns if each line is a step of a series"
            )
        return Layout("wide", "as it has no header line")

    def _without_numbers(self, repeats: bool | None) -> Layout:
        """Return the layout of a table whose columns are not numbered steps."""
        left_out = find_left_out(self.values, self.sample)
        numbers = [
            name for name in self.values if name not in left_out and self.sample.has_number(name)
        ]
        if repeats:
            return Layout("long", f"as values of {self.ids[0]!r} repeat")
        if repeats is None or self.times or len(numbers) < 2:
            return Layout("long", "as its columns are not numbered")
        raise self._ask([Steps(None, numbers, [])])

    def _with_id(self, steps: list[Steps], repeats: bool | None) -> Layout:
        (identity,) = self.ids
        if self.times and _count_channels(steps):
            return Layout("long", f"as it has an id, a time and channels {steps[0].describe()}")
        if not repeats:
            return Layout(
                "wide",
                f"as each {identity!r} has one row and columns {steps[0].describe()} are numbered",
            )
        if self._ids_are_sure():
            keys = self.sample.keys(self.ids)
            if self.times or 2 * len(set(keys)) <= len(keys):
                return Layout("long", f"as values of {identity!r} repeat")
            raise self._ask(steps)  # some ids may be there twice by mistake
        if self._labels_vary(identity):
            return Layout(
                "wide",
                f"as rows of the same {identity!r} have different labels and columns "
                f"{steps[0].describe()} are numbered",
            )
        raise self._ask(steps)

    def _are_steps(self, steps: list[Steps]) -> bool:
        return bool(steps) and len(steps[0].columns) >= FEWEST_STEPS

    def _ids_are_sure(self) -> bool:
        """Return whether rows with the same id are certainly steps of the same series."""
        is_named = self.options.get("id_column") is not None
        return is_named or self.ids[0].strip().lower() not in WIDER_SERIES_TABLE["id"]

    def _ids_repeat(self) -> bool | None:
        """Return whether an id has several records; None if that cannot be told."""
        if len(self.ids) != 1 or len(self.sample.records) < 2:
            return None
        if self._repeat(self.ids):
            return True
        if self.sample.is_whole or not (self.times or len(self.values) < FEWEST_COLUMNS):
            return False
        return self._repeat_later()

    def _repeat(self, columns: list[str]) -> bool:
        keys = [key for key in self.sample.keys(columns) if not {"", "None"} & set(key)]
        return len(set(keys)) < len(keys)

    def _repeat_later(self) -> bool:
        """Return whether an id of the sample comes again in the rest of the table."""
        seen = set(self.sample.keys(self.ids))
        records = self.table.records(self.ids)
        return any(
            (str(record.values[self.ids[0]]),) in seen
            for record in records
            if record.values is not None and record.number >= len(self.sample.records)
        )

    def _labels_vary(self, identity: str) -> bool:
        if len(self.roles["label"]) != 1:
            return False
        labels: dict[str, str] = {}
        return any(
            labels.setdefault(key, label) != label
            for key, label in zip(
                self.sample.values(identity),
                self.sample.values(self.roles["label"][0]),
                strict=True,
            )
        )

    def _ask(self, steps: list[Steps]) -> UserError:
        name = "" if self.ids else ", and name the id of each row's series with data.id_column"
        return UserError(
            f"{self.where} can be read in two ways: with a series in each row, whose steps are "
            f"columns {steps[0].describe()}, with data.layout=wide; or with a step in each row, "
            f"whose channels are these columns, with data.layout=long{name}. "
            f"{self.table.describe_columns()}"
        )


def _count_channels(steps: list[Steps]) -> bool:
    """Return whether numbers rather count channels, as in `ch1, ch2, ch3`."""
    return all(
        channel.channel is not None and channel.channel.lower() in CHANNEL_WORDS
        for channel in steps
    )
