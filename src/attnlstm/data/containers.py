"""From lists, arrays, tensors, columns and tables of a program to texts and series.

The libraries of these objects are recognized by name, so none of them is imported here. An index is
never data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnlstm.console import counted, enumerate_names
from attnlstm.data.formats.column_names import TEXT_TABLE
from attnlstm.data.formats.steps import StepNumbersError, check_steps, group_steps
from attnlstm.errors import UserError

FEW_STEPS, MANY_CHANNELS, CHANNELS_PER_STEP = 16, 24, 4
"""The most steps, the fewest channels and the fewest channels per step that raise a doubt."""

SERIES_HINT = (
    "series are an array [row, channel, time], an array or a table [row, time] of series with one "
    "channel, or a list of arrays [time, channel]"
)


@dataclass(frozen=True, eq=False)
class Values:
    """What a program passes as X, in one of three forms.

    texts: a text for each row; anything else is a row without text.
    series: `[time, channel]` for each row.
    table: numbers `[row, column]`, in whatever container.
    steps: the columns of a table that are the steps of each channel, `[channel, time]`; None: all
        columns are the steps of one channel.
    text_column: the column of a table that holds the texts.
    left_out: the other columns of this table.
    doubt: a sentence about what looks wrong.
    """

    texts: Sequence[Any] | None = None
    series: Sequence[np.ndarray] | None = None
    table: Any = None
    steps: np.ndarray | None = None
    text_column: str | None = None
    left_out: tuple[str, ...] = ()
    doubt: str | None = None


def read_values(data: Any, text_column: str | None = None, usual: str | None = None) -> Values:
    """Return texts, series or a table of numbers.

    Args:
        data: see `SERIES_HINT`; texts are a list or a column of strings, or a table with a column
            of texts.
        text_column: the column of the texts; None finds it.
        usual: the column to take if there is such a column.

    Raises:
        UserError: it is something else, or it is not clear how to read it.
    """
    data = to_numpy(data)
    if is_table(data):
        return _read_table(data, text_column, usual)
    if text_column is not None:
        raise UserError(f"data.text_column={text_column} is for tables, and X has no columns")
    if _is_column(data):
        data = _to_list(data)
    if isinstance(data, list | tuple):
        return _read_list(data)
    if _library(data) == "scipy":  # sparse, which whoever checks the table refuses
        return Values(table=data)
    if not isinstance(data, np.ndarray) and hasattr(data, "__array__"):
        data = np.asarray(data)
    if not isinstance(data, np.ndarray):
        return _refuse(data)
    is_text = data.dtype.kind in "UT" or (data.dtype == object and _has_texts(data))
    if data.ndim == 2 and is_text and data.shape[1] == 1:
        data = data[:, 0]
    if data.ndim == 1 and data.dtype.kind in "OUT":
        return _read_list(data.tolist())
    if data.ndim == 2 and not is_text:
        return Values(table=data)
    if data.ndim == 3 and data.dtype.kind in "biuf":
        return Values(series=list(np.swapaxes(data, 1, 2)), doubt=_doubt_axes(data.shape))
    what = "texts" if is_text else f"{data.dtype}"
    single = ". Reshape your data if it is a single series, as in X.reshape(1, -1)"
    raise UserError(
        f"X is an array of {what} with {counted(data.ndim, 'dimension')}: texts are a list of "
        f"strings, and {SERIES_HINT}{single if data.ndim == 1 else ''}"
    )


def to_numpy(data: Any) -> Any:
    """Return a torch tensor as an array, anything else as it is."""
    if _library(data) == "torch" and hasattr(data, "detach"):
        return data.detach().cpu().numpy()
    return data


def to_list(data: Any) -> Any:
    """Return a column of pandas, polars or datasets as a list, None for what is missing.

    Tensors become arrays, and anything else stays as it is.
    """
    data = to_numpy(data)
    return _to_list(data) if _is_column(data) and not is_table(data) else data


def _library(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def is_table(data: Any) -> bool:
    """Return whether an object has named columns."""
    name = type(data).__name__
    return (_library(data) in ("pandas", "polars") and name == "DataFrame") or (
        _library(data) == "datasets" and name == "Dataset"
    )


def _is_column(data: Any) -> bool:
    return _library(data) in ("pandas", "polars", "datasets", "pyarrow") and hasattr(
        data, "__len__"
    )


def _to_list(column: Any) -> list[Any]:
    if _library(column) == "pandas":
        if not hasattr(column, "notna"):  # an array of an extension type
            return list(column)
        return column.astype(object).where(column.notna(), None).tolist()
    if _library(column) == "pyarrow":
        return column.to_pylist()
    return column.to_list() if hasattr(column, "to_list") else list(column)


def _refuse(data: Any) -> Values:
    hint = ", such as [text]" if isinstance(data, str) else ""
    raise UserError(
        f"X is of type {type(data).__name__}: texts are a list of strings{hint}, and {SERIES_HINT}"
    )


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or pandas' NA."""
    is_nan = isinstance(value, float) and value != value
    return value is None or is_nan or type(value).__name__ == "NAType"


