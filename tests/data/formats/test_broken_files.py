"""A corpus of broken files: each stops training with one message that says what to fix, and where.

The files are given to the training run as a user would, with data=text_files, data=series_files,
word vectors or a tokenizer.json.
"""

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import TrainConfig
from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.data.sources.text_files import TextFiles
from attnlstm.errors import UserError
from attnlstm.training.run import train

ROOT = Path(__file__).parents[3]

GOOD = "text,label\n" + "".join(f"a fine day {n},good\na dull day {n},bad\n" for n in range(6))
WALKS = "id,t,x,label\n" + "".join(
    f"{series},{step},{series * step / 7},{'ab'[series % 2]}\n"
    for series in range(8)
    for step in range(3)
)
WIDE = "id,x_0,x_1,x_2,label\n" + "".join(
    f"{row},{row / 7},{row / 3},{-row / 5},{'ab'[row % 2]}\n" for row in range(8)
)
LINES = "".join(
    f"{row % 2}\t" + "\t".join(f"{row / 7 + step / 3:.3f}" for step in range(9)) + "\n"
    for row in range(8)
)
NESTED = "".join(
    json.dumps({"x": [row / 7, 1, 2], "label": "ab"[row % 2]}) + "\n" for row in range(8)
)
HEADER = "@problemName walks\n@dimensions 2\n@classLabel true a b\n@data\n"
SERIES = "1,2:3,4:a\n2,3:4,5:b\n" * 6
ARFF = "@attribute t0 numeric\n@attribute t1 numeric\n@attribute target {a,b}\n@data\n"


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def declared(names: list[str]) -> bytes:
    features = {"label": {"_type": "ClassLabel", "names": names}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"text": ["fine day", "dull day"] * 6, "label": [0, 1] * 6})
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()


GOOD_PARQUET = parquet(text=["fine day", "dull day"] * 6, label=["good", "bad"] * 6)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def archive(**parts: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(header: str, content: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode() + b"\n"
    size = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + text + content


def saved(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def sound(width: int = 2, rate: int = 8000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(100 * width))
    return buffer.getvalue()


def tokenizer(**changes: Any) -> str:
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "fine": 1}, "unk_token": "[UNK]"}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model} | changes)


X, Y = np.arange(48.0).reshape(12, 4, 1), np.array(["a", "b"] * 6)
OBJECTS = np.array([np.zeros(2), np.zeros(3)] * 6, dtype=object)
SPACES = " " * 100
BOMB = gzip.compress(b"text,label\n") + gzip.compress(b" " * (1 << 24)) * 20
DEEP = "[" * 100_000

