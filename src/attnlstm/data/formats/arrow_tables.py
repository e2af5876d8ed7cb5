"""Tables in Arrow's formats: Parquet files and the folders that `datasets` saves.

pyarrow is imported where it is needed: a CSV file is not to wait for it.
"""

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from attnlstm.data.formats.table import NOT_UTF8, Record, Table, check_names, register_table
from attnlstm.errors import UserError
from attnlstm.files import cannot_read, is_saved

ROWS_AT_ONCE = 16  # few, as a small file can say that a long text is in each row
LARGEST_COLUMN = 1 << 28  # bytes of a row group's column that has few, long values
LARGEST_FOOTER = 1 << 25  # bytes
LONGEST_VALUE = 1 << 16  # bytes of a value of such a column, on average

UNREADABLE = "a value that cannot be read"
UNREADABLE_ERRORS = (ValueError, OverflowError, LookupError, NotImplementedError)
"""Of bytes that are not UTF-8, dates beyond Python's, and time zones that do not exist."""

UNDECLARED = "a label number without a declared name"


class _ArrowTable(Table):
    """Columns in Arrow batches, whose schema may declare the names of classes."""

    def column_names(self) -> list[str]:
        try:
            names = self._schema().names
        except UnicodeDecodeError as error:
            raise cannot_read(self.path, error) from error
        if not names:
            raise UserError(f"{self.path} has no columns: choose another file")
        check_names(self.path, names)
        return names

    def label_names(self, column: str) -> list[str] | None:
        import pyarrow as pa

        schema = self._schema()
        try:
            metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            feature = metadata["info"]["features"][column]
            names = feature["names"] if feature["_type"] == "ClassLabel" else None
        except (ValueError, KeyError, TypeError, RecursionError):  # no declaration
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return None
        # other programs keep this declaration even when they change the column
        return names if pa.types.is_integer(schema.field(column).type) else None

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        names = {column: self.label_names(column) for column in columns}
        number = 0
        for batch in self._batches(columns):
            problems: dict[int, str] = {}
            try:
                values = [arrow_values(batch.column(c), names[c], problems) for c in columns]
            except MemoryError as error:
                raise cannot_read(self.path, error) from error
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
    except UNREADABLE_ERRORS:  # such as bytes that are not UTF-8: find the values at fault
        values = []
        for place, value in enumerate(column):
            try:
                values.append(value.as_py())
            except UNREADABLE_ERRORS as error:
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


@register_table(".parquet")
def open_parquet(path: Path, _: str | None) -> "ParquetTable":
    return ParquetTable(path)


