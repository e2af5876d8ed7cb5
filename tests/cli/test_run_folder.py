"""The folder of a run: nothing in it is touched unasked, and failed starts leave none."""

from pathlib import Path

import pytest

from attnlstm.cli.run_folder import (
    RANKS,
    RESTARTS,
    SIZES,
    check_unused,
    create_folder,
    find_missing,
    remove_failed_start,
)
from attnlstm.errors import UserError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*RANKS, *SIZES, *RESTARTS):
        monkeypatch.delenv(name, raising=False)


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_folder_with_files_is_not_used_unasked(tmp_path: Path) -> None:
    check_unused("hydra.run.dir", str(tmp_path / "new"))
    check_unused("hydra.run.dir", str(tmp_path))  # empty
    fill(tmp_path, "notes.txt")
    with pytest.raises(
        UserError, match=rf"^hydra\.run\.dir={tmp_path} has .* overwrite=true"
    ) as no:
        check_unused("hydra.run.dir", str(tmp_path))
    assert "resume=" not in str(no.value)
    fill(tmp_path, "config.yaml")
    with pytest.raises(UserError, match=f"resume={tmp_path} to continue the run in it"):
        check_unused("hydra.run.dir", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "alone"),
    [*((name, 0) for name in (*RANKS, *RESTARTS)), *((name, 1) for name in SIZES)],
)
def test_processes_that_join_a_run_use_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, alone: int
) -> None:
    fill(tmp_path, "config.yaml")
    monkeypatch.setenv(name, str(alone))
    with pytest.raises(UserError):
        check_unused("hydra.run.dir", str(tmp_path))
    monkeypatch.setenv(name, str(alone + 1))
    check_unused("hydra.run.dir", str(tmp_path))


def test_a_new_folder_gets_a_free_name(tmp_path: Path) -> None:
    wanted = str(tmp_path / "a" / "b")
    assert [create_folder(wanted) for _ in range(3)] == [wanted, f"{wanted}_2", f"{wanted}_3"]


def test_a_failed_start_leaves_nothing_that_it_made(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "reviews" / "now"
    made = find_missing(str(folder))
    assert made == tmp_path / "runs"
    fill(folder, ".hydra/config.yaml", ".hydra/hydra.yaml", "train.log", "config.yaml")
    (folder / "checkpoints").mkdir()
    remove_failed_start(str(folder), made)
    assert list(tmp_path.iterdir()) == []


def test_other_folders_stay(tmp_path: Path) -> None:
    folder, other = tmp_path / "runs" / "new", tmp_path / "runs" / "old"
    made = find_missing(str(folder))
    fill(other, "metrics.json")
    fill(folder, "train.log")
    remove_failed_start(str(folder), made)
    assert not folder.exists()
    assert (other / "metrics.json").exists()


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints/last.ckpt", "refit/train.log"])
def test_a_run_that_has_begun_stays(tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / "run", "train.log", name)
    remove_failed_start(str(folder), folder)
    assert (folder / name).exists()
    assert (folder / "train.log").exists()
