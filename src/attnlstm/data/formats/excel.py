"""Excel workbooks: a table in a sheet, whose first row names the columns."""

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

from attnlstm.console import enumerate_names, shorten
from attnlstm.data.formats import register_reader
from attnlstm.data.formats.headers import has_header
from attnlstm.data.formats.table import FormatOptions, Record, Table, check_names
from attnlstm.errors import UserError
from attnlstm.files import open_binary, read_zip_directory_size

FREE_BYTES = 1 << 28
LARGEST_RATIO = 250
"""As of packed files: a workbook is a zip archive."""

LARGEST_DIRECTORY = 1 << 20  # bytes

SAMPLED_ROWS = 100


@register_reader(".xlsx", ".xlsm")
class ExcelTable(Table):
    """A sheet of an Excel workbook; formulas count as the values that Excel has saved with them.

    Empty rows are no records, and cells beyond the named columns are not read. `Record.line` is the
    number of the row in the sheet.
    """

    def __init__(self, path: Path, **options: Unpack[FormatOptions]) -> None:
        super().__init__(path, **options)
        self._sheet = options.get("sheet")
        self._given_header = options.get("header")

    @cached_property
    def has_header(self) -> bool:  # type: ignore[override]
        if self._given_header is not None:
            return self._given_header
        with self._open() as rows:
            sample = [list(map(_to_name, row)) for _, row in islice(rows, SAMPLED_ROWS)]
        width = max(map(len, sample), default=0)
        return not sample or has_header([row + [""] * (width - len(row)) for row in sample])

    @property
    def read_as(self) -> str:  # type: ignore[override]
        header = "" if self.has_header else ", without a header line"
        return f"sheet {shorten(str(self._sheet))!r} of a workbook{header}"

    def column_names(self) -> list[str]:
        with self._open() as rows:
            return self._header(rows)

    def _header(self, rows: Iterator[tuple[int, list[Any]]]) -> list[str]:
        _, first = next(rows, (0, None))
        if first is None:
            raise UserError(f"{self.path} has an empty sheet: its first row must name the columns")
        if self.has_header:
            if next(rows, None) is None:
                raise UserError(f"{self.path} has only a header line: add records")
            names = list(map(_to_name, first))
        else:
            names = list(map(str, range(len(first))))
        check_names(self.path, names)
        return names

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        names = self.column_names()
        places = [names.index(column) for column in columns]
        with self._open() as rows:
            if self.has_header:
                next(rows)
            for number, (line, row) in enumerate(rows):
                values = [row[place] if place < len(row) else None for place in places]
                yield Record(number, dict(zip(columns, values, strict=True)), None, line)

    @contextmanager
    def _open(self) -> Iterator[Iterator[tuple[int, list[Any]]]]:
        """Open the sheet, and yield an iterator of its rows that are not empty."""
        openpyxl = _import_openpyxl(self.path)
        _check_size(self.path)
        with _reading(self.path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and the like
            book = openpyxl.load_workbook(self.path, read_only=True, data_only=True)
        try:
            with _reading(self.path):
                sheet = self._choose_sheet(book)
                sheet.reset_dimensions()  # which may be anything
            yield self._rows(sheet)
        finally:
            book.close()

    def _choose_sheet(self, book: Any) -> Any:
        sheets = {sheet.title: sheet for sheet in book.worksheets}
        if self._sheet is None:
            filled = [name for name in sheets if _is_filled(sheets[name])]
            if len(filled) > 1:
                raise UserError(
                    f"{self.path} has several sheets ({enumerate_names(filled)}): choose one, such "
                    f"as data.sheet={shorten(filled[0])}"
                )
            if not filled:
                raise UserError(f"{self.path} has no sheet with anything in it: add records")
            self._sheet = filled[0]
        if self._sheet not in sheets:
            raise UserError(
                f"{self.path} has no sheet {shorten(self._sheet)!r} (data.sheet): its sheets are "
                f"{enumerate_names(list(sheets))}"
            )
        return sheets[self._sheet]

    def _rows(self, sheet: Any) -> Iterator[tuple[int, list[Any]]]:
        rows = enumerate(sheet.iter_rows(values_only=True), 1)
        while True:
            with _reading(self.path):
                line, values = next(rows, (0, None))
            if values is None:
                return
            row = list(values)
            while row and row[-1] in (None, ""):
                row.pop()
            if row:
                yield line, row


def _is_filled(sheet: Any) -> bool:
    rows = sheet.iter_rows(values_only=True, max_row=1000)
    return any(value is not None for row in rows for value in row)


def _to_name(value: Any) -> str:
    return "" if value is None else str(value)


def _import_openpyxl(path: Path) -> Any:
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(
            f"{path} is an Excel workbook, which needs a package: pip install 'attnlstm[excel]', "
            "or save it as CSV"
        ) from error
    return openpyxl


def _check_size(path: Path) -> None:
    """Raise a UserError for an archive that is broken, or that would fill the memory."""
    with open_binary(path) as file:
        size = file.seek(0, 2)
        directory = read_zip_directory_size(file, size)
        if directory is None or directory > LARGEST_DIRECTORY:
            raise UserError(f"{path} is broken or not an Excel workbook: save it again as .xlsx")
        with _reading(path), zipfile.ZipFile(file) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > max(FREE_BYTES, LARGEST_RATIO * size):
        raise UserError(
            f"{path} would unpack to {unpacked:,} bytes: save it as CSV, or choose another file"
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever openpyxl raises about a broken workbook into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of the kinds of zipfile, of the XML parser, and many others
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} cannot be read ({shorten(reason)}): save it again as .xlsx, or as CSV"
        ) from error
