"""The command `attnlstm` and its verbs; each verb is a program of its own."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import attnlstm
from attnlstm.cli.verbs import main

ROOT = Path(__file__).parents[2]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["attnlstm", *arguments])
    main()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_verbs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    call(monkeypatch, *arguments)
    shown = capsys.readouterr().out
    verbs = [path.stem for path in (ROOT / "conf").glob("*.yaml")]
    assert "train" in verbs
    for verb in verbs:
        (line,) = [line for line in shown.splitlines() if line.startswith(f"  {verb} ")]
        assert line.endswith(".")  # what it does
        assert (ROOT / f"{verb}.py").exists()


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "--version")
    assert capsys.readouterr().out == f"attnlstm {attnlstm.__version__}\n"


@pytest.mark.parametrize(
    ("verb", "hint"),
    [
        ("trian", "did you mean train?"),
        ("pred", "did you mean predict?"),
        ("data=text_files", "expected one of evaluate, predict, train"),
    ],
)
def test_a_mistyped_verb_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, hint: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, verb)
    assert capsys.readouterr().err == f"error: unknown verb {verb}: {hint}\n"


@pytest.mark.filterwarnings("ignore:'attnlstm.cli.train' found in sys.modules")
def test_lightning_can_repeat_a_verb_in_other_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import attnlstm.training.run

    seen: dict[str, Any] = {}

    def fake(config: Any, run_dir: Path) -> SimpleNamespace:
        seen.update(module=sys.modules["__main__"].__spec__.name, argv=sys.argv[1:], config=config)
        return SimpleNamespace(metrics={})

    monkeypatch.setattr(attnlstm.training.run, "train", fake)
    monkeypatch.chdir(tmp_path)
    call(monkeypatch, "train", "seed=3")
    assert seen["module"] == "attnlstm.cli.train"
    assert seen["argv"][0].startswith("hydra.run.dir='runs/JapaneseVowels/")
    assert seen["argv"][1:] == ["++seed=3"]
    assert seen["config"].seed == 3
    (log,) = tmp_path.rglob("*.log")
    assert log.name == "train.log"


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "attnlstm", "train", "modle.x=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: unknown key modle.x: did you mean model?\n"
