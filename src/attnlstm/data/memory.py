"""Rows that a program holds, instead of files."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from attnlstm.console import shorten
from attnlstm.data.containers import Values, to_list
from attnlstm.data.formats.labels import RowProblemError, read_label
from attnlstm.data.formats.table import Record
from attnlstm.data.formats.texts import to_row
from attnlstm.data.missing import trim_padding
from attnlstm.data.rows import Row, RowSource
from attnlstm.errors import UserError


class MemoryRows(RowSource):
    """Rows of a program, called `name`.

    Args:
        values: texts or series.
        labels: `[row]`; None: rows without labels.
    """

    def __init__(
        self, values: Values, labels: Sequence[str] | None = None, name: str = "X"
    ) -> None:
        self._values = values
        self._labels = labels
        self.name = name
        self.doubt = values.doubt
        if values.text_column is not None:
            self.columns_used = {"text": values.text_column}

    def __len__(self) -> int:
        values = self._values
        rows = values.series if values.texts is None else values.texts
        assert rows is not None
        return len(rows)

    def __iter__(self) -> Iterator[Row]:
        labels: Iterable[str | None] = self._labels or [None] * len(self)
        if self._values.texts is not None:
            for number, (text, label) in enumerate(zip(self._values.texts, labels, strict=True)):
                record = Record(number, {"text": text, "label": label})
                yield to_row(self.name, record, ["text"], "label", lambda label: label)
            return
        assert self._values.series is not None
        for number, (steps, label) in enumerate(zip(self._values.series, labels, strict=True)):
            # In the layout of a file's rows: sums over another one differ in the last digit.
            series = np.ascontiguousarray(steps, dtype=np.float64)
            yield Row(self.name, number, trim_padding(series), label)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for row in self:
            head: Any
            if isinstance(row.value, np.ndarray):
                head, content = row.value.shape, row.value.tobytes()
            else:
                head, content = row.problem, (row.value or "").encode(errors="surrogatepass")
            digest.update(f"{head} {row.label!r} {len(content)}\n".encode() + content)
        return digest.hexdigest()


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
    y = np.asarray(y)
    if y.dtype.kind in "OUT":
        is_missing = [label is None or label != label or not str(label).strip() for label in y.flat]
        if any(is_missing):
            rows = np.flatnonzero(is_missing)
            more = ", ..." * (len(rows) > 10)
            raise UserError(f"y has no label in row {', '.join(map(str, rows[:10]))}{more}")
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise UserError(
            f"y has only one class, {shorten(str(classes[0]))!r}: nothing to tell apart"
        )
    types = {type(label).__name__ for label in classes.tolist()}
    try:
        names = [
            label if isinstance(label, str) else read_label(label) for label in classes.tolist()
        ]
    except RowProblemError as error:
        raise UserError(f"y: {error}") from error
    if len(types) > 1 or len(set(names)) < len(names):
        raise UserError(f"y has labels of several types ({', '.join(sorted(types))}): use one")
    return [str(names[number]) for number in numbers], types.pop()