# name of the file -> (content, pattern of the message)
TEXTS: dict[str, tuple[str | bytes, str]] = {
    "empty.csv": ("", "is empty: its first line must name the columns"),
    "blank.csv": ("\n\n\n", "is empty: its first line must name the columns"),
    "header only.csv": ("text,label\n", "has only a header line: add records"),
    "no header.csv": (
        "".join(f"{n},fine day,a place,{'ab'[n % 2]}\n" for n in range(9)),
        "no column with a usual name for the text .* '0', '1', '2', '3', as its first line is a re",
    ),
    "perhaps no header.csv": (
        "good,day 1\nbad,day 2\n",
        r"\(if that is a record: data.header=false",
    ),
    "one record.csv": ("a fine day,good\n", "has only a header line: add records"),
    "two delimiters.csv": (GOOD.replace(",", ";") + "a;b;c\n", "say data.delimiter=';'"),
    "tabs and more.csv": (
        GOOD.replace(",", "\t") + "a\tb\tc\n",
        r"say data.delimiter='\\t'",
    ),
    "commas and more.tsv": (GOOD + "a,b,c\n", "say data.delimiter=','"),
    "excel line only.csv": ("sep=;\n", "is empty: its first line must name the columns"),
    "excel line.csv": ("sep=,\n" + GOOD + "a,b,c\n", r"wrong number .*: row 12 \(line 15\)"),
    "columns without names.csv": (",,\n1,2,3\n4,5,6\n", "no column with a usual name for the text"),
    "more than the header.csv": (GOOD + "a,good,more\n", r"wrong number of .*: row 12 \(line 14"),
    "escaped quotes.csv": (
        GOOD + '"in the folder C:\\",good\n"a \\"quoted\\" word",good\n',
        r"a quote .*data.backslash_escapes=true.* row 13 \(line 15\)",
    ),
    "cp1252.csv": (
        (GOOD + "“smart” café,good\n").encode("cp1252"),
        r"not UTF-8 in .* row 12 .*probably cp1252 \('“smart” café'\): say data.encoding=cp1252",
    ),
    "cp1251.csv": ((GOOD + "очень хорошо,good\n" * 9).encode("cp1251"), "data.encoding=cp1251"),
    "gb18030.csv": ((GOOD + "这是一个很好的电影,good\n" * 9).encode("gb18030"), "data.encoding=gb"),
    "columns twice.csv": ("text,text,label\na,b,c\n", "several columns named 'text'"),
    "two texts.csv": (
        "text,review,label\na,b,c\n",
        r"several columns that may be the text \('text', 'review'\)",
    ),
    "wide row.csv": (GOOD + "a,b,c\n", r"wrong number of columns .*: row 12 \(line 14\)"),
    "narrow row.csv": (GOOD + "a\n", r"wrong number of columns in .*: row 12 \(line 14\)"),
    "open quote.csv": (GOOD + '"never closed,good\nfine,good\n', r"a quote .*: row 12 \(line 14\)"),
    "quote inside.csv": (GOOD + '"a" b,good\n', r"a quote \(\"\) that is not .* row 12"),
    "swallowed rows.tsv": (
        GOOD.replace(",", "\t") + '"Hello\tgood\nBye"\tbad\n',
        r"a quote \(\"\) that is not .*: row 12 \(line 14\)",
    ),
    "endless row.csv": (GOOD + '"\n' + '","\n' * 10, "a quote .* row 12"),
    "nul.csv": (GOOD + "a\0b,good\n", r"NUL character in .*: row 12 \(line 14\)"),
    "all nul.csv": (bytes(10_000), "is not UTF-8: save it as UTF-8, or name its encoding"),
    "utf-16 without mark.csv": (GOOD.encode("utf-16-le"), "say data.encoding=utf-16-le"),
    "utf-16 cut.csv": (GOOD.encode("utf-16")[:-1], r"not utf-16 in .*: row 11 \(line 13\)"),
    "utf-32 without mark.csv": (GOOD.encode("utf-32-le"), "is not UTF-8"),
    "latin-1.csv": ((GOOD + "café,good\n").encode("latin-1"), r"not UTF-8 in .*: row 12 \(line 14"),
    "old mac.csv": (GOOD.replace("\n", "\r") + ",good\r", r"no text in .*: row 12 \(line 14\)"),
    "binary.csv": (bytes(range(256)) * 40, "is not UTF-8"),
    "excel.csv": (
        b"PK\x03\x04" + bytes(range(256)) * 9,
        "is packed as zip .*end its name in .xlsx",
    ),
    "gzip.csv": (gzip.compress(GOOD.encode()), "is packed as gz: add .gz to its name"),
    "zstd.jsonl": (pa.compress(GOOD.encode() * 9, "zstd", asbytes=True), "is packed as zst"),
    "empty.csv.gz": ("", "is empty"),
    "nothing.csv.gz": (gzip.compress(b""), "is empty"),
    "text.csv.gz": (GOOD, "cannot be read .*zip"),
    "cut.csv.gz": (gzip.compress(GOOD.encode())[:-9], "cannot be read .*end-of-stream"),
    "sum.csv.gz": (gzip.compress(GOOD.encode())[:-8] + bytes(8), "cannot be read .*CRC"),
    "text.csv.bz2": (GOOD, "cannot be read .*Invalid data stream"),
    "cut.csv.bz2": (bz2.compress(GOOD.encode())[:-9], "cannot be read .*end-of-stream"),
    "text.csv.xz": (GOOD, "cannot be read .*not supported"),
    "cut.csv.xz": (lzma.compress(GOOD.encode())[:-9], "cannot be read .*end-of-stream"),
    "text.csv.zst": (GOOD, "cannot be read .*ZSTD"),
    "cut.csv.zst": (
        pa.compress(GOOD.encode() * 9, "zstd", asbytes=True)[:-9],
        "cannot be read .*Truncated",
    ),
    "bomb.csv.gz": (BOMB, "unpacks to more than 250 times its size"),
    "packed.parquet.gz": (gzip.compress(GOOD_PARQUET), "is packed, which .*unpack it"),
    "html.csv": ("<!DOCTYPE html>\n<html>\n<body>\n", "no column with a usual name for the text"),
    "blank texts.csv": (GOOD + " ,good\n", r"no text in .*: row 12 \(line 14\)"),
    "no labels.csv": ("text,label\na,\nb,\n", "no label in .*2 rows: row 0"),
    "one class.csv": ("text,label\n" + "a b,x\nc d,x\n" * 4, "has only one class, 'x'"),
    "every row a class.csv": (
        "text,label\n" + "".join(f"text {n},{n}\n" for n in range(6_000)),
        "more than 5,000 classes.* data.label_column",
    ),
    "long label.parquet": (
        parquet(text=["fine"] * 5, label=["good", "bad", "x" * 20_000_000, "good", "bad"]),
        r"label longer than 16,384 characters in .*, 1 row: row 2\.",
    ),
    "long text.parquet": (
        parquet(
            text=["fine", "dull", "x" * 5_000_000, "good", "bad"],
            label=["good", "bad", "bad", "good", "bad"],
        ),
        r"longer than 4 Mi characters in .*, 1 row: row 2\.",
    ),
    "one row of each.csv": ("text,label\na,x\nb,y\n", "no class has two different rows"),
    "huge field.csv": (GOOD + "a" * (1 << 22) + ",good\n", "longer than 4 Mi char.* row 12"),
    "many columns.csv": (
        ",".join(f"c{n}" for n in range(300_000)) + "\n" + "1," * 299_999 + "1\n",
        "has 300,000 columns: at most 65,536",
    ),
    "a million columns.csv": (
        ",".join(f"c{n}" for n in range(1_000_000)) + "\n" + "1," * 999_999 + "1\n",
        r"header line of .* cannot be read \(longer than 4 Mi characters\)",
    ),
    "long names.csv": (
        "a" * 100_000 + "," + "b" * 100_000 + "\n1,2\n",
        "no column with a usual name",
    ),
    "empty.jsonl": ("", "is empty: it must have one JSON object a line"),
    "cut array.json": ('[{"text": "a", "label": "x"}', "is a JSON array without its end"),
    "broken array.json": ('[{"text": "a", "label": "x"},\n{"text: 3', "is broken at line 2"),
    "two arrays.json": ('[{"text": "a", "label": "x"}]\n[]', "goes on after its JSON array"),
    "array of numbers.json": ("[1, 2, 3]", "has no JSON objects with keys"),
    "deep array.json": (DEEP, "is broken at line 1"),
    "bad item.json": (
        '[{"text": "a", "label": "x"}, 3]',
        r"not a JSON object .*: row 1 \(line 1\)",
    ),
    "pretty.json": ('{\n  "text": "a",\n  "label": "x"\n}', "has no JSON objects with keys"),
    "cut.jsonl": ('{"text": "a", "label": "x"}\n{"text": "b", "la', r"not a JSON .*row 1 \(line 2"),
    "deep.jsonl": ('{"text": "a", "label": "x"}\n' + DEEP + "\n", "not a JSON object .*row 1"),
    "key twice.jsonl": (
        '{"text": "a", "label": "x"}\n{"text": "a", "text": "b", "label": "x"}\n',
        "key twice in .*row 1",
    ),
    "long number.jsonl": (
        '{"text": "a", "label": 1}\n{"text": "b", "label": ' + "9" * 10_000 + "}\n",
        "not a JSON object .*row 1",
    ),
    "number as text.jsonl": ('{"text": 3, "label": "x"}\n' * 4, "text is not a string .*row 0"),
    "list as label.jsonl": ('{"text": "a", "label": ["x"]}\n' * 4, "label is not a string.*row 0"),
    "infinite label.jsonl": ('{"text": "a", "label": 1e999}\n' * 4, "label is not a string"),
    "regression.csv": (
        "text,target\n" + "".join(f"film {n},{n / 97:.4f}\n" for n in range(60)),
        "60 different labels in 60 rows, .*numbers to predict, and not classes",
    ),
    "ids as labels.csv": (
        "text,label\n" + "".join(f"film {n},id {n}\n" for n in range(60)),
        "60 different labels in 60 rows, .*: these are not classes",
    ),
    "half a pair.jsonl": ('{"text": "\\ud800", "label": "x"}\n' * 4, "invalid Unicode .*row 0"),
    "latin-1.jsonl": ('{"text": "é", "label": "x"}\n'.encode("latin-1"), "no JSON objects|not UTF"),
    "empty.parquet": ("", "cannot be read"),
    "text.parquet": (GOOD, "cannot be read"),
    "cut.parquet": (GOOD_PARQUET[:-20], "cannot be read"),
    "broken footer.parquet": (
        GOOD_PARQUET[:-300] + b"\xff" * 292 + GOOD_PARQUET[-8:],
        "cannot be read",
    ),
    "broken page.parquet": (
        GOOD_PARQUET[:4] + bytes(100) + GOOD_PARQUET[104:],
        "cannot be read",
    ),
    "long footer.parquet": (
        b"PAR1" + b"\xff" * 7 + b"\x7fPAR1",
        "its list of columns has 2,048 MiB",
    ),
    "no rows.parquet": (
        parquet(text=pa.array([], pa.string()), label=pa.array([], pa.string())),
        "has no usable rows",
    ),
    "blank class.parquet": (declared([" ", "b"]), "column 'label' declares names of classes that"),
    "class twice.parquet": (declared(["a", "a "]), "column 'label' declares names of classes that"),
    "half a pair.parquet": (declared(["\ud800", "b"]), "declares names .* invalid Unicode"),
    "columns twice.parquet": (
        (
            lambda sink: (
                pq.write_table(pa.table([["a"], ["b"], ["c"]], ["text", "text", "label"]), sink)
                or sink.getvalue()
            )
        )(io.BytesIO()),
        "several columns named 'text'",
    ),
    "numbers.parquet": (parquet(text=[1.5, 2.5], label=["a", "b"]), "text is not a string"),
    "not utf-8.parquet": (
        parquet(text=pa.array([b"\xff", b"a"]).cast(pa.binary()), label=["a", "b"]),
        "text is not a string|not UTF-8",
    ),
    "text.xlsx": (GOOD, "is broken or not an Excel workbook"),
    "cut.xlsx": (b"PK\x03\x04" + bytes(100), "is broken or not an Excel workbook"),
    "empty.xlsx": (archive(), "cannot be read|is broken"),
    "arrays.xlsx": (archive(X=b"a"), "cannot be read .*save it again as .xlsx"),
    "unknown ending.xls": (GOOD, "is not a known kind of file: save it as one of .csv"),
    "pickle.pkl": (pickle.dumps([1]), "is not a known kind of file: save it as one of .csv"),
}

