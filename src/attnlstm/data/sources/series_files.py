"""Time series in files: arrays, archive files, recordings, and long tables of any kind."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from pydantic import PrivateAttr

from attnlstm.config.data import (
    Arrays,
    Axes,
    LabelFiles,
    SeriesColumns,
    SeriesConfig,
    TableFormat,
    Windowing,
)
from attnlstm.config.schema import register_source
from attnlstm.data.rows import Row, RowSource, join_descriptions
from attnlstm.data.sources.source import TRAIN, FileSource
from attnlstm.errors import UserError
from attnlstm.files import find_files, is_saved

if TYPE_CHECKING:
    from attnlstm.data.formats.columns import TableOptions
    from attnlstm.data.formats.series import SeriesOptions

ARRAYS = (".npz", ".npy")

MOST_NOTES = 5
"""Lines about single files in the log."""


@register_source
class SeriesFilesSource(
    FileSource, LabelFiles, SeriesColumns, Arrays, Windowing, TableFormat, SeriesConfig
):
    """Files of series: .ts, .arff, .npz, .npy, .wav, folders of recordings, and tables."""

    source: Literal["series_files"] = "series_files"

    _num_channels: int | None = PrivateAttr(None)
    _axes: Axes | None = PrivateAttr(None)

    def check(self) -> None:
        if self.stride is not None and self.window is None:
            raise UserError(
                f"data.stride={self.stride} is between windows: say how long they are, such as "
                "data.window=128"
            )

    def open_files(self, files: Sequence[Path], key: str, needs_labels: bool = True) -> RowSource:
        from attnlstm.data.formats.opening import is_series_file
        from attnlstm.data.formats.recordings import find_recordings, guess_axes
        from attnlstm.data.windows import Windows

        options: Any = {}  # TableOptions
        axes = self.axes or self._axes
        labels: list[str | None] | None = None
        notes: list[str] = []
        if self._is_one_series_each(files):
            recordings, notes = find_recordings(files, self.label_from, key, needs_labels)
            files = [recording.path for recording in recordings]
            labels = [recording.label for recording in recordings]
            if self.axes not in (None, "time,channel", "channel,time"):
                raise UserError(
                    f"data.axes={self.axes} is for arrays of several series, and the files of "
                    f"{key} are one series each: say data.axes=time,channel or channel,time"
                )
            if axes not in ("time,channel", "channel,time"):
                axes = guess_axes(files, key)
        elif self.axes is not None and key.startswith("data.") and not self._has_arrays(files):
            raise UserError(
                f"data.axes={self.axes} is for arrays (.npz, .npy), and {key} names {files[0]}: "
                "leave data.axes out"
            )
        if key == TRAIN or not all(map(is_series_file, files)):
            options = {
                "layout": None if self.layout == "auto" else self.layout,
                "id_column": self.id_column,
                "time_column": self.time_column,
                "time_format": self.time_format,
                "label_column": self.label_column,
                "label_separator": self.label_separator,
                "channel_columns": self.channel_columns,
                **self.format_options(),
            }
        rows: RowSource = SeriesFiles(
            files,
            key=key,
            needs_labels=needs_labels,
            series=self._series_options(axes, key),
            labels=labels,
            label_files=self._find_label_files(files, key),
            notes=notes,
            **options,
        )
        if self.window is not None:
            rows = Windows(rows, self.window, self.stride or self.window)
        return rows

    def with_channels(self, names: Sequence[str] | None) -> Self:
        if self.channel_columns is not None or names is None:
            return self
        return self.model_copy(update={"channel_columns": list(names)})

    def for_model(self, num_channels: int | None, axes: Axes | None) -> Self:
        copied = self.model_copy()
        copied._num_channels, copied._axes = num_channels, axes or self._axes
        return copied

    def _is_one_series_each(self, files: Sequence[Path]) -> bool:
        """Return whether each file holds one series, without a label inside."""
        if self.label_from is not None or any(f.is_dir() and not is_saved(f) for f in files):
            return True
        return any(file.suffix.lower() == ".wav" for file in files)

    def _has_arrays(self, files: Sequence[Path]) -> bool:
        is_one_series = self.axes == "time,channel"  # as a table may be, too
        return is_one_series or any(file.suffix.lower() in ARRAYS for file in files)

    def _series_options(self, axes: Axes | None, key: str) -> "SeriesOptions":
        from attnlstm.data.formats.series import SeriesOptions

        return SeriesOptions(
            axes=axes,
            group_column=self.group_column,
            needs_groups=key == TRAIN,
            allows_missing=self.missing != "stop" or self.window is not None,
            has_windows=self.window is not None,
            num_channels=self._num_channels,
        )

    def _find_label_files(self, files: Sequence[Path], key: str) -> list[Path] | None:
        """Return the label file of each `.npy` file, if they are named.

        Raises:
            UserError: they do not exist, or are more or fewer.
        """
        from attnlstm.data.formats.npy_file import labels_key

        setting = labels_key(key)
        named = getattr(self, setting.removeprefix("data."))
        if named is None:
            return None
        found = find_files(named, setting)
        others = [file for file in files if file.suffix.lower() != ".npy"]
        if others:
            raise UserError(f"{setting} is for .npy files, and {key} names {others[0]}")
        if len(found) != len(files):
            raise UserError(
                f"{setting} names {len(found)} and {key} {len(files)} files: name one file of "
                "labels for each, in the same order"
            )
        return found


class SeriesFiles(RowSource):
    """The series of several files, each `[time, channel]` float64.

    The ending of a file decides how it is read; see `LongTable`, `WideTable`, `SeriesFile` and, for
    several files with a channel each, `Dimensions`. Tables must have the same channels, but not in
    the same order of columns. The same id in two files is two series.

    Args:
        files: at least one.
        key: the setting that names the files, for messages, such as "data.train".
        needs_labels: whether a file without labels is refused.
        series: how series are read.
        labels: for each file, the label of all its series, if it is not in the file.
        label_files: the label file of each `.npy` file; None: the one in its folder.
        notes: lines for the log about how these files were chosen.
        options: of tables; they must be None if there are other files.

    Raises:
        UserError: a file is broken, or does not match its kind, the other files or the settings.
            Bad rows show while iterating, everything else on construction.

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
        series: "SeriesOptions | None" = None,
        labels: Sequence[str | None] | None = None,
        label_files: Sequence[Path | None] | None = None,
        notes: Sequence[str] = (),
        **options: Unpack["TableOptions"],
    ) -> None:
        from attnlstm.data.formats.dimensions import Dimensions, group_dimensions
        from attnlstm.data.formats.opening import open_series
        from attnlstm.data.formats.series import SeriesOptions
        from attnlstm.data.formats.series_table import SeriesTable
        from attnlstm.data.formats.wav_file import WavFile

        series = series or SeriesOptions()
        label_files = label_files or [None] * len(files)
        unique = len({file.name for file in files}) == len(files)
        groups = group_dimensions(files, key) if labels is None else [{0: f} for f in files]
        label_of = dict(zip(files, labels or (), strict=False))
        labels_of = dict(zip(files, label_files, strict=True))
        self._sources: list[RowSource] = []
        self._labels: list[str | None] = []
        for group in groups:
            if len(group) > 1:
                self._labels.append(None)
                self._sources.append(
                    Dimensions(group, key=key, needs_labels=needs_labels, series=series, **options)
                )
                continue
            (file,) = group.values()
            label = label_of.get(file)
            self._labels.append(label)
            self._sources.append(
                open_series(
                    file,
                    key=key,
                    name=file.name if unique else str(file),
                    needs_labels=needs_labels and label is None,
                    series=replace(series, labels=labels_of[file], is_labelled=label is not None),
                    **options,
                )
            )
        tables = [source for source in self._sources if isinstance(source, SeriesTable)]
        for table in tables[1:]:
            table.adopt_channels(tables[0])
        described = next(iter(tables), self._sources[0])
        self.channel_names = described.channel_names
        self.columns_used = dict(described.columns_used)
        if labels is not None:
            self.columns_used.pop("label", None)
        self.left_out = described.left_out
        layouts = dict.fromkeys(filter(None, (source.layout for source in self._sources)))
        self.layout = "; ".join(list(layouts)[:2]) or None
        rates = {source.rate for source in self._sources if isinstance(source, WavFile)}
        self._rates_doubt = None
        if len(rates) > 1:
            listed = ", ".join(map(str, sorted(rates)))
            self._rates_doubt = f"the .wav files of {key} have several sampling rates ({listed} Hz)"
        self.axes = self._common_axes(series)
        self._choice = list(notes)
        self.read_as = join_descriptions(source.read_as for source in self._sources)
        self.name = self._sources[0].name
        if len(self._sources) > 1:
            self.name += f" and {len(self._sources) - 1} more"
        self.task = described.task
        self.target_names = described.target_names
        declared = [source.label_names for source in self._sources]
        if None not in declared and labels is None:
            self.label_names = list(dict.fromkeys(n for names in declared for n in names or []))

    @property
    def doubt(self) -> str | None:  # type: ignore[override]
        """The first doubt of a file, which may come up while it is read."""
        doubts = (
            doubt
            for source in self._sources
            for doubt in (source.doubt, getattr(source, "table_doubt", None))
        )
        return self._rates_doubt or next(filter(None, doubts), None)

    def __iter__(self) -> Iterator[Row]:
        for source, label in zip(self._sources, self._labels, strict=True):
            for row in source:
                if label is not None and row.problem is None:
                    row = row._replace(label=label, step_labels=None)
                yield row
        self.notes = self._choice + self._collect_notes()

    def keep_columns(self, wanted: Sequence[str] | None) -> list[str]:
        if wanted is None:
            found = [source.keep_columns(None) for source in self._sources]
            wanted = [name for name in found[0] if all(name in names for names in found)]
        for source in self._sources:
            source.keep_columns(wanted)
        return list(wanted)

    def fingerprint(self) -> str:
        parts = [source.fingerprint() for source in self._sources]
        parts += [label for label in self._labels if label is not None]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _common_axes(self, series: "SeriesOptions") -> Axes | None:
        """Return the order of the axes in all files.

        Raises:
            UserError: files are read in different orders, neither of which was given.
        """
        orders = {source.axes: source.name for source in self._sources if source.axes is not None}
        if len(orders) > 1:
            listed = ", ".join(f"{name} as [{axes}]" for axes, name in orders.items())
            raise UserError(f"arrays in different orders ({listed}): say which with data.axes")
        is_single = series.axes in ("time,channel", "channel,time")
        return next(iter(orders), series.axes if is_single else None)

    def _collect_notes(self) -> list[str]:
        """Return the notes of the first files."""
        notes = [note for source in self._sources for note in source.notes]
        more = len(notes) - MOST_NOTES
        return notes if more <= 0 else [*notes[:MOST_NOTES], f"and {more:,} more such lines"]
