"""Printed tables, and names from data made harmless for a terminal or a page."""

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite, isnan, nan
from statistics import mean, stdev

from attnlstm.errors import UserError

SHOWN = 60  # characters of a name in a message
LISTED = 20  # names in a message

_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
_PRINTABLE = str.maketrans(_PICTURES | {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD))
_SURROGATE = re.compile("[\ud800-\udfff]")
_DIRECTION = re.compile("[\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def without_controls(text: str) -> str:
    """Replace control characters except tabs and line feeds by pictures, such as ␛ for ESC.

    Those of Latin-1 and unpaired surrogates become �. The length stays the same.
    """
    return _SURROGATE.sub("\ufffd", text.translate(_PRINTABLE))


def printable(text: str) -> str:
    """Replace control characters, and by � also those that change the writing direction."""
    return _DIRECTION.sub("\ufffd", without_controls(text))


def shorten(text: str, length: int = SHOWN) -> str:
    """Cut a text from a file to at most `length` characters, for a message."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def enumerate_names(names: Sequence[str]) -> str:
    """List names from a file in a message: quoted, shortened, and only the first 20."""
    listed = ", ".join(repr(shorten(name)) for name in names[:LISTED])
    return f"{listed} and {len(names) - LISTED:,} more" if len(names) > LISTED else listed


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as "1 epoch" or "2 epochs"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


class PrintableFormatter(logging.Formatter):
    """Formats log lines without characters that control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextmanager
def printing() -> Iterator[None]:
    """Flush standard output at the end, and say in a UserError why it cannot be written.

    It is no error if the reader of a pipe, such as `head`, has stopped reading.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # otherwise Python would try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UserError(
                f"standard output cannot be written ({error.strerror}): give it another place"
            ) from error


def print_metrics(title: str, metrics: Mapping[str, float]) -> None:
    """Print one row per metric, with a dash for NaN."""
    rows = [[name, _show(value)] for name, value in sorted(metrics.items())]
    print_table(title, ["metric", "value"], rows)


def print_means(runs: Sequence[Mapping[str, float]]) -> None:
    """Print the mean and sample standard deviation of each metric; dashes if a run has NaN."""
    rows = []
    for name in sorted(runs[0]):
        values = [run[name] for run in runs]
        summary = (mean(values), stdev(values)) if all(map(isfinite, values)) else (nan, nan)
        rows.append([name, *map(_show, summary)])
    print_table(f"{len(runs)} runs", ["metric", "mean", "standard deviation"], rows)


def _show(value: float) -> str:
    if isnan(value):
        return "-"
    # The errors of a regression have the units of the data, and can be of any size.
    return f"{value:.4f}" if 1e-4 <= abs(value) < 1e8 or not value else f"{value:.4g}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with names in the first column and numbers in the others.

    Names may come from anywhere: they are shortened, and markup in them is not interpreted.
    """
    # Not at the top: a mistyped command line should not wait for it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(printable(" ".join(shorten(cell).split("\n")))) for cell in row))
    console = Console()
    with printing():
        console.print(f"\n{printable(title)}", highlight=False, markup=False)
        console.print(table)