SERIES_FILES: dict[str, tuple[str | bytes, str]] = {
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
    "empty.ts": ("", "has no @data line"),
    "no data.ts": ("@classLabel true a b\n", "has no @data line"),
    "no rows.ts": (HEADER, "has no usable rows"),
    "endless header.ts": ("@tag\n" * 20_000 + HEADER + SERIES, "no @data line in its first 10,000"),
    "not a ts.ts": (WALKS, "is not a .ts file: line 1 comes before @data"),
    "no labels.ts": ("@classLabel false\n@data\n1,2\n", "has no labels"),
    "no class names.ts": ("@classLabel true\n@data\n1:a\n", "@classLabel line without class names"),
    "no @classLabel.ts": ("@dimensions 1\n@data\n1:a\n", "has no @classLabel line"),
    "dimensions.ts": (HEADER.replace("ions 2", "ions two"), "@dimensions line without a count"),
    "long number.ts": (HEADER.replace("ions 2", "ions " + "2" * 5000), "without a count"),
    "undeclared.ts": (HEADER + SERIES + "1,2:3,4:c\n", "does not declare in .*row 12"),
    "missing dimension.ts": (HEADER + SERIES + "1,2:a\n", "wrong number of channels in .*row 12"),
    "unequal.ts": (HEADER + SERIES + "1,2:3:a\n", "channels of different lengths in .*row 12"),
    "question mark.ts": (HEADER + SERIES + "1,?:3,4:a\n", r"missing values \(NaN\) in .*row 12"),
    "no number.ts": (HEADER + SERIES + "1,x:3,4:a\n", "value that is not a number in .*row 12"),
    "time stamps.ts": ("@timestamps true\n" + HEADER, "has time stamps"),
    "regression.ts": ("@targetlabel true\n" + HEADER, "has numbers to predict"),
    "long line.ts": (HEADER + SERIES + "1," * (1 << 22) + "1:1:a\n", "longer than 8 Mi .* row 12"),
    "long header.ts": ("@classLabel true" + " a" * (1 << 20) + "\n@data\n", "line 1 is longer"),
    "empty.npz": ("", "is broken or not an .npz file"),
    "text.npz": (WALKS, "is broken or not an .npz file"),
    "pickle.npz": (pickle.dumps([1, 2]), "is broken or not an .npz file"),
    "cut.npz": (npz(X=X, y=Y)[:-30], "is broken or not an .npz file"),
    "no X.npz": (npz(x=X, y=Y), "has no array X, only 'x', 'y'"),
    "no y.npz": (npz(X=X), "has no labels: save them as the array y"),
    "objects.npz": (npz(X=OBJECTS, y=Y), "array X of Python objects, which could run code"),
    "object labels.npz": (npz(X=X, y=Y.astype(object)), "array y of Python objects"),
    "negative lengths.npz": (npz(X=X, y=Y, lengths=np.full(12, -1)), "empty series in .*12 rows"),
    "long lengths.npz": (npz(X=X, y=Y, lengths=np.full(12, 5)), "length beyond the padded length"),
    "float lengths.npz": (npz(X=X, y=Y, lengths=np.ones(12)), "lengths of type float64"),
    "nan.npz": (npz(X=np.where(X == 5, np.nan, X), y=Y), r"missing values \(NaN\) in .*row 1"),
    "infinite.npz": (npz(X=np.where(X == 5, np.inf, X), y=Y), "infinite values in .*row 1"),
    "fewer labels.npz": (npz(X=X, y=Y[:5]), r"has y of shape \[5\]: it must be \[12\]"),
    "four dimensions.npz": (npz(X=X[None], y=Y), r"has X of shape \[1, 12, 4, 1\]"),
    "texts.npz": (npz(X=Y[:, None], y=Y), "has X of type <U1: save it as floats"),
    "no characters.npz": (
        npz(X=X, y=np.full(12, 2**31 - 1, np.uint32).view("<U1")),
        "labels y that are neither texts nor numbers",
    ),
    "half a pair.npz": (npz(X=X, y=["\ud800", "b"] * 6), "labels y that are neither texts nor"),
    "fractions as labels.npz": (npz(X=X, y=X[:, 0, 0] / 7), "12 different labels in 12 rows"),
    "header.npz": (archive(X=npy("-" * 5_000 + "1"), y=npy("")), "that numpy cannot read"),
    "nested header.npz": (archive(X=npy("(" * 5_000), y=npy("")), "that numpy cannot read"),
    "long header.npz": (
        archive(X=npy(SPACES * 10_000, version=b"\2\0"), y=npy("")),
        "that numpy cannot read",
    ),
    "true shape.npz": (
        archive(
            X=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (True, 2)}", bytes(16)), y=b""
        ),
        "that numpy cannot read",
    ),
    "endless.npz": (
        archive(X=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 0)}"), y=b""),
        "without values",
    ),
    "another size.npz": (
        archive(X=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9, 9)}"), y=npy("")),
        "of another size than it says",
    ),
    "bomb.npz": (archive(X=npy("", bytes(10**8))), "would unpack to 100,000,"),
    "many arrays.npz": (
        archive(**{f"array {n}": b"" for n in range(5_000)}),
        "has too many arrays",
    ),
    "either order.npz": (
        npz(X=np.ones((12, 4, 3)), y=Y),
        r"may be \[row, time, channel\].* or \[row, channel, time\].*say data.axes=",
    ),
    "square.npz": (npz(X=np.ones((12, 4, 4)), y=Y, lengths=np.full(12, 4)), "say data.axes="),
    "all padding.npz": (npz(X=np.full((12, 4), np.nan), y=Y), "empty series in .*12 rows: row 0"),
    "gap before padding.npz": (
        npz(X=np.tile([1, np.nan, 2, np.nan], (12, 1)), y=Y),
        r"missing values \(NaN\) in .*data.missing=interpolate or data.missing=mask",
    ),
    "labels of steps.npz": (npz(X=X, y=np.tile(Y, (4, 1)).T), "label for each step.*data.window"),
    "empty.npy": ("", "is not an .npy file: save it with numpy.save"),
    "text.npy": (WALKS, "is not an .npy file: save it with numpy.save"),
    "pickle.npy": (pickle.dumps([1, 2]), "is not an .npy file"),
    "zip.npy": (npz(X=X, y=Y), "is not an .npy file"),
    "objects.npy": (saved(OBJECTS), "is an array of Python objects, which could run code"),
    "cut.npy": (saved(X)[:-8], "has another size than it says"),
    "longer.npy": (saved(X) + b"x", "has another size than it says"),
    "cut header.npy": (saved(X)[:40], "has a header that numpy cannot read"),
    "version.npy": (saved(X)[:6] + b"\x09" + saved(X)[7:], "has a header that numpy cannot read"),
    "negative.npy": (
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -1)}", bytes(16)),
        "has a header that numpy cannot read",
    ),
    "nested header.npy": (npy("(" * 5_000), "has a header that numpy cannot read"),
    "large.npy": (
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9, 10000000000)}"),
        "has another size than it says",
    ),
    "no labels.npy": (saved(X), r"has no label file in its folder .*data.labels"),
    "texts.npy": (saved(Y), "has X of type <U1: save it as floats"),
    "one axis.npy": (saved(X.ravel()), r"has X of shape \[48\].*say data.axes=time,channel"),
    "either order.npy": (saved(np.ones((12, 4, 3))), "may be .*say data.axes="),
    "empty.arff": ("", "has no @data line"),
    "not an arff.arff": (WALKS, "is not an .arff file: line 1 comes before @data"),
    "no data.arff": (ARFF.partition("@data")[0], "has no @data line"),
    "no rows.arff": (ARFF, "has no usable rows"),
    "no label.arff": (ARFF.replace("{a,b}", "numeric") + "1,2,3\n", "has numbers to predict"),
    "text label.arff": (ARFF.replace("{a,b}", "string") + "1,2,a\n", "declares no classes"),
    "dates.arff": (ARFF.replace("t1 numeric", "t1 date"), "an attribute 't1' that is no number"),
    "undeclared.arff": (ARFF + "1,2,a\n1,3,c\n", "label that the header .*row 1"),
    "missing.arff": (ARFF + "1,2,a\n?,3,b\n", r"missing values \(NaN\) in .*line 6"),
    "wide row.arff": (ARFF + "1,2,3,a\n", "wrong number of values in .*row 0"),
    "sparse.arff": (ARFF + "{0 1, 1 2, 2 a}\n", "value that is not a number in .*row 0"),
    "open quote.arff": (ARFF + "1,2,'a\n", "a quote that is not closed in .*row 0"),
    "latin-1.arff": ((ARFF + "1,2,é\n").encode("latin-1"), "not UTF-8 in .*row 0"),
    "long line.arff": (ARFF + "1," * (1 << 22), "longer than 4 Mi .*row 0"),
    "endless header.arff": ("@attribute t numeric\n" * 70_000, "more than 65,536 attributes"),
    "alone.wav": (sound(), r"holds no label.*data.label_from=folder"),
    "text.wav": (WALKS, "is broken, or not a .wav file"),
    "cut header.wav": (sound()[:30], "is broken, or not a .wav file"),
    "floats.wav": (sound()[:20] + b"\3\0" + sound()[22:], "is of floats or compressed"),
    "wide samples.wav": (sound()[:34] + b"\x40\0" + sound()[36:], "has samples of 64 bits"),
    "long.wav": (
        sound()[:40] + b"\xff\xff\xff\x7f" + sound()[44:],
        "more than can be read at once",
    ),
    "unknown ending.mat": (b"MATLAB 5.0", "is not a known kind of file"),
}

