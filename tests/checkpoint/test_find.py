"""`ckpt=`: a checkpoint, a run folder or the newest run."""

import os
from pathlib import Path

import pytest

from attnlstm.checkpoint.find import find_checkpoint
from attnlstm.errors import UserError


def make_run(folder: Path, *checkpoints: str, time: int = 0) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    for name in checkpoints:
        (folder / "checkpoints" / name).touch()
    config = folder / "config.yaml"
    config.touch()
    os.utime(config, (time, time))
    return folder


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.touch()
    assert find_checkpoint(str(path), "runs") == path
    with pytest.raises(UserError, match=r"^ckpt=\S+missing.ckpt does not exist: give a file"):
        find_checkpoint(str(tmp_path / "missing.ckpt"), "runs")
    with pytest.raises(UserError, match=r"^ckpt=\S+ is a folder, not a checkpoint file"):
        find_checkpoint(str(tmp_path), "runs")


def test_a_run_folder_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    both = make_run(tmp_path / "both", "last.ckpt", "best.ckpt", "validated.ckpt")
    assert find_checkpoint(str(both), "runs") == both / "checkpoints" / "best.ckpt"
    stopped = make_run(tmp_path / "stopped", "last.ckpt")
    assert find_checkpoint(f"{stopped}/", "runs") == stopped / "checkpoints" / "last.ckpt"


def test_last_is_the_newest_run(tmp_path: Path) -> None:
    make_run(tmp_path / "set" / "old", "best.ckpt", time=1)
    newest = make_run(tmp_path / "other" / "deep" / "new", "best.ckpt", time=3)
    make_run(tmp_path / "set" / "older", "best.ckpt", time=2)
    (newest.parent / "evaluated" / ".hydra").mkdir(parents=True)
    (newest.parent / "evaluated" / ".hydra" / "config.yaml").touch()  # of an evaluation
    assert find_checkpoint("last", str(tmp_path)) == newest / "checkpoints" / "best.ckpt"


def test_what_has_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=rf"^ckpt=last: there is no run in {tmp_path}; set runs_dir"
    ):
        find_checkpoint("last", str(tmp_path))
    empty = make_run(tmp_path / "empty")
    with pytest.raises(UserError, match=r"has neither best\.ckpt nor last\.ckpt: give another run"):
        find_checkpoint(str(empty), "runs")
    with pytest.raises(UserError, match=r"^ckpt=last: the run .*empty has neither"):
        find_checkpoint("last", str(tmp_path))
    odd = make_run(tmp_path / "odd", "epoch-3.ckpt")
    with pytest.raises(UserError, match=r"give one of its 'epoch-3\.ckpt'$"):
        find_checkpoint(str(odd), "runs")
