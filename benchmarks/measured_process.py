"""Run a command and record its duration, its processor time and its peak memory.

    python -m benchmarks.measured_process USAGE.json COMMAND ...

This is a separate process that imports very little, because on Linux the peak of a new process
starts at the memory of its parent: a parent that has imported torch would hide a small child.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Usage(NamedTuple):
    """The resources that a command used.

    processor_seconds: of all its threads, in the program and in the system.
    peak_bytes: the peak resident memory of the largest process.
    output: standard output and standard error.
    """

    exit_code: int
    seconds: float
    processor_seconds: float
    peak_bytes: int
    output: str


def run_measured(command: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Run a command in the root of the repository, with additional environment variables."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "usage.json"
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.measured_process", str(report), *command],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=True,
        )
        return Usage(**json.loads(report.read_text()), output=finished.stdout)


def main() -> None:
    report, command = Path(sys.argv[1]), sys.argv[2:]
    started = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    measured = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,  # Linux counts in KiB
    }
    report.write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
