"""Tables in Arrow's formats: Parquet files and the folders that `datasets` saves.

pyarrow is imported where it is used, so that reading a CSV file does not wait for it.
"""

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from io import FileIO
from pathlib import Path
from typing import Any, Unpack

from attnlstm.data.formats import register_reader
from attnlstm.data.formats.lines import NOT_UTF8
from attnlstm.data.formats.table import FormatOptions, Record, Table, check_names
from attnlstm.errors import UserError
from attnlstm.files import is_saved, reading

ROWS_AT_ONCE = 16  # few, because a small file can claim a long text in each row
LARGEST_COLUMN = 1 << 28  # bytes of a column in one row group, if its values are long
LARGEST_FOOTER = 1 << 25  # bytes
LONGEST_VALUE = 1 << 16  # bytes of a value in such a column, on average

LISTS = ("List", "LargeList", "Sequence")  # the types of `datasets` that may hold class numbers

UNREADABLE_ERRORS = (
    ValueError,  # bytes that are not UTF-8, time zones without zoneinfo, structs with a field twice
    OverflowError,  # dates and durations beyond Python's
    LookupError,  # unknown time zones where pytz is installed, numbers beyond a dictionary
)
"""What pyarrow raises for a value that it cannot give to Python."""


class _ArrowTable(Table):
    """Columns in Arrow batches, whose schema may declare the names of classes."""

    def column_names(self) -> list[str]:
        with _reading(self.path):
            names = self._schema().names
        if not names:
            raise UserError(f"{self.path} has no columns: choose another file")
        check_names(self.path, names)
        return names

    def label_names(self, column: str) -> list[str] | None:
        import pyarrow as pa

        schema = self._schema()
        try:
            metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            feature, kind = metadata["info"]["features"][column], schema.field(column).type
            if feature["_type"] in LISTS:
                feature, kind = feature["feature"], kind.value_type
            names = feature["names"] if feature["_type"] == "ClassLabel" else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # none declared
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return None
        # other programs keep the declaration even if they change the type of the column
        return names if pa.types.is_integer(kind) else None

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        names = {column: self.label_names(column) for column in columns}
        with _reading(self.path):
            yield from read_batches(self._batches(columns), names)

    @abstractmethod
    def _schema(self) -> Any: ...

    @abstractmethod
    def _batches(self, columns: Sequence[str]) -> Iterator[Any]: ...


def read_batches(
    batches: Iterable[Any], columns: Mapping[str, list[str] | None]
) -> Iterator[Record]:
    """Yield the rows of Arrow tables or batches.

    columns: the columns to read, and for a column of class numbers the names of the classes.
    """
    number = 0
    for batch in batches:
        problems: dict[int, str] = {}
        values = [_read(batch.column(name), classes, problems) for name, classes in columns.items()]
        for place, row in enumerate(zip(*values, strict=True)):
            problem = problems.get(place)
            yield Record(number, None if problem else dict(zip(columns, row, strict=True)), problem)
            number += 1


def _read(column: Any, names: list[str] | None, problems: dict[int, str]) -> list[Any]:
    """Return the values of an Arrow array, class numbers by name; add to `problems` by place."""
    try:
        values = column.to_pylist()
    except UNREADABLE_ERRORS:  # find the values at fault
        values = []
        for place, value in enumerate(column):
            try:
                values.append(value.as_py())
            except UNREADABLE_ERRORS as error:
                values.append(None)
                is_text = isinstance(error, UnicodeDecodeError)
                problems[place] = NOT_UTF8 if is_text else "a value that cannot be read"
    if names is None:
        return values
    named: list[Any] = []
    for place, value in enumerate(values):
        numbers = value if isinstance(value, list) else [value]
        if not all(number is None or -1 <= number < len(names) for number in numbers):
            problems[place] = "a label number without a declared name"
            numbers = [None]
        labels = [None if number in (None, -1) else names[number] for number in numbers]
        named.append(labels if isinstance(value, list) else labels[0])
    return named


