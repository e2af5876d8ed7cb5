"""Runs that are stopped anywhere and resumed: in the end nothing may differ."""

import csv
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models
from torch import Tensor

from attnlstm.errors import UserError
from attnlstm.training.calibrate import write_calibration
from attnlstm.training.checkpoint_io import replacing
from attnlstm.training.module import ClassificationModule
from attnlstm.training.preparation import initialize
from benchmarks.faults import differences

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

FEW_ROWS = ["data.batch_size=4", "trainer.limit_train_batches=14"]
"""Epochs of 14 training steps and 4 validation steps."""

SERIES = [*FEW_ROWS, "refit=true", "data.noise=0.1", "model.dropout=0.2"]
"""A run of two such epochs, and a refit with 2 * 14 steps."""


class Killed(BaseException):
    """Raised where, as after SIGKILL, no code of ours may run afterwards."""


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, Any], None]:
    """Stop the next run: `stop(method of the module, number of its call, signal or None)`."""

    def arrange(method: str, call: int, number: int | None) -> None:
        original, calls = getattr(ClassificationModule, method), iter(range(1, sys.maxsize))

        def stopping(*arguments: Any) -> Any:
            if next(calls) == call:
                if number is None:
                    raise Killed
                signal.raise_signal(number)
            return original(*arguments)

        monkeypatch.setattr(ClassificationModule, method, stopping)

    return arrange