VECTORS: dict[str, tuple[str | bytes, str]] = {
    "empty.txt": ("", "holds no vectors"),
    "short line.txt": ("fine 1 2 3\nday 1 2\ndull 1 2 3\n", r"line 2 \(2 values instead of 3\)"),
    "word.txt": ("fine 1 2 3\nday 1 x 3\ndull 1 2 3\n", r"line 2 \(a value is not a number\)"),
    "nan.txt": ("fine 1 2 3\nday 1 nan 3\ndull 1 2 3\n", r"line 2 \(a value is not finite\)"),
    "thousands.txt": ("fine 1 2 3\nday 1 1_0 3\ndull 1 2 3\n", "line 2"),
    "announced.txt": ("5 3\nfine 1 2 3\nday 1 2 3\n", r"5 vectors of 3 values announced"),
    "no utf-8.txt": (b"fine 1 2\n\xff 1 2\ndull 1 2\n", r"line 2 \(not UTF-8\)"),
    "binary.bin": (b"3 2\nfine " + bytes(8), "is a binary file"),
    "packed.txt": (gzip.compress(b"fine 1 2\n"), r"is packed \(gzip\)"),
    "other words.txt": ("le 1 2\nla 3 4\n", "has none of the .* tokens"),
    "other size.txt": ("fine 1 2\nday 3 4\n", "set model.embedding.size=2"),
    "wide.txt": ("fine" + " 1" * 40_000 + "\n", "vectors of 40,000 values"),
}

