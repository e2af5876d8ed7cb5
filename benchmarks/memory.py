"""Measure the peak memory of training on a text file that is larger than this memory.

    python -m benchmarks.memory
    python -m benchmarks.memory --gigabytes 0.1

Trains with `python train.py` on a generated CSV file of the given size, and on a small file with
the same vocabulary and model. The difference between the two peaks of resident memory is the cost
of the data.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from attnlstm.console import print_table
from benchmarks.measured_process import run_measured

GIGABYTE = 10**9

OVERRIDES = [
    "data=text_files",
    "model.lstm.hidden_size=64",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=200",
    "trainer.limit_val_batches=20",
    "trainer.limit_test_batches=20",
    "validation=holdout",
    "refit=false",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("overrides", nargs="*", help="overrides of every run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for gigabytes in (0.002, options.gigabytes):
            path = Path(folder) / "texts.csv"
            texts = write_texts(path, round(gigabytes * GIGABYTE))
            started = time.monotonic()
            peak = measure(path, Path(folder), options.overrides)
            seconds = time.monotonic() - started
            rows.append(
                [
                    f"{path.stat().st_size / GIGABYTE:.3f} GB",
                    f"{texts:,}",
                    f"{peak / GIGABYTE:.2f} GB",
                    f"{seconds:.0f}",
                ]
            )
    print_table("peak resident memory", ["file", "texts", "peak", "seconds"], rows)


def write_texts(path: Path, size: int) -> int:
    """Write texts of 5 to 200 words with Zipf-distributed frequencies, and return their number."""
    generator = random.Random(0)
    words = [f"word{number}" for number in range(200_000)]
    frequencies = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    written = texts = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        while written < size:
            drawn = generator.choices(words, cum_weights=frequencies, k=100_000)
            place = 0
            while place < len(drawn) and written < size:
                length = generator.randint(5, 200)
                line = f"{' '.join(drawn[place : place + length])},{texts % 4}\n"
                written += file.write(line)
                texts += 1
                place += length
    return texts


def measure(path: Path, folder: Path, overrides: Sequence[str]) -> int:
    """Train once, and return the peak resident memory of the largest process, in bytes."""
    command = [sys.executable, "train.py", *OVERRIDES, f"data.train={path}"]
    command += [f"runs_dir={folder}/runs", *overrides]
    usage = run_measured(command, {"HF_DATASETS_CACHE": str(folder / "cache")})
    if usage.exit_code:
        raise SystemExit(f"the run failed with {usage.exit_code}:\n{usage.output}")
    return usage.peak_bytes


if __name__ == "__main__":
    main()