class ParquetTable(_ArrowTable):
    """A Parquet file, read in small batches and not as a memory map, which counts as memory."""

    def _open(self, source: Any = None) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._check_footer()
            return pq.ParquetFile(source or self.path, memory_map=False, buffer_size=1 << 20)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # the last: of names
            raise cannot_read(self.path, error) from error

    def _schema(self) -> Any:
        with self._open() as file:
            return file.schema_arrow

    def _batches(self, columns: Sequence[str]) -> Iterator[Any]:
        import pyarrow as pa

        self._check_sizes(columns)
        with self._open() as file:
            try:
                yield from file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(columns))
            except (OSError, pa.ArrowException) as error:
                raise cannot_read(self.path, error) from error

    def _check_footer(self) -> None:
        """Arrow takes ten times the memory of the footer, whose size stands at the end."""
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8))
            size, mark = int.from_bytes(file.read(4), "little"), file.read()
        if mark == b"PAR1" and size > LARGEST_FOOTER:
            raise UserError(
                f"{self.path} cannot be read (its list of columns has {size / 2**20:,.0f} MiB): "
                "save fewer columns, in fewer row groups"
            )

    def _check_sizes(self, columns: Sequence[str]) -> None:
        """Refuse values that would fill the memory, as the file itself says."""
        try:
            source = _FooterOnly(self.path)
        except OSError as error:
            raise cannot_read(self.path, error) from error
        with source, self._open(source) as file:
            source.is_read = True
            paths = [file.schema.column(leaf).path for leaf in range(len(file.schema))]
            leaves = [leaf for leaf, path in enumerate(paths) if path.split(".")[0] in columns]
            for number in range(file.num_row_groups):
                if not self._has_pages(file, number, columns):
                    continue
                group = file.metadata.row_group(number)
                for leaf in leaves:
                    chunk = group.column(leaf)
                    size = chunk.total_uncompressed_size
                    if size > LARGEST_COLUMN and size > LONGEST_VALUE * chunk.num_values:
                        raise UserError(
                            f"{self.path} has {size / 2**20:,.0f} MiB in {chunk.num_values:,} "
                            f"values of column {paths[leaf]!r}: save shorter values"
                        )

    def _has_pages(self, file: Any, number: int, columns: Sequence[str]) -> bool:
        """Whether there is something to read in a row group, of whose columns the footer is whole.

        Arrow raises an error of a broken footer when it begins to read, but when it is asked what
        stands there it ends the process.
        """
        import pyarrow as pa

        try:
            rows = file.iter_batches(1, [number], list(columns), use_threads=False)
            return next(rows, None) is not None
        except _PageWanted:
            return True
        except (OSError, pa.ArrowException) as error:
            raise cannot_read(self.path, error) from error


class _FooterOnly(FileIO):
    """A Parquet file that raises a _PageWanted when it is read on after its footer `is_read`."""

    is_read = False

    def read(self, size: int | None = -1) -> bytes:
        if self.is_read:
            raise _PageWanted
        return super().read(size)


class _PageWanted(Exception):  # noqa: N818  # nobody's mistake
    """Something was to be read beyond the footer."""


class SavedTable(_ArrowTable):
    """A folder written by `Dataset.save_to_disk`: Arrow streams, read a batch at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        splits = path / "dataset_dict.json"
        if splits.is_file():
            found = self._read_json(splits).get("splits")
            names = [str(path / str(name)) for name in found] if isinstance(found, list) else []
            raise UserError(f"{path} holds several splits: choose one of {', '.join(names[:20])}")
        if not is_saved(path):
            raise UserError(
                f"{path} is a folder without the state.json of save_to_disk of the datasets "
                f"package: name its files, such as {path / '*.csv'}"
            )
        files = self._read_json(path / "state.json").get("_data_files")
        names = [
            str(file.get("filename")) if isinstance(file, dict) else ""
            for file in (files if isinstance(files, list) else [])
        ]
        # only files of this folder: a name with slashes could lead anywhere
        self._files = [path / name for name in names if _is_plain(name)]
        if not self._files or len(self._files) < len(names):
            raise UserError(
                f"{path / 'state.json'} names no data file of this folder: save the folder again"
            )

    def _read_json(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise cannot_read(path, error) from error
        if not isinstance(found, dict):
            raise UserError(f"{path} is not of save_to_disk: save the folder again")
        return found

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
                for batch in self._open(path):
                    for column in columns:
                        _check_array(self._column(batch, column))
                    for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                        yield batch.slice(start, ROWS_AT_ONCE)
            except (OSError, pa.ArrowException) as error:
                raise cannot_read(path, error) from error

    def _column(self, batch: Any, name: str) -> Any:
        try:
            return batch.column(name)
        except KeyError as error:  # Arrow has more types than pyarrow, such as intervals of months
            raise UserError(
                f"{self.path} has column {name!r} in a type that cannot be read: save it as text "
                "or as numbers"
            ) from error


def _check_array(array: Any) -> None:
    """Raise an ArrowInvalid if the array would read beyond its buffers: Arrow trusts a stream."""
    import pyarrow as pa

    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):  # which is looked at after the offsets, and told row by row
            raise


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")
