"""Texts in files: a column of a table with a column of labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from attnlstm.config.data import Delimiter, TextColumns, TextConfig
from attnlstm.config.schema import register_source
from attnlstm.data.rows import Row, RowSource, name_columns
from attnlstm.data.sources.source import TRAIN, FileSource
from attnlstm.files import file_fingerprint, fingerprint_of


@register_source
class TextFilesSource(FileSource, TextColumns, Delimiter, TextConfig):
    """Tables of texts: CSV, TSV, JSON lines, Parquet, folders saved by datasets."""

    source: Literal["text_files"] = "text_files"

    def open_files(self, files: Sequence[Path], key: str, needs_labels: bool = True) -> RowSource:
        return TextFiles(
            files,
            key=key,
            text_column=self.text_column,
            label_column=self.label_column,
            delimiter=self.delimiter,
            needs_labels=needs_labels,
            group_column=self.group_column,
        )


class TextFiles(RowSource):
    """The texts and labels of several tables.

    Args:
        files: at least one.
        key: the setting that names the files, for messages, such as "data.train".
        text_column, label_column: None takes the only column with a usual name.
        delimiter: of CSV and TSV files.
        needs_labels: if False, a file without a label column has rows without labels.
        group_column: the groups, which only training files must have.

    Raises:
        UserError: a file is not a table, or a column is missing or cannot be guessed.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        key: str,
        text_column: str | None = None,
        label_column: str | None = None,
        delimiter: str | None = None,
        needs_labels: bool = True,
        group_column: str | None = None,
    ) -> None:
        from attnlstm.data.formats.columns import find_text_columns
        from attnlstm.data.formats.opening import open_table

        self._tables = [open_table(file, delimiter) for file in files]
        first, others = files[0], len(files) - 1
        self.name = first.name + f" and {others} more" * (others > 0)
        columns = self._tables[0].column_names()
        if key != TRAIN and group_column not in columns:
            group_column = None
        self.group_column = group_column
        self.text_column, self.label_column = find_text_columns(
            columns,
            f"{key}={first}",
            self._tables[0].describe_columns,
            text_column,
            label_column,
            needs_labels,
            group_column,
        )
        self.columns_used = name_columns(
            text=self.text_column, label=self.label_column, group=group_column
        )
        for table in self._tables:
            table.check_columns([self.text_column, *filter(None, [group_column])])
            if needs_labels and self.label_column is not None:
                table.check_columns([self.label_column])
        self.label_names = self._declared_names()

    def __iter__(self) -> Iterator[Row]:
        from attnlstm.data.formats.texts import to_row

        counts = Counter(table.path.name for table in self._tables)
        for table in self._tables:
            path = table.path
            file = path.name if counts[path.name] == 1 else str(path)
            label_column = self._label_column_of(table.column_names())
            columns = [self.text_column, *filter(None, [label_column, self.group_column])]
            for record in table.records(columns):
                yield to_row(
                    *(file, record, self.text_column, label_column),
                    read_label=table.read_label,
                    group_column=self.group_column,
                )

    def fingerprint(self) -> str:
        files = [file_fingerprint(table.path) for table in self._tables]
        delimiters = [getattr(table, "delimiter", None) for table in self._tables]
        return fingerprint_of([*files, delimiters, self.text_column, self.label_column])

    def _label_column_of(self, columns: Sequence[str]) -> str | None:
        return self.label_column if self.label_column in columns else None

    def _declared_names(self) -> list[str] | None:
        declared = []
        for table in self._tables:
            column = self._label_column_of(table.column_names())
            declared.append(table.label_names(column) if column else None)
        return declared[0] if all(names == declared[0] for names in declared) else None
