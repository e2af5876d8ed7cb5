"""Test accuracy over several seeds, beside a baseline on the same split.

    python -m benchmarks.accuracy
    python -m benchmarks.accuracy --seeds 0 1 2 --sets bbc_news

Each run is the one of `python train.py` with the overrides below. The baseline of texts is TF-IDF
with a logistic regression of scikit-learn, with its usual settings, on the same training and test
rows.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from attnlstm.config import TrainConfig
from attnlstm.data import open_sources, split_sources
from attnlstm.data.encoding import is_text
from attnlstm.entry_point import compose_config
from attnlstm.tables import print_table
from attnlstm.training.run import train

CONF = Path(__file__).parents[1] / "conf"

SETS: dict[str, list[str]] = {
    "bbc_news": ["experiment=bbc_news"],
    "JapaneseVowels": [],
    "BasicMotions": ["experiment=basic_motions"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("overrides", nargs="*", help="of the configuration, for every run")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows = []
    for name in options.sets:
        overrides = [*SETS[name], *options.overrides]
        accuracies, seconds = [], []
        for seed in options.seeds:
            started = time.monotonic()
            accuracies.append(measure(overrides, seed))
            seconds.append(time.monotonic() - started)
        config = configure(overrides, options.seeds[0])
        baseline = f"{measure_baseline(config):.4f}" if is_text(config.data) else "-"
        rows.append(
            [
                name,
                describe(accuracies),
                " ".join(f"{accuracy:.4f}" for accuracy in accuracies),
                baseline,
                f"{mean(seconds):.0f}",
            ]
        )
    columns = ["set", "accuracy", "per seed", "baseline", "seconds"]
    print_table("test accuracy; baseline: TF-IDF and logistic regression", columns, rows)


def configure(overrides: Sequence[str], seed: int) -> TrainConfig:
    """The configuration of `python train.py` with these overrides."""
    return compose_config(CONF, "train", TrainConfig, [*overrides, f"seed={seed}", "baseline=none"])


def measure(overrides: Sequence[str], seed: int) -> float:
    """The test accuracy of one run."""
    with tempfile.TemporaryDirectory() as folder:
        return train(configure(overrides, seed), Path(folder)).metrics["test/accuracy"]


def measure_baseline(config: TrainConfig) -> float:
    """The test accuracy of TF-IDF and a logistic regression, fitted on all but the test rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    parts = split_sources(open_sources(config.data), config.data, config.seed).parts
    train_part, test = parts["train"] + parts["validation"], parts["test"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    model.fit([row.value for row in train_part], train_part.targets)
    return float(model.score([row.value for row in test], test.targets))


def describe(values: Sequence[float]) -> str:
    """Mean and sample standard deviation."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
