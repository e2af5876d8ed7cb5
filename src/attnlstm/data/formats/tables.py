"""The table in any file: CSV, JSON lines, Parquet, folders saved by `datasets`."""

from pathlib import Path

from attnlstm.data.formats import arrow_tables, line_tables  # noqa: F401 - they register
from attnlstm.data.formats.table import TABLES, Table
from attnlstm.errors import UserError


def open_table(path: str | Path, delimiter: str | None = None) -> Table:
    """The table in a file, by the ending of its name, or in a folder saved by `datasets`.

    delimiter: between the columns of a CSV or TSV file, one character or `\\t`; None is the usual.

    Raises:
        UserError: the ending, the folder or the delimiter is none that can be read.
    """
    path = Path(path)
    if path.is_dir():
        return arrow_tables.SavedTable(path)
    opener = TABLES.get(path.suffix.lower())
    if opener is None:
        endings = ", ".join(sorted(TABLES))
        raise UserError(
            f"{path} is of no known kind: save it as one of {endings} (JSON with one object "
            "a line), or as a folder with save_to_disk of the datasets package"
        )
    return opener(path, delimiter)
