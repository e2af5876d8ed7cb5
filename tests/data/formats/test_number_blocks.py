"""Tables of many columns, which are read in blocks."""

import numpy as np
import pytest

from attnlstm.data.formats import number_blocks
from attnlstm.data.sources.series_files import SeriesFiles
from tests.data.formats.series_tables import write

MANY = 40


def write_many(path, line_end="\n", mark="", quote="", changes=None, rows=300):
    """Write a wide table of `MANY` steps; `changes` are other lines by their numbers."""
    header = ["id", *(f"t{step}" for step in range(MANY)), "label"]
    lines = [",".join(f"{quote}{name}{quote}" for name in header)]
    values = np.random.default_rng(1).normal(size=(rows, MANY)).round(4)
    for row in range(rows):
        numbers = ",".join(map(repr, values[row].tolist()))
        lines.append(f"{quote}s{row}{quote},{numbers},{quote}{'ab'[row % 2]}{quote}")
    for number, line in (changes or {}).items():
        lines[number - 1] = line
    path.write_bytes((mark + line_end.join(lines) + line_end).encode())
    return values


def described(rows):
    return [
        (
            row.number,
            row.line,
            row.name,
            row.label,
            row.problem,
            row.value is None or row.value.tobytes(),
        )
        for row in rows
    ]


ONES = ",".join(["1"] * MANY)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"line_end": "\r\n", "mark": "\ufeff"},
        {"quote": '"'},
        {"line_end": "\r\n", "quote": '"'},
        {"changes": {100: ""}},
        {"changes": {100: "s,1,2"}},
        {"changes": {100: f"s,{ONES},"}},
        {"changes": {100: f",{ONES},a"}},
        {"changes": {100: f's,{ONES},"a,b"'}},
        {"changes": {100: f's,{ONES},"a\nb"'}},
        {"changes": {100: f's,{ONES},"a""b"'}},
        {"changes": {100: f's,{ONES},"a'}},
        {"changes": {100: f's,{ONES},a"b'}},
        {"changes": {100: f"s,{ONES[:-1]}x,a"}},
        {"changes": {100: f"s,{ONES[:-1]}1_0,a"}},
        {"changes": {100: f"s,{ONES[:-1]}+1,a"}},
        {"changes": {100: f"s,{ONES[:-1]}0x1,a"}},
        {"changes": {100: f"s,{ONES[:-1]}1e999,a"}},
        {"changes": {100: f"s,{ONES[:-1]} 1.5 ,a"}},
        {"changes": {100: f"s,{ONES[:-1]}nan,a", 101: f"s,{ONES[:-1]},a", 102: f"s,?{ONES[1:]},a"}},
        {"changes": {100: f"s,{ONES[:-1]}NA,a"}},
        {"changes": {100: f"s,{ONES[:-1]}inf,a", 102: f"s,{ONES[:-1]}-Infinity,a"}},
        {"changes": {100: f"s,{ONES},NULL"}},
        {"changes": {100: f"s,{ONES},\0"}},
        {"changes": {300: "", 301: ""}},
    ],
)
@pytest.mark.parametrize("block_bytes", [1 << 12, 1 << 23])
def test_blocks_are_read_as_records_are(tmp_path, monkeypatch, options, block_bytes):
    path = tmp_path / "many.csv"
    values = write_many(path, **options)
    monkeypatch.setattr(number_blocks, "BLOCK_BYTES", block_bytes)
    blocks = described(SeriesFiles([path], key="data.train", layout="wide"))
    monkeypatch.setattr(number_blocks, "FEWEST_COLUMNS", MANY + 1)
    records = SeriesFiles([path], key="data.train", layout="wide")
    assert blocks == described(records)
    if "changes" not in options:
        for row, expected in zip(records, values, strict=True):
            np.testing.assert_array_equal(row.value, expected[:, None])


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_tables_of_many_columns(tmp_path, kind):
    steps = np.random.default_rng(2).normal(size=(25, 50))
    records = [
        {f"v{step}": value for step, value in enumerate(row)} | {"label": "ab"[number % 2]}
        for number, row in enumerate(steps.tolist())
    ]
    rows = list(SeriesFiles([write(tmp_path, records, kind)], key="data.train"))
    np.testing.assert_array_equal([row.value[:, 0] for row in rows], steps)
