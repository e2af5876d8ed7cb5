"""Texts in files: a column of a table with a column of labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

from attnlstm.config.data import TableFormat, TextColumns, TextConfig
from attnlstm.config.schema import register_source
from attnlstm.data.rows import Row, RowSource, join_descriptions, name_columns
from attnlstm.data.sources.source import TRAIN, FileSource
from attnlstm.files import file_fingerprint, fingerprint_of

if TYPE_CHECKING:
    from attnlstm.data.formats.table import FormatOptions


@register_source
class TextFilesSource(FileSource, TextColumns, TableFormat, TextConfig):
    """Tables of texts: CSV, TSV, JSON, Parquet, Excel, folders of .txt files or of datasets."""

    source: Literal["text_files"] = "text_files"

    def open_files(self, files: Sequence[Path], key: str, needs_labels: bool = True) -> RowSource:
        return TextFiles(
            files,
            key=key,
            text_column=self.text_column,
            label_column=self.label_column,
            needs_labels=needs_labels,
            group_column=self.group_column,
            label_separator=self.label_separator,
            **self.format_options(),
        )


class TextFiles(RowSource):
    """The texts and labels of several tables.

    Args:
        files: at least one.
        key: the setting that names the files, for messages, such as "data.train".
        text_column: one column, or several whose texts are joined; None takes the only column with
            a usual name, or in a table without a header the one that plainly has texts.
        label_column: one column, or several with a value each; None takes the only column with a
            usual name, and so on.
        needs_labels: if False, a file without a label column has rows without labels.
        group_column: the groups, which only training files must have.
        options: how the files are written, as `open_table` takes them.

    Raises:
        UserError: a file is not a table, or a column is missing or cannot be guessed.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        key: str,
        text_column: str | Sequence[str] | None = None,
        label_column: str | Sequence[str] | None = None,
        needs_labels: bool = True,
        group_column: str | None = None,
        **options: Unpack["FormatOptions"],
    ) -> None:
        from attnlstm.data.formats.columns import find_text_columns, guess_text_columns
        from attnlstm.data.formats.label_columns import JoinedLabels, join_labels
        from attnlstm.data.formats.opening import open_table

        joined = [
            join_labels(open_table(file, **options), label_column, f"{key}={file}", needs_labels)
            for file in files
        ]
        self._tables = [table for table, _ in joined]
        label = joined[0][1]
        if isinstance(self._tables[0], JoinedLabels):
            self.target_names = self._tables[0].columns
        first, others = files[0], len(files) - 1
        self.name = first.name + f" and {others} more" * (others > 0)
        table = self._tables[0]
        columns = table.column_names()
        if key != TRAIN and group_column not in columns:
            group_column = None
        self.group_column = group_column
        if not table.has_header and text_column is None and label is None:
            text_column, label = guess_text_columns(table, needs_labels) or (None, None)
        self.text_columns, self.label_column = find_text_columns(
            columns,
            f"{key}={first}",
            table.describe_columns,
            text_column,
            label,
            needs_labels,
            group_column,
        )
        self.columns_used = name_columns(
            text=" + ".join(self.text_columns), label=self.label_column, group=group_column
        )
        for table in self._tables:
            table.check_columns([*self.text_columns, *filter(None, [group_column])])
            if needs_labels and self.label_column is not None:
                table.check_columns([self.label_column])
        self.label_names = self._declared_names()
        self.read_as = join_descriptions(table.read_as for table in self._tables)
        self._label_separator = options.get("label_separator")
        self._kept: list[str] = []

    def __iter__(self) -> Iterator[Row]:
        from attnlstm.data.formats.texts import show_value, to_row

        counts = Counter(table.path.name for table in self._tables)
        for table in self._tables:
            path = table.path
            file = path.name if counts[path.name] == 1 else str(path)
            label_column = self._label_column_of(table.column_names())
            known = table.column_names()
            columns = [*self.text_columns, *filter(None, [label_column, self.group_column])]
            columns += [name for name in self._kept if name in known]
            try:
                for record in table.records(list(dict.fromkeys(columns))):
                    row = to_row(
                        *(file, record, self.text_columns, label_column),
                        read_label=table.read_label,
                        group_column=self.group_column,
                    )
                    if self._kept and record.values is not None:
                        values = [show_value(record.values.get(name)) for name in self._kept]
                        row = row._replace(kept=tuple(values))
                    yield row
            finally:
                self.doubt = self.doubt or table.doubt

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
        written = [table.read_as for table in self._tables]
        read = [self.text_columns, self.label_column, *filter(None, [self._label_separator])]
        return fingerprint_of([*files, written, *read])

    def _label_column_of(self, columns: Sequence[str]) -> str | None:
        return self.label_column if self.label_column in columns else None

    def _declared_names(self) -> list[str] | None:
        declared = []
        for table in self._tables:
            column = self._label_column_of(table.column_names())
            declared.append(table.label_names(column) if column else None)
        return declared[0] if all(names == declared[0] for names in declared) else None
