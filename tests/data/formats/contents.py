"""Contents of files: small good ones that the tests break, and the bytes of each kind."""

import gzip
import io
import json
import wave
import zipfile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
