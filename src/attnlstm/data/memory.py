"""Rows of a program instead of files."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from attnlstm.data.containers import Values
from attnlstm.data.formats.table import Record
from attnlstm.data.formats.texts import to_row
from attnlstm.data.missing import trim_padding
from attnlstm.data.rows import Label, Row, RowSource
from attnlstm.errors import UserError


class MemoryRows(RowSource):
    """Texts or series of a program, which messages call X.

    Args:
        values: texts or series.
        labels: `[row]`; None: rows without labels.
        label_names: see `RowSource`.
        target_names: see `RowSource`.

    Raises:
        UserError: there are more or fewer rows than labels.
    """

    name = "X"

    def __init__(
        self,
        values: Values,
        labels: Sequence[Label] | None = None,
        label_names: list[str] | None = None,
        target_names: list[str] | None = None,
    ) -> None:
        self._values = values
        self._labels = labels
        self.label_names = label_names
        self.target_names = target_names
        self.doubt = values.doubt
        if values.text_column is not None:
            self.columns_used = {"text": values.text_column}
        if labels is not None and len(self) != len(labels):
            raise UserError(f"X has {len(self)} rows and y has {len(labels)}")

    def __len__(self) -> int:
        values = self._values
        rows = values.series if values.texts is None else values.texts
        assert rows is not None
        return len(rows)

    def __iter__(self) -> Iterator[Row]:
        labels: Iterable[Label | None] = self._labels or [None] * len(self)
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
