"""What is printed: tables, and names from data made harmless for a terminal or a page."""

import logging
import re
from collections.abc import Mapping, Sequence
from math import isfinite, isnan, nan
from statistics import mean, stdev

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
    """The first `length` characters of a text from a file, for a message."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def enumerate_names(names: Sequence[str]) -> str:
    """Names from a file in a message: quoted, shortened, and the first of them only."""
    listed = ", ".join(repr(shorten(name)) for name in names[:LISTED])
    return f"{listed} and {len(names) - LISTED:,} more" if len(names) > LISTED else listed


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as "1 epoch" or "2 epochs"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


class PrintableFormatter(logging.Formatter):
    """Log lines in which nothing steers the terminal that shows them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def print_metrics(title: str, metrics: Mapping[str, float]) -> None:
    """One row per metric; NaN, that is none, is shown as a dash."""
    rows = [[name, _show(value)] for name, value in sorted(metrics.items())]
    print_table(title, ["metric", "value"], rows)


def print_means(runs: Sequence[Mapping[str, float]]) -> None:
    """Mean and sample standard deviation of each metric over several runs.

    They are dashes where a run has no value, that is NaN.
    """
    rows = []
    for name in sorted(runs[0]):
        values = [run[name] for run in runs]
        is_complete = all(map(isfinite, values))
        summary = (mean(values), stdev(values)) if is_complete else (nan, nan)
        rows.append([name, *map(_show, summary)])
    print_table(f"{len(runs)} runs", ["metric", "mean", "standard deviation"], rows)


def _show(value: float) -> str:
    return "-" if isnan(value) else f"{value:.4f}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column holds names and whose others hold numbers.

    Names may come from anywhere: markup in them is not followed, and of long ones the beginning is
    shown.
    """
    # not at the top: a mistyped command line is not to wait for it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(printable(" ".join(shorten(cell).split("\n")))) for cell in row))
    console = Console()
    console.print(f"\n{printable(title)}", highlight=False, markup=False)
    console.print(table)
