"""Tables in the terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table


def print_metrics(title: str, metrics: Mapping[str, float]) -> None:
    """One row per metric."""
    table = Table(title=title)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in sorted(metrics.items()):
        table.add_row(name, f"{value:.4f}")
    Console().print(table)


def print_rows(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table whose first column holds names and whose others hold numbers."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
