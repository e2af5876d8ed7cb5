"""Tables that the tests write."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value

from attnlstm.data.formats.table import Table
from attnlstm.errors import UserError

ROWS = [
    ("good film", "pos"),
    ("a, b", "neg"),
    ('so "called"', "pos"),
    ("two\nlines", ""),
    ("é€😀", "ø"),
]
COLUMNS = ["text", "label"]
DEEP = "[" * 100_000


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_csv(path, rows, delimiter=",", **options):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, **options).writerows([COLUMNS, *rows])
    return path


def write_json(path, rows):
    lines = [json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows]
    return write(path, "".join(lines))


def write_parquet(path, rows):
    texts, labels = zip(*rows, strict=True) if rows else ([], [])
    strings = [pa.array(list(values), pa.string()) for values in (texts, labels)]
    pq.write_table(pa.table(strings, names=COLUMNS), path)
    return path


def write_saved(path, rows):
    features = Features({name: Value("string") for name in COLUMNS})
    texts, labels = zip(*rows, strict=True) if rows else ([], [])
    Dataset.from_dict({"text": texts, "label": labels}, features=features).save_to_disk(path)
    return path


def found(table: Table, columns=COLUMNS):
    """(number, line, values as a tuple or the problem) of each record."""
    return [
        (r.number, r.line, r.problem if r.values is None else tuple(r.values[c] for c in columns))
        for r in table.records(columns)
    ]


def problem_of(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)