@register_reader(".parquet")
class ParquetTable(_ArrowTable):
    """A Parquet file, read in small batches, without a memory map, which would count as memory."""

    def _open(self, source: Any = None) -> Any:
        import pyarrow.parquet as pq

        with _reading(self.path):
            self._check_footer()
            return pq.ParquetFile(source or self.path, memory_map=False, buffer_size=1 << 20)

    def _schema(self) -> Any:
        with self._open() as file:
            return file.schema_arrow

    def _batches(self, columns: Sequence[str]) -> Iterator[Any]:
        self._check_sizes(columns)
        with self._open() as file:
            yield from file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(columns))

    def _check_footer(self) -> None:
        """Refuse a large footer: Arrow needs ten times its size, which stands at the end."""
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8))
            size, mark = int.from_bytes(file.read(4), "little"), file.read()
        if mark == b"PAR1" and size > LARGEST_FOOTER:
            raise UserError(
                f"{self.path} cannot be read (its list of columns has {size / 2**20:,.0f} MiB): "
                "save fewer columns, in fewer row groups"
            )

    def _check_sizes(self, columns: Sequence[str]) -> None:
        """Refuse values that would fill the memory, by the sizes that the file declares."""
        with _FooterOnly(self.path) as source, self._open(source) as file:
            source.is_read = True
            paths = [file.schema.column(leaf).path for leaf in range(len(file.schema))]
            leaves = [leaf for leaf, path in enumerate(paths) if path.split(".")[0] in columns]
            for number in range(file.num_row_groups):
                if not _has_pages(file, number, columns):
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


def _has_pages(file: Any, number: int, columns: Sequence[str]) -> bool:
    """Return whether a row group of a `_FooterOnly` file has anything to read.

    If its footer is broken, Arrow raises an error when it starts to read, but would end the
    process if it were asked for the metadata of the columns.
    """
    try:
        rows = file.iter_batches(1, [number], list(columns), use_threads=False)
        return next(rows, None) is not None
    except _PageWanted:
        return True


class _FooterOnly(FileIO):
    """A Parquet file that raises a _PageWanted if it is read again once its footer `is_read`."""

    is_read = False

    def read(self, size: int | None = -1) -> bytes:
        if self.is_read:
            raise _PageWanted
        return super().read(size)


class _PageWanted(Exception):  # noqa: N818 - it is not an error
    """Something beyond the footer is to be read."""


class SavedTable(_ArrowTable):
    """A folder written by `Dataset.save_to_disk`: Arrow streams, read a batch at a time."""

    def __init__(self, path: Path, **options: Unpack[FormatOptions]) -> None:
        super().__init__(path, **options)
        splits = path / "dataset_dict.json"
        if splits.is_file():
            found = _read_json(splits).get("splits")
            names = [str(path / str(name)) for name in found] if isinstance(found, list) else []
            raise UserError(f"{path} holds several splits: choose one of {', '.join(names[:20])}")
        if not is_saved(path):
            raise UserError(
                f"{path} is a folder without the state.json of save_to_disk of the datasets "
                f"package, and without .txt files: name its files, such as {path / '*.csv'}"
            )
        files = _read_json(path / "state.json").get("_data_files")
        names = [
            str(file.get("filename")) if isinstance(file, dict) else ""
            for file in (files if isinstance(files, list) else [])
        ]
        # only files in this folder: a name with slashes could lead anywhere
        self._files = [path / name for name in names if _is_plain(name)]
        if not self._files or len(self._files) < len(names):
            raise UserError(
                f"{path / 'state.json'} names no data file of this folder: save the folder again"
            )

    def _schema(self) -> Any:
        with _reading(self._files[0]):
            return _open_stream(self._files[0]).schema

    def _batches(self, columns: Sequence[str]) -> Iterator[Any]:
        for path in self._files:
            with _reading(path):
                for batch in _open_stream(path):
                    for column in columns:
                        self._check(batch, column)
                    for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                        yield batch.slice(start, ROWS_AT_ONCE)

    def _check(self, batch: Any, name: str) -> None:
        """Raise an ArrowInvalid for a column that would read beyond its buffers.

        Arrow trusts the offsets in a stream.
        """
        import pyarrow as pa

        try:
            batch.column(name).validate(full=True)
        except KeyError as error:  # a type that pyarrow lacks, such as intervals of months
            raise UserError(
                f"{self.path} has column {name!r} in a type that cannot be read: save it as text "
                "or as numbers"
            ) from error
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):  # checked after the offsets, and reported row by row
                raise


def _open_stream(path: Path) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(pa.OSFile(str(path)))


def _read_json(path: Path) -> dict[str, Any]:
    with reading(path, ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise UserError(f"{path} was not written by save_to_disk: save the folder again")
    return found


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _reading(path: Path) -> AbstractContextManager[None]:
    """Turn an error of pyarrow's into a UserError about the file."""
    import pyarrow as pa

    return reading(path, pa.ArrowException, UnicodeDecodeError, MemoryError)
