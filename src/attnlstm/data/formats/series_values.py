"""What all readers of series share: texts to numbers and labels, and the words for a problem."""

import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO

import numpy as np

from attnlstm.files import cannot_read

EMPTY = "empty series"
MISSING = "missing values (NaN)"
INFINITE = "infinite values"
NOT_A_NUMBER = "value that is not a number"
BAD_LABEL = "label that is neither a text nor a whole number"


class RowProblemError(Exception):
    """A row that cannot be used; its message is the `problem` of the `Row`."""


def to_numbers(values: Sequence[Any]) -> np.ndarray:
    """Texts or numbers as float64, NaN where one is missing (None, an empty text, `?`, `NaN`).

    Raises:
        RowProblemError: one is not a number.
    """
    types = set(map(type, values))
    try:
        if types <= {int, float, NoneType}:
            return np.array(values, dtype=np.float64)
        if types == {str} and "_" not in "".join(values):
            return np.array(list(map(float, values)))
    except (ValueError, OverflowError):
        pass  # at least one value needs a closer look
    return np.array([_to_number(value) for value in values], dtype=np.float64)


def _to_number(value: Any) -> float:
    if isinstance(value, str):
        value = value.strip()
        if "_" in value:  # which Python takes for a thousands separator
            raise RowProblemError(NOT_A_NUMBER)
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal | None):
        raise RowProblemError(NOT_A_NUMBER)
    if value in (None, "", "?"):
        return math.nan
    try:
        return float(value)
    except ValueError:
        raise RowProblemError(NOT_A_NUMBER) from None
    except OverflowError:  # an int beyond the range of floats
        return math.inf


def check_series_values(series: np.ndarray) -> None:
    """Refuses what no model can read.

    Args:
        series: `[time, channel]` floats.

    Raises:
        RowProblemError: the series is empty, or a value is missing or infinite.
    """
    if not series.size:
        raise RowProblemError(EMPTY)
    if not np.isfinite(series).all():
        raise RowProblemError(MISSING if np.isnan(series).any() else INFINITE)


def label_text(value: Any) -> str | None:
    """A label as text: 1 and 1.0 are "1", True is "True"; None for None, NaN and an empty text.

    Raises:
        RowProblemError: it is neither a text, a whole number nor a truth value.
    """
    if isinstance(value, str):
        return value.strip() or None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(value) if isinstance(value, bool) else str(int(value))
    raise RowProblemError(BAD_LABEL)


def open_binary(path: Path) -> BinaryIO:
    """The opened file.

    Raises:
        UserError: it cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise cannot_read(path, error) from error
