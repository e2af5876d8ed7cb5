"""Measure the test accuracy of `python train.py` over several seeds, next to a baseline.

    python -m benchmarks.accuracy
    python -m benchmarks.accuracy --data FOLDER --sets GunPoint BME
    python -m benchmarks.accuracy --markdown

Every set is run with the defaults; only the set itself is specified. Each of these runs is a look
at test rows and belongs in the history in ACCURACY.md. Settings are chosen with
benchmarks.recipes, which never reads test rows. The baselines are read from the baseline.json of
each run, so they use the same rows.

Each run has its own process. Its time and peak memory include imports, reading the data and the
test. Finished runs are added to the output file at once, and runs that the file already contains
are skipped, so a stopped benchmark continues where it left off.
"""

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import TrainConfig
from attnlstm.console import print_table
from attnlstm.data.sources.source import open_sources
from attnlstm.data.splits import split_sources
from attnlstm.errors import UserError
from benchmarks.machine import describe_commit, name_processor
from benchmarks.measured_process import ROOT, run_measured
from benchmarks.runs_file import Run, add_run, format_markdown, read_runs, unique
from benchmarks.sets import BenchmarkSet, choose_sets

PUBLISHED = {
    "JapaneseVowels": "FCN 0.993, ResNet 0.992 (Ismail Fawaz et al., 2019)",
    "reuters_r8": "Text GCN 0.971 (Yao et al., 2019), BERT 0.978 (Galke and Scherp, 2022)",
}
"""Published accuracies on the same splits."""

COLUMNS = [
    *("set", "classes", "train / test", "steps", "accuracy", "per seed", "baseline", "majority"),
    *("published", "seconds", "GB"),
]

SHORT = ("set", "accuracy", "baseline", "majority", "seconds")
"""The columns shown in the terminal, which has no room for all."""

GIGABYTE = 10**9

MAJORITY = "majority class"
"""The name of this baseline in baseline.json."""

logger = logging.getLogger("benchmarks.accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    output = Path("runs/accuracy.json")
    parser.add_argument("--output", type=Path, default=output, help="JSON file; %(default)s")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder with more sets")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--table", action="store_true", help="print the output file and run nothing")
    shown.add_argument("--markdown", action="store_true", help="the same, as Markdown")
    parser.add_argument("overrides", nargs="*", help="overrides of every run")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        failed = 0
        if not options.table and not options.markdown:
            sets = choose_sets(options.data, options.sets)
            failed = run_all(options.output, sets, options.seeds, options.overrides)
        print_runs(read_runs(options.output), options.markdown)
    except UserError as error:
        parser.error(str(error))
    sys.exit(1 if failed else 0)


def run_all(
    output: Path, sets: Sequence[BenchmarkSet], seeds: Sequence[int], overrides: Sequence[str]
) -> int:
    """Run what is missing from the output file, and return the number of failed runs.

    Raises:
        UserError: the output file has runs with other overrides.
    """
    runs = read_runs(output)
    for run in runs:
        if run["overrides"] != list(overrides):
            raise UserError(
                f"{output} has runs with the overrides {' '.join(run['overrides']) or '(none)'}: "
                "give the same ones, or another --output"
            )
    done = {(run["set"], run["seed"]) for run in runs}
    if done:
        logger.info("%s already has %d runs", output, len(done))
    describe = cache(describe_rows)
    failed = 0
    for benchmark_set in sets:
        for seed in seeds:
            if (benchmark_set.name, seed) in done:
                continue
            reached = measure(benchmark_set, seed, overrides)
            if reached is None:
                failed += 1
                continue
            given = {
                "set": benchmark_set.name,
                "kind": benchmark_set.kind,
                "overrides": list(overrides),
                "seed": seed,
                "commit": describe_commit(),
                "processor": name_processor(),
            }
            add_run(output, given | describe(benchmark_set) | reached)
            logger.info(
                "%s, seed %d: %.4f in %.0f s",
                benchmark_set.name,
                seed,
                reached["accuracy"],
                reached["seconds"],
            )
    return failed


