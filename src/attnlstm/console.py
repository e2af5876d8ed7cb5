"""Texts from files, such as labels and names of columns, made fit for a terminal or a page."""

import logging
import re
from collections.abc import Sequence

SHOWN = 60  # characters of a name in a message
LISTED = 20  # names in a message

_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
_PRINTABLE = str.maketrans(_PICTURES | {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD))
_SURROGATE = re.compile("[\ud800-\udfff]")
_DIRECTION = re.compile("[\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def without_controls(text: str) -> str:
    """The text with a picture for each control character (␛ for ESC) but tabs and line feeds.

    Those of Latin-1, and half surrogate pairs, become �. The length stays the same.
    """
    return _SURROGATE.sub("\ufffd", text.translate(_PRINTABLE))


def printable(text: str) -> str:
    """`without_controls`, and with � for what turns the direction of writing in a terminal."""
    return _DIRECTION.sub("\ufffd", without_controls(text))


def shorten(text: str, length: int = SHOWN) -> str:
    """At most so many characters of a text from a file, for a message."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def enumerate_names(names: Sequence[str]) -> str:
    """Names from a file in a message: quoted, shortened, and the first of them only."""
    listed = ", ".join(repr(shorten(name)) for name in names[:LISTED])
    return f"{listed} and {len(names) - LISTED:,} more" if len(names) > LISTED else listed


class PrintableFormatter(logging.Formatter):
    """Log lines in which nothing steers the terminal that shows them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
