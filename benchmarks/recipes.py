"""Compare settings by cross-validation on training rows, to choose the defaults of conf/.

    python -m benchmarks.recipes
    python -m benchmarks.recipes --data FOLDER --seeds 0 1 --most-folds 2
    python -m benchmarks.recipes --sets GunPoint --variants default stem=conv
    python -m benchmarks.recipes --variant "lr=1e-2" "optimizer.lr=1e-2"
    python -m benchmarks.recipes --table

The training rows of each set are split into folds. Each fold is held out once, as the test part of
an ordinary run of `train.py` on the other folds; the validation within the run never sees the
fold. The test rows of a set are never read. All variants use the same folds and seeds.

Each finished run is added to the output file at once, with its commit. Runs that the file already
contains are skipped, so a stopped benchmark continues where it left off. It does not detect changes
of the code: the title of the table lists all commits, and a fair comparison has only one.
"""

import argparse
import io
import itertools
import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet

from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import TrainConfig
from attnlstm.console import print_table
from attnlstm.data.checks import survey
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.splits import check_bad_rows, deal_folds
from attnlstm.errors import UserError
from attnlstm.training.run import train
from benchmarks.machine import describe_commit
from benchmarks.runs_file import Run, add_run, format_markdown, read_runs, unique
from benchmarks.sets import BenchmarkSet, Kind, choose_sets

CONF = Path(__file__).parents[1] / "conf"

NEVER_HELD_OUT = -1

QUIET = ("callbacks.figures=null", "trainer.enable_progress_bar=false", "baseline=none")
"""Overrides of every run, which do not change the weights."""

MOST_COLUMNS = 5
"""The number of variants per table in the terminal; more variants are split over tables."""

logger = logging.getLogger("benchmarks.recipes")


class Variant(NamedTuple):
    """Overrides of `python train.py` to compare, and the kinds of sets they apply to."""

    overrides: tuple[str, ...]
    kinds: tuple[Kind, ...]


SERIES: tuple[Kind, ...] = ("series",)
TEXT: tuple[Kind, ...] = ("text",)

VARIANTS: dict[str, Variant] = {
    "default": Variant((), SERIES + TEXT),
    "stem=none": Variant(("model/stem=none",), SERIES),
    "stem=conv": Variant(("model/stem=conv",), SERIES),
    "filters=48": Variant(("model.stem.num_filters=48",), SERIES),
    "filters=128": Variant(("model.stem.num_filters=128",), SERIES),
    "hidden=128": Variant(("model.lstm.hidden_size=128",), SERIES + TEXT),
    "attention only": Variant(("model.pooling=[hn_query]",), SERIES + TEXT),
    "max only": Variant(("model.pooling=[max]",), SERIES + TEXT),
    "skip=mean,max": Variant(("model.skip_pooling=[mean,max]",), SERIES + TEXT),
    "no skip": Variant(("model.skip_pooling=[]",), TEXT),
    "no n-grams": Variant(("model.ngrams=null",), TEXT),
    "batch=32": Variant(("data.batch_size=32",), SERIES + TEXT),
    "steps=400": Variant(("budget.steps=400",), SERIES + TEXT),
    "steps=1200": Variant(("budget.steps=1200",), SERIES + TEXT),
    "lr=1e-3": Variant(("optimizer.lr=1e-3",), SERIES + TEXT),
    "lr=5e-3": Variant(("optimizer.lr=5e-3",), SERIES + TEXT),
    "no noise": Variant(("data.noise=0.0",), SERIES),
    "no smoothing": Variant(("loss.label_smoothing=0.0",), SERIES + TEXT),
    "holdout": Variant(("validation=holdout",), SERIES + TEXT),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    output = Path("runs/recipes.json")
    parser.add_argument("--output", type=Path, default=output, help="JSON file; %(default)s")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder with more sets")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="default: all")
    parser.add_argument(
        "--variants",
        nargs="*",
        metavar="NAME",
        help=f"any of {', '.join(VARIANTS)};\ndefault: all, or with --variant only the first",
    )
    parser.add_argument(
        "--variant",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "OVERRIDES"),
        help="an extra variant: --variant wide 'model.lstm.hidden_size=256 optimizer.lr=1e-3'",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--most-folds", type=int, help="hold out only this many folds")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--table", action="store_true", help="print the output file and run nothing")
    shown.add_argument("--markdown", action="store_true", help="the same, as Markdown")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")  # the runs log many lines
    logger.setLevel(logging.INFO)
    try:
        failed = 0
        if not options.table and not options.markdown:
            variants = choose_variants(options.variants, options.variant)
            sets = choose_sets(options.data, options.sets)
            folds = (options.folds, min(options.folds, options.most_folds or options.folds))
            failed = run_all(options.output, sets, variants, options.seeds, *folds)
        print_runs(read_runs(options.output), options.markdown)
    except UserError as error:
        parser.error(str(error))
    sys.exit(1 if failed else 0)


