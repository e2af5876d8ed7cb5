"""What readers of series share: how they are registered, and how values become numbers."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Any, Protocol, TypeVar

import numpy as np

from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.rows import RowSource

EMPTY = "empty series"
MISSING = "missing values (NaN)"
INFINITE = "infinite values"
NOT_A_NUMBER = "value that is not a number"


class SeriesReader(Protocol):
    """A class or function that opens a file of whole series; see `open_series`."""

    def __call__(self, path: Path, *, key: str, name: str, needs_labels: bool) -> RowSource: ...


SERIES_READERS: dict[str, SeriesReader] = {}
"""By the ending of a file's name in lower case."""

Reader = TypeVar("Reader", bound=SeriesReader)


def register_series(*endings: str) -> Callable[[Reader], Reader]:
    """Register the class or function below as the reader of files with these endings.

    @register_series(".wav")
    class WavFile(RowSource): ...
    """

    def register(reader: Reader) -> Reader:
        SERIES_READERS.update(dict.fromkeys(endings, reader))
        return reader

    return register


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
