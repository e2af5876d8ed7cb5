"""A corpus of broken tables of series: each stops training with one clear message."""

import gzip

import pyarrow as pa
import pytest

from tests.config.composed import compose
from tests.data.broken import BrokenFiles, cases, check_refusal
from tests.data.formats.contents import (
    DEEP,
    HEADER,
    LINES,
    NESTED,
    SERIES,
    WALKS,
    WIDE,
    parquet,
)

BROKEN: BrokenFiles = {
    "empty.csv": ("", "is empty: its first line must name the columns"),
    "header only.csv": ("id,t,x,label\n", "has only a header line"),
    "no names.tsv": ("\t\n\t\n", "has only columns without names"),
    "no id.csv": ("x,label\n1,a\n2,b\n", "no column with a usual name for the id"),
    "no label.csv": ("id,x\n1,2\n", "no column with a usual name for the label"),
    "no channel.csv": ("id,t,label\n1,2,a\n", "has no channels: add columns of numbers"),
    "texts.csv": ("id,t,x,label\n1,0,walk,a\n", "has a column 'x' without numbers"),
    "mixed types.csv": (WALKS + "9,0,1.0,a\n9,1,walk,a\n", "not a number in .*line 27, id 9"),
    "nan.csv": (WALKS + "9,0,NaN,a\n", r"missing values \(NaN\) in .*line 26, id 9"),
    "empty cell.csv": (WALKS + "9,0,,a\n", r"missing values \(NaN\) in .*line 26, id 9"),
    "infinite.csv": (WALKS + "9,0,1e999,a\n", "infinite values in .*line 26, id 9"),
    "beyond float32.csv": (WALKS + "9,0,1e300,a\n", "infinite values in .*id 9"),
    "time goes back.csv": (WALKS + "9,1,1,a\n9,0,1,a\n", "time that goes back in .*line 27, id 9"),
    "time twice.csv": (WALKS + "9,1,1,a\n9,1,1,a\n", "time step twice in .*line 27, id 9"),
    "no time.csv": (WALKS + "9,soon,1,a\n", "time that is not a number or date in .*id 9"),
    "two labels.csv": (WALKS + "9,0,1,a\n9,1,1,b\n", "several labels in one series in .*id 9"),
    "label on some.csv": (WALKS + "9,0,1,a\n9,1,1,\n", "label on some steps only in .*id 9"),
    "no id in a row.csv": (WALKS + ",0,1,a\n", r"no id in .*\(line 26\)"),
    "control characters.csv": (WALKS + "\x1b[31m9,0,NaN,a\n", "missing values"),
    "many columns.csv": (
        "id,label," + ",".join(f"c{n}" for n in range(500_000)) + "\n1,a" + ",1" * 500_000 + "\n",
        "has 500,002 columns",
    ),
    "wrong delimiter.csv": (WALKS.replace(",", "|") + "a|b\n", r"say data.delimiter='\|'"),
    "decimal commas.csv": (
        WALKS.replace(",", ";").replace(".", ","),
        "decimal comma in column 'x', such as '0,0': say data.decimal=','",
    ),
    "cut.ts.gz": (gzip.compress((HEADER + SERIES).encode())[:-9], "cannot be read .*end-of-stream"),
    "packed.npz.gz": (gzip.compress(b"a"), "is packed, which .*unpack it"),
    "day first.csv": (
        WALKS.replace(",0,", ",28/03/2021,")
        .replace(",1,", ",29/03/2021,")
        .replace(",2,", ",30/03/2021,"),
        r"needs data\.time_format='%d/%m/%Y'; or data\.time_column=false takes",
    ),
    "wide narrow row.csv": (WIDE + "9,1,a\n", r"wrong number of columns .*row 8 \(line 10\)"),
    "wide text.csv": (WIDE + "9,1,walk,2,a\n", "value that is not a number in .*line 10, id 9"),
    "wide gap.csv": (WIDE + "9,1,,2,a\n", r"missing values \(NaN\) in .*line 10, id 9"),
    "wide empty.csv": (WIDE + "9,,,,a\n", r"empty series in .*line 10, id 9"),
    "wide infinite.csv": (WIDE + "9,1,-inf,2,a\n", "infinite values in .*line 10, id 9"),
    "wide no label.csv": (WIDE.replace(",label", ",kind"), "no column with a usual name for the l"),
    "wide without a label.csv": (WIDE + "9,1,2,3,\n", "no label in .*line 10, id 9"),
    "step twice.csv": (WIDE.replace("x_2", "x_01"), "has step 1 of channel 'x' twice: rename"),
    "channel twice.csv": (
        "x_0,x_1,x_2,x-0,x-1,x-2,label\n" + "1,2,3,4,5,6,a\n2,3,4,5,6,7,b\n" * 4,
        "which would both be channel 'x': rename",
    ),
    "other steps.csv": (
        "x_0,x_1,x_2,y_0,y_1,label\n" + "1,2,3,4,5,a\n2,3,4,5,6,b\n" * 4,
        r"has channels of different steps: 'x' .*data\.channel_columns=\[x\]",
    ),
    "two numbers.csv": (
        "v0_0,v0_1,v1_0,v1_1,label\n" + "1,2,3,4,a\n2,3,4,5,b\n" * 4,
        r"'v0_0' have two numbers, .*data\.channel_columns=\['v0', 'v1'",
    ),
    "two ways.csv": (
        "id,height,width,label\n" + "".join(f"{n},{n},{n * n},a\n" for n in range(9)),
        r"in two ways: .*data\.layout=wide; or .*data\.layout=long",
    ),
    "two ways without an id.csv": (
        "time,x1,x2,x3,label\n" + "1,2,3,4,a\n2,3,4,5,b\n" * 4,
        r"in two ways: .*data\.layout=wide; or .*data\.layout=long, and name the id",
    ),
    "narrow line.tsv": (LINES + "1\t2\t3\n", r"wrong number of columns .*row 8 \(line 9\)"),
    "text in a line.tsv": (LINES + "1" + "\tx" * 9 + "\n", r"not a number .*row 8 \(line 9\)"),
    "gap in a line.tsv": (LINES + "1\tnan" + "\t1" * 8 + "\n", r"missing values .*line 9"),
    "nul in a line.txt": (LINES + "1\0" + "\t1" * 9 + "\n", "NUL character in .*line 9"),
    "latin-1.txt": (LINES.encode() + b"1\xff" + b"\t1" * 9 + b"\n", "not UTF-8 in .*line 9"),
    "no label in a line.tsv": (LINES + "\t1" * 9 + "\n", "no label in .*line 9"),
    "few columns.txt": ("1 0.5 0.7\n2 0.7 0.1\n" * 4, r"only 3 columns: say data\.layout=wide"),
    "labels at both ends.csv": (
        "".join(f"{n % 2},{n / 7},{n / 3},1.5,2.5,3.5,4.5,{n % 2}\n" for n in range(8)),
        r"say data\.label_column=0 or data\.label_column=7",
    ),
    "no labels.tsv": (
        "".join("\t".join(f"{n / 7 + t / 3:.3f}" for t in range(9)) + "\n" for n in range(8)),
        r"say data\.label_column=0 or data\.label_column=8",
    ),
    "empty.txt": ("", "is empty: its first line must name the columns"),
    "binary.txt": (bytes(range(256)) * 40, "is not UTF-8"),
    "prose.txt": ("It was a fine day.\nIt was a dull day.\n", "no column with a usual name"),
    "gzip.txt": (gzip.compress(LINES.encode()), "is packed as gz: add .gz to its name"),
    "nested text.jsonl": (NESTED + '{"x": [1, "a"], "label": "a"}\n', "not a number in .*line 9"),
    "nested twice.jsonl": (NESTED + '{"x": [[1], [2]], "label": "a"}\n', "not a number .*line 9"),
    "nested empty.jsonl": (NESTED + '{"x": [], "label": "a"}\n', "empty series in .*line 9"),
    "nested null.jsonl": (NESTED + '{"x": null, "label": "a"}\n', "empty series in .*line 9"),
    "nested gap.jsonl": (NESTED + '{"x": [1, null, 2], "label": "a"}\n', "missing values .*line 9"),
    "nested keys.jsonl": (
        '{"x": {"0": 1, "1": 2}, "label": "a"}\n{"x": {"0": 1, "2": 2}, "label": "b"}\n',
        "keys that do not count the steps from 0 in .*line 2",
    ),
    "nested lengths.parquet": (
        parquet(x=[[1.0, 2.0], [1.0]], y=[[1.0, 2.0], [1.0, 2.0]], label=["a", "b"]),
        "channels of different lengths in .*row 1",
    ),
    "deep.jsonl": ('{"id": 1, "x": 2, "label": "a"}\n' + DEEP, "not a JSON object .*line 2"),
    "date.parquet": (
        parquet(
            id=[1, 1], t=pa.array([0, 1 << 62], pa.timestamp("us")), x=[1, 2], label=["a", "a"]
        ),
        "a value that cannot be read",
    ),
    "time zone.parquet": (
        parquet(id=[1], t=pa.array([0], pa.timestamp("s", "No/Where")), x=[1], label=["a"]),
        "a value that cannot be read",
    ),
}


@pytest.mark.slow
@cases(BROKEN)
def test_a_broken_table_of_series(tmp_path, name, content, said):
    config = compose("data=series_files")
    check_refusal(tmp_path, config, name, content, said)
