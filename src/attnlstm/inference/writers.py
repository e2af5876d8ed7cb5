"""Write predictions to a CSV, JSON lines or Parquet file, one record per row."""

import codecs
import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from attnlstm.console import printing
from attnlstm.errors import UserError
from attnlstm.files import replacing, writing

Columns = Mapping[str, pa.DataType]
"""The names and types of the columns, in order."""

Write = Callable[[Sequence[Mapping[str, Any]]], Any]
"""Writes some rows, each a mapping from column names to values; a missing value is None."""


@contextmanager
def open_writer(output: str, columns: Columns) -> Iterator[Write]:
    """Open a file in the format given by its extension; "-" is CSV on standard output.

    The file is written under a temporary name and moved into place at the end, so that an
    incomplete one is never visible.

    Args:
        output: the path, or "-".
        columns: in CSV, lists are written as JSON.

    Raises:
        UserError: the extension is unknown, or the file cannot be written.
    """
    if output == "-":
        if sys.stdout is None:
            raise UserError("output=- cannot be written: standard output is closed; give a file")
        with printing(), _write_csv(sys.stdout.buffer, columns) as write:
            yield write
        return
    path = Path(output)
    open_format = FORMATS.get(path.suffix.lower())
    if open_format is None:
        raise UserError(f"output={output}: end it in {', '.join(FORMATS)}, or give -")
    stack = ExitStack()
    try:
        with writing(f"output={output}"):
            file = stack.enter_context(stack.enter_context(replacing(path)).open("wb"))
            write = stack.enter_context(open_format(file, columns))
        yield writing(f"output={output}")(write)
    except BaseException:
        with suppress(Exception):  # closing fails for the same reason
            stack.__exit__(*sys.exc_info())
        raise
    with writing(f"output={output}"):
        stack.close()  # which moves the file into place


@contextmanager
def _write_csv(file: BinaryIO, columns: Columns) -> Iterator[Write]:
    writer = csv.writer(codecs.getwriter("utf-8")(file))
    writer.writerow(columns)
    yield lambda rows: writer.writerows(
        [to_cell(row.get(name)) for name in columns] for row in rows
    )


def to_cell(value: Any) -> Any:
    """Return a value as it stands in a CSV file, where lists are JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


@contextmanager
def _write_json(file: BinaryIO, columns: Columns) -> Iterator[Write]:
    def write(rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            line = json.dumps({name: row.get(name) for name in columns}, ensure_ascii=False)
            file.write(f"{line}\n".encode())

    yield write


@contextmanager
def _write_parquet(file: BinaryIO, columns: Columns) -> Iterator[Write]:
    schema = pa.schema(list(columns.items()))
    with pq.ParquetWriter(file, schema) as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(list(rows), schema=schema))


FORMATS = {".csv": _write_csv, ".jsonl": _write_json, ".parquet": _write_parquet}


def name_probability(label: str) -> str:
    """Return the name of the column with a class's probabilities."""
    return f"probability of {label}"
