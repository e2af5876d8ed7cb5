"""Open any file with the reader that is registered for the ending of its name.

All modules of this package are imported before the first file is opened, so a new kind of file is
a module that registers its reader, and no other change.
"""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Unpack

from attnlstm.data import formats
from attnlstm.data.formats.arrow_tables import SavedTable
from attnlstm.data.formats.columns import TableOptions
from attnlstm.data.formats.headerless import (
    find_headerless,
    guess_delimiter,
    is_archive_name,
)
from attnlstm.data.formats.layouts import find_layout
from attnlstm.data.formats.line_tables import CSVTable
from attnlstm.data.formats.long_table import LongTable
from attnlstm.data.formats.sample import read_sample
from attnlstm.data.formats.series import SeriesFile, SeriesOptions
from attnlstm.data.formats.table import Table
from attnlstm.data.formats.wide_table import WideTable
from attnlstm.data.rows import RowSource
from attnlstm.errors import UserError


def open_table(path: str | Path, delimiter: str | None = None) -> Table:
    """Open the table in a file, or in a folder saved by `datasets`.

    delimiter: between the columns of a CSV or TSV file, one character or `\\t`; None is the usual.

    Raises:
        UserError: the ending, the folder or the delimiter is none that can be read.
    """
    path = Path(path)
    if path.is_dir():
        return SavedTable(path)
    reader = _find_reader(path)
    if reader is None or not issubclass(reader, Table):
        endings = sorted(end for end, kind in formats.READERS.items() if issubclass(kind, Table))
        raise UserError(
            f"{path} is not a known kind of file: save it as one of {', '.join(endings)} (JSON "
            "with one object a line), or as a folder with save_to_disk of the datasets package"
        )
    return reader(path, delimiter)


def open_table_of_series(path: Path, delimiter: str | None = None) -> Table:
    """Open a table as `open_table` does, or lines of numbers that have no header."""
    reader = _find_reader(path)
    is_archive = path.is_file() and is_archive_name(path)
    usual = None
    if reader is not None and issubclass(reader, CSVTable):
        usual = reader.usual_delimiter
    if (usual or is_archive) and (found := find_headerless(path, delimiter, usual)):
        return found
    if is_archive:
        return CSVTable(path, delimiter or guess_delimiter(path))
    return open_table(path, delimiter)


def is_series_file(path: Path) -> bool:
    """Return whether a file holds whole series, and not a table with a step in each record."""
    reader = _find_reader(path)
    return reader is not None and issubclass(reader, SeriesFile)


def open_series(
    path: Path,
    *,
    key: str,
    name: str,
    needs_labels: bool,
    series: SeriesOptions,
    **options: Unpack[TableOptions],
) -> RowSource:
    """Open a file of whole series, or any other file as a table with a long or wide layout.

    Args:
        key: what messages call the choice of this file, such as "data.train".
        name: what rows and messages call the file.
        needs_labels: whether a file without labels is refused.
        series: how series are read.
        options: for tables only.

    Raises:
        UserError: the file is not of a known kind, or its reader refuses it.
    """
    reader = _find_reader(path)
    if reader is None or not issubclass(reader, SeriesFile):
        table = open_table_of_series(path, options.get("delimiter"))
        sample, where = read_sample(table), f"{key}: {path}"
        layout = find_layout(table, where, needs_labels, options, sample, series)
        kind = WideTable if layout.name == "wide" else LongTable
        return kind(table, key, name, needs_labels, options, layout, sample, series)
    refused = {setting: value for setting, value in options.items() if value is not None}
    if series.needs_groups and series.group_column is not None and not reader.has_groups:
        refused["group_column"] = series.group_column
    for setting in refused:
        raise UserError(
            f"data.{setting} is for tables, but {key} names {path}, which has no columns: "
            f"leave data.{setting} out"
        )
    return reader(path, key=key, name=name, needs_labels=needs_labels, options=series)


def _find_reader(path: Path) -> type | None:
    import_readers()
    return None if path.is_dir() else formats.READERS.get(path.suffix.lower())


@cache
def import_readers() -> None:
    """Import all modules of this package, which register their readers."""
    for module in pkgutil.iter_modules(formats.__path__):
        import_module(f"{formats.__name__}.{module.name}")
