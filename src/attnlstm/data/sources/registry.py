"""From the configuration to the rows: one function for each kind of source.

To add a source, write its `RowSource`, add a function here and to `SOURCES`, a model of its keys to
`attnlstm.config.data` and there to `AnyDataConfig`, and a file to conf/data/.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnlstm.config.data import (
    AnyDataConfig,
    ArchiveConfig,
    BBCNewsConfig,
    FileParts,
    HubTextConfig,
    SeriesFilesConfig,
    TextFilesConfig,
)
from attnlstm.data.formats.opening import is_series_file
from attnlstm.data.rows import RowSource
from attnlstm.data.sources.archive import ArchiveRows
from attnlstm.data.sources.bbc_news import BBCNews
from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.data.sources.text_files import TextFiles
from attnlstm.errors import UserError
from attnlstm.files import find_files


def open_sources(config: AnyDataConfig, only: str | None = None) -> Mapping[str, RowSource]:
    """The rows of "train" and, where the data has them, of "validation" and "test".

    Args:
        config: which data.
        only: the part that is wanted. The others are opened too unless it has rows of its own, as
            it then has to be carved out of "train".

    Raises:
        UserError: a file or a set is missing, or cannot be read.
    """
    return SOURCES[config.source](config, only)


def _archive(config: ArchiveConfig, only: str | None) -> Mapping[str, RowSource]:
    if not config.name:
        raise UserError("data.name must be given: the name of a set of the archive")
    return {
        part: ArchiveRows(config.name, part)
        for part in (["test"] if only == "test" else ["train", "test"])
    }


def _bbc_news(config: BBCNewsConfig, only: str | None) -> Mapping[str, RowSource]:
    return {part: BBCNews(part) for part in (["test"] if only == "test" else ["train", "test"])}


def _text_files(config: TextFilesConfig, only: str | None) -> Mapping[str, RowSource]:
    def open_part(patterns: str | list[str], key: str) -> RowSource:
        return TextFiles(
            find_files(patterns, key),
            key=key,
            text_column=config.text_column,
            label_column=config.label_column,
            delimiter=config.delimiter,
        )

    return _open_files(config, only, open_part)


def _series_files(config: SeriesFilesConfig, only: str | None) -> Mapping[str, RowSource]:
    channel_names = config.channel_columns

    def open_part(patterns: str | list[str], key: str) -> RowSource:
        nonlocal channel_names
        files = open_series(config, find_files(patterns, key), key, channel_names)
        channel_names = channel_names or files.channel_names  # of "train", which comes first
        return files

    return _open_files(config, only, open_part)


def open_series(
    config: SeriesFilesConfig,
    files: Sequence[Path],
    key: str,
    channel_names: Sequence[str] | None,
    needs_labels: bool = True,
) -> SeriesFiles:
    """The series of files; the columns of the configuration are for tables only.

    Raises:
        UserError: a file is of no known kind, or cannot be read as what it is.
    """
    is_table = not all(map(is_series_file, files))
    columns: dict[str, Any] = {}
    if is_table:
        columns = {
            "id_column": config.id_column,
            "time_column": config.time_column,
            "label_column": config.label_column,
            "channel_columns": channel_names,
            "delimiter": config.delimiter,
        }
    return SeriesFiles(files, key=key, needs_labels=needs_labels, **columns)


def _open_files(
    config: FileParts,
    only: str | None,
    open_part: Callable[[str | list[str], str], RowSource],
) -> Mapping[str, RowSource]:
    given = {
        part: patterns
        for part, patterns in (
            ("train", config.train),
            ("validation", config.validation),
            ("test", config.test),
        )
        if patterns
    }
    if only in given and only != "train":
        given = {only: given[only]}
    elif "train" not in given:
        raise UserError("data.train must be given: add data.train=FILE")
    return {part: open_part(patterns, f"data.{part}") for part, patterns in given.items()}


def _hub_text(config: HubTextConfig, only: str | None) -> Mapping[str, RowSource]:
    if not config.path:
        raise UserError("data.path must be given: the name of a data set of the Hub, or a folder")
    from attnlstm.data.sources.hub_text import (
        open_hub,  # not at the top: datasets takes half a second
    )

    parts = open_hub(
        config.path,
        config.subset,
        text_column=config.text_column,
        label_column=config.label_column,
    )
    if only in parts and only not in (None, "train"):
        return {only: parts[only]}
    if "train" not in parts:
        raise UserError(
            f"data.path={config.path} has no split called train, only {', '.join(parts)}: choose a "
            "data set with training rows"
        )
    return parts


SOURCES: Mapping[str, Callable[[Any, str | None], Mapping[str, RowSource]]] = {
    "archive": _archive,
    "bbc_news": _bbc_news,
    "text_files": _text_files,
    "hub_text": _hub_text,
    "series_files": _series_files,
}
