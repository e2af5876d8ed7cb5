"""The command lines of the scripts: their output, exit codes and files."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import ROOT, Finished

pytestmark = pytest.mark.slow

SCRIPT = """
import logging
import sys

from attnlstm.config.schema import EvaluateConfig
from attnlstm.cli.entry_point import entry_point
from attnlstm.errors import UserError


@entry_point("evaluate", EvaluateConfig)
def main(config, run_dir):
    (run_dir / "result.txt").write_text(config.ckpt)
    logging.getLogger("job").info("job %s", config.ckpt)
    if config.ckpt == "missing":
        raise UserError("there is no file\\nmissing: check ckpt")
    if config.ckpt == "bug":
        raise ZeroDivisionError("a bug")
    if config.ckpt == "interrupt":
        raise KeyboardInterrupt
    if config.ckpt == "lightning":  # which ends an interrupted fit like this
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)
    if config.ckpt == "terminate":  # and a terminated one like this
        from lightning.pytorch.utilities.exceptions import SIGTERMException

        raise SIGTERMException
    return {"test/accuracy": 0.5}


if __name__ == "__main__":
    main()
"""

Run = Callable[..., Finished]


@pytest.fixture
def job(run_script: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a small script with conf/evaluate.yaml in an empty folder."""
    (tmp_path / "job.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return partial(run_script, tmp_path / "job.py")


@pytest.fixture
def train(run_script: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run train.py in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(run_script, "train.py")


def logs(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("runs/**/*.log"))]


def test_a_run_gets_a_folder_with_its_config_and_its_log(job: Run, tmp_path: Path) -> None:
    assert job("ckpt=a", "data.split=train") == Finished(0, "job a\n", "")
    (folder,) = (tmp_path / "runs" / "evaluate").iterdir()
    assert "split: train" in (folder / ".hydra" / "config.yaml").read_text()
    assert (folder / ".hydra" / "overrides.yaml").read_text() == "- ckpt=a\n- data.split=train\n"
    assert (folder / "result.txt").read_text() == "a"
    assert "INFO job: job a" in (folder / "job.log").read_text()


def test_a_user_error_is_one_line_on_stderr_and_in_the_log(job: Run, tmp_path: Path) -> None:
    result = job("ckpt=missing")
    assert result.code == 2
    assert result.err == "error: there is no file missing: check ckpt\n"
    assert "there is no file" in logs(tmp_path)[0]


def test_another_error_keeps_its_traceback(job: Run, tmp_path: Path) -> None:
    command = [sys.executable, "job.py", "ckpt=bug"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    for text in (result.stderr, logs(tmp_path)[0]):
        assert "Traceback" in text
        assert "ZeroDivisionError: a bug" in text


@pytest.mark.parametrize("ckpt", ["interrupt", "lightning"])
def test_an_interrupt_from_the_keyboard(job: Run, ckpt: str) -> None:
    result = job(f"ckpt={ckpt}")
    assert (result.code, result.err) == (130, "")


def test_a_sweep_runs_every_job_even_if_one_fails(job: Run, tmp_path: Path) -> None:
    result = job("-m", "ckpt=missing,b", "model.lstm.backend=naive,fused")
    assert result.code == 2
    assert result.err == "error: there is no file missing: check ckpt\n" * 2
    (folder,) = (tmp_path / "runs" / "evaluate").iterdir()
    jobs = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert jobs == ["0", "1", "2", "3"]
    assert [text.count("job b") for text in logs(tmp_path)] == [0, 0, 1, 1]


def test_a_sweep_ends_with_the_means(job: Run) -> None:
    result = job("-m", "ckpt=a,b")
    assert "2 runs" in result.out
    assert "0.5000" in result.out.partition("mean")[2]


def test_termination_is_not_success(job: Run) -> None:
    result = job("ckpt=terminate")
    assert result.code == 143
    assert "newest checkpoint" in result.err


def test_paths_need_only_the_shells_quotes(job: Run, tmp_path: Path) -> None:
    path = "runs of é/it's a=b (1).ckpt"
    assert job(f"ckpt={path}").code == 0
    (written,) = tmp_path.rglob("result.txt")
    assert written.read_text() == path


def test_a_sweep_with_a_bug_or_a_mistake(job: Run, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        job("-m", "ckpt=a,bug")
    before = len(logs(tmp_path))
    result = job("ckpt=a", "model.lstm.backend=fused,nave", "-m")
    assert result.code == 2
    assert result.err.startswith("error: model.lstm.backend=nave: expected one of auto")
    assert len(logs(tmp_path)) == before  # not even the correct jobs were started


def test_runs_of_the_same_second_get_separate_folders(tmp_path: Path, job: Run) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    text = (ROOT / "conf" / "evaluate.yaml").read_text()
    now = "${now:%Y-%m-%d_%H-%M-%S}"
    assert now in text
    (tmp_path / "conf" / "evaluate.yaml").write_text(text.replace(now, "it's noon"))
    for _ in range(2):
        assert job(f"--config-path={tmp_path / 'conf'}", "ckpt=a").code == 0
    folders = sorted(path.name for path in (tmp_path / "runs" / "evaluate").iterdir())
    assert folders == ["it's noon", "it's noon_2"]
    assert [text.count("job a") for text in logs(tmp_path)] == [1, 1]


def test_a_folder_that_the_user_names_is_used_again_only_on_request(
    job: Run, tmp_path: Path
) -> None:
    assert job("ckpt=a", "hydra.run.dir=mine").code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    result = job("ckpt=b", "hydra.run.dir=mine")
    assert result.code == 2
    assert result.err.startswith("error: hydra.run.dir=mine has files in it already: add overwr")
    assert result.err.count("\n") == 1
    after = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert after == before
    assert job("ckpt=b", "hydra.run.dir=mine", "overwrite=true").code == 0
    log = (tmp_path / "mine" / "job.log").read_text()
    assert (log.count("job a"), log.count("job b")) == (1, 1)


def test_a_sweeps_folder_is_used_again_only_on_request(job: Run, tmp_path: Path) -> None:
    for more, code in ((), 0), ((), 2), (("overwrite=true",), 0):
        assert job("-m", "ckpt=a,b", "hydra.sweep.dir=mine", *more).code == code


def test_a_failed_start_leaves_no_folder(train: Run, tmp_path: Path) -> None:
    result = train("data=text_files", "data.train=mistyped.csv", "hydra.run.dir=runs/mine")
    assert result.code == 2
    assert "mistyped.csv" in result.err
    assert not list(tmp_path.iterdir())


def test_a_failed_start_leaves_a_folder_that_was_there(train: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert train("data=text_files", "data.train=a.csv", "hydra.run.dir=mine").code == 2
    assert (tmp_path / "mine" / "train.log").exists()


def test_letters_of_any_language(job: Run, tmp_path: Path) -> None:
    path = "läufe/Größe é 日本.ckpt"
    assert job(f"ckpt={path}", "hydra.run.dir=läufe/日本 é", "data.test=[été.csv,b.csv]").code == 0
    assert (tmp_path / "läufe" / "日本 é" / "result.txt").read_text() == path
    for arguments in (["runs_dir=läufe/ü"], ["data.text_column=texte_étudié"]):
        assert job("ckpt=é", *arguments).code == 0


def test_a_runs_dir_that_cannot_be_created(job: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = job("ckpt=a", "runs_dir=file")
    assert result.code == 2
    assert result.err.startswith("error: cannot create file/evaluate/")
    assert result.err.count("\n") == 1


def test_a_folder_that_cannot_be_written_to(job: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mine" / "job.log").mkdir(parents=True)
    for arguments, place in (
        (["hydra.run.dir=file/run"], "file/run"),
        (["hydra.run.dir=mine", "overwrite=true"], f"{tmp_path}/mine/job.log"),
        (["hydra.sweep.dir=file/sweep", "-m"], "file/sweep"),
    ):
        result = job("ckpt=a", *arguments)
        assert result.code == 2
        assert result.err.startswith(f"error: cannot write to {place}: ")
        assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["data.name=JapaneseVowel"],
            "data.name=JapaneseVowel is in no archive: did you mean Japa",
        ),
        (["hidden_size=3"], "unknown key hidden_size: did you mean model.lstm.hidden_size?"),
        (["+trainer.max_epoch=3"], "unknown key trainer.max_epoch: did you mean trainer.max_ep"),
        (["seed=abc", "--cfg", "job"], "seed=abc: expected int"),
        (["-m", "seed=0,abc"], "seed=abc: expected int"),
        (["-m", "model/pooling=mean,men"], "model/pooling=men: did you mean mean?"),
        (["-m", "hydra.verbose=true,false"], "hydra.verbose=true,false: Hydra's own settings"),
        (["--help", "model/poling=mean"], "unknown key model/poling: did you mean model/pooling?"),
        (["--config-name", "trian"], "Cannot find primary config 'trian'"),
        (["--experimental-rerun", "file"], "--experimental-rerun reads a pickle"),
        (["--config-dir", "nowhere"], "--config-dir=nowhere is not a folder"),
        (["optimizer.lr=-1"], "AdamW refuses optimizer.lr=-1: Invalid learning rate"),
        (["--cfg", "jobb"], "argument --cfg/-c: invalid choice: 'jobb'"),
        (["--hlep"], "unrecognized arguments: --hlep"),
        (
            ["data.train=a.csv"],
            "data.train=a.csv means nothing to data=archive: choose data=series_f",
        ),
        (["data=text_files", "data.noise=1"], "data.noise=1 means nothing to data=text_files"),
        (["data=text_fils", "data.train=a.csv"], "data=text_fils: did you mean text_files?"),
        (["data=hub_text"], "data.path must be given: add data.path=..."),
        (["-m", "optimizer.lr=1e-3,abc"], "optimizer.lr=abc: expected float"),
    ],
)
def test_mistakes_end_train_in_one_line_before_anything_is_written(
    train: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = train(*arguments)
    assert result.code == 2
    assert result.err.startswith(f"error: {message}")
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_the_data_end_train_in_one_line(train: Run, tmp_path: Path) -> None:
    (tmp_path / "it's mine.csv").write_text("text,label\nfine,good\n,good\nbad,bad\n")
    result = train("data=text_files", "data.train=it's mine.csv", "trainer=cpu")
    assert result.code == 2
    message = result.err.splitlines()[-1]
    assert message.startswith("error: no text in it's mine.csv, 1 row: row 1 (line 3). ")
    assert "Traceback" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["it's mine.csv"]


def test_hydras_views_of_the_config(train: Run, job: Run) -> None:
    result = train("--cfg", "job", "--resolve", "scheduler=one_cycle", "optimizer.lr=0.5")
    assert (result.code, result.err) == (0, "")
    assert "max_lr: 0.5" in result.out
    result = train("--info", "defaults", "experiment=plain_lstm")
    assert result.code == 0
    assert "experiment/plain_lstm" in result.out
    assert "ckpt: ???" in job("--cfg", "job").out  # which a run would require
    assert "split: train" in job("ckpt=a", "--cfg", "job", "data.split=train").out
    assert job("--help").code == 0


def test_a_config_folder_adds_choices(train: Run, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "tiny.yaml").write_text(
        "# @package _global_\nmodel: {lstm: {hidden_size: 4}}\n"
    )
    result = train("--config-dir", "mine", "experiment=tiny", "--cfg", "job")
    assert (result.code, result.err) == (0, "")
    assert "hidden_size: 4" in result.out
