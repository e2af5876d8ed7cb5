"""How many threads compute on the CPU."""

import math
import os
import sys
from pathlib import Path

import torch

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def limit_threads(num_threads: int | str) -> None:
    """Set how many threads share an operation on the CPU; "auto" is `choose_threads`."""
    torch.set_num_threads(choose_threads(num_threads))


def choose_threads(num_threads: int | str) -> int:
    """Return the number of threads that `num_threads` stands for.

    "auto" is what OMP_NUM_THREADS says, which joblib, SLURM and Lightning set for each of several
    processes, and otherwise the number of processors.
    """
    if isinstance(num_threads, int):
        return num_threads
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(given) if given.isdecimal() and int(given) > 0 else count_processors()


def count_processors(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return how many processors this process may use, by its affinity and its cgroups' quotas.

    A quota of less than a whole processor counts as one.
    """
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(count, math.floor(min(_quotas(cgroups, membership), default=count))))


def _quotas(cgroups: Path, membership: Path) -> list[float]:
    """Return the quotas of this process's cgroups and of the groups that contain them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    quotas = []
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers in ("", "cpu", "cpu,cpuacct"):  # of version 2 or 1
            mounted = cgroups / "cpu" if controllers else cgroups
            folder = mounted / group.lstrip("/")
            # In a container the group may not exist, but what is mounted is the container's.
            for level in (folder, *folder.parents):
                quotas += _quota(level)
                if level == mounted:
                    break
    return quotas


def _quota(group: Path) -> list[float]:
    """Return the quota of one cgroup, in processors; nothing if it has none."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return [int(quota) / int(period)] if int(quota) > 0 else []
    except (OSError, ValueError):  # no such group, or "max"
        return []
