"""Every command and every line of Python in the README runs."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

COMMANDS = re.findall(r"^\$ (.+)$", README, flags=re.MULTILINE)
PYTHON = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)

QUICK = ["model.lstm.hidden_size=8", "trainer.max_epochs=1"]
"""What makes a training command a matter of a second; it comes last and so takes precedence."""


def test_the_readme_has_commands_and_python() -> None:
    assert len(COMMANDS) > 8
    assert len(PYTHON) >= 2


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_commands_are_targets(command: str) -> None:
    subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_commands_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process, from a folder of their own; `runs/` carries over from one to the next."""
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        program, *arguments = shlex.split(command.partition("  #")[0])
        if program == "make":
            continue
        assert program == "python", command
        script, *overrides = arguments
        if script == "train.py":
            overrides += QUICK
        monkeypatch.setattr(sys, "argv", [script, *overrides])
        runpy.run_path(str(ROOT / script), run_name="__main__")  # a mistake raises SystemExit
    assert os.listdir(tmp_path) == ["runs"]


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.splitlines()[0])
def test_python_runs(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})
