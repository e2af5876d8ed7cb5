"""Tables in Arrow's formats: Parquet files and the folders that `datasets` saves.

pyarrow is imported where it is needed: a CSV file is not to wait for it.
"""

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attnlstm.data.tables import NOT_UTF8, Record, Table, cannot_read, check_unique, is_saved
from attnlstm.errors import UserError

UNREADABLE = "a value that cannot be read"
UNDECLARED = "a label number without a declared name"


class _ArrowTable(Table):
    """Columns in Arrow batches, whose schema may declare the names of classes."""

    def column_names(self) -> list[str]:
        names = self._schema().names
        if not names:
            raise UserError(f"{self.path} has no columns: choose another file")
        check_unique(self.path, names)
        return names

    def label_names(self, column: str) -> list[str] | None:
        import pyarrow as pa

        schema = self._schema()
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = metadata.get("info", {}).get("features", {}).get(column)
        is_label = isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        # other programs keep this declaration even when they change the column
        is_number = pa.types.is_integer(schema.field(column).type)
        return feature["names"] if is_label and is_number else None

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        names = {column: self.label_names(column) for column in columns}
        number = 0
        for batch in self._batches(columns):
            problems: dict[int, str] = {}
            values = [arrow_values(batch.column(c), names[c], problems) for c in columns]
            for row in range(batch.num_rows):
                if row in problems:
                    yield Record(number, None, problems[row])
                else:
                    read = {c: v[row] for c, v in zip(columns, values, strict=True)}
                    yield Record(number, read)
                number += 1

    @abstractmethod
    def _schema(self) -> Any: ...

    @abstractmethod
    def _batches(self, columns: Sequence[str]) -> Iterator[Any]: ...


def arrow_values(column: Any, names: list[str] | None, problems: dict[int, str]) -> list[Any]:
    """The values of an Arrow array, class numbers by name; adds to `problems` by place."""
    try:
        values = column.to_pylist()
    except ValueError:  # such as bytes that are not UTF-8: find the values at fault
        values = []
        for place, value in enumerate(column):
            try:
                values.append(value.as_py())
            except ValueError as error:
                values.append(None)
                is_text = isinstance(error, UnicodeDecodeError)
                problems[place] = NOT_UTF8 if is_text else UNREADABLE
    if names is None:
        return values
    for place, value in enumerate(values):
        if value is not None and not -1 <= value < len(names):
            problems[place] = UNDECLARED
            values[place] = None
    return [None if value is None or value == -1 else names[value] for value in values]


class ParquetTable(_ArrowTable):
    """A Parquet file, read in small batches and not as a memory map, which counts as memory."""

    def _open(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self.path, memory_map=False, buffer_size=1 << 20)
        except (OSError, pa.ArrowException) as error:
            raise cannot_read(self.path, error) from error

    def _schema(self) -> Any:
        with self._open() as file:
            return file.schema_arrow

    def _batches(self, columns: Sequence[str]) -> Iterator[Any]:
        import pyarrow as pa

        with self._open() as file:
            try:
                yield from file.iter_batches(batch_size=1024, columns=list(columns))
            except (OSError, pa.ArrowException) as error:
                raise cannot_read(self.path, error) from error


class SavedTable(_ArrowTable):
    """A folder written by `Dataset.save_to_disk`: Arrow streams, read a batch at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        splits = path / "dataset_dict.json"
        if splits.is_file():
            folders = [str(path / split) for split in self._read_json(splits).get("splits", [])]
            raise UserError(f"{path} holds several splits: choose one of {', '.join(folders)}")
        if not is_saved(path):
            raise UserError(
                f"{path} is a folder without the state.json of save_to_disk of the datasets "
                f"package: name its files, such as {path / '*.csv'}"
            )
        files = self._read_json(path / "state.json").get("_data_files", [])
        self._files = [path / file["filename"] for file in files]
        if not self._files:
            raise UserError(f"{path / 'state.json'} names no data file: save the folder again")

    def _read_json(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise cannot_read(path, error) from error

    def _open(self, path: Path) -> Any:
        import pyarrow as pa

        try:
            return pa.ipc.open_stream(pa.OSFile(str(path)))
        except (OSError, pa.ArrowException) as error:
            raise cannot_read(path, error) from error

    def _schema(self) -> Any:
        return self._open(self._files[0]).schema

    def _batches(self, columns: Sequence[str]) -> Iterator[Any]:
        import pyarrow as pa

        for path in self._files:
            try:
                yield from self._open(path)
            except (OSError, pa.ArrowException) as error:
                raise cannot_read(path, error) from error
