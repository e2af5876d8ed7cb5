"""Measure what other programs on the machine cost a training run.

    python -m benchmarks.busy
    python -m benchmarks.busy trainer.max_epochs=2 --runs series --threads 2

The default run on series and a run on texts are trained for a few epochs: alone, beside one and
beside two programs that never rest, and with a quota of half a processor (a cgroup, which takes the
rights of an administrator). The table compares each run with the same run alone:

- the ratio of the processor times; more than 1 is time spent on waiting;
- the ratio of the wall times, next to the fair one: each runnable thread gets the same share of the
  processors.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from rich.progress import track

from attnlstm.console import print_table
from attnlstm.training.threads import CGROUPS, count_processors
from benchmarks.measured_process import Usage, run_measured

RUNS = {
    "series": ["trainer.max_epochs=3"],
    "texts": ["data=bbc_news", "trainer.max_epochs=1"],
}

SHORT = ["validation=holdout", "refit=false", "baseline=none", "callbacks.figures=null"]

BUSY_LOOP = "while True: pass"

QUOTA, PERIOD = 50_000, 100_000  # microseconds: half a processor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("overrides", nargs="*", help="overrides of every run")
    options = parser.parse_args()
    cases = list(product(options.runs, options.threads))
    with tempfile.TemporaryDirectory() as folder, quota_group() as group:
        shared = [f"runs_dir={folder}/runs", *SHORT, *options.overrides]
        rows = []
        for name, threads in track(cases, "measuring"):
            overrides = [*RUNS[name], *shared, f"num_threads={threads}"]
            rows += measure([sys.executable, "train.py", *overrides], threads, group)
            rows[-4 if group else -3][0] = f"{name}, {threads}"
    columns = ["run, threads", "machine", "processor time", "wall time", "fair wall time"]
    print_table(f"{count_processors()} processors; times of the run alone", columns, rows)


def measure(command: Sequence[str], threads: int, group: Path | None) -> list[list[str]]:
    """Return a row of the table for each state of the machine; alone is the first one."""
    alone = run(command)
    seconds = [f"{alone.processor_seconds:.1f} s", f"{alone.seconds:.1f} s"]
    rows = [["", "alone", *seconds, ""]]

    def compare(machine: str, usage: Usage, fair: float) -> None:
        processor = usage.processor_seconds / alone.processor_seconds
        wall = usage.seconds / alone.seconds
        rows.append(["", machine, f"x {processor:.2f}", f"x {wall:.2f}", f"x {max(1, fair):.2f}"])

    for loops in (1, 2):
        with busy_loops(loops):
            usage = run(command)
        compare(f"{loops} busy", usage, (threads + loops) / count_processors())
    if group is not None:
        # The shell joins the group before it becomes the run.
        join = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
        fair = alone.processor_seconds / alone.seconds / (QUOTA / PERIOD)
        compare("half a processor", run([*join, *command]), fair)
    return rows


def run(command: Sequence[str]) -> Usage:
    usage = run_measured(command, {})
    if usage.exit_code:
        raise SystemExit(f"the run failed with {usage.exit_code}:\n{usage.output}")
    return usage


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Keep this many threads busy."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def quota_group() -> Iterator[Path | None]:
    """Create a cgroup with the quota; None where this is not possible."""
    root = CGROUPS / "cpu" if (CGROUPS / "cpu").is_dir() else CGROUPS  # version 1 or 2
    group = root / f"attnlstm_busy_{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        yield group if _limit(group) else None
    finally:
        group.rmdir()


def _limit(group: Path) -> bool:
    """Set the quota; return whether the group has one, which takes the controller of processors."""
    if (group / "cpu.max").exists():  # version 2
        (group / "cpu.max").write_text(f"{QUOTA} {PERIOD}")
    elif (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(QUOTA))
    else:
        return False
    return True


if __name__ == "__main__":
    main()
