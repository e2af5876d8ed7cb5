"""Texts in files: a column of a table with a column of labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from attnlstm.config.data import Delimiter, TextColumns, TextConfig
from attnlstm.config.schema import register_source
from attnlstm.data.rows import Row, RowSource, name_columns
from attnlstm.data.sources.source import FileSource
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
        )


class TextFiles(RowSource):
    """The texts and labels of several tables.

    Args:
        files: at least one.
        key: the setting that names the files, for messages, such as "data.train".
        text_column, label_column: None takes the only column with a usual name.
        delimiter: of CSV and TSV files.
        needs_labels: if False, a file without a label column has rows without labels.

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
    ) -> None:
        from attnlstm.data.formats.columns import find_text_columns
        from attnlstm.data.formats.opening import open_table

        self._tables = [open_table(file, delimiter) for file in files]
        first, others = files[0], len(files) - 1
        self.name = first.name + f" and {others} more" * (others > 0)
        self.text_column, self.label_column = find_text_columns(
            self._tables[0].column_names(),
            f"{key}={first}",
            self._tables[0].describe_columns,
            text_column,
            label_column,
            needs_labels,
        )
        self.columns_used = name_columns(text=self.text_column, label=self.label_column)
        for table in self._tables:
            table.check_columns([self.text_column])
            if needs_labels and self.label_column is not None:
                table.check_columns([self.label_column])
        self.label_names = self._declared_names()
        self._kept: list[str] = []

    def __iter__(self) -> Iterator[Row]:
        from attnlstm.data.formats.texts import show_value, to_row

        counts = Counter(table.path.name for table in self._tables)
        for table in self._tables:
            path = table.path
            file = path.name if counts[path.name] == 1 else str(path)
            label_column = self._label_column_of(table.column_names())
            known = table.column_names()
            columns = [self.text_column, label_column] if label_column else [self.text_column]
            columns += [name for name in self._kept if name in known]
            for record in table.records(list(dict.fromkeys(columns))):
                row = to_row(file, record, self.text_column, label_column, table.read_label)
                if self._kept and record.values is not None:
                    values = [show_value(record.values.get(name)) for name in self._kept]
                    row = replace(row, kept=tuple(values))
                yield row

    def keep_columns(self, wanted: Sequence[str] | None) -> list[str]:
        if wanted is None:
            names = dict.fromkeys(name for table in self._tables for name in table.column_names())
            wanted = [name for name in names if name != self.label_column]
        else:
            for table in self._tables:
                table.check_columns(wanted)
        self._kept = list(wanted)
        return self._kept

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