def measure(benchmark_set: BenchmarkSet, seed: int, overrides: Sequence[str]) -> Run | None:
    """Run train.py once. Return None if it fails, and log the error."""
    with TemporaryDirectory() as name:
        run_dir = Path(name) / "run"
        command = [sys.executable, "train.py", *benchmark_set.overrides, f"seed={seed}"]
        command += [f"hydra.run.dir={run_dir}", *overrides]
        usage = run_measured(command, {"HF_DATASETS_CACHE": str(Path(name) / "cache")})
        if usage.exit_code:
            last_line = usage.output.rstrip().rpartition("\n")[2]
            logger.error("%s, seed %d failed: %s", benchmark_set.name, seed, last_line)
            return None
        return {
            "accuracy": json.loads((run_dir / "metrics.json").read_text())["test/accuracy"],
            "baselines": {
                name: found["test/accuracy"]
                for name, found in json.loads((run_dir / "baseline.json").read_text()).items()
            },
            "steps": count_steps(run_dir / "checkpoints"),
            "seconds": round(usage.seconds, 1),
            "peak_bytes": usage.peak_bytes,
        }


def count_steps(checkpoints: Path) -> int:
    """Return the optimizer steps of a run, including those of a refit."""
    names = ["last.ckpt"]
    if (checkpoints / "validated.ckpt").exists():
        names.append("best.ckpt")  # written by the refit
    return sum(read_checkpoint(checkpoints / name).loaded["global_step"] for name in names)


def describe_rows(benchmark_set: BenchmarkSet) -> Run:
    """Count the rows and classes of a set."""
    config = compose_config(ROOT / "conf", "train", TrainConfig, benchmark_set.overrides)
    rows = split_sources(open_sources(config.data), config.data, config.seed, validation="auto")
    sizes = {name: len(part) for name, part in rows.parts.items()}
    return {
        "classes": len(rows.label_names),
        "train_rows": sizes["train"] + sizes.get("validation", 0),
        "test_rows": sizes["test"],
    }


def print_runs(runs: Sequence[Run], as_markdown: bool) -> None:
    """Print one table with all sets."""
    if not runs:
        return
    rows = tabulate(runs)
    if as_markdown:
        print(f"{describe_runs(runs)}\n\n{format_markdown(COLUMNS, rows)}")
    else:
        shown = [COLUMNS.index(name) for name in SHORT]
        print_table(describe_runs(runs), SHORT, [[row[place] for place in shown] for row in rows])


def describe_runs(runs: Sequence[Run]) -> str:
    """Return the title of the table."""
    seeds = ", ".join(map(str, sorted(unique(runs, "seed"))))
    parts = [f"Test accuracy, mean ± standard deviation over seeds {seeds}"]
    parts += [f"commit {', '.join(str(commit) for commit in unique(runs, 'commit'))}"]
    parts += [f"on {', '.join(unique(runs, 'processor'))}"]
    names = {name: None for run in runs for name in run["baselines"] if name != MAJORITY}
    parts += [f"baselines: {', '.join(names)}"]
    if runs[0]["overrides"]:
        parts.append(f"with {' '.join(runs[0]['overrides'])}")
    return "; ".join(parts)


def tabulate(runs: Sequence[Run]) -> list[list[str]]:
    """Return one row of `COLUMNS` per set, and the means over the series sets."""
    rows, series = [], []
    for name in unique(runs, "set"):
        of_set = sorted((run for run in runs if run["set"] == name), key=lambda run: run["seed"])
        accuracies = [run["accuracy"] for run in of_set]
        baselines = dict(of_set[0]["baselines"])
        majority = baselines.pop(MAJORITY)
        # That of the first seed, because it hardly depends on it; NaN if it could not be fitted.
        baseline = next(iter(baselines.values()), math.nan)
        seconds = mean(run["seconds"] for run in of_set)
        if of_set[0]["kind"] == "series":
            series.append((mean(accuracies), baseline, majority, seconds))
        rows.append(
            [
                name,
                str(of_set[0]["classes"]),
                f"{of_set[0]['train_rows']:,} / {of_set[0]['test_rows']:,}",
                f"{mean(run['steps'] for run in of_set):.0f}",
                describe(accuracies),
                ", ".join(f"{accuracy:.4f}" for accuracy in accuracies),
                f"{baseline:.4f}",
                f"{majority:.4f}",
                PUBLISHED.get(name, ""),
                f"{seconds:.0f}",
                f"{max(run['peak_bytes'] for run in of_set) / GIGABYTE:.2f}",
            ]
        )
    if len(series) > 1:
        accuracy, baseline, majority, seconds = map(mean, zip(*series, strict=True))
        means = [f"{accuracy:.4f}", "", f"{baseline:.4f}", f"{majority:.4f}", "", f"{seconds:.0f}"]
        rows.append([f"mean of {len(series)} series", "", "", "", *means, ""])
    return rows


def describe(values: Sequence[float]) -> str:
    """Format the mean and the sample standard deviation."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
