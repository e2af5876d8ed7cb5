"""Measure how many texts per second `python predict.py` predicts, including its startup.

    python -m benchmarks.prediction
    python -m benchmarks.prediction --ckpt runs/bbc_news/.../best.ckpt --texts 20000

The texts are the bundled BBC News articles, repeated and cut to their first 64 words. Without a
checkpoint, the model is that of `python train.py data=bbc_news data.max_length=64` after one epoch
of training, because its accuracy does not affect its speed.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from attnlstm.console import print_table
from attnlstm.data.sources.bbc_news import BBCNews

ROOT = Path(__file__).parents[1]
TOKENS = 64

TRAINING = [
    "data=bbc_news",
    f"data.max_length={TOKENS}",
    "trainer.max_epochs=1",
    "validation=holdout",
    "refit=false",
    "baseline=none",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--ckpt", type=Path)
    parser.add_argument("--texts", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="overrides of predict.py")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = options.ckpt
        if checkpoint is None:
            run("train.py", [*TRAINING, f"hydra.run.dir={folder}/run"], folder)
            checkpoint = folder / "run" / "checkpoints" / "best.ckpt"
        rows = []
        for texts in (1, options.texts):
            write_texts(folder / "texts.csv", texts)
            arguments = [
                f"ckpt={checkpoint.resolve()}",
                f"input={folder}/texts.csv",
                f"output={folder}/predictions.csv",
                "overwrite=true",
                f"runs_dir={folder}/runs",
                *options.overrides,
            ]
            seconds = [run("predict.py", arguments, folder) for _ in range(options.repeats)]
            rows.append([f"{texts:,}", f"{median(seconds):.2f}", f"{texts / median(seconds):,.0f}"])
        print_table("prediction", ["texts", "seconds", "texts per second"], rows)


def write_texts(path: Path, count: int) -> None:
    """Write a CSV file of short texts."""
    articles = [" ".join(str(row.value).split()[:TOKENS]) for row in BBCNews("test")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([text] for text in islice(cycle(articles), count))


def run(script: str, arguments: Sequence[str], folder: Path) -> float:
    """Run a command and return its duration in seconds."""
    started = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=folder, check=True)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
