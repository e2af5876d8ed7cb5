"""Runs that are stopped anywhere and resumed: in the end nothing may differ."""

import csv
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnlstm.training.calibrate import write_calibration
from attnlstm.training.checkpoint_io import replacing
from benchmarks.faults import EXIT_CODES, FAULTS, differences, measure
from tests.training.interruptions import FEW_ROWS, SERIES, Killed

pytestmark = pytest.mark.slow


ROOT = Path(__file__).parents[2]


STOPS = [
    pytest.param("training_step", 1, signal.SIGTERM, id="first batch"),
    pytest.param("training_step", 5, None, id="killed in the first epoch"),
    pytest.param("training_step", 19, signal.SIGINT, id="middle of an epoch"),
    pytest.param("validation_step", 2, signal.SIGTERM, id="validation"),
    pytest.param("on_train_epoch_end", 1, signal.SIGINT, id="end of an epoch"),
    pytest.param("validation_step", 8, None, id="killed in the last validation"),
    pytest.param("validation_step", 10, None, id="killed in the calibration"),
    pytest.param("training_step", 29, None, id="killed between fit and refit"),
    pytest.param("training_step", 35, signal.SIGTERM, id="refit"),
    pytest.param("training_step", 56, None, id="killed in the refit"),
    pytest.param("test_step", 1, None, id="killed in the test"),
]


@pytest.mark.parametrize(("method", "call", "number"), STOPS)
def test_a_stopped_run_ends_as_if_it_had_not_stopped(
    run_train: Callable,
    stop: Callable,
    alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    call: int,
    number: int | None,
) -> None:
    stop(method, call, number)
    with pytest.raises(Killed if number is None else SystemExit):
        run_train(tmp_path, *SERIES)
    monkeypatch.undo()
    run_train(tmp_path, f"resume={tmp_path}")
    assert differences(alone, tmp_path) == []


@pytest.mark.parametrize("file", ["best.ckpt", "validated.ckpt"])
def test_a_kill_before_a_calibration_is_written(
    run_train: Callable, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """The validated model's, which is best.ckpt until there is a refit, and the refit's."""
    calls = iter(range(2))

    def write(*arguments: Any) -> None:
        if next(calls) == ["best.ckpt", "validated.ckpt"].index(file):
            raise Killed
        write_calibration(*arguments)

    monkeypatch.setattr("attnlstm.training.calibrate.write_calibration", write)
    with pytest.raises(Killed):
        run_train(tmp_path, *SERIES)
    monkeypatch.undo()
    assert (tmp_path / "checkpoints" / file).exists()
    left = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert left["calibration"] is None
    run_train(tmp_path, f"resume={tmp_path}")
    assert differences(alone, tmp_path) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.num_workers=2"],
        ["trainer.accumulate_grad_batches=3", "trainer.val_check_interval=0.5"],
        ["optimizer=sgd", "scheduler=plateau", "scheduler.patience=0", "trainer.max_steps=36"],
        ["trainer.precision=64-true"],
        ["validation=folds", "num_folds=2", "model/stem=conv", "model.stem.num_filters=4"],
    ],
    ids=["workers", "accumulated gradients", "plateau", "float64", "folds"],
)
def test_other_kinds_of_runs(
    run_train: Callable,
    stop: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
) -> None:
    overrides = [*FEW_ROWS, *overrides, "trainer.max_epochs=3"]
    run_train(tmp_path / "alone", *overrides)
    stop("training_step", 17, signal.SIGTERM)
    with pytest.raises(SystemExit):
        run_train(tmp_path / "run", *overrides)
    monkeypatch.undo()
    stop("validation_step", 2, signal.SIGTERM)
    with pytest.raises(SystemExit):
        run_train(tmp_path / "run", f"resume={tmp_path / 'run'}")
    monkeypatch.undo()
    run_train(tmp_path / "run", "resume=last", f"runs_dir={tmp_path}")
    assert differences(tmp_path / "alone", tmp_path / "run") == []