@pytest.fixture(scope="module")
def alone(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stops."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    run_train(run_dir, *SERIES)
    return run_dir


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


def test_data_that_has_changed_is_named(
    run_train: Callable, stop: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    rows = [f"a fine day {n},good\na dull day {n},bad\n" for n in range(20)]
    train.write_text("text,label\n" + "".join(rows))
    test.write_text("text,label\na fine night,good\na dull night,bad\n")
    files = ["data=text_files", f"data.train={train}", f"data.test={test}"]
    stop("training_step", 2, signal.SIGTERM)
    with pytest.raises(SystemExit):
        run_train(tmp_path / "run", *files, "data.batch_size=4", "model.embedding.size=4")
    monkeypatch.undo()
    before = test.read_text()
    test.write_text(before.replace("night", "week"))
    with pytest.raises(UserError, match=r"data has changed since .*last.ckpt .*: test rows; res"):
        run_train(tmp_path / "run", f"resume={tmp_path / 'run'}")
    test.write_text(before)
    train.write_text(train.read_text().replace("fine", "lovely"))
    with pytest.raises(UserError, match="train rows, validation rows; restore it"):
        run_train(tmp_path / "run", f"resume={tmp_path / 'run'}")


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1"], r"seed=1 \(it was 0\)"),
        (["model.lstm.hidden_size=9"], r"model.lstm.hidden_size=9 \(it was 8\)"),
        (["optimizer=sgd"], r"optimizer.name=SGD \(it was AdamW\)"),
        (["experiment=quick"], "these would change: experiment"),
        (["trainer.max_epochs=3"], "its refit has begun"),
    ],
)
def test_another_experiment_is_refused(
    compose_train: Callable, alone: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compose_train(f"resume={alone}", *overrides)


def test_what_does_not_change_the_experiment_may_be_changed(
    compose_train: Callable, small_run: Path
) -> None:
    changes = ["trainer.max_epochs=7", "logger=mlflow", "trainer=gpu", "trainer.devices=2"]
    config = compose_train(f"resume={small_run}", *changes)
    assert (config.trainer.max_epochs, config.trainer.devices) == (7, 2)
    assert config.trainer.accelerator == "gpu"
    assert config.logger.mlflow.experiment_name == "attnlstm"
    assert config.model.lstm.hidden_size == 8  # not given: as it was
    assert compose_train(f"resume={small_run}", "trainer=gpu").trainer.max_epochs == 2


def test_a_run_from_before_each_source_had_its_own_keys(
    compose_train: Callable, tmp_path: Path
) -> None:
    config = compose_train("data.val_fraction=0.3")
    values = config.model_dump()
    values["data"] |= {"path": None, "max_length": None, "truncation": "head", "tokenizer": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    resumed = compose_train(f"resume={tmp_path}")
    assert resumed == config.model_copy(update={"resume": str(tmp_path)})


def test_runs_that_cannot_be_resumed(compose_train: Callable, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"resume=last: there is no run in .*; set runs_dir"):
        compose_train("resume=last", f"runs_dir={tmp_path}")
    with pytest.raises(UserError, match="gone does not exist: give one such as"):
        compose_train(f"resume={tmp_path / 'gone'}")
    with pytest.raises(UserError, match="is not the folder of a run"):
        compose_train(f"resume={tmp_path}")
    shared = "a0: &a0 [x]\n"
    for level in range(30):
        shared += f"a{level + 1}: &a{level + 1} [{', '.join([f'*a{level}'] * 10)}]\n"
    for content, said in (
        ("seed: [", "config.yaml is not the configuration of a run"),
        ("\0\0", "unacceptable character"),
        (shared, "it has aliases"),
        ("seed: " + "[" * 5000 + "]" * 5000, "it is nested too deeply"),
        ("seed: 1\n" * 200_000, "it is too large"),
    ):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(UserError, match=said):
            compose_train(f"resume={tmp_path}")


def test_a_damaged_checkpoint_is_named(run_train: Callable, tmp_path: Path) -> None:
    run_train(tmp_path, "trainer.max_epochs=1")
    path = tmp_path / "checkpoints" / "last.ckpt"
    os.truncate(path, 5000)
    with pytest.raises(UserError, match=r"last.ckpt is not a complete checkpoint"):
        run_train(tmp_path, f"resume={tmp_path}")
    assert path.stat().st_size == 5000
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match=r"last.ckpt is not a checkpoint that this program can use"):
        run_train(tmp_path, f"resume={tmp_path}")


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


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    original, seen = ClassificationModule.training_step, []

    def training_step(module: ClassificationModule, batch: Any, batch_idx: int) -> Tensor:
        seen.append(batch.rows.tolist())
        loss = original(module, batch, batch_idx)
        if len(seen) == 20 and where == "loss":
            module.loss_sum = module.loss_sum + torch.inf
        if len(seen) == 20 and where == "gradient":
            loss.register_hook(lambda gradient: gradient * torch.nan)
        return loss

    monkeypatch.setattr(ClassificationModule, "training_step", training_step)
    with pytest.raises(UserError) as raised:
        run_train(tmp_path)
    rows = ", ".join(map(str, seen[19]))
    assert f"NaN or infinite in step 19, training rows {rows}: look at" in str(raised.value)
    newest = tmp_path / "checkpoints" / "last.ckpt"
    assert str(raised.value).endswith(f"the newest good checkpoint is {newest}")
    weights = torch.load(newest, weights_only=True)["state_dict"].values()
    assert all(torch.isfinite(weight).all() for weight in weights)


def test_the_rows_of_all_accumulated_batches_are_named(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = ClassificationModule.training_step, []

    def training_step(module: ClassificationModule, batch: Any, batch_idx: int) -> Tensor:
        seen.append(batch.rows.tolist())
        loss = original(module, batch, batch_idx)
        return loss * torch.nan if len(seen) == 5 else loss

    monkeypatch.setattr(ClassificationModule, "training_step", training_step)
    with pytest.raises(UserError) as raised:
        run_train(tmp_path, "trainer.accumulate_grad_batches=2")
    rows = ", ".join(map(str, [*seen[4], *seen[5]]))
    assert f"NaN or infinite in step 2, training rows {rows}: look at" in str(raised.value)


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


@pytest.mark.parametrize("key", ["data.tokenizer.file", "model.embedding.vectors"])
def test_other_files_that_have_changed_are_named(
    run_train: Callable,
    text_files: list[str],
    stop: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    path = tmp_path / "file"
    contents = ["was 1 2 3 4 5 6\n", "was 6 5 4 3 2 1\n"]
    if key == "data.tokenizer.file":
        vocabularies = [{"[UNK]": 0, "was": 1, word: 2} for word in ("fine", "dull")]
        contents = [
            Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")).to_str()
            for vocabulary in vocabularies
        ]
    path.write_text(contents[0])
    stop("training_step", 2, signal.SIGTERM)
    with pytest.raises(SystemExit):
        run_train(tmp_path / "run", *text_files, f"{key}={path}")
    monkeypatch.undo()
    path.write_text(contents[1])
    with pytest.raises(UserError, match=rf"data has changed since .*last.ckpt .*: {key}; restore"):
        run_train(tmp_path / "run", f"resume={tmp_path / 'run'}")


def test_kills_at_random_instants() -> None:
    """A short form of the benchmark, with real signals to real processes."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "--kills", "2", "trainer.max_epochs=2"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "2 of 2" in result.stdout


def test_our_own_errors_keep_their_traceback(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only errors of writing are presented as something the user can fix."""

    def fail(*_: object) -> None:
        (tmp_path / "missing").read_text()

    monkeypatch.setattr("attnlstm.training.run.fit", fail)
    with pytest.raises(FileNotFoundError, match="missing"):
        run_train(tmp_path)
