"""Rows in memory, in the form that every data source returns."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from attnlstm.data.rows import Row, RowSource

# No deadline, because a slow machine is not a failure.
settings.register_profile("tests of data", deadline=None, max_examples=50)
settings.load_profile("tests of data")


class MemoryRows(RowSource):
    """Texts, or series as nested lists [row][time][channel]; None stands for a missing value."""

    def __init__(
        self,
        values: Sequence[Any],
        labels: Sequence[str | None] | None = None,
        *,
        name: str = "rows.csv",
        label_names: list[str] | None = None,
        channel_names: list[str] | None = None,
        problems: Mapping[int, str] | None = None,
        first_line: int | None = None,
    ) -> None:
        self.values = [
            value if value is None or isinstance(value, str | np.ndarray) else np.array(value)
            for value in values
        ]
        self.labels = list(labels) if labels is not None else ["a"] * len(values)
        self.name = name
        self.label_names = label_names
        self.channel_names = channel_names
        self.problems = problems or {}
        self.first_line = first_line

    def __iter__(self) -> Iterator[Row]:
        for number, (value, label) in enumerate(zip(self.values, self.labels, strict=True)):
            line = None if self.first_line is None else self.first_line + number
            yield Row(self.name, number, value, label, self.problems.get(number), line)

    def fingerprint(self) -> str:
        content = [
            (value.shape, value.tolist()) if isinstance(value, np.ndarray) else value
            for value in self.values
        ]
        return hashlib.sha256(repr((content, self.labels)).encode()).hexdigest()


MakeRows = Callable[..., RowSource]


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """`make_rows(values, labels, name=..., ...)` returns `MemoryRows`."""
    return MemoryRows
