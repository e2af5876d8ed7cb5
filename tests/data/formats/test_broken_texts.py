"""A corpus of broken files of texts: each stops training with one clear message."""

import bz2
import gzip
import io
import json
import lzma
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.config.composed import compose
from tests.data.broken import BrokenFiles, cases, check_refusal
from tests.data.formats.contents import (
    BOMB,
    DEEP,
    GOOD,
    GOOD_PARQUET,
    archive,
    parquet,
)


def declared(names: list[str]) -> bytes:
    """Return a Parquet file whose metadata declares the names of classes."""
    features = {"label": {"_type": "ClassLabel", "names": names}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"text": ["fine day", "dull day"] * 6, "label": [0, 1] * 6})
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()


BROKEN: BrokenFiles = {
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
        "text,label\n" + "".join(f"text {n},c{n}\n" for n in range(6_000)),
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
    "object as label.jsonl": (
        '{"text": "a", "label": {"x": 1}}\n' * 4,
        "label is not a string.*row 0",
    ),
    "gap in a list.jsonl": ('{"text": "a", "label": ["x", null]}\n' * 4, "a missing label among"),
    "infinite label.jsonl": ('{"text": "a", "label": 1e999}\n' * 4, "label is not a string"),
    "whole numbers.csv": (
        "text,target\n" + "".join(f"film {n},{n}\n" for n in range(60)),
        "60 different labels in 60 rows, .*add task=regression .*or task=classification",
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


@pytest.mark.slow
@cases(BROKEN)
def test_a_broken_file_of_texts(tmp_path, name, content, said):
    config = compose("data=text_files")
    check_refusal(tmp_path, config, name, content, said)
