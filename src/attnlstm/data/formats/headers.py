"""Whether the first record of a table names its columns."""

import re
from collections.abc import Sequence
from itertools import pairwise

from attnlstm.data.formats.column_names import is_usual

NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*", re.ASCII)

Fields = Sequence[str]


def has_header(records: Sequence[Fields]) -> bool:
    """Return whether the first of some records is a header.

    It is none only where that is plain: it holds a number where all other records hold one, or a
    word that comes again in the same column, such as a label. A column with a usual name, or
    numbers that ascend, as pandas numbers columns, speak for a header.
    """
    first, *others = records
    others = [fields for fields in others if len(fields) == len(first) and fields != first]
    if not others:
        return True
    columns = list(zip(first, zip(*others, strict=True), strict=True))
    repeated = [name for name, values in columns if name.strip() and name in values]
    if any(is_usual(name) for name, _ in columns if name not in repeated):
        return True
    if any(not _is_number(name) for name in repeated):
        return False
    numbers = [
        float(name.replace(",", "."))
        for name, values in columns
        if _is_number(name) and all(_is_number(value) or not value.strip() for value in values)
    ]
    is_ascending = all(one < other for one, other in pairwise(numbers))
    return not numbers or (is_ascending and len(numbers) > 1)


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None