def choose_variants(
    names: Sequence[str] | None, added: Sequence[tuple[str, str]]
) -> dict[str, Variant]:
    """Return the named and the added variants, or all of `VARIANTS` if there are none.

    Raises:
        UserError: a name is unknown, or an added variant has the name of another.
    """
    if names is None:
        names = ["default"] if added else list(VARIANTS)
    for name in names:
        if name not in VARIANTS:
            raise UserError(f"--variants: unknown name {name}, choose from {', '.join(VARIANTS)}")
    variants = {name: VARIANTS[name] for name in names}
    for name, overrides in added:
        if name in VARIANTS or name in variants:
            raise UserError(f"--variant {name}: this name is taken, choose another")
        variants[name] = Variant(tuple(shlex.split(overrides)), SERIES + TEXT)
    return variants


def run_all(
    output: Path,
    sets: Sequence[BenchmarkSet],
    variants: Mapping[str, Variant],
    seeds: Sequence[int],
    num_folds: int,
    most_folds: int,
) -> int:
    """Run what is missing from the output file, and return the number of failed runs.

    The first fold of all sets and variants is run before the second fold of any.

    Raises:
        UserError: `train.py` does not accept an override, or the output file contains runs that
            cannot be compared with these.
    """
    of_kind = {benchmark_set.kind: benchmark_set for benchmark_set in sets}
    for benchmark_set, variant in itertools.product(of_kind.values(), variants.values()):
        if benchmark_set.kind in variant.kinds:  # a typo fails now, not hours later
            configure(benchmark_set, variant.overrides, 0)
    runs = read_runs(output)
    check_comparable(runs, variants, num_folds)
    done = {describe_key(run) for run in runs}
    if done:
        logger.info("%s already has %d runs", output, len(done))
    open_training_rows = cache(TrainingRows)
    failed = 0
    for seed, fold, benchmark_set in itertools.product(seeds, range(most_folds), sets):
        for name, variant in variants.items():
            key = (benchmark_set.name, name, seed, fold)
            if benchmark_set.kind not in variant.kinds or key in done:
                continue
            rows = open_training_rows(benchmark_set)
            try:
                reached = measure(rows, variant.overrides, num_folds, fold, seed)
            except UserError as error:
                failed += 1
                logger.error("%s, %s, seed %d, fold %d failed: %s", *key, error)
                continue
            given = {
                "set": benchmark_set.name,
                "kind": benchmark_set.kind,
                "variant": name,
                "overrides": list(variant.overrides),
                "seed": seed,
                "fold": fold,
                "folds": num_folds,
                "commit": describe_commit(),
            }
            add_run(output, given | reached)
            logger.info(
                "%s, %s, seed %d, fold %d: %.4f in %.0f s",
                *key,
                reached["accuracy"],
                reached["seconds"],
            )
    return failed


def describe_key(run: Run) -> tuple[str, str, int, int]:
    """Return the key that identifies a run in a file."""
    return run["set"], run["variant"], run["seed"], run["fold"]


def check_comparable(runs: Sequence[Run], variants: Mapping[str, Variant], num_folds: int) -> None:
    """Raise a UserError if the runs have another number of folds or changed variants."""
    for run in runs:
        if run["folds"] != num_folds:
            raise UserError(
                f"the output file has runs of {run['folds']} folds: give --folds {run['folds']}, "
                "or another --output"
            )
        variant = variants.get(run["variant"])
        if variant is not None and list(variant.overrides) != run["overrides"]:
            raise UserError(
                f"the output file has runs of a variant {run['variant']} with other overrides "
                f"({' '.join(run['overrides'])}): choose another name, or another --output"
            )


def configure(benchmark_set: BenchmarkSet, overrides: Sequence[str], seed: int) -> TrainConfig:
    """Compose the configuration of `python train.py` for files instead of the set itself."""
    source = "series_files" if benchmark_set.kind == "series" else "text_files"
    given = [f"data={source}", f"data.name={benchmark_set.name}", f"seed={seed}"]
    return compose_config(CONF, "train", TrainConfig, [*given, *QUIET, *overrides])


class TrainingRows:
    """The training rows of a set, in memory.

    Raises:
        UserError: they cannot be read, or there are bad rows.
    """

    def __init__(self, benchmark_set: BenchmarkSet) -> None:
        self.set = benchmark_set
        self.source: RowSource = benchmark_set.open_train()
        self.found = survey(self.source)
        check_bad_rows({"train": self.found}, "stop")
        self.rows: list[Row] = list(self.source)

    def deal(self, num_folds: int, seed: int) -> np.ndarray:
        """Return the fold of each row `[row]`, stratified by class; identical rows share a fold.

        Classes with all rows in one fold are `NEVER_HELD_OUT`: a model trained on the other folds
        would not know them.
        """
        labels = self.found.labels
        folds = deal_folds(self.found, labels, self.found.usable, num_folds, seed)
        for label in np.unique(self.found.labels):
            members = self.found.labels == label
            if len(np.unique(folds[members])) == 1:
                folds[members] = NEVER_HELD_OUT
        return folds


