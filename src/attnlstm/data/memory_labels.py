"""What a program passes as y: classes, several classes for each row, or numbers."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from attnlstm.console import counted, enumerate_names, shorten
from attnlstm.data.containers import columns_of, is_missing, is_table, to_list
from attnlstm.data.formats.labels import RowProblemError, read_label
from attnlstm.errors import UserError

SHOWN = 10  # rows that a message lists

SETS_HINT = "give an array of 0 and 1, [row, class], or a list with the labels of each row"


def read_labels(y: Any) -> tuple[list[str], str]:
    """Return the class name of each row, and the type of the labels, a key of `LABEL_TYPES`.

    Raises:
        UserError: a row has no label, or the labels are not strings, integers or booleans.
        ValueError: y is not `[row]`, or holds other than classes.
    """
    y = to_list(y)
    if isinstance(y, list | tuple):
        y = list(y)
        if any(isinstance(label, str) for label in y) and not all(
            isinstance(label, str) or label is None for label in y
        ):
            raise UserError("y has strings and labels of other types: make all of them strings")
    try:
        y = np.asarray(y)
    except ValueError as error:  # lists of different lengths
        raise UserError(
            "y has lists of different lengths: use AttentionLSTMMultilabelClassifier if a row can "
            "have several classes"
        ) from error
    if y.dtype.kind in "OUT":
        has_none = [label is None or label != label or not str(label).strip() for label in y.flat]
        if any(has_none):
            raise UserError(f"y has no label in {_list_rows(has_none)}")
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise UserError(
            f"y has only one class, {shorten(str(classes[0]))!r}: nothing to tell apart"
        )
    names, label_type = name_classes(classes.tolist())
    return [names[number] for number in numbers], label_type


def name_classes(classes: Sequence[Any]) -> tuple[list[str], str]:
    """Return the names of distinct labels, and their type, a key of `LABEL_TYPES`.

    Raises:
        UserError: they are not strings, integers or booleans, or of several types.
    """
    types = {type(label).__name__ for label in classes}
    try:
        names = [label if isinstance(label, str) else read_label(label) for label in classes]
    except RowProblemError as error:
        raise UserError(f"y: {error}") from error
    if len(types) > 1 or len(set(names)) < len(names):
        raise UserError(f"y has labels of several types ({', '.join(sorted(types))}): use one")
    return [str(name) for name in names], types.pop()


class Indicator(NamedTuple):
    """Which classes each row has.

    flags: `[row, class]` int8, 0 or 1.
    classes: the label of each class.
    are_columns: whether the classes are the named columns of a table.
    are_numbers: whether they are the numbers of the columns, which have no names.
    """

    flags: np.ndarray
    classes: list[Any]
    are_columns: bool = False
    are_numbers: bool = False

    def arrange(self, classes: Sequence[Any]) -> np.ndarray:
        """Return the flags `[row, class]` in the order of the classes of a model.

        Raises:
            UserError: there are other classes.
        """
        if self.are_numbers:
            if len(self.classes) != len(classes):
                raise UserError(f"y has {len(self.classes)} columns and the model {len(classes)}")
            return self.flags
        place = {label: number for number, label in enumerate(classes)}
        unknown = [str(label) for label in self.classes if label not in place]
        if self.are_columns and len(self.classes) < len(classes):
            unknown += [str(label) for label in classes if label not in self.classes]
        if unknown:
            raise UserError(f"y and the model differ in the classes {enumerate_names(unknown)}")
        flags = np.zeros((len(self.flags), len(classes)), np.int8)
        flags[:, [place[label] for label in self.classes]] = self.flags
        return flags


def read_indicator(y: Any) -> Indicator:
    """Return which classes each row has.

    Args:
        y: 0 or 1 for each class, `[row, class]`, as an array, a sparse matrix or a table whose
            columns are the classes; or a list or column with a list, tuple or set of labels for
            each row. Lists of 0 and 1 of the same length are flags, as in scikit-learn.

    Raises:
        UserError: it is something else, or it is not clear how to read it.
    """
    if is_table(y):
        columns = columns_of(y, "y")
        return Indicator(_to_flags(_stack(columns)), list(columns), are_columns=True)
    if hasattr(y, "toarray"):
        y = y.toarray()
    y = to_list(y)
    if isinstance(y, np.ndarray) and y.ndim == 1:
        y = y.tolist()
    if isinstance(y, list | tuple):
        rows = [to_list(row) for row in y]
        rows = [row.tolist() if isinstance(row, np.ndarray) else row for row in rows]
        if not _are_flags(rows):
            return _read_sets(rows)
        y = rows
    array = _to_matrix(y)
    if array.ndim != 2:
        raise UserError(f"y has the shape {list(array.shape)}: {SETS_HINT}")
    return Indicator(_to_flags(array), list(range(array.shape[1])), are_numbers=True)


def check_classes(indicator: Indicator) -> None:
    """Raise a UserError if these rows leave nothing to learn about some class."""
    if len(indicator.classes) < 2:
        only = f", {str(indicator.classes[0])!r}" if indicator.classes else ""
        raise UserError(
            f"y has {counted(len(indicator.classes), 'class', 'classes')}{only}, and has to have "
            "several: for rows with it and rows without, use AttentionLSTMClassifier"
        )
    counts = indicator.flags.sum(axis=0, dtype=np.int64)
    absent = [
        str(label) for label, count in zip(indicator.classes, counts, strict=True) if not count
    ]
    if absent:
        raise UserError(
            f"y has no row of class {enumerate_names(absent)}: leave such classes out, or add rows"
        )


def _are_flags(rows: Sequence[Any]) -> bool:
    """Return whether lists hold a 0 or 1 for each class, rather than labels."""
    if not all(isinstance(row, list | tuple) for row in rows) or len({*map(len, rows)}) != 1:
        return False
    items = {type(item) for row in rows for item in row}
    if not rows[0] or any(issubclass(kind, str) for kind in items):
        return False
    try:
        are_flags = all(item in (0, 1) for row in rows for item in row)
    except (TypeError, ValueError):  # arrays, say
        return False
    if are_flags and len(rows[0]) == 1:
        raise UserError(
            "y is a list of lists with one 0 or 1: if these are labels, give strings; for rows "
            "with a class and rows without, use AttentionLSTMClassifier"
        )
    return are_flags


def _read_sets(rows: Sequence[Any]) -> Indicator:
    """Read a collection of labels for each row."""
    for number, row in enumerate(rows):
        if not isinstance(row, list | tuple | set | frozenset):
            advice = "use AttentionLSTMClassifier if a row has exactly one class"
            if isinstance(row, str):
                advice = f"split texts, as y.str.split('|') does, or {advice}"
            raise UserError(
                f"y has {_show(row)} instead of a list of labels in row {number}: "
                f"{SETS_HINT}; {advice}"
            )
    rows = [[_to_python(label) for label in row] for row in rows]
    has_none = [any(is_missing(label) or not str(label).strip() for label in row) for row in rows]
    if any(has_none):
        raise UserError(f"y has a missing label in {_list_rows(has_none)}: leave it out")
    try:
        distinct = set(chain.from_iterable(rows))
    except TypeError as error:
        raise UserError(f"y has labels that are no labels: {error}") from error
    types = {type(label).__name__ for row in rows for label in row}
    if len(types) > 1:
        raise UserError(f"y has labels of several types ({', '.join(sorted(types))}): use one")
    classes = sorted(distinct)
    place = {label: number for number, label in enumerate(classes)}
    flags = np.zeros((len(rows), len(classes)), np.int8)
    for number, row in enumerate(rows):
        flags[number, [place[label] for label in row]] = 1
    return Indicator(flags, classes)


def read_numbers(y: Any) -> tuple[np.ndarray, list[str] | None]:
    """Return the numbers of each row, `[row, target]` in float64, and their names, if they have.

    Args:
        y: `[row]` or `[row, target]` numbers, in whatever container.

    Raises:
        UserError: it is something else, or a number is missing or infinite.
    """
    names = None
    if is_table(y):
        columns = columns_of(y, "y")
        names = list(columns)
        array = _stack(columns)
    else:
        if isinstance(name := getattr(y, "name", None), str) and name:  # a column of a table
            names = [name]
        array = _to_matrix(to_list(y))
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.shape[1]:
        raise UserError(f"y has the shape {list(array.shape)}: give [row] or [row, target] numbers")
    is_bad = ~np.isfinite(_to_single(array))
    if is_bad.any():
        what = "missing values (NaN)" if np.isnan(array).any() else "infinite values"
        raise UserError(f"y has {what} in {_list_rows(is_bad.any(axis=1))}")
    return array, names


def check_numbers(numbers: np.ndarray, names: Sequence[str]) -> None:
    """Raise a UserError if some target `[row, target]` is the same in all rows."""
    if not len(numbers):
        raise UserError("y has 0 samples: give rows to train on")
    ranges = np.ptp(_to_single(numbers), axis=0)
    same = [name for name, size in zip(names, ranges, strict=True) if not size]
    if same:
        raise UserError(
            f"y has only one value of {enumerate_names(same)} in single precision, in "
            f"{counted(len(numbers), 'sample')}: there is nothing to learn unless you subtract the "
            "mean and scale the differences"
        )


def _to_single(numbers: np.ndarray) -> np.ndarray:
    """Return numbers in the precision of the model, in which they may be equal or infinite."""
    with np.errstate(over="ignore", under="ignore"):
        return numbers.astype(np.float32)


def _stack(columns: Mapping[str, Any]) -> np.ndarray:
    """Return the numbers of columns, `[row, column]`."""
    return _to_matrix(list(zip(*map(to_list, columns.values()), strict=True)))


def _to_matrix(y: Any) -> np.ndarray:
    """Return numbers as an array in float64, with NaN for what is missing.

    Raises:
        UserError: there are other values.
    """
    try:
        array = np.asarray(y)
    except ValueError:  # lists of different lengths
        array = np.empty(len(y), object)
        array[:] = y
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    if array.dtype.kind in "Uc":  # which numbers beside a text have become
        array = np.array(y, dtype=object)
    if not array.ndim:
        raise UserError(f"y is of type {type(y).__name__}: give an array, a list or a table")
    numbers = np.empty(array.shape)
    for place, value in np.ndenumerate(array):
        try:
            if isinstance(value, str | bytes | complex):
                raise TypeError
            numbers[place] = np.nan if is_missing(value) else float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"y has {_show(value)} instead of a number in row {place[0]}"
            ) from error
    return numbers


def _to_flags(numbers: np.ndarray) -> np.ndarray:
    """Return numbers `[row, class]`, all of which are 0 or 1, as int8."""
    is_wrong = ~np.isin(numbers, (0, 1))
    if is_wrong.any():
        row, column = np.argwhere(is_wrong)[0]
        raise UserError(
            f"y has values other than 0 and 1, such as {numbers[row, column]:g} in row {row}: "
            f"{SETS_HINT}"
        )
    return numbers.astype(np.int8)


def _to_python(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def _show(value: Any) -> str:
    return shorten(" ".join(repr(value).split()))


def _list_rows(is_listed: Any) -> str:
    """Return for example "row 1, 3, ..."."""
    rows = np.flatnonzero(is_listed)
    return f"row {', '.join(map(str, rows[:SHOWN]))}{', ...' * (len(rows) > SHOWN)}"