TOKENIZERS: dict[str, tuple[str | bytes, str]] = {
    "empty.json": ("", "no usable tokenizer"),
    "text.json": ("a b c", "no usable tokenizer"),
    "list.json": ("[]", "no usable tokenizer"),
    "null.json": ("null", "no usable tokenizer"),
    "deep.json": (DEEP, "no usable tokenizer"),
    "vocabulary.json": ('{"fine": 0, "day": 1}', "no usable tokenizer"),
    "no model.json": (tokenizer(model=None), "no usable tokenizer"),
    "no tokens.json": (
        tokenizer(model={"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}),
        "it has no tokens",
    ),
    "unknown model.json": (tokenizer(model={"type": "Magic"}), "no usable tokenizer"),
    "without unknown.json": (
        tokenizer(model={"type": "WordLevel", "vocab": {"fine": 0}, "unk_token": "[UNK]"}),
        "no token for what it does not know",
    ),
    "large ids.json": (
        tokenizer(
            model={"type": "WordLevel", "vocab": {"[UNK]": 2_000_000_000}, "unk_token": "[UNK]"}
        ),
        "it has 1 tokens, but ids up to 2000000000",
    ),
    "doubling.json": (
        tokenizer(
            normalizer={
                "type": "Sequence",
                "normalizers": [
                    {"type": "Replace", "pattern": {"String": "t"}, "content": "tt"}
                    for _ in range(40)
                ],
            }
        ),
        "makes texts many times longer",
    ),
    "utf-16.json": (tokenizer().encode("utf-16"), "utf-8"),
    "many normalizers.json": (
        tokenizer(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 2000}),
        "more than 1000 normalizers",
    ),
    "endless search.json": (
        tokenizer(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": r"(.|.|.|.|.)+[^\w\s.]$"},
                "behavior": "Isolated",
                "invert": False,
            }
        ),
        r"no usable tokenizer .*retry-limit.*choose another tokenizer.json",
    ),
    "endless alternatives.json": (
        tokenizer(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(a|a)*b"},
                "behavior": "Isolated",
                "invert": False,
            }
        ),
        r"no usable tokenizer .*retry-limit.*choose another tokenizer.json",
    ),
    "pickle.json": (pickle.dumps([1]), "utf-8"),
}

