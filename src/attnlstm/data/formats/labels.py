"""From a value in a file to the name of a class."""

import math
from typing import Any

BAD_LABEL = "label is not a string, integer or boolean"


class RowProblemError(Exception):
    """A row that cannot be used; the message is the `problem` of the `Row`."""


def read_label(value: Any) -> str | None:
    """Return a label as text: 1 and 1.0 as "1", True as "True", and None for a missing one.

    None, NaN and blank strings are missing. An integral float counts as an integer because a
    column of integers with gaps is often saved as floats.

    Raises:
        RowProblemError: the value is not a string, integer or boolean.
    """
    if isinstance(value, str):
        return value.strip() or None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    raise RowProblemError(BAD_LABEL)


def read_name(value: Any) -> str | None:
    """Return an id or a group as text: as a label, or as Python writes it, such as a date."""
    try:
        return read_label(value)
    except RowProblemError:
        return str(value)
