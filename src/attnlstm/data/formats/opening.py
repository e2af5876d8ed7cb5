"""The reader of any file, chosen by the ending of its name.

All modules of this package are imported before the first file is opened: a new kind of file is a
module that registers its reader, by `register_table` or by `register_series`.
"""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Unpack

from attnlstm.data import formats
from attnlstm.data.formats.arrow_tables import SavedTable
from attnlstm.data.formats.columns import TableOptions
from attnlstm.data.formats.long_table import LongTable
from attnlstm.data.formats.series import SERIES_READERS
from attnlstm.data.formats.table import TABLES, Table
from attnlstm.data.rows import RowSource
from attnlstm.errors import UserError


def open_table(path: str | Path, delimiter: str | None = None) -> Table:
    """Open a file by the ending of its name, or a folder saved by `datasets`.

    delimiter: between the columns of a CSV or TSV file, one character or `\\t`; None is the usual.

    Raises:
        UserError: the ending, the folder or the delimiter is none that can be read.
    """
    import_readers()
    path = Path(path)
    if path.is_dir():
        return SavedTable(path)
    opener = TABLES.get(path.suffix.lower())
    if opener is None:
        endings = ", ".join(sorted(TABLES))
        raise UserError(
            f"{path} is of no known kind: save it as one of {endings} (JSON with one object "
            "a line), or as a folder with save_to_disk of the datasets package"
        )
    return opener(path, delimiter)


def is_series_file(path: Path) -> bool:
    """Return whether a file holds whole series, and not a table with a step in each record."""
    import_readers()
    return path.suffix.lower() in SERIES_READERS and not path.is_dir()


def open_series(
    path: Path, *, key: str, name: str, needs_labels: bool, **options: Unpack[TableOptions]
) -> RowSource:
    """Open a file of whole series by the ending of its name, or any other as a long table.

    Args:
        key: what messages call the choice of this file, such as "data.train".
        name: what rows and messages call the file.
        needs_labels: whether a file without labels is refused.
        options: for long tables only.

    Raises:
        UserError: the file is of no known kind, or its reader refuses it.
    """
    if not is_series_file(path):
        table = open_table(path, options.get("delimiter"))
        return LongTable(table, key=key, name=name, needs_labels=needs_labels, **options)
    for setting, value in options.items():
        if value is not None:
            raise UserError(
                f"data.{setting} is for tables, but {key} names {path}, which has no columns: "
                f"leave data.{setting} out"
            )
    reader = SERIES_READERS[path.suffix.lower()]
    return reader(path, key=key, name=name, needs_labels=needs_labels)


@cache
def import_readers() -> None:
    """Import all modules of this package, which register their readers."""
    for module in pkgutil.iter_modules(formats.__path__):
        import_module(f"{formats.__name__}.{module.name}")