def test_texts(
    run_train: Callable,
    text_files: list[str],
    stop: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = [*text_files, "model.embedding.word_dropout=0.3", "data.batch_size=8"]
    run_train(tmp_path / "alone", *overrides)
    stop("training_step", 9, signal.SIGINT)
    with pytest.raises(SystemExit):
        run_train(tmp_path / "run", *overrides)
    monkeypatch.undo()
    run_train(tmp_path / "run", f"resume={tmp_path / 'run'}")
    assert differences(tmp_path / "alone", tmp_path / "run") == []


def test_differences_are_found(alone: Path, tmp_path: Path) -> None:
    shutil.copytree(alone, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["resume"]["random_states"][0]["torch"][0] += 1
    torch.save(checkpoint, path)
    (tmp_path / "run" / "metrics.csv").open("a").write("\n")
    assert differences(alone, tmp_path / "run") == [
        "checkpoints/last.ckpt:/resume/random_states/0/torch",
        "metrics.csv",
    ]


@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    run_train: Callable, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """At the second write of last.ckpt: when half of it is written, and before the rename."""
    original, calls = Path.replace, iter(range(1, 3))

    def replace(path: Path, target: Path) -> Path:
        if target.name == "last.ckpt" and next(calls) == 2:
            if call == 1:
                os.truncate(path, 1000)
            shutil.copytree(tmp_path / "run", tmp_path / "killed")
        return original(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    run_train(tmp_path / "run", *SERIES)
    monkeypatch.undo()
    killed = tmp_path / "killed"
    assert torch.load(killed / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    run_train(killed, f"resume={killed}")
    assert differences(alone, killed) == []


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("new in part")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    with replacing(path) as partial:
        partial.write_text("new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


def test_checkpoints_by_steps(run_train: Callable, stop: Callable, tmp_path: Path) -> None:
    stop("training_step", 8, None)
    with pytest.raises(Killed):
        run_train(tmp_path, "callbacks.checkpoint.every_n_train_steps=3")
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6


def test_checkpoints_by_minutes(run_train: Callable, stop: Callable, tmp_path: Path) -> None:
    stop("training_step", 3, None)
    with pytest.raises(Killed):
        run_train(tmp_path, "callbacks.checkpoint.every_n_minutes=1e-9")
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2


def test_more_epochs_than_planned(run_train: Callable, tmp_path: Path) -> None:
    run_train(tmp_path)
    result = run_train(tmp_path, f"resume={tmp_path}", "trainer.max_epochs=3")
    assert result.trainer.current_epoch == 3
    with (tmp_path / "metrics.csv").open() as file:
        epochs = [row["epoch"] for row in csv.DictReader(file) if row["train/loss"]]
    assert epochs == ["0", "1", "2"]


def test_a_run_folder_may_be_moved(
    run_train: Callable,
    stop: Callable,
    alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop("training_step", 19, signal.SIGTERM)
    with pytest.raises(SystemExit):
        run_train(tmp_path / "here", *SERIES)
    monkeypatch.undo()
    (tmp_path / "here").rename(tmp_path / "there")
    run_train(tmp_path / "there", f"resume={tmp_path / 'there'}")
    assert differences(alone, tmp_path / "there") == []
    assert not (tmp_path / "here").exists()


def test_a_new_run_in_an_old_folder_does_not_resume_it(
    run_train: Callable, stop: Callable, alone: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    shutil.copytree(alone, tmp_path / "run")
    stop("training_step", 3, None)
    with pytest.raises(Killed):
        run_train(tmp_path / "run", *SERIES, "seed=1")
    monkeypatch.undo()
    result = run_train(tmp_path / "run", f"resume={tmp_path / 'run'}")
    assert result.module.config["seed"] == 1
    assert differences(alone, tmp_path / "run") != []


def test_kills_at_random_instants(tmp_path: Path) -> None:
    """A short form of the benchmark, with real signals to real processes: forks of this one."""
    counts = measure(kills=2, seed=0, overrides=["trainer.max_epochs=2"], folder=tmp_path)
    assert counts["identical"] == sum(counts[number.name] for number in EXIT_CODES) == 2
    assert not any(counts[fault] for fault in FAULTS)
