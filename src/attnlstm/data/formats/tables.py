"""Tables in files, read a record at a time: CSV, JSON lines, Parquet, folders saved by `datasets`.

A file may be larger than memory, and a bad record never ends the reading: it is given with what is
wrong with it. Only a file that is no table at all is an error.
"""

import glob
import hashlib
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attnlstm.config.checks import nearest
from attnlstm.console import enumerate_names, shorten
from attnlstm.errors import UserError

MOST_COLUMNS = 1 << 16
NOT_UTF8 = "not UTF-8"


class Record(NamedTuple):  # made in a quarter of the time of a frozen dataclass
    """One record of a table.

    number: its place in the file, from 0; a header and blank lines do not count, bad records do.
    values: the columns that were asked for, by name; None if the record cannot be read.
    problem: why it cannot be read, in the same words for all records with the same problem.
    line: in a file of lines, the line (from 1) on which it begins.
    """

    number: int
    values: dict[str, Any] | None
    problem: str | None = None
    line: int | None = None


class Table(ABC):
    """Named columns of a file or folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def column_names(self) -> list[str]:
        """In the order of the file.

        Raises:
            UserError: the file cannot be opened, or is no table.
        """

    def label_names(self, column: str) -> list[str] | None:
        """The class names that the file declares for a column of class numbers, or None.

        `records` gives such a column by name, with None for the number -1.
        """
        return None

    def records(self, columns: Sequence[str]) -> Iterator[Record]:
        """All records in the order of the file, with these columns; may be asked for again.

        Raises:
            UserError: as `column_names`, or there is no such column.
        """
        self.check_columns(columns)
        return self._records(columns)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise a UserError if one of the columns is missing."""
        known = self.column_names()
        for column in columns:
            if column not in known:
                raise UserError(
                    f"{self.path} has no column {column!r}: did you mean "
                    f"{shorten(nearest(column, known))!r}? {self.describe_columns()}"
                )

    def describe_columns(self) -> str:
        """The end of a message about columns: which there are, and why they may look odd."""
        return f"Its columns are {enumerate_names(self.column_names())}"

    def read_label(self, cell: Any) -> Any:
        """A cell of `records` as what it stands for, where the file alone does not say its type."""
        return cell

    @abstractmethod
    def _records(self, columns: Sequence[str]) -> Iterator[Record]: ...


def open_table(path: str | Path, delimiter: str | None = None) -> Table:
    """The table in a file, by the ending of its name, or in a folder saved by `datasets`.

    delimiter: between the columns of a CSV or TSV file, one character or `\\t`; None is the usual.

    Raises:
        UserError: the ending, the folder or the delimiter is none that can be read.
    """
    # not at the top: they build on this file
    from attnlstm.data.formats.arrow_tables import ParquetTable, SavedTable
    from attnlstm.data.formats.line_tables import CSVTable, JSONTable

    path = Path(path)
    if path.is_dir():
        return SavedTable(path)
    match path.suffix.lower():
        case ".csv":
            return CSVTable(path, delimiter or ",")
        case ".tsv" | ".tab":
            return CSVTable(path, delimiter or "\t")
        case ".jsonl" | ".ndjson" | ".json":
            return JSONTable(path)
        case ".parquet":
            return ParquetTable(path)
    raise UserError(
        f"{path} is of no known kind: save it as .csv, .tsv, .tab, .jsonl, .ndjson, .json (one "
        "object a line) or .parquet, or as a folder with save_to_disk of the datasets package"
    )


def find_files(patterns: str | Sequence[str], key: str) -> list[Path]:
    """The files of a path, of a glob such as `data/*.csv` (sorted), or of several of these.

    key: what messages call the patterns, such as "data.train".

    Raises:
        UserError: a path does not exist, a glob matches nothing, or a file is named twice.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise UserError(f"{key} names no file: give a path")
    files: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if os.path.exists(path) and pattern.strip():
            if not (path.is_file() or path.is_dir()):  # a pipe would be waited for
                raise UserError(f"{key}={pattern} is neither a file nor a folder: give one of them")
            files.append(path)
            continue
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
        matches = [match for match in matches if match.is_file() or is_saved(match)]
        if not matches:
            what = "matches no file" if glob.has_magic(pattern) else "does not exist"
            raise UserError(f"{key}={pattern} {what} (seen from {Path.cwd()}): mend the path")
        files += matches
    for file, count in Counter(file.resolve() for file in files).items():
        if count > 1:
            raise UserError(f"{key} names {file} {count} times: name it once")
    return files


def file_fingerprint(path: Path) -> str:
    """The SHA-256 of a file's content; for a folder, of the names and contents of its files."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(path)}\0{file_fingerprint(file)}\n".encode())
        return digest.hexdigest()
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise cannot_read(path, error) from error


def cannot_read(path: Path, error: Exception) -> UserError:
    """The complaint about a file that cannot be opened or is broken."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return UserError(
        f"{path} cannot be read ({reason}): mend the path, the file or its permissions"
    )


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk`."""
    return (path / "state.json").is_file()


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise a UserError if there are too many columns, or two with the same name."""
    if len(names) > MOST_COLUMNS:
        raise UserError(
            f"{path} has {len(names):,} columns: at most {MOST_COLUMNS:,} can be read; is it a "
            "table with a record a line?"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(
            f"{path} has several columns named {shorten(twice[0])!r}: rename or remove one"
        )
