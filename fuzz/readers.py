"""Coverage-guided fuzzing of the readers of untrusted files.

    $ pip install atheris
    $ python fuzz/readers.py -max_total_time=600 -max_len=4096 corpus/

The first byte of an input selects the reader. Whatever a file contains, reading it must give rows,
each with a value or a problem, or raise a UserError. Anything else is a bug: it stops the fuzzer,
which saves the input in a file `crash-...`.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["attnlstm.data"]):
    from attnlstm.data.checks import find_problem
    from attnlstm.data.encoders.text import TextEncoder
    from attnlstm.data.formats.texts import TextLines
    from attnlstm.data.formats.vectors import load_vectors
    from attnlstm.data.rows import Row
    from attnlstm.data.sources.series_files import SeriesFiles
    from attnlstm.data.sources.text_files import TextFiles

from attnlstm.errors import UserError

MOST_ROWS = 1000
FOLDER = Path(tempfile.mkdtemp(prefix="attnlstm_fuzz_"))

Reader = Callable[[Path], Iterator[Row]]


def texts(path: Path) -> Iterator[Row]:
    return iter(TextFiles([path], key="data.train"))


def series(path: Path) -> Iterator[Row]:
    return iter(SeriesFiles([path], key="data.train"))


def unlabelled(path: Path) -> Iterator[Row]:
    return iter(SeriesFiles([path], key="input", needs_labels=False))


def lines(path: Path) -> Iterator[Row]:
    return iter(TextLines(path))


def vectors(path: Path) -> Iterator[Row]:
    load_vectors(path, {"fine": 0}, skip_malformed=True)
    return iter(())


def tokenizer(path: Path) -> Iterator[Row]:
    TextEncoder.from_file(path, max_length=10, truncation="head").encode(["A fine day.", ""])
    return iter(())


READERS: list[tuple[str, Reader]] = [
    (".csv", texts),
    (".tsv", texts),
    (".jsonl", texts),
    (".json", texts),
    (".parquet", texts),
    (".xlsx", texts),
    (".csv.gz", texts),
    (".csv.zst", texts),
    (".csv", series),
    (".jsonl", series),
    (".parquet", series),
    (".ts", series),
    (".npz", series),
    (".txt", lines),
    (".txt", vectors),
    (".json", tokenizer),
    (".arff", series),
    (".npy", unlabelled),
    (".wav", unlabelled),
    (".tsv", series),
    (".txt", series),
]


def read(data: bytes) -> None:
    """Read a file with the content of `data`, using the reader that its first byte selects."""
    suffix, reader = READERS[data[0] % len(READERS) if data else 0]
    path = FOLDER / f"input{suffix}"
    path.write_bytes(data[1:])
    try:
        for row in islice(reader(path), MOST_ROWS):
            problem = find_problem(row, num_channels=1)
            assert problem is not None or row.value is not None
            assert row.label is None or row.label.strip()
    except UserError as error:
        if len(str(error)) > 4000:
            raise AssertionError("the message is too long to read") from error


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
