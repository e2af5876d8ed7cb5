"""Run a command, and write down how long it took and how much memory it had at its peak.

    python -m benchmarks.measured_process USAGE.json COMMAND ...

A process of its own, which imports next to nothing: on Linux, the peak of a new process starts at
what its parent has had, so that a parent with torch in it would hide a small child.
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
    """What a command took.

    peak_bytes: of resident memory, of the largest of its processes.
    output: what it wrote to standard output and error.
    """

    exit_code: int
    seconds: float
    peak_bytes: int
    output: str


def run_measured(command: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Run a command, with these variables besides this process's own, in the repository."""
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
        "peak_bytes": usage.ru_maxrss * 1024,  # Linux counts in KiB
    }
    report.write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
