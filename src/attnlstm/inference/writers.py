"""Predictions to files: CSV, JSON lines or Parquet, one line for each row."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from attnlstm.errors import UserError
from attnlstm.files import replacing


class Writer(Protocol):
    """Takes values by column name, some rows at a time."""

    def __init__(self, file: BinaryIO, columns: dict[str, pa.DataType]) -> None: ...

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, each with a value or None for every column."""

    def close(self) -> None:
        """Write what is left; the file stays open."""


@contextmanager
def open_writer(output: str, columns: dict[str, pa.DataType]) -> Iterator[Writer]:
    """A writer of the format that the ending says; "-" is CSV on standard output.

    The file is written beside its place and moved there at the end, so that it is never half there.

    Args:
        output: where to write.
        columns: their names and types, in order. In CSV, lists are written as JSON.

    Raises:
        UserError: the ending is another one, or the file cannot be written.
    """
    if output == "-":
        try:
            yield _CSVWriter(sys.stdout.buffer, columns)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as `head`, has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    path = Path(output)
    kind = WRITERS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"output={output}: end it in {', '.join(WRITERS)}, or give -")
    with ExitStack() as stack:
        with _naming(output):
            file = stack.enter_context(stack.enter_context(replacing(path)).open("wb"))
        writer = kind(file, columns)
        yield writer
        with _naming(output):
            writer.close()
            stack.close()  # which moves the file to its place


@contextmanager
def _naming(output: str) -> Iterator[None]:
    """Errors of the operating system become the user's, who can choose another file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"output={output} cannot be written ({error.strerror or error}): give a file, in a "
            "folder that exists and that you may write to"
        ) from error


class _CSVWriter:
    def __init__(self, file: BinaryIO, columns: dict[str, pa.DataType]) -> None:
        self.columns = list(columns)
        self.file = file
        self.text = io.StringIO(newline="")
        self.writer = csv.writer(self.text)
        self.writer.writerow(self.columns)

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            self.writer.writerow(
                json.dumps(row[name], ensure_ascii=False)
                if isinstance(row[name], list)
                else row[name]
                for name in self.columns
            )
        self.close()

    def close(self) -> None:
        self.file.write(self.text.getvalue().encode())
        self.text.seek(0)
        self.text.truncate()


class _JSONWriter:
    def __init__(self, file: BinaryIO, columns: dict[str, pa.DataType]) -> None:
        self.columns = list(columns)
        self.file = file

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            line = json.dumps({name: row[name] for name in self.columns}, ensure_ascii=False)
            self.file.write(f"{line}\n".encode())

    def close(self) -> None:
        """Nothing is left to write."""


class _ParquetWriter:
    def __init__(self, file: BinaryIO, columns: dict[str, pa.DataType]) -> None:
        self.schema = pa.schema(list(columns.items()))
        self.writer = pq.ParquetWriter(file, self.schema)

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        self.writer.write_table(pa.Table.from_pylist(list(rows), schema=self.schema))

    def close(self) -> None:
        self.writer.close()


WRITERS: dict[str, type[Writer]] = {
    ".csv": _CSVWriter,
    ".jsonl": _JSONWriter,
    ".parquet": _ParquetWriter,
}


def name_probability(label: str) -> str:
    """The column of a class's probabilities."""
    return f"probability of {label}"
