"""Streams cut into windows, each of which is a row."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from attnlstm.console import counted
from attnlstm.data.rows import Label, Row, RowSource
from attnlstm.files import fingerprint_of


@dataclass
class _Counts:
    """What was cut, for the log."""

    windows: int = 0
    series: int = 0
    short: int = 0  # series with fewer steps than a window
    left_over: int = 0  # steps in no window
    mixed: int = 0  # windows with several labels
    tied: int = 0  # of these, windows with several most frequent ones


class Windows(RowSource):
    """The windows of the series of another source, one row each.

    A window begins every `stride` steps from the first, and has `size` steps. What is left at the
    end is in no window, but a shorter series is a window as a whole. The label of a window is the
    most frequent one of its steps, of equally frequent ones the first in the window; steps without
    a label count as a label of their own. Without a group, the windows of a series are one.

    `Row.number` counts the windows of a file, and `Row.step` is the first step of a window.
    """

    def __init__(self, source: RowSource, size: int, stride: int) -> None:
        self._source = source
        self._size, self._stride = size, stride
        self.name = source.name
        self.label_names = source.label_names
        self.task = source.task
        self.target_names = source.target_names
        self.channel_names = source.channel_names
        self.columns_used = source.columns_used
        self.left_out = source.left_out
        self.layout = source.layout
        self.axes = source.axes

    @property
    def doubt(self) -> str | None:  # type: ignore[override]
        return self._source.doubt

    def __iter__(self) -> Iterator[Row]:
        counts, numbers = _Counts(), Counter[str]()
        for row in self._source:
            for window in self._cut(row, counts):
                yield window._replace(number=numbers[row.file])
                numbers[row.file] += 1
        self.notes = [*self._source.notes, *self._describe(counts)]

    def keep_columns(self, wanted: Sequence[str] | None) -> list[str]:
        return self._source.keep_columns(wanted)

    def fingerprint(self) -> str:
        return fingerprint_of([self._source.fingerprint(), self._size, self._stride])

    def _cut(self, row: Row, counts: _Counts) -> Iterator[Row]:
        if not isinstance(row.value, np.ndarray):
            yield row
            return
        steps, size, stride = len(row.value), self._size, self._stride
        starts = range(0, max(steps - size, 0) + 1, stride)
        covered = (len(starts) - 1) * min(size, stride) + min(size, steps)
        counts.series += 1
        counts.windows += len(starts)
        counts.short += steps < size
        counts.left_over += steps - covered
        group = row.group if row.group is not None else f"{row.file}\0{row.name or row.number}"
        for start in starts:
            label = row.label
            if row.step_labels is not None:
                label = _majority(row.step_labels[start : start + size], counts)
            yield row._replace(
                value=row.value[start : start + size],
                label=label,
                step_labels=None,
                step=start,
                group=group,
            )

    def _describe(self, counts: _Counts) -> list[str]:
        lines = [
            f"{self.name}: {counts.series:,} series cut into {counts.windows:,} windows of "
            f"{self._size:,} steps, every {self._stride:,} steps; "
            f"{counts.left_over:,} steps in no window"
        ]
        if counts.short:
            lines.append(
                f"{self.name}: {counted(counts.short, 'series', 'series')} shorter than a window, "
                "kept whole"
            )
        if counts.mixed:
            lines.append(
                f"{self.name}: {counted(counts.mixed, 'window')} with several labels, labelled by "
                f"the most frequent; {counts.tied:,} of them tied, labelled by the first"
            )
        return lines


def _majority(labels: Sequence[Label | None], counts: _Counts) -> Label | None:
    frequencies = Counter(labels).most_common()  # equally frequent ones in order of appearance
    counts.mixed += len(frequencies) > 1
    counts.tied += len(frequencies) > 1 and frequencies[0][1] == frequencies[1][1]
    return frequencies[0][0]
