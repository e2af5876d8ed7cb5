"""Lines of numbers without names: the text files of the UCR and UEA archives, and others like them.

A line is a series. Its label is first, as in the archives, or last:

    1	0.12	0.35	-0.71
    2	0.48	0.22	0.13
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnlstm.console import enumerate_names
from attnlstm.data.formats.column_names import SERIES_TABLE, WIDER_SERIES_TABLE
from attnlstm.data.formats.columns import find_left_out
from attnlstm.data.formats.encodings import check_encoding, describe_encoding
from attnlstm.data.formats.lines import LONGEST_LINE, NUL, check_lines, open_lines
from attnlstm.data.formats.sample import MISSING, Sample, is_number, to_int
from attnlstm.data.formats.series import to_numbers
from attnlstm.data.formats.table import FormatOptions, Record, Table, check_names
from attnlstm.errors import UserError

SPACES = " "
"""As a delimiter, any number of spaces and tabs."""

DELIMITERS = ("\t", ",", ";", SPACES)

ARCHIVE_NAME = re.compile(r"_(TRAIN|TEST)$")
"""How the names of files without an ending end in the UCR archive."""

FIRST_LINES = 200

NAMES = {
    name
    for table in (SERIES_TABLE, WIDER_SERIES_TABLE)
    for names in table.values()
    for name in names
}


class HeaderlessTable(Table):
    """Lines of values between delimiters; the columns are called "0", "1", "2", ..."""

    has_header = False

    def __init__(self, path: Path, delimiter: str, encoding: str | None = None) -> None:
        super().__init__(path)
        self.delimiter = delimiter
        self.encoding = encoding
        with open_lines(path, "", encoding) as file:
            written = describe_encoding(file.encoding)
        shown = "spaces" if delimiter == SPACES else f"delimiter {delimiter!r}"
        self.read_as = f"{written} with {shown}, without a header line"

    def column_names(self) -> list[str]:
        fields: list[str] | str = next((fields for _, fields in self._lines()), "no line")
        if isinstance(fields, str):
            raise UserError(f"the first line of {self.path} cannot be read ({fields}): fix it")
        names = [str(place) for place in range(len(fields))]
        check_names(self.path, names)
        return names

    def describe_columns(self) -> str:
        return f"It has no header line: its columns are {enumerate_names(self.column_names())}"

    def read_single_label(self, cell: Any) -> str | None:
        whole = to_int(cell)
        return super().read_single_label(cell) if whole is None else str(whole)

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        places, num_columns = list(map(int, columns)), len(self.column_names())
        for number, (line, fields) in enumerate(self._lines()):
            if isinstance(fields, str):
                yield Record(number, None, fields, line)
            elif len(fields) != num_columns:
                yield Record(number, None, "wrong number of columns", line)
            else:
                values = [fields[place] for place in places]
                yield Record(number, dict(zip(columns, values, strict=True)), None, line)

    def _lines(self) -> Iterator[tuple[int, list[str] | str]]:
        """Yield the lines that are not blank: their numbers, and fields or what is wrong."""
        with open_lines(self.path, "", self.encoding) as file:
            for number, line, problem in check_lines(file):
                if problem is not None:
                    yield number, problem
                elif "\0" in line:
                    yield number, NUL
                elif not line.isspace():
                    yield number, _split(line, self.delimiter)


def is_archive_name(path: Path) -> bool:
    """Return whether a file may be one of the archives by its name."""
    return path.suffix.lower() == ".txt" or (
        ARCHIVE_NAME.search(path.name) is not None and "." not in path.name
    )


def find_headerless(
    path: Path, usual: str | None, options: FormatOptions
) -> HeaderlessTable | None:
    """Open a file as lines without a header if its first lines are plainly no header.

    Args:
        usual: the delimiter of files with this ending; None if any is.
        options: the delimiter and the encoding, if the user names them.

    Raises:
        UserError: the file cannot be read.
    """
    encoding, delimiter = options.get("encoding"), options.get("delimiter")
    if encoding is not None:
        check_encoding(encoding)
    lines = _first_lines(path, encoding)
    asked = r"\t" if delimiter == "\t" else delimiter
    choices = [asked or usual] if asked or usual else []
    for choice in [*choices, *(DELIMITERS if asked is None else ())]:
        kind = choice.replace(r"\t", "\t")
        rows = [_split(line, kind) for line in lines]
        if rows and len(rows[0]) > 2 and _is_data(rows):
            return HeaderlessTable(path, kind, encoding)
    return None


def find_label(sample: Sample, where: str, is_archive: bool, needs_labels: bool) -> str | None:
    """Return the column of the labels: one of texts that repeat, or the first or the last.

    Args:
        is_archive: whether the ending of the file's name is one of the archives, which put the
            label first.

    Raises:
        UserError: both or neither may be it.
    """
    left_out = find_left_out(sample.columns, sample)
    texts = [name for name in sample.columns if not sample.has_number(name)]
    if len(repeated := [name for name in texts if _repeats(sample, name)]) == 1:
        return repeated[0]
    columns = [name for name in sample.columns if name not in (*left_out, *texts)]
    ends = [columns[0], columns[-1]]
    found = [name for name in ends if _may_be_label(sample, name)]
    if found == ends and len(set(sample.values(ends[1]))) == 1:
        found = ends[:1]  # series that end with zeros
    middle = sample.values(columns[len(columns) // 2])
    has_fractions = any(to_int(value) is None for value in middle)
    chosen = None
    if ends[0] in found and (is_archive or (found == ends[:1] and has_fractions)):
        chosen = ends[0]
    elif found == ends[1:] and has_fractions:
        chosen = ends[1]
    elif not found and not needs_labels:
        return None
    # a column that never changes may as well be a step of series without labels
    if chosen is not None and (needs_labels or len(set(sample.values(chosen))) > 1):
        return chosen
    keys = " or ".join(dict.fromkeys(f"data.label_column={name}" for name in ends))
    raise UserError(
        f"{where} has no header line, and the labels may be its first or its last column: say "
        f"{keys}, or add a line with the names of the columns"
    )


def _first_lines(path: Path, encoding: str | None) -> list[str]:
    """Return the first lines of a file that are not blank."""
    lines: list[str] = []
    with open_lines(path, "", encoding) as file:
        for _, line, _ in check_lines(file):
            if line.strip():
                lines.append(line.rstrip("\r\n"))
            if len(lines) >= FIRST_LINES or sum(map(len, lines)) >= LONGEST_LINE:
                break
    return lines


def _split(line: str, delimiter: str) -> list[str]:
    if delimiter == SPACES:
        return line.split()
    return [field.strip().strip('"') for field in line.split(delimiter)]


def _is_data(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row is plainly not the names of columns."""
    first, rest = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    texts = [place for place, field in enumerate(first) if not is_number(field)]
    numbers = _numbers(first)
    if {field.strip().lower() for field in first} & NAMES or len(numbers) < 3:
        return False
    if numbers[0] in (0, 1) and np.array_equal(numbers, numbers[0] + np.arange(len(numbers))):
        return False  # they count the columns
    if not texts:
        return not _is_even(numbers) or any(_is_even(_numbers(row)) for row in rest)
    if len(texts) > 2 or any(3 <= place < len(first) - 2 for place in texts):
        return False
    if any(first[place] == row[place] for place in texts for row in rest):
        return True  # a name would not come again below
    return bool(rest) and not (np.diff(numbers) > 0).all()  # as times in a header do


def _numbers(fields: Sequence[str]) -> np.ndarray:
    """Return the fields that are numbers."""
    return to_numbers([field for field in fields if field.strip() and is_number(field)])


def _is_even(numbers: np.ndarray) -> bool:
    """Return whether numbers rise in even steps."""
    steps = np.diff(numbers)
    return bool(len(steps) and steps[0] > 0 and np.allclose(steps, steps[0], atol=0))


def _repeats(sample: Sample, column: str) -> bool:
    return len(set(sample.values(column))) <= max(1, len(sample.records) // 2)


def _may_be_label(sample: Sample, column: str) -> bool:
    values = [to_int(value) for value in sample.values(column) if value not in MISSING]
    few = max(2, len(values) // 2)
    return None not in values and len(set(values)) <= few
