"""Every command and every block of Python in the README and in docs/ runs."""

import io
import os
import random
import re
import runpy
import shlex
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnlstm.cli.in_process import compose_job

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

FIRST = (ROOT / "README.md", DOCS / "index.md", DOCS / "tutorial.md")
"""The pages that train the runs that commands on other pages use."""

PAGES = list(dict.fromkeys([*FIRST, *sorted(DOCS.rglob("*.md"))]))

STEP = re.compile(r"^ *\$ (?P<command>.+)$|^```python\n(?P<code>(?:.*\n)*?)```$", re.MULTILINE)

STEPS: dict[str, str] = {}
"""The commands, which begin with "$ ", and blocks of Python, each once, with their page."""
for page in PAGES:
    for step in STEP.finditer(page.read_text()):
        text = step["code"] or f"$ {step['command']}"
        STEPS.setdefault(text, str(page.relative_to(ROOT)))

QUICK = [
    *("model.lstm.hidden_size=8", "trainer.max_epochs=1"),
    *("data.val_fraction=0.2", "num_folds=2", "baseline=none"),
]
"""Overrides that make training take about a second; they come last and so take precedence."""


def make_files(folder: Path) -> None:
    """Write the files that the commands name."""
    generator = random.Random(0)
    words = {"good": ["bright", "moving", "funny"], "bad": ["dull", "long", "bores"]}

    def texts(count: int) -> pd.DataFrame:
        labels = [generator.choice(list(words)) for _ in range(count)]
        drawn = [generator.choices([*words[label], "a", "story", "that"], k=8) for label in labels]
        return pd.DataFrame({"text": map(" ".join, drawn), "label": labels})

    texts(60).to_csv(folder / "train.csv", index=False)
    texts(20).to_csv(folder / "test.csv", index=False)
    texts(20)[["text"]].to_csv(folder / "new.csv", index=False)
    (folder / "new.txt").write_text("a bright story\na dull story\n")
    (folder / "shop").mkdir()
    for name in ("books", "music"):
        rows = texts(40).rename(columns={"text": "body"})
        rows["stars"] = [1 if label == "bad" else 5 for label in rows.pop("label")]
        rows.to_csv(folder / "shop" / f"{name}.csv", index=False)
    vectors = [[generator.gauss(0, 1) for _ in range(50)] for _ in range(3)]
    lines = [f"{word} {' '.join(map(str, vectors[i]))}" for i, word in enumerate(words["good"])]
    (folder / "vectors.txt").write_text("\n".join(lines))
    steps = [
        {"id": series, "t": step, "x": step * (series % 2), "z": generator.gauss(0, 1)}
        for series in range(40)
        for step in range(generator.randint(4, 9))
    ]
    walks = pd.DataFrame(steps)
    walks["y"] = walks["id"] % 2
    walks.to_parquet(folder / "walks.parquet")
    beats = pd.DataFrame([[generator.gauss(n % 2, 1) for _ in range(12)] for n in range(40)])
    kinds = ["normal" if n % 2 else "odd" for n in range(40)]
    beats.add_prefix("t").assign(kind=kinds).to_csv(folder / "ecg.csv", index=False)
    for part, count in (("train", 40), ("test", 10)):
        labels = np.array([1 + n % 2 for n in range(count)])
        noise = np.random.default_rng(count).normal(size=(count, 2, 8))  # [row, channel, time]
        np.save(folder / f"X_{part}.npy", noise + labels[:, None, None])
        np.save(folder / f"y_{part}.npy", labels)
    make_recordings(folder)
    beats.insert(0, "label", [1 + n % 2 for n in range(40)])
    for name in ("TRAIN", "TEST"):
        beats.to_csv(folder / f"Coffee_{name}.tsv", sep="\t", header=False, index=False)


def make_recordings(folder: Path) -> None:
    """Write recordings of two classes as the how-to names them, and a stream of steps."""
    (folder / "rec").mkdir()
    for number in range(20):
        label = ("calm", "loud")[number % 2]
        level = 1 + 9 * (number % 2)
        samples = [(step % 5) * level + number for step in range(12)]
        table = pd.DataFrame({"x": samples, "y": samples[::-1]})
        for parent in (folder / "recordings" / label, folder / "rec" / f"user{number % 3}" / label):
            parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(parent / f"{number}.csv", index=False)
        with wave.open(str(folder / "rec" / f"{label}_{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(np.array(samples, dtype="<i2").tobytes())
    steps = [
        {"user": user, "x": step % 7 + user, "label": "sit" if step % 400 < 200 else "walk"}
        for user in range(10)
        for step in range(800)
    ]
    pd.DataFrame(steps).to_csv(folder / "steps.csv", index=False)


def test_the_pages_have_commands_and_python() -> None:
    commands = [step for step in STEPS if step.startswith("$ ")]
    assert len(commands) > 30
    assert len(STEPS) - len(commands) >= 5
    assert {"README.md", "docs/tutorial.md", "docs/how-to/sweep.md"} <= set(STEPS.values())


@pytest.mark.parametrize("command", [step[2:] for step in STEPS if step.startswith("$ make ")])
def test_make_commands_are_targets(command: str) -> None:
    subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_commands_and_python_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All run in one process and one temporary folder, so `runs/` carries over to later steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "attnlstm.cli.in_process.compose_job",
        lambda given: compose_job([*given, *QUICK, "callbacks.figures=null"]),
    )
    make_files(tmp_path)
    before = os.listdir(tmp_path)
    for step, page in STEPS.items():
        try:
            if step.startswith("$ "):
                run_command(step.removeprefix("$ "), monkeypatch)
            else:
                exec(compile(step, page, "exec"), {})
        except BaseException as error:  # an invalid command raises SystemExit
            error.add_note(f"{page}:\n{step}")
            raise
    made = {"runs", "predictions.csv", "sets.csv", "all.csv", "report.html", "weights.jsonl"}
    made |= {"reviews.ckpt"}
    assert set(os.listdir(tmp_path)) == {*before, *made}
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 20


def run_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command in this process; training is shortened."""
    if command.startswith("cat "):
        file, command = command.removeprefix("cat ").split(" | ")
        stream = io.TextIOWrapper(io.BytesIO(Path(file).read_bytes()))
        monkeypatch.setattr(sys, "stdin", stream)
    program, *arguments = shlex.split(command.partition("  #")[0])
    if program == "make":
        return
    assert program == "python", command
    script, *overrides = arguments
    if script == "train.py":
        overrides += QUICK
        if "hydra.run.dir" not in command:
            overrides += ["callbacks.figures=null"]  # they take most of the time
    monkeypatch.setattr(sys, "argv", [script, *overrides])
    runpy.run_path(str(ROOT / script), run_name="__main__")
