"""Names from data never act as paths, markup, commands or terminal codes."""

import csv
import html
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LABELS = [
    "../../escaped",
    "/etc/passwd",
    "<script>alert(1)</script>",
    "[bold red]markup[/] [/]",
    "\x1b[31mred\x1b]0;title\x07 \x9b1m",
    "x" * 10_000,
    "$\\frac{ and $",
    "=HYPERLINK(1)",
    "'; touch escaped #$(touch escaped)",
    'two\nlines\r\nand,a "quote"',
    "\u202eright to left\u2028 x",
    "%s {0} {name} ${oc.env:HOME}",
]

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]")


def write_texts(path: Path, count: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(count):
            writer.writerow([f"text {number} <b>[/]\x1b[1m", LABELS[number % len(LABELS)]])
    return path


def test_labels_with_special_characters(
    run_script: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train = write_texts(tmp_path / "train[bold].csv", 10 * len(LABELS))
    test = write_texts(tmp_path / "test.csv", 2 * len(LABELS))
    small = ["model.lstm.hidden_size=4", "model.embedding.size=4", "trainer.max_epochs=1"]
    folder = "it's a run"

    def run(script: str, *arguments: str) -> str:
        finished = run_script(script, *arguments)
        assert finished.code == 0, finished.err
        return finished.out + finished.err

    printed = run(
        "train.py",
        "data=text_files",
        f"data.train={train}",
        f"data.test={test}",
        "hydra.run.dir='it\\'s a run'",
        "trainer.accelerator=cpu",
        *small,
    )
    assert not CONTROLS.search(printed)
    command = printed.partition("evaluate it with: ")[2].partition("\n")[0]
    program, verb, argument = shlex.split(command)
    assert (program, verb) == ("attnlstm", "evaluate")

    printed = run("evaluate.py", argument, "hydra.run.dir=evaluated", "trainer.accelerator=cpu")
    assert not CONTROLS.search(printed)
    assert "[bold red]markup[/] [/]" in printed
    with Path("evaluated/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["true_label"] for row in rows] == LABELS * 2

    printed = run(
        "predict.py",
        argument,
        f"input={test}",
        "output=predictions.csv",
        "report=report.html",
        "hydra.run.dir=predicted",
        "trainer.accelerator=cpu",
    )
    assert not CONTROLS.search(printed)
    with Path("predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["true_label"] for row in rows] == LABELS * 2
    assert [f"probability of {label}" for label in LABELS] == sorted(
        (name for name in rows[0] if name.startswith("probability of ")),
        key=lambda name: LABELS.index(name.removeprefix("probability of ")),
    )
    page = Path("report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert html.escape("<script>alert(1)</script>") in page
    printed = run("predict.py", argument, "text=a text", "trainer.accelerator=cpu")
    assert not CONTROLS.search(printed)

    for log in tmp_path.rglob("*.log"):
        assert not CONTROLS.search(log.read_text(encoding="utf-8")), log
    names = {path.name for path in Path(folder).rglob("*")}
    assert {"confusion_matrix.png", "attention.png"} <= names
    for path in tmp_path.rglob("*"):
        assert re.fullmatch(r"[\w.\-'\[\] ]+", path.name), path
        assert len(path.name) < 100
        assert "escaped" not in path.name
    assert not (tmp_path.parent / "escaped").exists()


def test_an_error_that_quotes_names_is_one_plain_line(
    run_script: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.csv").write_text(f"text,{'x' * 10_000},a\x1b[31m\x9b\nfine,good,1\n")
    arguments = ["data=text_files", "data.train=train.csv", "hydra.run.dir=run"]
    finished = run_script("train.py", *arguments)
    assert finished.code == 2
    error = finished.err
    assert error.startswith(
        "error: data.train=train.csv has no column with a usual name for the label"
    )
    assert error.count("\n") == 1
    assert len(error) < 1_000
    assert not CONTROLS.search(error)
