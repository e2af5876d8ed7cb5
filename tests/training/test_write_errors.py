"""Full disks and folders that are removed while a run writes to them."""

import errno
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from attnlstm.errors import UserError
from attnlstm.training.module import ClassificationModule
from attnlstm.training.preparation import initialize
from benchmarks.faults import differences
from tests.training.interruptions import SERIES

pytestmark = pytest.mark.slow


def test_a_full_disk_leaves_the_good_checkpoint_and_is_reported_in_one_line(
    run_train: Callable,
    stop: Callable,
    alone: Path,
    tmp_path: Path,
    file_size_limit: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, calls = ClassificationModule.training_step, iter(range(1, 1000))

    def training_step(*arguments: Any) -> Tensor:
        if next(calls) == 20:
            file_size_limit(10_000)
        return original(*arguments)

    monkeypatch.setattr(ClassificationModule, "training_step", training_step)
    with pytest.raises(UserError) as raised:
        run_train(tmp_path, *SERIES)
    monkeypatch.undo()
    file_size_limit(resource.RLIM_INFINITY)
    assert str(raised.value) == (
        f"cannot write to {tmp_path}: File too large; the newest good checkpoint is "
        f"{tmp_path}/checkpoints/last.ckpt; once it can be written to, "
        f"attnlstm train resume={tmp_path} resumes the run"
    )
    assert not list(tmp_path.rglob("*.partial"))
    run_train(tmp_path, f"resume={tmp_path}")
    assert differences(alone, tmp_path) == []


@pytest.mark.parametrize("removed", ["", "/tensorboard"])
def test_a_folder_that_somebody_removes_is_named(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    original, calls = ClassificationModule.training_step, iter(range(1, 1000))
    folder = f"{tmp_path / 'run'}{removed}"

    def training_step(*arguments: Any) -> Tensor:
        if next(calls) == 10:
            # At once: file by file, TensorBoard's thread could create its own again.
            Path(folder).rename(tmp_path / "removed")
        return original(*arguments)

    monkeypatch.setattr(ClassificationModule, "training_step", training_step)
    with pytest.raises(UserError, match=f"cannot write to {folder}: somebody has removed it"):
        run_train(tmp_path / "run")
    assert not Path(folder).exists()


def test_a_folder_of_figures_that_somebody_removes_is_created_again(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = ClassificationModule.training_step, iter(range(1, 1000))

    def training_step(*arguments: Any) -> Tensor:
        if next(calls) == 20:
            shutil.rmtree(tmp_path / "figures")
        return original(*arguments)

    monkeypatch.setattr(ClassificationModule, "training_step", training_step)
    run_train(tmp_path, "callbacks.figures.every_n_epochs=1", figures=True)
    assert (tmp_path / "figures" / "confusion_matrix.png").exists()


def test_a_folder_that_is_removed_before_the_training_is_not_created_again(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(*arguments: Any) -> None:
        initialize(*arguments)
        shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr("attnlstm.training.preparation.initialize", remove)
    with pytest.raises(UserError, match=r"run: somebody has removed it$"):
        run_train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be_resumed_can_still_be_evaluated(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = ClassificationModule.training_step, iter(range(1, 1000))

    def training_step(*arguments: Any) -> Tensor:
        if next(calls) == 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(ClassificationModule, "training_step", training_step)
    with pytest.raises(UserError) as raised:
        run_train(tmp_path, "callbacks.checkpoint.save_last=false")
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert str(raised.value) == (
        f"cannot write to {tmp_path}: No space left on device; the newest good checkpoint is "
        f"{best}; there is no last.ckpt to resume from: attnlstm evaluate ckpt={best}"
    )


def test_our_own_errors_keep_their_traceback(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only errors of writing are presented as something the user can fix."""

    def fail(*_: object) -> None:
        (tmp_path / "missing").read_text()

    monkeypatch.setattr("attnlstm.training.run.fit", fail)
    with pytest.raises(FileNotFoundError, match="missing"):
        run_train(tmp_path)
