"""How many threads a run takes: by its setting, the environment, affinity and quotas."""

import os
import runpy
import sys
from pathlib import Path

import pytest

import attnlstm
from attnlstm.training.threads import choose_threads, count_processors


def test_a_number_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert choose_threads(3) == 3


@pytest.mark.parametrize(
    ("given", "expected"), [("5", 5), ("3,2", 3), ("0", None), ("many", None), ("", None)]
)
def test_auto_is_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: int | None
) -> None:
    """joblib and SLURM set the variable for each of several processes."""
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert choose_threads("auto") == (expected or count_processors())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no affinity")
def test_auto_follows_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert choose_threads("auto") == 1


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "350000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/not/in/the/container", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "damaged"}, 8),
        ("4:cpu,cpuacct:/a\n0::/", {"cpu/a/cpu.cfs_quota_us": "-1"}, 8),
        (
            "9:cpuset:/a\n1:cpu:/a\n0::/",
            {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"},
            2,
        ),
    ],
)
def test_processors_follow_the_quota(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    membership: str,
    files: dict[str, str],
    expected: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    (tmp_path / "membership").write_text(membership + "\n")
    assert count_processors(tmp_path, tmp_path / "membership") == expected
    assert count_processors(tmp_path, tmp_path / "missing") == 8


@pytest.mark.parametrize("policy", [None, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, policy: str | None
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "to be removed again")
        monkeypatch.delenv(name)
    if policy is not None:
        monkeypatch.setenv(policy, "active")
    runpy.run_path(str(attnlstm.__file__))
    assert os.environ.get("GOMP_SPINCOUNT") == {None: "5000", "GOMP_SPINCOUNT": "active"}.get(
        policy
    )