CORPUS = [
    pytest.param(kind, name, content, said, id=f"{kind}: {name}")
    for kind, files in (
        ("texts", TEXTS),
        ("series", SERIES_FILES),
        ("vectors", VECTORS),
        ("tokenizer", TOKENIZERS),
    )
    for name, (content, said) in files.items()
]


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 60


@pytest.fixture(scope="module")
def configs() -> dict[str, TrainConfig]:
    """What is composed for each kind of file; composing takes longer than all else here."""
    return {
        kind: compose_config(ROOT / "conf", "train", TrainConfig, [f"data={source}"])
        for kind, source in (
            ("texts", "text_files"),
            ("series", "series_files"),
            ("vectors", "text_files"),
            ("tokenizer", "text_files"),
        )
    }


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "content", "said"), CORPUS)
def test_a_broken_file_stops_training_with_one_message(
    configs: dict[str, TrainConfig],
    tmp_path: Path,
    kind: str,
    name: str,
    content: str | bytes,
    said: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    values = configs[kind].model_dump()
    values["data"]["train"] = str(path)
    if kind in ("vectors", "tokenizer"):
        values["data"]["train"] = str(tmp_path / "good.csv")
        (tmp_path / "good.csv").write_text(GOOD)
        values["model"]["embedding"]["size"] = 3
    if kind == "vectors":
        values["model"]["embedding"]["vectors"] = str(path)
    if kind == "tokenizer":
        values["data"]["tokenizer"]["file"] = str(path)
    config = TrainConfig.model_validate(values)
    with pytest.raises(UserError) as refusal:
        train(config, tmp_path / "run")
    message = " ".join(str(refusal.value).split())  # as it is printed
    assert re.search(said, message), message
    assert name in message
    assert len(message) < 2_000
    assert not (tmp_path / "run" / "checkpoints").exists()


FRAGMENTS = st.sampled_from(
    [
        *("text,label\n", "id,x,label\n", HEADER, SERIES, GOOD, '"', "\n", "\r", "\0", ",", "\t"),
        *(
            '{"text": "a", "label": 1}\n',
            "{",
            "[",
            "1e999",
            "nan",
            "@dimensions 3\n",
            ARFF,
            "1,2,a\n",
            "\ufeff",
            "a b",
        ),
    ]
)
CONTENT = st.binary(max_size=60) | st.lists(FRAGMENTS, max_size=8).map("".join).map(str.encode)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ending",
    ["csv", "tsv", "jsonl", "parquet", "ts", "arff", "npz", "npy", "wav", "json", "csv.gz", "xlsx"],
)
@given(content=CONTENT, data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_gives_rows_or_a_user_error(
    tmp_path: Path, ending: str, content: bytes, data: st.DataObject
) -> None:
    whole = {
        "parquet": GOOD_PARQUET,
        "npz": npz(X=X, y=Y),
        "npy": saved(X[:, :, 0]),
        "wav": sound(),
    }.get(ending)
    if whole is not None:
        place = data.draw(st.integers(0, len(whole) - 1))
        content = whole[:place] + content + whole[place + len(content) :]
    path = tmp_path / f"any.{ending}"
    path.write_bytes(content)
    for reader in (TextFiles, SeriesFiles):
        try:
            rows = list(reader([path], key="data.train", needs_labels=ending not in ("npy", "wav")))
        except UserError:
            continue
        assert [row.number for row in rows] == list(range(len(rows)))
        for row in rows:
            assert row.problem is not None or isinstance(row.value, str | np.ndarray)
            assert row.label is None or row.label.strip()
