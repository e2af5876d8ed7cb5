"""The estimator and `attnlstm.train` give what the command line gives."""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import attnlstm
from attnlstm.cli.train import main as run_command
from attnlstm.errors import UserError
from tests.estimators import (
    SERIES,
    TEXTS,
    assert_same_weights,
    make_series,
    make_texts,
)

pytestmark = pytest.mark.slow


def test_texts_give_the_weights_of_the_command_line(
    text_model: attnlstm.AttentionLSTMClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts, labels = make_texts()
    table = pd.DataFrame({"text": texts, "label": labels})
    table.to_csv("train.csv", index=False)
    table[:4].to_csv("test.csv", index=False)
    options = ["data=text_files", "data.train=train.csv", *TEXTS, "baseline=none"]
    run = attnlstm.train(*options, "data.test=test.csv")
    assert_same_weights(attnlstm.load(run.checkpoint), text_model)
    held_out = attnlstm.AttentionLSTMClassifier([*TEXTS, "data.test_fraction=0.2"])
    held_out.fit(table[["text"]], table["label"])
    run = attnlstm.train(*options)
    assert_same_weights(attnlstm.load(run.checkpoint), held_out)
    assert held_out.metrics_ == run.metrics
    assert text_model.metrics_ == {}


@pytest.mark.parametrize("validation", ["holdout", "folds"])
def test_series_give_the_weights_of_the_command_line(validation: str, tmp_path: Path) -> None:
    X, y = make_series()
    np.savez(tmp_path / "train.npz", X=np.swapaxes(X, 1, 2), y=y)
    options = ["model.random_convolutions={}", "num_folds=2", f"validation={validation}"]
    data = [f"data.train={tmp_path / 'train.npz'}", f"data.test={tmp_path / 'train.npz'}"]
    data.append("data.axes=row,time,channel")
    run = attnlstm.train(
        *("data=series_files", *data, *SERIES, *options, "baseline=none"),
        *("callbacks.figures=null", f"hydra.run.dir={tmp_path / 'run'}"),
    )
    model = attnlstm.AttentionLSTMClassifier([*SERIES, *options]).fit(X, y)
    assert_same_weights(attnlstm.load(run.checkpoint), model)


def test_train_does_what_the_command_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["debug=fast_dev_run", "model.lstm.hidden_size=4", "baseline=none"]
    run = attnlstm.train(*options)
    monkeypatch.setattr(sys, "argv", ["train.py", *options, "hydra.run.dir=commanded"])
    run_command()
    assert run.run_dir.parent == Path("runs/JapaneseVowels")
    names = {path.relative_to(run.run_dir) for path in run.run_dir.rglob("*")}
    commanded = {path.relative_to("commanded") for path in Path("commanded").rglob("*")}
    events = "events.out"  # named by time and process
    assert {n for n in names if events not in n.name} == {
        n for n in commanded if events not in n.name
    }
    log = (run.run_dir / "train.log").read_text()
    assert " INFO attnlstm.training.run: JapaneseVowels: " in log
    assert run.metrics.keys() > {"test/accuracy", "test/loss"}
    again = attnlstm.train(*options)
    assert again.run_dir != run.run_dir
    assert again.metrics == run.metrics


def test_train_reports_what_the_command_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"unknown key data\.trian: did you mean data\.train\?"):
        attnlstm.train("data=text_files", "data.trian=x.csv")
    with pytest.raises(UserError, match="lr"):
        attnlstm.train("optimizer.lrr=1")
    monkeypatch.chdir(tmp_path)
    Path("train.csv").write_text("text,label\na,b\nc,b\n")
    with pytest.raises(UserError, match="only one class, 'b'"):
        attnlstm.train("data=text_files", "data.train=train.csv")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"hydra\.run\.dir=mine has files in it already"):
        attnlstm.train("data=text_files", "data.train=train.csv", "hydra.run.dir=mine")
    assert sorted(os.listdir()) == ["mine", "train.csv"]


def test_a_bug_in_a_training_leaves_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("attnlstm.training.run.train", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        attnlstm.train("hydra.run.dir=run")
    assert Path("run/train.log").exists()
