"""The times of the steps of a series: numbers, dates, and texts of either."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from itertools import product
from math import isfinite
from operator import lt
from typing import Any

from attnlstm.console import shorten
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.errors import UserError

NOT_A_TIME = "time that is not a number or date"

FILE_ORDER = "data.time_column=false takes the steps in the order of the file"

DAYS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y"),
    *("%d %B %Y", "%B %d, %Y", "%Y%m%d"),
)
CLOCKS = ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
FORMATS = (
    *DAYS,
    *CLOCKS,
    *(f"{day} {clock}" for day, clock in product(DAYS, CLOCKS)),
    *(f"{day}, {clock}" for day, clock in product(DAYS, CLOCKS)),
)
"""Formats that a message may suggest."""


def check_time_format(pattern: str) -> None:
    """Raise a UserError if `data.time_format` is no format of dates."""
    try:
        written = datetime(2001, 2, 3, 4, 5, 6).strftime(pattern)
        if "%" in pattern and datetime.strptime(written, pattern):
            return
    except ValueError:
        pass
    raise UserError(
        f"data.time_format={pattern!r} is not a format of dates such as '%d/%m/%Y %H:%M:%S': see "
        "strptime in Python's datetime"
    )


def check_times(values: Sequence[Any], pattern: str | None = None) -> None:
    """Raise a RowProblemError if times do not increase, or are none.

    Args:
        pattern: the format of texts, as for `datetime.strptime`; None: numbers or ISO dates.
    """
    times = _to_times(values, pattern)
    try:
        if all(map(lt, times, times[1:])):
            return
        goes_back = any(map(lt, times[1:], times))
    except TypeError:  # numbers and dates, or dates with and without a time zone
        raise RowProblemError(NOT_A_TIME) from None
    raise RowProblemError("time that goes back" if goes_back else "time step twice")


def advise_times(values: Sequence[Any], pattern: str | None) -> str:
    """Return what helps against times that `check_times` refuses."""
    texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    if pattern is not None or not texts:
        return FILE_ORDER
    try:
        _to_times(texts, None)
    except RowProblemError:
        fitting = [known for known in FORMATS if _fits(texts, known)][:2]
        wanted = " or ".join(f"data.time_format={known!r}" for known in fitting)
        wanted = wanted or "data.time_format, such as '%d/%m/%Y %H:%M:%S',"
        return f"{shorten(texts[0])!r} needs {wanted}; or {FILE_ORDER}"
    return FILE_ORDER


def _fits(texts: Sequence[str], pattern: str) -> bool:
    try:
        return all(datetime.strptime(text, pattern) for text in texts)
    except ValueError:
        return False


def _to_times(values: Sequence[Any], pattern: str | None) -> Sequence[Any]:
    """Return numbers or dates, which can be compared; texts of either are parsed."""
    types = set(map(type, values))
    if types == {str}:
        texts = [text.strip() for text in values]
        parsers: tuple[Callable[[str], Any], ...]
        parsers = (int, float, datetime.fromisoformat)  # ints of any size are exact
        if pattern is not None:
            parsers = (lambda text: datetime.strptime(text, pattern),)
        for parse in parsers:
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
