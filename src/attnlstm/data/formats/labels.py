"""From a value in a file to a label."""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from attnlstm.data.rows import Label

BAD_LABEL = "label is not a string, number or boolean"

WHOLE_NUMBER = re.compile(r"([+-]?(?:0|[1-9]\d*))\.0+", re.ASCII)
"""Such as 1.0, which is how a column of integers with gaps is often saved."""

COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+", re.ASCII)

UNTYPED = {"": None, "nan": None, "true": "True", "false": "False"}

LONGEST_NUMBER = 4300  # digits that Python makes an integer of


class RowProblemError(Exception):
    """A row that cannot be used; the message is the `problem` of the `Row`."""


def read_label(value: Any) -> str | None:
    """Return a label as text: 1 and 1.0 as "1", 0.5 as "0.5", True as "True", None if missing.

    None, NaN and blank strings are missing. An integral float counts as an integer because a
    column of integers with gaps is often saved as floats.

    Raises:
        RowProblemError: the value is not a string, a finite number or a boolean.
    """
    if isinstance(value, str):
        return value.strip() or None
    if value is None or value != value:
        return None
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(float(value))
    raise RowProblemError(BAD_LABEL)


def read_cell(
    cell: Any,
    read_single: Callable[[Any], str | None] = read_label,
    separator: str | None = None,
) -> Label | None:
    """Return a cell as a label: a list of labels, or a text with a separator, as a tuple.

    Labels that come twice count once. An empty list or, with a separator, an empty text is a row
    without any class; only None is missing.

    Raises:
        RowProblemError: the cell, or an item of it, is no label.
    """
    if separator is not None and isinstance(cell, str):
        cell = [part for part in cell.split(separator) if part.strip()]
    if not isinstance(cell, list | tuple):
        return read_single(cell)
    labels = [read_single(item) for item in cell]
    if None in labels:
        raise RowProblemError("a missing label among several")
    return tuple(dict.fromkeys(label for label in labels if label is not None))


def read_name(value: Any) -> str | None:
    """Return an id or a group as text: as a label, or as Python writes it, such as a date."""
    try:
        return read_label(value)
    except RowProblemError:
        return str(value)


def read_untyped_label(cell: str, has_decimal_comma: bool = False) -> str | None:
    """Return a label as `read_label` would if the file had types, which a CSV file has not.

    "1.0" is "1" as it is in Parquet, "true" is "True", and "NaN" is missing. Digits that make a
    difference stay: "1.10" may be another version than "1.1".
    """
    text = cell.strip()
    if has_decimal_comma and COMMA_NUMBER.fullmatch(text):
        text = text.replace(",", ".")
    if text.endswith("0") and (found := WHOLE_NUMBER.fullmatch(text)):
        return str(int(found[1])) if len(found[1]) < LONGEST_NUMBER else text
    return UNTYPED.get(text.lower(), text)
