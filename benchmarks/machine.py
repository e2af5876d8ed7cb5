"""Describe the machine and the commit of a measurement."""

import os
import platform
import subprocess
from pathlib import Path

import torch


def describe_machine() -> dict[str, str | int | None]:
    """Return the processor, the instructions torch uses, and the versions, for the JSON files."""
    return {
        "processor": name_processor(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def name_processor() -> str:
    """Return the name of the processor model on Linux, otherwise the architecture."""
    description = Path("/proc/cpuinfo")
    if description.exists():
        for line in description.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.machine()


def describe_commit() -> str | None:
    """Return the commit, with "-dirty" if files differ from it, or None outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
