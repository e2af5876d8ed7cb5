"""The sizes of the pages of a Parquet file, read from their headers without unpacking a page.

A header is a struct in Thrift's compact protocol; see PageHeader in parquet.thrift of
https://github.com/apache/parquet-format and thrift-compact-protocol.md of
https://github.com/apache/thrift.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

LONGEST_HEADER = 1 << 24  # bytes, as in Arrow
DEEPEST_HEADER = 8

TYPE, UNPACKED_SIZE, PACKED_SIZE, DATA_PAGE, DATA_PAGE_V2 = 1, 2, 3, 5, 8
"""Fields of a PageHeader."""
NUM_VALUES = 1
"""A field of the header of a data page."""

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
"""Types of fields."""


def read_page_sizes(file: BinaryIO, start: int, num_values: int) -> Iterator[int]:
    """Yield the unpacked size in bytes of each page of a column chunk.

    Args:
        start: where the first page begins.
        num_values: of the chunk, which ends with the page that reaches this number.

    Raises:
        ValueError: a header is broken.
    """
    while num_values > 0:
        header, size = _read_header(file, start)
        unpacked, packed = (_number(header, field) for field in (UNPACKED_SIZE, PACKED_SIZE))
        yield unpacked
        start += size + packed
        for field in (DATA_PAGE, DATA_PAGE_V2):
            if field in header:
                num_values -= _number(header[field], NUM_VALUES)


def _number(fields: Any, field: int) -> int:
    value = fields.get(field) if isinstance(fields, dict) else None
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError("the header of a page is broken")
    return value


def _read_header(file: BinaryIO, start: int) -> tuple[dict[int, Any], int]:
    """Return the fields of the header that begins at `start`, and its size in bytes."""
    window = 256
    while True:
        file.seek(start)
        content = file.read(window)
        try:
            return _read_struct(content, 0, 0)
        except IndexError:
            if len(content) < window or window >= LONGEST_HEADER:
                raise ValueError("the header of a page has no end") from None
            window *= 16


def _read_struct(content: bytes, place: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the structs and 32-bit numbers of a struct by field, and where it ends.

    Raises:
        IndexError: it goes on after the content.
        ValueError: it has a field that no page header has.
    """
    if depth > DEEPEST_HEADER:
        raise ValueError("the header of a page is nested too deeply")
    fields: dict[int, Any] = {}
    number = 0
    while kind := content[place]:
        step, kind = kind >> 4, kind & 15
        place += 1
        if step:
            number += step
        else:
            number, place = _read_integer(content, place)
        if kind == STRUCT:
            fields[number], place = _read_struct(content, place, depth + 1)
        elif kind == I32:
            fields[number], place = _read_integer(content, place)
        elif kind in (I16, I64):  # like Arrow, skip what no field of interest may be
            _, place = _read_varint(content, place)
        elif kind == BINARY:
            size, place = _read_varint(content, place)
            place += size
        elif kind in (BYTE, DOUBLE):
            place += 1 if kind == BYTE else 8
        elif kind not in (TRUE, FALSE):
            raise ValueError("the header of a page has an unknown field")
    return fields, place + 1


def _read_integer(content: bytes, place: int) -> tuple[int, int]:
    value, place = _read_varint(content, place)
    return (value >> 1) ^ -(value & 1), place  # zigzag


def _read_varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("the header of a page has a number that is too long")
