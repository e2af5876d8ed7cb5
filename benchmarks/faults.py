"""Kill runs at random times, resume them, and compare the results with an uninterrupted run.

    python -m benchmarks.faults
    python -m benchmarks.faults --kills 20 --seed 1 data.num_workers=2

One run of `python train.py` is not interrupted. Other runs with the same configuration receive
SIGKILL, SIGTERM or SIGINT at a random time within its duration, and are continued with `resume=`.
Their results must be bit-identical to those of the first run: weights, optimizer, schedule, random
state, and every row of metrics.csv.
"""

import argparse
import multiprocessing
import os
import random
import runpy
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from attnlstm.console import print_table

ROOT = Path(__file__).parents[1]

SMALL = [
    *("model.lstm.hidden_size=16", "trainer.max_epochs=6", "trainer.accelerator=cpu"),
    *("model/stem=none", "validation=holdout", "refit=true", "data.batch_size=16"),
    *("data.noise=0.1", "callbacks.figures=null", "trainer.enable_progress_bar=false"),
    "baseline=none",
]
"""Overrides for a run of a few seconds, with a refit."""

EXIT_CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}

FAULTS = ("unreadable checkpoints", "runs with other metric rows", "wrong exit codes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the random times and signals")
    parser.add_argument("overrides", nargs="*", help="overrides of every run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = measure(options.kills, options.seed, options.overrides, Path(folder))
    rows = [[f"stopped by {number.name}", str(counts[number.name])] for number in EXIT_CODES]
    rows.append(["bit-identical at the end", f"{counts['identical']} of {options.kills}"])
    rows += [[fault, str(counts[fault])] for fault in FAULTS]
    print_table(f"{options.kills} kills", ["what", "count"], rows)
    sys.exit(counts["identical"] < options.kills or any(counts[fault] for fault in FAULTS))


def measure(kills: int, seed: int, overrides: Sequence[str], folder: Path) -> Counter[str]:
    """Stop and resume this many runs, and count the outcomes."""
    import attnlstm.training.run  # noqa: F401  once: the runs are forks of this process

    generator = random.Random(seed)
    arguments = [*SMALL, *overrides, "overwrite=true"]  # the output is in the folder, too
    alone = folder / "alone"
    for _ in range(2):  # the first run also fills the cache of datasets
        code = run([*arguments, f"hydra.run.dir={alone}"], alone)
        assert code == 0, (alone / "output.txt").read_text()
    duration = (alone / "metrics.json").stat().st_mtime - (alone / "config.yaml").stat().st_mtime
    counts: Counter[str] = Counter()
    for kill in track(range(kills), "stopping and resuming"):
        run_dir = folder / str(kill)
        number = generator.choice(list(EXIT_CODES))
        instant = generator.uniform(0, duration)
        code = run([*arguments, f"hydra.run.dir={run_dir}"], run_dir, number, instant)
        counts[number.name] += 1
        counts["wrong exit codes"] += code not in (EXIT_CODES[number], 0)  # 0: it had finished
        for path in run_dir.rglob("*.ckpt"):
            counts["unreadable checkpoints"] += not is_readable(path)
        counts["wrong exit codes"] += run([f"resume={run_dir}"], run_dir) != 0
        found = differences(alone, run_dir)
        counts["identical"] += not found
        counts["runs with other metric rows"] += any("metrics" in name for name in found)
        if found:
            print(f"{number.name} after {instant:.3f} s: {', '.join(found[:5])}", file=sys.stderr)
    return counts


def run(
    arguments: list[str], run_dir: Path, number: int | None = None, instant: float = 0.0
) -> int | None:
    """Run train.py, signal it `instant` seconds after its start, and return its exit code."""
    process = multiprocessing.get_context("fork").Process(target=train, args=(arguments, run_dir))
    process.start()
    if number is not None:
        while process.is_alive() and not (run_dir / "config.yaml").exists():
            time.sleep(0.001)
        process.join(instant)
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, number)
    process.join()
    return process.exitcode


def train(arguments: list[str], run_dir: Path) -> None:
    """Run train.py in this process, with its output in the run folder."""
    run_dir.mkdir(exist_ok=True)
    output = os.open(run_dir / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["train.py", *arguments]
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


def is_readable(path: Path) -> bool:
    try:
        return "state_dict" in torch.load(path, weights_only=True)
    except Exception:  # of many types
        return False


def differences(folder: Path, other: Path) -> list[str]:
    """Return the names of what differs between two runs, compared bit by bit."""
    found = []
    for pattern in ("checkpoints/*.ckpt", "**/metrics.csv", "metrics.json"):
        names = {path.relative_to(root) for root in (folder, other) for path in root.glob(pattern)}
        for name in sorted(names):
            if not ((folder / name).is_file() and (other / name).is_file()):
                found.append(f"{name} is missing")
            elif name.suffix == ".ckpt":
                values = [torch.load(root / name, weights_only=True) for root in (folder, other)]
                found += [f"{name}:{key}" for key in unequal(*values)]
            elif (folder / name).read_bytes() != (other / name).read_bytes():
                found.append(str(name))
    return found


def unequal(first: Any, second: Any, key: str = "") -> list[str]:
    """Return the keys at which two checkpoints differ, ignoring the folder they are in."""
    if type(first) is not type(second):
        return [key]
    if isinstance(first, dict):
        if any("best_model_path" in value for value in (first, second)):
            first, second = (
                {k: v for k, v in value.items() if "dir" not in k and "path" not in k}
                | {"best_k_models": list(value["best_k_models"].values())}
                for value in (first, second)
            )
        if first.keys() != second.keys():
            return [key]
        return [found for k in first for found in unequal(first[k], second[k], f"{key}/{k}")]
    if isinstance(first, list | tuple):
        if len(first) != len(second):
            return [key]
        pairs = enumerate(zip(first, second, strict=True))
        return [found for n, pair in pairs for found in unequal(*pair, f"{key}/{n}")]
    if isinstance(first, Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [key]
    return [] if first == second else [key]


if __name__ == "__main__":
    main()
