"""Files of predictions are written as a whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from attnlstm.errors import UserError
from attnlstm.inference.writers import FORMATS, open_writer

COLUMNS = {"text": pa.string(), "number": pa.float64()}
ROWS = [{"text": f"{number}" * 9, "number": number / 7} for number in range(2000)]


def write_rows(output: str, end: BaseException | None = None) -> None:
    with open_writer(output, COLUMNS) as write:
        write(ROWS)
        if end is not None:
            raise end


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("size", [0, 5000])
def test_a_full_disk_is_reported_in_one_line_and_leaves_nothing(
    file_size_limit: Callable, tmp_path: Path, ending: str, size: int
) -> None:
    output = tmp_path / f"out{ending}"
    file_size_limit(size)
    with pytest.raises(UserError, match=r"^output=\S+ cannot be written \(File too large\)"):
        write_rows(str(output))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", FORMATS)
def test_an_end_between_two_rows_leaves_the_file_before(tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"out{ending}"
    output.write_text("before")
    with pytest.raises(SystemExit):
        write_rows(str(output), end=SystemExit(143))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_full_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(UserError, match=r"^standard output cannot be written \(No space left"):
            write_rows("-")


def test_a_closed_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(UserError, match="standard output is closed"):
        write_rows("-")
