"""Time series in files: `.ts`, `.npz`, and tables of any kind that `open_table` reads."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from attnlstm.config.data import SeriesColumns, SeriesConfig, TableFormat
from attnlstm.config.schema import register_source
from attnlstm.data.rows import Row, RowSource, join_descriptions
from attnlstm.data.sources.source import FileSource

if TYPE_CHECKING:
    from attnlstm.data.formats.columns import TableOptions


MOST_NOTES = 5


@register_source
class SeriesFilesSource(FileSource, SeriesColumns, TableFormat, SeriesConfig):
    """Files of series: .ts, .npz, and long or wide tables."""

    source: Literal["series_files"] = "series_files"

    def open_files(self, files: Sequence[Path], key: str, needs_labels: bool = True) -> RowSource:
        from attnlstm.data.formats.opening import is_series_file

        options: Any = {}  # TableOptions
        if not all(map(is_series_file, files)):
            options = {
                "layout": None if self.layout == "auto" else self.layout,
                "id_column": self.id_column,
                "time_column": self.time_column,
                "time_format": self.time_format,
                "label_column": self.label_column,
                "channel_columns": self.channel_columns,
                **self.format_options(),
            }
        return SeriesFiles(files, key=key, needs_labels=needs_labels, **options)

    def with_channels(self, names: Sequence[str] | None) -> Self:
        if self.channel_columns is not None or names is None:
            return self
        return self.model_copy(update={"channel_columns": list(names)})


class SeriesFiles(RowSource):
    """The series of several files, each `[time, channel]` float64.

    The ending of a file decides how it is read; see `LongTable`, `WideTable`, `SeriesFile` and, for
    several files with a channel each, `Dimensions`. Tables must have the same channels, but not in
    the same order of columns. The same id in two files is two series.

    Args:
        files: at least one.
        key: the setting that names the files, for messages, such as "data.train".
        needs_labels: whether a file without labels is refused.
        options: of tables; they must be None if other files are among them.

    Raises:
        UserError: a file is broken, or does not match its kind, the other files or the settings.
            Damage in the rows shows while iterating, all else on construction.

    Attributes:
        channel_names: the channels of tables, if they have names. Other tables for the same model
            must be read with these as their `channel_columns`.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        key: str,
        needs_labels: bool = True,
        **options: Unpack["TableOptions"],
    ) -> None:
        from attnlstm.data.formats.dimensions import Dimensions, group_dimensions
        from attnlstm.data.formats.opening import open_series
        from attnlstm.data.formats.series_table import SeriesTable

        unique = len({file.name for file in files}) == len(files)
        self._sources: list[RowSource] = []
        for group in group_dimensions(files, key):
            if len(group) > 1:
                self._sources.append(
                    Dimensions(group, key=key, needs_labels=needs_labels, **options)
                )
                continue
            (file,) = group.values()
            name = file.name if unique else str(file)
            self._sources.append(
                open_series(file, key=key, name=name, needs_labels=needs_labels, **options)
            )
        tables = [source for source in self._sources if isinstance(source, SeriesTable)]
        for table in tables[1:]:
            table.adopt_channels(tables[0])
        described = next(iter(tables), self._sources[0])
        self.channel_names = described.channel_names
        self.columns_used = described.columns_used
        self.left_out = described.left_out
        layouts = dict.fromkeys(filter(None, (source.layout for source in self._sources)))
        self.layout = "; ".join(list(layouts)[:2]) or None
        self.read_as = join_descriptions(source.read_as for source in self._sources)
        self.name = self._sources[0].name
        if len(self._sources) > 1:
            self.name += f" and {len(self._sources) - 1} more"
        declared = [source.label_names for source in self._sources]
        if None not in declared:
            self.label_names = list(dict.fromkeys(n for names in declared for n in names or []))

    @property
    def doubt(self) -> str | None:  # type: ignore[override]
        """The first doubt of a file, which may come up while it is read."""
        doubts = (
            doubt
            for source in self._sources
            for doubt in (source.doubt, getattr(source, "table_doubt", None))
        )
        return next(filter(None, doubts), None)

    def __iter__(self) -> Iterator[Row]:
        yield from chain.from_iterable(self._sources)
        self.notes = [note for source in self._sources for note in source.notes][:MOST_NOTES]

    def keep_columns(self, wanted: Sequence[str] | None) -> list[str]:
        if wanted is None:
            found = [source.keep_columns(None) for source in self._sources]
            wanted = [name for name in found[0] if all(name in names for names in found)]
        for source in self._sources:
            source.keep_columns(wanted)
        return list(wanted)

    def fingerprint(self) -> str:
        parts = [source.fingerprint() for source in self._sources]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
