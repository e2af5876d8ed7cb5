"""What tables of series share, whether a record is a step or a series."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from attnlstm.console import enumerate_names
from attnlstm.data.formats.columns import InspectedTable
from attnlstm.data.formats.label_columns import JoinedLabels
from attnlstm.data.formats.layouts import Layout
from attnlstm.data.rows import RowSource
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint


class SeriesTable(RowSource):
    """The series of one table.

    Args:
        inspected: the table.
        name: what rows and messages call the file.
        layout: whether a record is a step or a series, and why.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """

    columns: Any

    def __init__(self, inspected: InspectedTable, name: str, layout: Layout) -> None:
        self.name = name
        self._series = inspected.series
        self._where = inspected.where
        self._table = inspected.table
        self._separator = inspected.options.get("label_separator")
        self.read_as = self._table.read_as
        self._find_columns(inspected, layout)
        if isinstance(self._table, JoinedLabels):
            self.target_names = self._table.columns
        if self.columns.label is not None:
            self.label_names = self._table.label_names(self.columns.label)

    @property
    def table_doubt(self) -> str | None:
        """What looks wrong with how the file is written; shows while it is read."""
        return self._table.doubt

    def fingerprint(self) -> str:
        content = file_fingerprint(self._table.path)
        read = (content, self._table.read_as, self.columns, *filter(None, [self._separator]))
        return hashlib.sha256(repr(read).encode()).hexdigest()

    def adopt_channels(self, first: "SeriesTable") -> None:
        """Read the channels in the order of another table, which must have the same channels."""
        ours, theirs = self._channels(), first._channels()
        if odd := sorted(set(ours) ^ set(theirs)):
            raise UserError(
                f"{self._where} and {first.name} do not have the same channels, only one has "
                f"{enumerate_names(odd)}: give files with the same columns, or name the "
                "channels with data.channel_columns"
            )
        self._set_channels(theirs)

    @abstractmethod
    def _find_columns(self, inspected: InspectedTable, layout: Layout) -> None:
        """Set `columns`, which has a `label`, and the attributes of the source."""

    @abstractmethod
    def _channels(self) -> list[str]:
        """Return the names of the channels in their order."""

    @abstractmethod
    def _set_channels(self, names: Sequence[str]) -> None:
        """Bring the channels into another order."""
