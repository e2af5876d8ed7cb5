"""Files in Arrow's formats with one wrong byte, at each place in turn.

Arrow reads the metadata of such files in C++, and may end the process instead of raising an error.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from attnlstm.data.sources.text_files import TextFiles
from attnlstm.errors import UserError

pytestmark = pytest.mark.slow

ROWS = Dataset.from_dict({"text": ["fine day", "dull day"], "label": ["good", "bad"]})


def write_parquet(folder: Path) -> tuple[Path, Path, int]:
    """Return the path to open, the file to change, and its first place: the footer's."""
    path = folder / "rows.parquet"
    pq.write_table(ROWS.data.table, path)
    content = path.read_bytes()
    return path, path, len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def write_saved(folder: Path) -> tuple[Path, Path, int]:
    """Return the same for a folder of save_to_disk, whose stream begins with its columns."""
    ROWS.save_to_disk(folder / "rows")
    (path,) = (folder / "rows").glob("*.arrow")
    return folder / "rows", path, 0


CHANGES = {
    "no UTF-8": lambda _: 0xFF,
    "0": lambda _: 0,
    "another bit": lambda byte: byte ^ 1,
    "an interval's type": lambda _: 11,  # of months, for which pyarrow has no class
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("write", [write_parquet, write_saved])
def test_any_byte_may_be_wrong(tmp_path: Path, write: Callable, change: Callable) -> None:
    named, path, first = write(tmp_path)
    content = path.read_bytes()
    refused = 0
    for place in range(first, len(content)):
        path.write_bytes(content[:place] + bytes([change(content[place])]) + content[place + 1 :])
        try:
            list(TextFiles([named], key="data.train"))
        except UserError as error:
            refused += str(named) in str(error)
    assert refused > 50
    path.write_bytes(content)
    assert [row.value for row in TextFiles([named], key="data.train")] == ["fine day", "dull day"]
