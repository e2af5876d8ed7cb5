"""Numbered columns: which of them are the steps of one channel, as in `x_0, x_1, y_0, y_1`."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_letters

from attnlstm.console import enumerate_names, shorten
from attnlstm.errors import UserError

UNNAMED = "value"
"""What messages call a channel whose columns have no name but a number or a date."""

STEP_WORDS = {"t", "time", "timestep", "step", "ts", "tick", "frame", "lag"}
CHANNEL_WORDS = {
    *("c", "ch", "chan", "channel", "dim", "dimension", "var", "variable", "sensor", "axis"),
    *("feature", "feat", "electrode", "lead", "eeg", "emg", "acc", "gyro", "signal"),
}
"""Words before a number that say what it counts."""

NUMBER = re.compile(r"\d+")
WHOLE_NAME = re.compile(r"[+-]?\d+(\.\d+)?")
CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
DATE = re.compile(rf"{CLOCK}|\d{{4}}-\d{{2}}(-\d{{2}}([ T]{CLOCK})?)?")
SEPARATORS = "_-.:# []()"


@dataclass(frozen=True)
class Steps:
    """The columns of one channel in the order of their numbers.

    channel: its name; None if the columns have no name but a number or a date.
    numbers: the numbers in the names; empty if the columns are not numbered.
    """

    channel: str | None
    columns: list[str]
    numbers: list[float]

    @property
    def name(self) -> str:
        return UNNAMED if self.channel is None else self.channel

    def describe(self) -> str:
        first, last = (repr(shorten(self.columns[place], 24)) for place in (0, -1))
        return f"{first} to {last}"


class StepNumbersError(UserError):
    """Numbered columns that can be read in two ways."""


def group_steps(columns: Sequence[str], chosen: Sequence[str] | None = None) -> list[Steps]:
    """Return the channels whose steps are numbered columns, in the order of their first columns.

    Columns that are not numbered, or alone with their name, are left out.

    Args:
        chosen: the names of channels, which may decide between two readings.

    Raises:
        StepNumbersError: names have two numbers each, and either may count the steps.
    """
    if len(columns) > 1:
        if all(map(WHOLE_NAME.fullmatch, columns)):
            return [_in_order(None, {column: float(column) for column in columns})]
        if all(map(DATE.fullmatch, columns)):
            in_order = sorted(columns, key=lambda name: list(map(int, NUMBER.findall(name))))
            return [Steps(None, in_order, [])]
    by_last, by_first = _group(columns, -1), _group(columns, 0)
    if by_last == by_first or not _is_complete(by_first):
        return by_last
    if not _is_complete(by_last):
        return by_first
    last, first = (_names(reading) for reading in (by_last, by_first))
    if chosen is not None and (last >= set(chosen)) != (first >= set(chosen)):
        return by_last if last >= set(chosen) else by_first
    hints = {_hint(column) for column in columns if len(NUMBER.findall(column)) > 1}
    if hints == {"last"}:
        return by_last
    if hints == {"first"}:
        return by_first
    one, other = (enumerate_names([steps.name for steps in way][:2]) for way in (by_last, by_first))
    raise StepNumbersError(
        f"columns such as {columns[0]!r} have two numbers, and either may count the steps: name "
        f"the channels, data.channel_columns=[{one}, ...] if it is the last, or "
        f"data.channel_columns=[{other}, ...] if it is the first"
    )


def check_steps(channels: Sequence[Steps], where: str) -> None:
    """Raise a UserError if channels have different steps, or a step twice."""
    for steps in channels:
        if twice := [a for a, b in pairwise(steps.numbers) if a == b]:
            raise UserError(
                f"{where} has step {twice[0]:g} of channel {shorten(steps.name)!r} twice: rename a "
                "column"
            )
    first = channels[0]
    for steps in channels[1:]:
        if steps.name == first.name:
            raise UserError(
                f"{where} has columns {steps.describe()} and {first.describe()}, which would both "
                f"be channel {shorten(first.name)!r}: rename one of them"
            )
        if steps.numbers != first.numbers:
            raise UserError(
                f"{where} has channels of different steps: {shorten(first.name)!r} from columns "
                f"{first.describe()}, {shorten(steps.name)!r} from {steps.describe()}; name the "
                f"channels that count, such as data.channel_columns=[{shorten(first.name)}]"
            )


def has_gaps(steps: Steps) -> bool:
    """Return whether the numbers are not evenly spaced."""
    return len({round(b - a, 6) for a, b in pairwise(steps.numbers)}) > 1


def _group(columns: Iterable[str], which: int) -> list[Steps]:
    """Group columns by their names without the first (0) or the last (-1) number."""
    groups: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for column in columns:
        if found := list(NUMBER.finditer(column)):
            start, end = found[which].span()
            groups[column[:start], column[end:]][column] = float(column[start:end])
    return [_in_order(_channel(*key), group) for key, group in groups.items() if len(group) > 1]


def _in_order(channel: str | None, numbers: Mapping[str, float]) -> Steps:
    columns = sorted(numbers, key=numbers.__getitem__)
    return Steps(channel, columns, [numbers[column] for column in columns])


def _channel(before: str, after: str) -> str | None:
    """Return the name of a channel from what stands around the numbers of its columns."""
    before, after = before.strip(SEPARATORS), after.strip(SEPARATORS)
    rest, word = _split_word(before)
    if word.lower() in STEP_WORDS and (rest or after):
        before = rest  # t0_x and x_t0 are steps of x
    return "_".join(filter(None, (before, after))) or None


def _is_complete(groups: Sequence[Steps]) -> bool:
    return bool(groups) and len({tuple(steps.numbers) for steps in groups}) == 1


def _names(groups: Sequence[Steps]) -> set[str]:
    return {steps.name for steps in groups}


def _hint(column: str) -> str | None:
    """Return which number of a name counts the steps, "first" or "last", by the words before it."""
    found = list(NUMBER.finditer(column))
    _, first = _split_word(column[: found[0].start()].lower())
    _, last = _split_word(column[found[-2].end() : found[-1].start()].lower())
    says_last = last in STEP_WORDS or first in CHANNEL_WORDS
    says_first = first in STEP_WORDS or last in CHANNEL_WORDS
    return None if says_last == says_first else ("last" if says_last else "first")


def _split_word(text: str) -> tuple[str, str]:
    """Return what comes before the last word of a name, and the word."""
    text = text.rstrip(SEPARATORS)
    rest = text.rstrip(ascii_letters)
    return rest.rstrip(SEPARATORS), text[len(rest) :]
