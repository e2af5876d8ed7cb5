"""Many numbers in a CSV file, read in blocks by pyarrow: five times as fast as a record at a time.

Only plain blocks are read here. From the first one with anything else on, such as a quote or a
text among the numbers, a table reads its records itself, and says what is wrong with which line.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attnlstm.files import open_binary

FEWEST_COLUMNS = 32
"""With fewer columns, importing pyarrow takes longer than it saves."""

BLOCK_BYTES = 1 << 23
LONGEST_HEADER = 1 << 20
DELIMITERS = (",", ";", "\t", "|")
MISSING = ["", "?", "nan", "NaN"]
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Block(NamedTuple):
    """Some consecutive records of a table without blank lines.

    numbers: `[record, column]`, NaN for missing values.
    texts: the values of other columns by name, a list each.
    line: the line of the first record, from 1.
    """

    numbers: np.ndarray
    texts: dict[str, list[str]]
    line: int


def read_blocks(
    path: Path, names: Sequence[str], columns: Sequence[str], texts: Sequence[str]
) -> Iterator[Block]:
    """Yield the records of a CSV file up to the first block that is not plain.

    Args:
        path: a file that may be of another kind; then there are no blocks.
        names: the names of all columns, as its first line has them.
        columns: of numbers.
        texts: columns that are kept as texts.
    """
    if path.is_dir() or len(columns) < FEWEST_COLUMNS:
        return
    with open_binary(path) as file:
        header = file.readline(LONGEST_HEADER).removeprefix(BYTE_ORDER_MARK)
        delimiter = _find_delimiter(header, names)
        if delimiter is None:
            return
        line = 2
        while content := file.read(BLOCK_BYTES):
            content += b"" if content.endswith(b"\n") else file.readline(BLOCK_BYTES)
            block = _parse(content, delimiter, names, columns, texts, line)
            if block is None:
                return
            yield block
            line += len(block.numbers)


def _find_delimiter(header: bytes, names: Sequence[str]) -> str | None:
    """Return the delimiter between the names in a first line; None if it is not plain."""
    try:
        text = header.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return None
    expected = list(names)
    for delimiter in DELIMITERS:
        if delimiter in text and next(csv.reader([text], delimiter=delimiter)) == expected:
            return delimiter
    return None


def _parse(
    content: bytes,
    delimiter: str,
    names: Sequence[str],
    columns: Sequence[str],
    texts: Sequence[str],
    line: int,
) -> Block | None:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    content = content.rstrip(b"\r\n")
    if b'"' in content:  # a field in quotes that does not need them is plain
        edge = re.escape(delimiter.encode()) + rb"\r\n"
        content = re.sub(rb'(?<![^%b])"([^"%b]*)"(?![^%b])' % (edge, edge, edge), rb"\1", content)
    if b'"' in content or b"\0" in content:
        return None
    types: dict[str, Any] = dict.fromkeys(columns, pa.float64()) | dict.fromkeys(texts, pa.string())
    try:
        table = arrow_csv.read_csv(
            BytesIO(content),
            arrow_csv.ReadOptions(column_names=list(names), block_size=len(content) + 1),
            arrow_csv.ParseOptions(delimiter=delimiter, quote_char=False),
            arrow_csv.ConvertOptions(
                column_types=types, include_columns=[*columns, *texts], null_values=MISSING
            ),
        )
    except pa.ArrowException:
        return None
    if len(table) != content.count(b"\n") + 1:  # blank lines
        return None
    numbers = np.empty((len(table), len(columns)))
    for place, column in enumerate(columns):
        numbers[:, place] = table.column(column).to_numpy()
    return Block(numbers, {name: table.column(name).to_pylist() for name in texts}, line)
