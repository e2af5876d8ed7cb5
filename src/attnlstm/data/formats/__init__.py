"""How files become records or series: one module per kind of file, found by `opening`."""

from collections.abc import Callable
from typing import TypeVar

Reader = TypeVar("Reader", bound=type)

READERS: dict[str, type] = {}
"""By the ending of a file's name, a subclass of `Table` or of `SeriesFile`."""


def register_reader(*endings: str) -> Callable[[Reader], Reader]:
    """Register the class below as the reader of files with these endings.

    @register_reader(".ini")
    class IniTable(Table): ...
    """

    def register(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(endings, reader))
        return reader

    return register
