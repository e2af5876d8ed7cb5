"""Time series in files: `.ts`, `.npz`, and long tables of any kind that `open_table` reads."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, Unpack

from attnlstm.config.data import Delimiter, SeriesColumns, SeriesConfig
from attnlstm.config.schema import register_source
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.sources.source import FileSource

if TYPE_CHECKING:
    from attnlstm.data.formats.columns import TableOptions


@register_source
class SeriesFilesSource(FileSource, SeriesColumns, Delimiter, SeriesConfig):
    """Files of series: .ts, .npz, and long tables."""

    source: Literal["series_files"] = "series_files"

    def open_files(self, files: Sequence[Path], key: str, needs_labels: bool = True) -> RowSource:
        from attnlstm.data.formats.opening import is_series_file

        options: TableOptions = {}
        if not all(map(is_series_file, files)):
            options = {
                "id_column": self.id_column,
                "time_column": self.time_column,
                "label_column": self.label_column,
                "channel_columns": self.channel_columns,
                "delimiter": self.delimiter,
            }
        return SeriesFiles(files, key=key, needs_labels=needs_labels, **options)

    def with_channels(self, names: Sequence[str] | None) -> Self:
        if self.channel_columns is not None or names is None:
            return self
        return self.model_copy(update={"channel_columns": list(names)})


class SeriesFiles(RowSource):
    """The series of several files, each `[time, channel]` float64; see `LongTable`, `SeriesFile`.

    The ending of a file decides how it is read. Long tables must have the same channels, but not in
    the same order of columns. The same id in two files is two series.

    Args:
        files: at least one.
        key: the setting that names the files, for messages, such as "data.train".
        needs_labels: whether a file without labels is refused.
        options: of long tables; they must be None if other files are among them.

    Raises:
        UserError: a file is broken, or does not match its kind, the other files or the settings.
            Damage in the rows shows while iterating, all else on construction.

    Attributes:
        channel_names: the channels of long tables, otherwise None. Other tables for the same model
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
        from attnlstm.data.formats.long_table import LongTable
        from attnlstm.data.formats.opening import open_series

        unique = len({file.name for file in files}) == len(files)
        self._sources = [
            open_series(
                file,
                key=key,
                name=file.name if unique else str(file),
                needs_labels=needs_labels,
                **options,
            )
            for file in files
        ]
        tables = [source for source in self._sources if isinstance(source, LongTable)]
        for table in tables[1:]:
            table.adopt_columns(tables[0])
        self.channel_names = tables[0].columns.channels if tables else None
        if tables:
            self.columns_used = tables[0].columns_used
        self.doubt = next((source.doubt for source in self._sources if source.doubt), None)
        self.name = self._sources[0].name
        if len(files) > 1:
            self.name += f" and {len(files) - 1} more"
        declared = [source.label_names for source in self._sources]
        if None not in declared:
            self.label_names = list(dict.fromkeys(n for names in declared for n in names or []))

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self._sources)

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