def measure(
    rows: TrainingRows, overrides: Sequence[str], num_folds: int, fold: int, seed: int
) -> Run:
    """Train on all folds except one, and test on that fold."""
    held_out = rows.deal(num_folds, seed) == fold
    if not held_out.any():
        raise UserError(f"{rows.set.name} has no row in fold {fold}: give fewer --folds")
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = {}
        for part, mask in (("train", ~held_out), ("test", held_out)):
            chosen = [row for row, is_in in zip(rows.rows, mask, strict=True) if is_in]
            files[part] = str(write_rows(folder / part, chosen, rows.set.kind))
        config = configure(rows.set, overrides, seed)
        config = config.model_copy(update={"data": config.data.model_copy(update=files)})
        started = time.monotonic()
        with (
            patch.object(datasets.config, "HF_DATASETS_CACHE", folder / "cache"),
            redirect_stdout(io.StringIO()),
        ):
            result = train(config, folder / "run")
        return {
            "accuracy": result.metrics["test/accuracy"],
            "steps": result.trainer.global_step,
            "seconds": round(time.monotonic() - started, 1),
            "trained_rows": int((~held_out).sum()),
            "held_out_rows": int(held_out.sum()),
        }


def write_rows(stem: Path, rows: Sequence[Row], kind: Kind) -> Path:
    """Write rows to a file for `data.train`: `.npz` for series, `.parquet` for texts."""
    labels = [str(row.label) for row in rows]
    if kind == "text":
        path = stem.with_suffix(".parquet")
        table = pyarrow.table({"text": [row.value for row in rows], "label": labels})
        pyarrow.parquet.write_table(table, path)
        return path
    path = stem.with_suffix(".npz")
    series = [np.asarray(row.value) for row in rows]
    lengths = np.array([len(steps) for steps in series])
    padded = np.zeros((len(rows), lengths.max(), series[0].shape[1]))
    for number, steps in enumerate(series):
        padded[number, : len(steps)] = steps
    np.savez(path, X=padded, y=np.array(labels), lengths=lengths)
    return path


def print_runs(runs: Sequence[Run], as_markdown: bool) -> None:
    """Print one table per kind of set."""
    for kind in ("series", "text"):
        of_kind = [run for run in runs if run["kind"] == kind]
        if not of_kind:
            continue
        columns, rows = tabulate(of_kind)
        if as_markdown:
            print(f"\n{describe_runs(of_kind)}\n\n{format_markdown(columns, rows)}")
        else:
            for first in range(1, len(columns), MOST_COLUMNS):
                places = [0, *range(len(columns))[first : first + MOST_COLUMNS]]
                shown = [[row[place] for place in places] for row in rows]
                print_table(describe_runs(of_kind), [columns[place] for place in places], shown)


def describe_runs(runs: Sequence[Run]) -> str:
    """Return the title of a table."""
    folds = sorted(unique(runs, "fold"))
    seeds = ", ".join(map(str, sorted(unique(runs, "seed"))))
    commits = ", ".join(str(commit) for commit in unique(runs, "commit"))
    return (
        f"Accuracy on held-out training rows, {runs[0]['kind']}: {len(folds)} of "
        f"{runs[0]['folds']} folds, seeds {seeds}, commit {commits}"
    )


def tabulate(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Return one row per set and one column per variant, with means and seconds at the bottom.

    A cell with fewer runs than others in its row shows their number. Means, and differences from
    the first variant with their standard error, include only sets with all runs of all variants.
    """
    variants = unique(runs, "variant")
    variants.sort(key=lambda name: name != "default")
    rows, complete = [], []
    for name in unique(runs, "set"):
        of_set = [run for run in runs if run["set"] == name]
        found = [[run["accuracy"] for run in of_set if run["variant"] == v] for v in variants]
        most = max(map(len, found))
        cells = [
            f"{mean(values):.3f}" + f" ({len(values)})" * (len(values) < most) if values else "-"
            for values in found
        ]
        rows.append([name, *cells])
        if all(len(values) == most for values in found):
            complete.append([mean(values) for values in found])
    if complete:
        by_variant = list(zip(*complete, strict=True))
        rows.append([f"mean of {len(complete)}", *(f"{mean(of):.3f}" for of in by_variant)])
        if len(complete) > 1 and len(variants) > 1:
            differences = [describe_difference(of, by_variant[0]) for of in by_variant[1:]]
            rows.append([f"against {variants[0]}", "", *differences])
    seconds = [mean(run["seconds"] for run in runs if run["variant"] == v) for v in variants]
    rows.append(["seconds", *(f"{value:.0f}" for value in seconds)])
    return ["set", *variants], rows


def describe_difference(values: Sequence[float], first: Sequence[float]) -> str:
    """Format the mean difference and its standard error."""
    differences = [value - base for value, base in zip(values, first, strict=True)]
    return f"{mean(differences):+.3f} ± {stdev(differences) / len(differences) ** 0.5:.3f}"


if __name__ == "__main__":
    main()
