"""The folder of a run: nothing in it is touched unasked, and failed starts leave none."""

from pathlib import Path

import pytest

from attnlstm.cli.run_folder import RANKS, RESTARTS, SIZES, RunFolder, claim_folder
from attnlstm.errors import UserError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*RANKS, *SIZES, *RESTARTS):
        monkeypatch.delenv(name, raising=False)


def claim(folder: Path, is_named: bool = True, overwrite: bool = False) -> RunFolder:
    return claim_folder("hydra.run.dir", str(folder), is_named, overwrite)


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_folder_with_files_is_not_used_unasked(tmp_path: Path) -> None:
    claim(tmp_path / "new")
    claim(tmp_path)  # empty
    fill(tmp_path, "notes.txt")
    with pytest.raises(
        UserError, match=rf"^hydra\.run\.dir={tmp_path} has .* overwrite=true"
    ) as no:
        claim(tmp_path)
    assert "resume=" not in str(no.value)
    fill(tmp_path, "config.yaml")
    with pytest.raises(UserError, match=f"resume={tmp_path} to continue the run in it"):
        claim(tmp_path)
    assert claim(tmp_path, overwrite=True) == (str(tmp_path), None)


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
        claim(tmp_path)
    monkeypatch.setenv(name, str(alone + 1))
    claim(tmp_path)


def test_a_new_folder_gets_a_free_name(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b"
    claimed = [claim(wanted, is_named=False).path for _ in range(3)]
    assert claimed == [f"{wanted}", f"{wanted}_2", f"{wanted}_3"]


def test_a_failed_start_leaves_nothing_that_it_made(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "reviews" / "now"
    claimed = claim(folder)
    assert claimed.outermost == tmp_path / "runs"
    fill(folder, ".hydra/config.yaml", ".hydra/hydra.yaml", "train.log", "config.yaml")
    (folder / "checkpoints").mkdir()
    claimed.remove_failed_start()
    assert list(tmp_path.iterdir()) == []


def test_other_folders_stay(tmp_path: Path) -> None:
    folder, other = tmp_path / "runs" / "new", tmp_path / "runs" / "old"
    claimed = claim(folder)
    fill(other, "metrics.json")
    fill(folder, "train.log")
    claimed.remove_failed_start()
    assert not folder.exists()
    assert (other / "metrics.json").exists()


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints/last.ckpt", "refit/train.log"])
def test_a_run_that_has_begun_stays(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    claimed = claim(folder)
    fill(folder, "train.log", name)
    claimed.remove_failed_start()
    assert (folder / name).exists()
    assert (folder / "train.log").exists()


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    claimed = claim(tmp_path)
    fill(tmp_path, "train.log")
    claimed.remove_failed_start()
    assert (tmp_path / "train.log").exists()