def _has_texts(values: Iterable[Any]) -> bool:
    """Return whether all values that are not missing are strings, and there is one."""
    flat = values.ravel() if isinstance(values, np.ndarray) else values
    kinds = {type(value) for value in flat if not is_missing(value)}
    return bool(kinds) and all(issubclass(kind, str) for kind in kinds)


def _is_sequence(value: Any) -> bool:
    """Return whether a value can be a series."""
    if isinstance(value, str | bytes | dict):
        return False
    return isinstance(value, list | tuple) or (hasattr(value, "__array__") and np.ndim(value) > 0)


def _read_list(items: Sequence[Any]) -> Values:
    if not len(items):
        raise UserError("X has 0 rows (0 sample(s)), while a minimum of 1 is required")
    if _has_texts(items):
        return Values(texts=[None if is_missing(item) else item for item in items])
    wrong = next((item for item in items if not _is_sequence(to_numpy(item))), None)
    if wrong is not None or any(item is None for item in items):
        raise UserError(
            f"X is a list with an item of type {type(wrong).__name__}: texts are a list of "
            f"strings, and {SERIES_HINT}"
        )
    series = [_to_series(item, number) for number, item in enumerate(items)]
    is_plain = all(isinstance(item, list | tuple) for item in items)
    if is_plain and {array.shape for array in series} == {(len(series[0]), 1)}:
        return Values(table=np.concatenate(series, axis=1).T)
    _check_axes(series)
    return Values(series=series, doubt=_doubt_list_axes(series))


def _to_series(item: Any, number: int) -> np.ndarray:
    """Return an item of a list as `[time, channel]`."""
    item = to_numpy(item)
    try:
        array = item.to_numpy() if hasattr(item, "to_numpy") else np.asarray(item)
    except ValueError as error:  # lists of different lengths
        raise UserError(f"X has a series that is no array, in row {number}: {error}") from error
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(f"X has values that are not numbers, in row {number}") from error
    if array.dtype.kind not in "biuf":
        raise UserError(f"X has values of type {array.dtype} instead of numbers, in row {number}")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise UserError(
            f"X is a list with an array of {array.ndim} dimensions in row {number}: each has to be "
            "[time, channel], or [time] for one channel"
        )
    return array


def _check_axes(series: Sequence[np.ndarray]) -> None:
    """Raise a UserError if series `[channel, time]` are in a list."""
    channels = {array.shape[1] for array in series}
    if len(channels) > 1 and len({len(array) for array in series}) == 1:
        raise UserError(
            f"X is a list of arrays [time, channel], but they have {min(channels)} to "
            f"{max(channels)} channels and all have {len(series[0])} steps: if they are [channel, "
            "time], give [array.T for array in X]"
        )


def _is_odd(steps: int, channels: int) -> bool:
    return steps == 1 < channels or (
        steps <= FEW_STEPS and channels >= max(MANY_CHANNELS, CHANNELS_PER_STEP * steps)
    )


def _doubt_axes(shape: Sequence[int]) -> str | None:
    _, channels, steps = shape
    if not _is_odd(steps, channels):
        return None
    return (
        f"X of shape {list(shape)} is read as [row, channel, time], {steps} steps of {channels:,} "
        "channels: if it is [row, time, channel], give numpy.swapaxes(X, 1, 2)"
    )


def _doubt_list_axes(series: Sequence[np.ndarray]) -> str | None:
    longest, channels = max(map(len, series)), series[0].shape[1]
    if not _is_odd(longest, channels):
        return None
    return (
        f"X is read as a list of arrays [time, channel], at most {longest} steps of {channels:,} "
        "channels: if they are [channel, time], give [array.T for array in X]"
    )


def columns_of(table: Any, what: str = "X") -> dict[str, Any]:
    """Return the columns of a table by name; the index is none of them.

    Raises:
        UserError: several columns have the same name; the message calls the table `what`.
    """
    if _library(table) == "datasets":
        table = table.with_format(None)
        return {name: list(table[name]) for name in table.column_names}
    names = [str(name) for name in table.columns]
    if len(set(names)) < len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise UserError(f"{what} has several columns {enumerate_names(twice)}: rename them")
    if _library(table) == "polars":
        return dict(zip(names, table.get_columns(), strict=True))
    return {name: table.iloc[:, number] for number, name in enumerate(names)}


