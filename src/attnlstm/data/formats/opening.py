"""Open any file with the reader that is registered for the ending of its name.

All modules of this package are imported before the first file is opened, so a new kind of file is
a module that registers its reader, and no other change.
"""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Unpack

from attnlstm.data import formats
from attnlstm.data.formats.arrow_tables import SavedTable
from attnlstm.data.formats.columns import InspectedTable, TableOptions
from attnlstm.data.formats.compression import without_packing
from attnlstm.data.formats.headerless import (
    find_headerless,
    is_archive_name,
)
from attnlstm.data.formats.label_columns import join_labels
from attnlstm.data.formats.layouts import find_layout
from attnlstm.data.formats.line_tables import CSVTable
from attnlstm.data.formats.long_table import LongTable
from attnlstm.data.formats.sample import read_sample
from attnlstm.data.formats.series import SeriesFile, SeriesOptions, refuse_decimal_commas
from attnlstm.data.formats.table import FormatOptions, Table
from attnlstm.data.formats.text_folder import TextFolder, has_texts
from attnlstm.data.formats.wide_table import WideTable
from attnlstm.data.rows import RowSource
from attnlstm.errors import UserError
from attnlstm.files import is_saved


def open_table(path: str | Path, **options: Unpack[FormatOptions]) -> Table:
    """Open the table in a file, in a folder saved by `datasets`, or in a folder of texts.

    delimiter: between the columns of a CSV or TSV file, one character or `\\t`.
    encoding: of a text file, as Python calls it.
    decimal: "," if the numbers of a CSV or TSV file have a decimal comma.
    header: whether the first record names the columns.
    backslash_escapes: whether quotes in a CSV or TSV file are escaped by a backslash.
    sheet: of an Excel workbook.
    label_separator: between the labels of a cell.

    Raises:
        UserError: the ending, the folder or an option is none that can be read.
    """
    path = Path(path)
    if path.is_dir():
        is_of_texts = not is_saved(path) and has_texts(path)
        return TextFolder(path, **options) if is_of_texts else SavedTable(path, **options)
    reader = _find_reader(path)
    if reader is None or not issubclass(reader, Table):
        endings = sorted(end for end, kind in formats.READERS.items() if issubclass(kind, Table))
        raise UserError(
            f"{path} is not a known kind of file: save it as one of {', '.join(endings)} (JSON "
            "with one object a line), or as a folder with save_to_disk of the datasets package"
        )
    return reader(path, **options)


def open_table_of_series(path: Path, **options: Unpack[FormatOptions]) -> Table:
    """Open a table as `open_table` does, or lines of numbers that have no header."""
    reader = _find_reader(path)
    is_archive = path.is_file() and is_archive_name(without_packing(path))
    usual = None
    if reader is not None and issubclass(reader, CSVTable):
        usual = reader.usual_delimiter
    is_plain = not options.get("header") and options.get("decimal") != ","
    may_lack_names = is_plain and (usual is not None or is_archive)
    if may_lack_names and (found := find_headerless(path, usual, options)):
        return found
    return CSVTable(path, **options) if is_archive else open_table(path, **options)


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
        written: Any = {key: options.get(key) for key in FormatOptions.__annotations__}
        where = f"{key}: {path}"
        table, label = join_labels(
            open_table_of_series(path, **written), options.get("label_column"), where, needs_labels
        )
        sample = read_sample(table)
        for column in sample.columns:
            refuse_decimal_commas(where, column, sample.values(column))
        inspected = InspectedTable(table, where, needs_labels, label, options, series, sample)
        layout = find_layout(inspected)
        return (WideTable if layout.name == "wide" else LongTable)(inspected, name, layout)
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
    if path.is_dir():
        return None
    reader = formats.READERS.get(without_packing(path).suffix.lower())
    if (
        reader is not None
        and without_packing(path) != path
        and not getattr(reader, "is_packable", False)
    ):
        raise UserError(f"{path} is packed, which this kind of file need not be: unpack it")
    return reader


@cache
def import_readers() -> None:
    """Import all modules of this package, which register their readers."""
    for module in pkgutil.iter_modules(formats.__path__):
        import_module(f"{formats.__name__}.{module.name}")
