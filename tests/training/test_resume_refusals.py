"""What cannot be resumed is named, with what has changed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models

from attnlstm.errors import UserError

pytestmark = pytest.mark.slow


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
