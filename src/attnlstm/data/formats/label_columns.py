"""Several label columns of a table as one, whose cells hold the values of all."""

from collections.abc import Iterator, Sequence
from typing import Any

from attnlstm.data.formats.table import Record, Table, missing_column
from attnlstm.data.rows import Label
from attnlstm.errors import UserError


def join_labels(
    table: Table, columns: str | Sequence[str] | None, where: str, needs_labels: bool
) -> tuple[Table, str | None]:
    """Return a table with a single label column, and the name of that column.

    Args:
        table: the table.
        columns: `data.label_column`; one column, or None, changes nothing.
        where: what messages call the table.
        needs_labels: otherwise a table that lacks one of the columns is one without labels.

    Raises:
        UserError: a column is missing or named twice.
    """
    if columns is None or isinstance(columns, str):
        return table, columns
    names = table.column_names()
    if len(set(columns)) < len(columns) or not columns:
        raise UserError(
            f"data.label_column=[{','.join(columns)}]: name at least one column, and each once"
        )
    for missing in (column for column in columns if column not in names):
        if not needs_labels:
            return table, None
        description = table.describe_columns()
        raise missing_column(where, missing, names, description, "data.label_column")
    if len(columns) == 1:
        return table, columns[0]
    joined = JoinedLabels(table, columns)
    return joined, joined.joined


class JoinedLabels(Table):
    """A table whose label columns are one column; its name lists theirs."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        super().__init__(table.path)
        self.columns = list(columns)
        self.joined = " + ".join(columns)
        self.has_header = table.has_header
        self.read_as = table.read_as
        self._table = table

    @property
    def doubt(self) -> str | None:  # type: ignore[override]
        return self._table.doubt

    def column_names(self) -> list[str]:
        others = [name for name in self._table.column_names() if name not in self.columns]
        return [*others, self.joined]

    def describe_columns(self) -> str:
        return self._table.describe_columns()

    def read_label(self, cell: Any) -> Label | None:
        """Return the label of each of the columns; None if one is missing."""
        labels = [self._table.read_single_label(item) for item in cell]
        return None if None in labels else tuple(map(str, labels))

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        if self.joined not in columns:
            yield from self._table.records(columns)
            return
        wanted = [name for name in columns if name != self.joined]
        for record in self._table.records([*wanted, *self.columns]):
            values = record.values
            if values is not None:
                labels = tuple(values[name] for name in self.columns)
                values = {name: values[name] for name in wanted} | {self.joined: labels}
            yield record._replace(values=values)
