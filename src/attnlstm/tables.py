"""Tables in the terminal."""

from collections.abc import Mapping, Sequence
from math import isfinite, isnan, nan
from statistics import mean, stdev

from attnlstm.console import printable, shorten


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
    from rich.console import (
        Console,
    )  # not at the top: a mistyped command line is not to wait for it
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