def _kind(column: Any) -> str:
    """Return what a column holds: "text", "numbers", "series" or, if anything else, its type."""
    dtype = getattr(column, "dtype", None)
    if getattr(dtype, "kind", "") in ("b", "i", "u", "f", "c"):  # numpy, and pandas' nullable ones
        return "numbers"
    values = [value for value in _to_list(column) if not is_missing(value)]
    if all(isinstance(value, str) for value in values):  # or an empty column
        return "text"
    if all(isinstance(value, int | float | np.number) for value in values):
        return "numbers"
    if all(_is_sequence(to_numpy(value)) for value in values):
        return "series"
    return next(type(value).__name__ for value in values if not isinstance(value, str))


def _read_table(table: Any, text_column: str | list[str] | None, usual: str | None) -> Values:
    columns = columns_of(table)
    if isinstance(text_column, list):
        raise UserError(
            f"data.text_column=[{','.join(text_column)}] is for files: join these columns of X, "
            "and name the one with the texts"
        )
    if text_column is None and usual in columns:
        text_column = usual
    if text_column is not None and text_column not in columns:
        raise UserError(
            f"data.text_column={text_column}: X has no such column, only "
            f"{enumerate_names(list(columns))}"
        )
    kinds = {name: _kind(column) for name, column in columns.items()}
    by_kind: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        by_kind.setdefault(kind, []).append(name)
    texts = by_kind.get("text", [])
    if text_column is None and texts:
        text_column = _choose_text(texts, by_kind)
    if text_column is not None:
        left_out = tuple(name for name in columns if name != text_column)
        return Values(_to_list(columns[text_column]), text_column=text_column, left_out=left_out)
    if by_kind.keys() <= {"numbers"}:
        is_dataset = _library(table) == "datasets"
        numbers = np.column_stack(list(columns.values())) if is_dataset else table
        return Values(table=numbers, steps=_find_steps(list(columns)))
    if by_kind.keys() == {"series"}:
        return _read_nested(columns)
    listed = "; ".join(f"{kind}: {enumerate_names(names)}" for kind, names in by_kind.items())
    raise UserError(
        f"X has columns of different kinds ({listed}): give a table of numbers only, [row, time], "
        "or one whose cells are series, a column for each channel"
    )


def _find_steps(names: list[str]) -> np.ndarray | None:
    """Return the places of the steps `[channel, time]`, such as those of `x_0, x_1, y_0, y_1`.

    None if no columns are numbered.
    """
    try:
        channels = group_steps(names)
    except StepNumbersError as error:
        first = str(error).partition(": ")[0]
        raise UserError(
            f"X: {first}: rename them, or give an array [row, channel, time]"
        ) from error
    if not channels:
        return None
    check_steps(channels, "X")
    numbered = {name for channel in channels for name in channel.columns}
    if others := [name for name in names if name not in numbered]:
        raise UserError(
            f"X has numbered columns, {channels[0].describe()}, and others, "
            f"{enumerate_names(others)}: give only those that are steps"
        )
    place = {name: number for number, name in enumerate(names)}
    return np.array([[place[name] for name in channel.columns] for channel in channels])


def _choose_text(texts: list[str], by_kind: dict[str, list[str]]) -> str:
    usual = [name for name in texts if name.strip().lower() in TEXT_TABLE["text"]]
    found = usual or texts
    if len(found) == 1 and (usual or len(by_kind) == 1):
        return found[0]
    others = [name for kind, names in by_kind.items() if kind != "text" for name in names]
    more = f" and other columns ({enumerate_names(others)})" if others else ""
    raise UserError(
        f"X has columns of texts ({enumerate_names(found)}){more}: for texts, give the column, "
        f"such as X[{found[0]!r}]; for series, give the columns of numbers only"
    )


def _read_nested(columns: dict[str, Any]) -> Values:
    """Return series whose channels are columns; each cell holds all steps of a channel."""
    series = []
    for number, cells in enumerate(zip(*map(_to_list, columns.values()), strict=True)):
        if any(is_missing(cell) for cell in cells):
            raise UserError(f"X has a cell without a series in row {number}")
        channels = [_to_series(cell, number) for cell in cells]
        if any(channel.shape != (len(channels[0]), 1) for channel in channels):
            raise UserError(
                f"X has cells of different lengths in row {number}: its channels "
                f"{enumerate_names(list(columns))} must have the same number of steps"
            )
        series.append(np.concatenate(channels, axis=1))
    return Values(series=series)
