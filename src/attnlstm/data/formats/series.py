"""What files of whole series share, and how values become numbers."""

import math
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar

import numpy as np

from attnlstm.config.data import Axes
from attnlstm.console import counted, shorten
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.missing import trim_padding
from attnlstm.data.rows import Label, Row, RowSource
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint

EMPTY = "empty series"
NOT_A_NUMBER = "value that is not a number"

DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*", re.ASCII)
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*", re.ASCII)


@dataclass(frozen=True)
class SeriesOptions:
    """How series are read: the settings of `data` with the same names, and more.

    labels: the label file of a `.npy` file; None: the one in its folder, unless `is_labelled`.
    is_labelled: whether the labels come from elsewhere, such as the folder.
    needs_groups: whether `group_column` must exist.
    allows_missing: whether missing values are left to the reader of the rows.
    has_windows: whether series are cut into windows, so that a label for each step is of use.
    num_channels: of the model that is to read the series; None: any.
    """

    axes: Axes | None = None
    labels: Path | None = None
    is_labelled: bool = False
    group_column: str | None = None
    needs_groups: bool = False
    allows_missing: bool = False
    has_windows: bool = False
    num_channels: int | None = None


class SeriesFile(RowSource):
    """The series of one file; each kind of file is a subclass.

    Last steps that are NaN in all channels are padding, and are cut off.

    Args:
        path: the file.
        key: what messages call the choice of this file, such as "data.train".
        name: what rows and messages call the file.
        needs_labels: whether a file without labels is refused.
        options: how it is read.

    Raises:
        UserError: the file is not of its kind, or broken, or has no labels though it needs them.

    Attributes:
        is_packable: whether the file may be compressed, such as .ts.gz.
    """

    has_groups: ClassVar[bool] = False
    """Whether `data.group_column` can name something in files of this kind."""

    is_packable = False

    def __init__(
        self,
        path: str | Path,
        *,
        key: str,
        name: str,
        needs_labels: bool = True,
        options: SeriesOptions | None = None,
    ) -> None:
        self.path = Path(path)
        self.key = key
        self.name = name
        self.options = options or SeriesOptions()
        self._may_be_padded = True
        self._description = ""  # of how it is read, for the log
        self._read_header(needs_labels)

    def __iter__(self) -> Iterator[Row]:
        num_padded = 0
        for number, (line, content) in enumerate(self._contents()):
            try:
                padded, label = self._parse(content)
                series = trim_padding(padded) if self._may_be_padded else padded
                check_series_values(series, self.options.allows_missing)
            except RowProblemError as problem:
                yield Row(self.name, number, None, problem=str(problem), line=line)
                continue
            num_padded += len(series) < len(padded)
            step_labels = None
            if isinstance(label, list):
                step_labels, label = label[: len(series)], None
            yield Row(
                *(self.name, number, series, label),
                line=line,
                group=self._group_of(number),
                step_labels=step_labels,
            )
        described = [f"{self.name}: {self._description}"] if self._description else []
        self.notes = described + describe_padding(self.name, num_padded)

    def fingerprint(self) -> str:
        return file_fingerprint(self.path)

    @abstractmethod
    def _read_header(self, needs_labels: bool) -> None:
        """Read and check what applies to all rows."""

    @abstractmethod
    def _contents(self) -> Iterator[tuple[int | None, Any]]:
        """Yield for each row its line, in a file of lines, and what `_parse` needs."""

    @abstractmethod
    def _parse(self, content: Any) -> tuple[np.ndarray, Label | list[Label | None] | None]:
        """Return a series `[time, channel]` and its label, or raise a RowProblemError.

        A list has a label for each step.
        """

    def _group_of(self, number: int) -> str | None:
        """Return the group of a row."""
        return None

    def _error(self, problem: str) -> UserError:
        return UserError(f"{self.key}: {self.path} {problem}")


def to_numbers(values: Sequence[Any]) -> np.ndarray:
    """Return texts or numbers as float64, NaN for missing ones (None, an empty text, `?`, `NaN`).

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
        if "_" in value:  # a thousands separator to Python
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


def refuse_decimal_commas(where: str, column: str, values: Sequence[Any]) -> None:
    """Raise a UserError that names the key if a column has numbers such as "0,5"."""
    commas = [value for value in values if isinstance(value, str) and "," in value]
    decimals = [value for value in commas if DECIMAL_COMMA.fullmatch(value)]
    if len(decimals) < len(commas) or all(map(THOUSANDS.fullmatch, decimals)):
        return  # texts, or numbers such as 1,234, which may be either
    try:
        to_numbers([value for value in values if value not in decimals])
    except RowProblemError:
        return
    raise UserError(
        f"{where} has numbers with a decimal comma in column {shorten(column)!r}, such as "
        f"{shorten(decimals[0])!r}: say data.decimal=','"
    )


def check_series_values(series: np.ndarray, allows_missing: bool = False) -> None:
    """Raise a RowProblemError if a series is empty, or has missing or infinite values."""
    if not series.size:
        raise RowProblemError(EMPTY)
    if np.isfinite(series).all():
        return
    if not allows_missing and np.isnan(series).any():
        raise RowProblemError("missing values (NaN)")
    if np.isinf(series).any():
        raise RowProblemError("infinite values")


def describe_padding(name: str, num_padded: int) -> list[str]:
    """Return the line about series that `trim_padding` has made shorter, if there are any."""
    if not num_padded:
        return []
    return [f"{name}: NaN at the end of {counted(num_padded, 'series', 'series')} is padding"]
