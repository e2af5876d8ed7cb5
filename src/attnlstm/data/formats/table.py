"""What all tables share: named columns, and records that are read one at a time.

A file may be larger than memory. A record that cannot be read does not end the reading: it says
what is wrong with it. Only a file that is no table at all is an error.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

from attnlstm.config.checks import nearest
from attnlstm.console import enumerate_names, shorten
from attnlstm.data.formats.labels import read_cell, read_label
from attnlstm.data.rows import Label
from attnlstm.errors import UserError

MOST_COLUMNS = 1 << 16


class FormatOptions(TypedDict, total=False):
    """How a table is written: the settings of `data` with the same names; None finds out."""

    delimiter: str | None
    encoding: str | None
    decimal: str | None
    header: bool | None
    backslash_escapes: bool | None
    sheet: str | None
    label_separator: str | None


class Record(NamedTuple):  # four times as fast to make as a frozen dataclass
    """One record of a table.

    number: its place in the file, from 0; a header and blank lines do not count, bad records do.
    values: the columns that were asked for, by name; None if the record cannot be read.
    problem: why it cannot be read, in the same words for all records with the same problem.
    line: in a file of lines, the line (from 1) on which it begins.
    name: what the table calls it, such as the name of its file.
    """

    number: int
    values: dict[str, Any] | None
    problem: str | None = None
    line: int | None = None
    name: str | None = None


class Table(ABC):
    """Named columns of a file or folder.

    is_packable: whether the file may be compressed, such as .csv.gz.
    has_header: whether the file names the columns; otherwise they are "0", "1", and so on.
    read_as: how the file is written, where that had to be found out, for the log.
    doubt: a sentence about what looks wrong with the records that were read, if anything does.
    """

    is_packable = False
    has_header = True
    read_as: str | None = None
    doubt: str | None = None

    def __init__(self, path: Path, **options: Unpack[FormatOptions]) -> None:
        self.path = path
        self.label_separator = options.get("label_separator")

    @abstractmethod
    def column_names(self) -> list[str]:
        """Return the names in the order of the file; a UserError says why it is no table."""

    def label_names(self, column: str) -> list[str] | None:
        """Return the class names that the file declares for a column of class numbers, or None.

        `records` gives such a column by name, with None for the number -1.
        """
        return None

    def records(self, columns: Sequence[str]) -> Iterator[Record]:
        """Yield all records in the order of the file, with these columns; all must exist."""
        self.check_columns(columns)
        return self._records(columns)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise a UserError if one of the columns is missing."""
        known = self.column_names()
        for column in dict.fromkeys(columns).keys() - set(known):
            raise missing_column(str(self.path), column, known, self.describe_columns())
        if known.count("") > 1 and "" in columns:
            raise UserError(
                f"{self.path} has several columns without a name: name the one to use in the file"
            )

    def describe_columns(self) -> str:
        """Return the end of a message about columns: what they are, and why they may look odd."""
        return f"Its columns are {enumerate_names(self.column_names())}"

    def read_label(self, cell: Any) -> Label | None:
        """Return a cell as a label, None if it is missing; see `labels.read_cell`."""
        return read_cell(cell, self.read_single_label, self.label_separator)

    def read_single_label(self, cell: Any) -> str | None:
        """Return a cell that is one label, None if it is missing; see `labels.read_label`."""
        return read_label(cell)

    @abstractmethod
    def _records(self, columns: Sequence[str]) -> Iterator[Record]: ...


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise a UserError if there are too many columns, or two with the same name.

    Columns without a name are no harm until one is used.
    """
    if len(names) > MOST_COLUMNS:
        raise UserError(
            f"{path} has {len(names):,} columns: at most {MOST_COLUMNS:,} can be read; is it a "
            "table with a record a line?"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1 and name]:
        raise UserError(
            f"{path} has several columns named {shorten(twice[0])!r}: rename or remove one"
        )


def missing_column(
    where: str, column: str, known: Sequence[str], description: str, setting: str = ""
) -> UserError:
    """Return the complaint about a column that does not exist, with the nearest that does."""
    named_by = f" ({setting})" if setting else ""
    return UserError(
        f"{where} has no column {column!r}{named_by}: did you mean "
        f"{shorten(nearest(column, known))!r}? {description}"
    )
