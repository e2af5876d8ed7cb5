"""What is logged about epochs: lines without a terminal, a bar in one, the best epoch in both."""

import csv
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rich
from rich.console import Console
from rich.progress import Progress

from attnlstm.training.callbacks import ProgressBar

pytestmark = pytest.mark.slow

Log = pytest.LogCaptureFixture

RISING = ["scheduler=none", "optimizer=sgd", "+optimizer.maximize=true", "optimizer.lr=0.1"]
"""The losses rise: the first epoch is the best."""


def lines_of(caplog: Log) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "attnlstm.training.epoch_log"
    ]


@pytest.fixture(autouse=True)
def log_everything(caplog: Log) -> None:
    caplog.set_level("INFO")


def test_without_a_terminal_each_validation_has_a_line(
    run_train: Callable, tmp_path: Path, caplog: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    run_train(tmp_path, *RISING, "refit=true", "trainer.limit_train_batches=3")
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    validation = [row for row in rows if row["val/loss"]]
    train_losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    with (tmp_path / "refit" / "metrics.csv").open() as file:
        refit_losses = [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]
    expected = [
        f"epoch {epoch}/2, step {3 * epoch}: train loss {train_loss:.3f}, "
        f"val loss {float(row['val/loss']):.3f}, val accuracy {float(row['val/accuracy']):.4f}, "
        "best epoch 1"
        for epoch, train_loss, row in zip((1, 2), train_losses, validation, strict=True)
    ]
    best = [f"{name} {float(validation[0][f'val/{name}'])!r}" for name in ("loss", "accuracy")]
    lines = lines_of(caplog)
    assert lines[:2] == expected
    assert lines[2].startswith("validation was best in epoch 1 of 2: ")
    for name, value in (text.split() for text in best):
        shown = re.search(rf"{name} ([\d.]+)", lines[2])
        assert shown is not None
        assert float(shown[1]) == pytest.approx(float(value), abs=5e-4)
    assert lines[3].endswith("budget.steps=3 takes half the time or less")
    (loss,) = refit_losses  # the best moment was after 3 steps, an epoch
    assert lines[4:] == [f"refit: epoch 1/1, step 3: train loss {float(loss):.3f}"]
    assert "━━" not in capsys.readouterr().out.partition("test split")[0]  # there the table begins


def test_an_epoch_cut_short_by_max_steps_is_planned_without_advice(
    run_train: Callable, tmp_path: Path, caplog: Log
) -> None:
    run_train(tmp_path, *RISING, "trainer.max_epochs=9", "trainer.max_steps=15")
    assert "training takes 15 steps in 2 epochs" in caplog.text
    (_, last) = lines_of(caplog)  # no advice: the second epoch has no validation
    assert last.startswith("validation was best in epoch 1 of 2: ")


def test_a_run_of_one_batch_plans_nothing(run_train: Callable, tmp_path: Path, caplog: Log) -> None:
    run_train(tmp_path, "debug=fast_dev_run")
    assert "training takes" not in caplog.text


def test_a_refit_has_a_line_for_each_tenth_of_its_epochs(
    run_train: Callable, tmp_path: Path, caplog: Log
) -> None:
    few = ["trainer.limit_train_batches=1", "trainer.check_val_every_n_epoch=8"]
    run_train(tmp_path, *few, "trainer.max_epochs=24", "refit=true", "callbacks.checkpoint=null")
    lines = lines_of(caplog)
    epochs = [int(found[1]) for line in lines if (found := re.match(r"epoch (\d+)/24, ", line))]
    assert epochs == [8, 16, 24]
    refit = [found[1] for line in lines if (found := re.match(r"refit: epoch (\d+)/24, ", line))]
    assert refit == [str(epoch) for epoch in range(3, 25, 3)]


def test_a_resumed_run_knows_its_best_epoch(
    run_train: Callable, tmp_path: Path, caplog: Log
) -> None:
    run_train(tmp_path, *RISING)
    caplog.clear()
    run_train(tmp_path, f"resume={tmp_path}", "trainer.max_epochs=3")
    (line, last, advice) = lines_of(caplog)
    assert line.startswith("epoch 3/3, step 42: ")
    assert line.endswith(", best epoch 1")
    assert last.startswith("validation was best in epoch 1 of 3: ")
    assert advice.endswith("budget.steps=14 takes half the time or less")


def test_the_best_epoch_is_that_of_the_best_checkpoint(
    run_train: Callable, tmp_path: Path, caplog: Log
) -> None:
    import torch

    options = ["callbacks.checkpoint.monitor=val/macro_f1", "callbacks.checkpoint.mode=max"]
    result = run_train(tmp_path, *options, "trainer.max_epochs=3", "optimizer.lr=0.01")
    best = torch.load(result.checkpoint, weights_only=True)["epoch"] + 1
    lines = lines_of(caplog)
    assert all(", val macro f1 0." in line for line in lines if line.startswith("epoch "))
    assert any(
        line.startswith(f"validation was best in epoch {best} of 3: macro f1 0.") for line in lines
    )


def test_neither_lines_nor_a_bar(
    run_train: Callable, tmp_path: Path, caplog: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    run_train(tmp_path, "trainer.enable_progress_bar=false", "trainer.limit_train_batches=1")
    line, *advice = lines_of(caplog)
    assert not any("step 1:" in text for text in advice)
    assert line.startswith("validation was best in epoch ")
    assert "━━" not in capsys.readouterr().out.partition("test split")[0]


def test_without_validation_there_is_no_best_epoch(
    run_train: Callable, tmp_path: Path, caplog: Log
) -> None:
    run_train(tmp_path, "trainer.limit_val_batches=0", "trainer.limit_train_batches=1")
    lines = [line.partition(": ")[0] for line in lines_of(caplog)]
    assert lines == ["epoch 1/2, step 1", "epoch 2/2, step 2"]


def test_the_bar_of_a_long_run_has_one_line_of_80_columns() -> None:
    bar = ProgressBar()
    console = Console(width=80, file=io.StringIO())
    progress = Progress(*bar.configure_columns(None), console=console)  # type: ignore[arg-type]
    bar.train_progress_bar_id = progress.add_task("epoch 1234/2000", total=48000, completed=12000)
    bar.shown_metrics = "loss 0.512, val loss 0.431, acc 0.889"
    (segments,) = console.render_lines(progress.make_tasks_table(progress.tasks))
    line = "".join(segment.text for segment in segments)
    assert len(line) == 80
    assert "epoch 1234/2000 ━" in line
    assert " 12000/48000 " in line
    assert bar.shown_metrics in line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_of_80_columns_the_bar_has_one_line(
    run_train: Callable, tmp_path: Path, caplog: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    for name, value in (("COLUMNS", "80"), ("LINES", "24"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rich, "_console", None)  # made anew for this standard output
    monkeypatch.setattr(sys, "stdout", terminal)
    run_train(tmp_path)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    drawn = [line.rstrip() for line in re.split(r"[\r\n]+", shown) if line.strip()]
    assert max(map(len, drawn)) <= 80
    bars = [line for line in drawn if "━" in line and "/" in line]
    assert all(line.startswith(("epoch ", "validation ", "testing ")) for line in bars)
    assert any(
        re.fullmatch(
            r"epoch 2/2 \S+ +\d+/14 [\d:-]+ loss \d\.\d{3}, val loss \d\.\d{3}, acc \d\.\d{3}",
            line,
        )
        for line in bars
    )
    assert not any("epoch 0" in line or "epoch 3" in line for line in drawn)
    assert not any(line.startswith(("loss", "val loss", "acc")) for line in drawn)  # not wrapped
    (line,) = lines_of(caplog)
    assert line.startswith("validation was best in epoch ")
