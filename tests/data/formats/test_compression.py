import bz2
import gzip
import lzma

import numpy as np
import pyarrow as pa
import pytest

from attnlstm.data.formats import compression
from attnlstm.data.formats.opening import is_series_file, open_table
from attnlstm.data.sources.series_files import SeriesFiles
from tests.data.formats.written import COLUMNS, ROWS, found, problem_of, write, write_csv

PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}


@pytest.fixture
def content(tmp_path):
    return write_csv(tmp_path / "plain.csv", ROWS * 500).read_bytes()


@pytest.mark.parametrize("ending", [*PACKERS, "GZ"])
def test_packed_files_are_read_again_and_again(tmp_path, content, ending):
    path = write(tmp_path / f"rows.csv.{ending}", PACKERS[ending.lower()](content))
    table = open_table(path)
    for _ in range(2):
        assert [values for _, _, values in found(table)] == ROWS * 500
    assert table.column_names() == COLUMNS


@pytest.mark.parametrize("ending", PACKERS)
def test_files_packed_in_several_pieces(tmp_path, content, ending):
    middle = content.index(b"\n", 1000)
    pack = PACKERS[ending]
    path = write(tmp_path / f"rows.csv.{ending}", pack(content[:middle]) + pack(content[middle:]))
    assert len(found(open_table(path))) == len(ROWS) * 500


@pytest.mark.parametrize("ending", PACKERS)
def test_any_file_of_lines_may_be_packed(tmp_path, ending):
    pack = PACKERS[ending]
    lines = write(tmp_path / f"a.jsonl.{ending}", pack(b'{"text": "a", "label": "x"}\n'))
    assert found(open_table(lines)) == [(0, 1, ("a", "x"))]
    array = write(tmp_path / f"a.json.{ending}", pack(b'[{"text": "a", "label": "x"}]'))
    assert found(open_table(array)) == [(0, 1, ("a", "x"))]
    marked = write(tmp_path / f"a.tsv.{ending}", pack("text\tlabel\né\tx\n".encode("utf-16")))
    assert found(open_table(marked)) == [(0, 2, ("é", "x"))]
    series = write(
        tmp_path / f"a.ts.{ending}", pack(b"@classLabel true a b\n@data\n1,2:a\n3,4:b\n")
    )
    assert is_series_file(series)
    rows = list(SeriesFiles([series], key="data.train"))
    np.testing.assert_array_equal([row.value[:, 0] for row in rows], [[1, 2], [3, 4]])


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("damage", ["cut", "changed", "other"])
def test_broken_files(tmp_path, content, ending, damage):
    packed = PACKERS[ending](content)
    middle = len(packed) // 2
    broken = {
        "cut": packed[:middle],
        "changed": packed[:middle] + bytes(b ^ 0xFF for b in packed[middle:]),
        "other": content,
    }[damage]
    path = write(tmp_path / f"rows.csv.{ending}", broken)
    message = problem_of(lambda: found(open_table(path)))
    assert f"{path} cannot be read (" in message


@pytest.mark.slow
@pytest.mark.parametrize("ending", PACKERS)
def test_files_that_would_fill_the_disk(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(compression, "FREE_BYTES", 1 << 18)
    rows = b"text,label\n" + b"a,b\n" * (1 << 18)
    path = write(tmp_path / f"rows.csv.{ending}", PACKERS[ending](rows))
    message = problem_of(lambda: found(open_table(path)))
    assert "unpacks to more than 250 times its size" in message
    monkeypatch.setattr(compression, "FREE_BYTES", 1 << 21)
    assert len(found(open_table(path))) == 1 << 18


@pytest.mark.parametrize("ending", PACKERS)
def test_a_packed_file_without_its_ending(tmp_path, content, ending):
    path = write(tmp_path / "rows.csv", PACKERS[ending](content))
    message = problem_of(lambda: found(open_table(path)))
    assert message == (f"{path} is packed as {ending}: add .{ending} to its name, or unpack it")


def test_files_that_must_not_be_packed(tmp_path):
    for name in ("a.parquet.gz", "a.xlsx.gz"):
        path = write(tmp_path / name, gzip.compress(b"a"))
        assert "unpack it" in problem_of(open_table, path)
    assert "not a known kind of file" in problem_of(open_table, tmp_path / "a.gz")
