"""Series whose channels are in files of their own: `X_Dimension1_TRAIN.txt`, `X_Dimension2_...`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Unpack

import numpy as np

from attnlstm.console import enumerate_names
from attnlstm.data.formats.columns import TableOptions
from attnlstm.data.formats.opening import open_series
from attnlstm.data.formats.series import SeriesOptions
from attnlstm.data.formats.wide_table import WideTable
from attnlstm.data.rows import Row, RowSource
from attnlstm.errors import UserError
from attnlstm.files import fingerprint_of

DIMENSION = re.compile(r"(.*?)_?dimension_?(\d{1,6})(.*)", re.IGNORECASE)


def group_dimensions(files: Sequence[Path], key: str) -> list[dict[int, Path]]:
    """Return the files of each data set by the number of their dimension.

    A file that belongs to no set is a group by itself.

    Raises:
        UserError: a dimension of a set is missing or named twice.
    """
    groups: dict[tuple[str, ...], dict[int, Path]] = {}
    for place, file in enumerate(files):
        found = DIMENSION.fullmatch(file.name)
        if found is None:
            groups[str(place), ""] = {place: file}
        else:
            group = groups.setdefault((str(file.parent), found[1], found[3]), {})
            number = int(found[2])
            if number in group:
                raise UserError(f"{key} names dimension {number} twice: {group[number]}, {file}")
            group[number] = file
    for group in groups.values():
        numbers = sorted(group)
        if len(group) > 1 and (missing := set(range(numbers[0], numbers[-1])) - set(numbers)):
            raise UserError(
                f"{key} names {group[numbers[0]]} and others, but not dimension {min(missing)}: "
                "name the files of all dimensions"
            )
    return [dict(sorted(group.items())) for group in groups.values()]


class Dimensions(RowSource):
    """The series of several files that have the same rows and hold some of the channels each.

    Args:
        files: by the number of the dimension.
        key, needs_labels, series, options: as for `open_series`.

    Raises:
        UserError: a file cannot be read, or the files do not have the same number of rows.
    """

    def __init__(
        self,
        files: Mapping[int, Path],
        *,
        key: str,
        needs_labels: bool,
        series: SeriesOptions,
        **options: Unpack[TableOptions],
    ) -> None:
        first = next(iter(files.values()))
        found = DIMENSION.fullmatch(first.name)
        assert found is not None
        self.name = found[1] + found[3]
        self._where = f"{key}: {first.parent / self.name}"
        chosen = options.pop("channel_columns", None)
        self._sources = [
            open_series(
                file, key=key, name=file.name, needs_labels=needs_labels, series=series, **options
            )
            for file in files.values()
        ]
        self.columns_used, self.left_out = self._sources[0].columns_used, self._sources[0].left_out
        self.label_names = self._sources[0].label_names
        self.layout = f"{len(files)} files, {first.name} and others, each with one dimension"
        if self._sources[0].layout is not None:
            self.layout += f"; {self._sources[0].layout}"
        if all(_has_one_channel(source) for source in self._sources):
            self.channel_names = [f"dimension_{number}" for number in files]
        if chosen is not None:
            self._choose(chosen)

    def __iter__(self) -> Iterator[Row]:
        for number, rows in enumerate(zip_longest(*self._sources)):
            if None in rows:
                raise UserError(
                    f"{self._where}: the files of its dimensions do not have the same number of "
                    "rows: give files of the same set"
                )
            yield self._join(number, rows)

    def fingerprint(self) -> str:
        return fingerprint_of([*(source.fingerprint() for source in self._sources), "dimensions"])

    def _choose(self, names: Sequence[str]) -> None:
        known = dict(zip(self.channel_names or (), self._sources, strict=False))
        if missing := [name for name in names if name not in known]:
            raise UserError(
                f"{self._where} has no channel {missing[0]!r} (data.channel_columns): it has "
                f"{enumerate_names(list(known))}"
            )
        self._sources = [known[name] for name in names]
        self.channel_names = list(names)

    def _join(self, number: int, rows: Sequence[Row]) -> Row:
        first = rows[0]
        values = [row.value for row in rows if isinstance(row.value, np.ndarray)]
        problem = next((row.problem for row in rows if row.problem is not None), None)
        if problem is None and len({row.label for row in rows}) > 1:
            problem = "labels that differ between the dimensions"
        if problem is None and len(set(map(len, values))) > 1:
            problem = "dimensions of different lengths"
        if problem is not None:
            return Row(self.name, number, None, problem=problem, line=first.line, name=first.name)
        series = np.concatenate(values, axis=1)
        return Row(
            *(self.name, number, series, first.label),
            line=first.line,
            name=first.name,
            group=first.group,
        )


def _has_one_channel(source: RowSource) -> bool:
    return isinstance(source, WideTable) and len(source.columns.channels) == 1
