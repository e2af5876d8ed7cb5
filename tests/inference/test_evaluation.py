"""Evaluation of a checkpoint without its run folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attnlstm.errors import UserError
from attnlstm.nn.backends import BACKENDS
from tests.inference.verbs import read_csv, run_evaluate

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_test_metrics_equal_those_of_training(
    small_run: Path, tmp_path: Path, backend: str
) -> None:
    alone = tmp_path / "moved.ckpt"  # without its run folder
    shutil.copy(small_run / "checkpoints" / "best.ckpt", alone)
    evaluation = run_evaluate(tmp_path / "out", f"ckpt={alone}", f"model.lstm.backend={backend}")
    reported = json.loads((small_run / "metrics.json").read_text())
    assert evaluation.metrics == pytest.approx(reported, abs=1e-5)
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == evaluation.metrics


def test_validation_metrics_equal_those_of_training(
    small_run: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    """Training reports them before calibration, and its loss includes label smoothing."""
    uncalibrated = torch.load(small_checkpoint, weights_only=True)
    uncalibrated["calibration"] = None
    torch.save(uncalibrated, tmp_path / "uncalibrated.ckpt")
    epoch = str(torch.load(small_checkpoint, weights_only=True)["epoch"])
    row = next(
        row
        for row in read_csv(small_run / "metrics.csv")
        if row["val/loss"] and row["epoch"] == epoch
    )
    split = "data.split=validation"
    evaluation = run_evaluate(tmp_path, f"ckpt={tmp_path}/uncalibrated.ckpt", split)
    reported = {name: float(row[name]) for name in evaluation.metrics}
    assert reported.pop("val/loss") > evaluation.metrics["val/loss"]
    for name, value in reported.items():
        assert evaluation.metrics[name] == pytest.approx(value, abs=1e-6)
    calibrated = run_evaluate(tmp_path, f"ckpt={small_checkpoint}", split)
    for name in ("val/accuracy", "val/macro_f1"):
        assert calibrated.metrics[name] == pytest.approx(evaluation.metrics[name])
    assert calibrated.metrics["val/loss"] != evaluation.metrics["val/loss"]


def test_written_files(small_checkpoint: Path, tmp_path: Path) -> None:
    evaluation = run_evaluate(tmp_path, f"ckpt={small_checkpoint}", "data.batch_size=7")
    predictions = read_csv(tmp_path / "predictions.csv")
    assert [int(row["row"]) for row in predictions] == list(range(370))
    right = [row["label"] == row["true_label"] for row in predictions]
    assert sum(right) / len(right) == pytest.approx(evaluation.metrics["test/accuracy"], abs=1e-6)
    for row in predictions[:20]:
        probabilities = {n: float(row[f"probability of {n}"]) for n in "123456789"}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert max(probabilities, key=probabilities.__getitem__) == row["label"]
    classes = read_csv(tmp_path / "per_class.csv")
    assert [row["class"] for row in classes] == list("123456789")
    for row in classes:
        mine = [p for p in predictions if p["true_label"] == row["class"]]
        hits = sum(p["label"] == row["class"] for p in mine)
        assert len(mine) == int(row["rows"])
        assert hits / len(mine) == pytest.approx(float(row["recall"]), abs=1e-4)
    assert (tmp_path / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_other_data_must_have_the_channels_and_labels(
    small_checkpoint: Path, run_train: Callable, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError,
        match=r"label 'standing', which no training row has, in the test split of BasicMotions, 10 "
        r"rows: row 0; .* label 'badminton', which",
    ):
        run_evaluate(tmp_path, f"ckpt={small_checkpoint}", "data.name=BasicMotions")
    with pytest.raises(UserError, match="has 1 channels, the model was trained on 12"):
        run_evaluate(tmp_path, f"ckpt={small_checkpoint}", "data.name=GunPoint")
    univariate = run_train(tmp_path / "gunpoint", "data.name=GunPoint").checkpoint
    with pytest.raises(UserError, match=r"label '0', which no training row has, in .* ArrowHead"):
        run_evaluate(tmp_path, f"ckpt={univariate}", "data.name=ArrowHead")


def test_an_unsuitable_backend_is_refused_with_its_reason(
    run_train: Callable, tmp_path: Path
) -> None:
    checkpoint = run_train(tmp_path / "run", "model.lstm.layer_norm=true").checkpoint
    with pytest.raises(UserError, match=r"nn.LSTM's kernels have no layer_norm; use") as refusal:
        run_evaluate(tmp_path, f"ckpt={checkpoint}", "model.lstm.backend=torch")
    assert "not a checkpoint" not in str(refusal.value)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_class_weights_work_in_every_precision(
    run_train: Callable, tmp_path: Path, precision: str
) -> None:
    result = run_train(
        tmp_path / "run",
        "loss.class_weights=balanced",
        f"trainer.precision={precision}",
        figures=True,
    )
    evaluation = run_evaluate(tmp_path, f"ckpt={result.checkpoint}")
    assert evaluation.metrics == pytest.approx(result.metrics, abs=1e-5)


def test_evaluating_training_rows_warns(
    small_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_evaluate(tmp_path, f"ckpt={small_checkpoint}", "data.split=validation")
    assert "was trained on" not in caplog.text
    run_evaluate(tmp_path, f"ckpt={small_checkpoint}", "data.split=train")
    assert "this checkpoint was trained on the train split" in caplog.text


@pytest.fixture(scope="session")
def text_run(
    run_train: Callable, text_files: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "text"
    run_train(run_dir, *text_files, "trainer.max_epochs=3", "optimizer.lr=0.05")
    return run_dir


@pytest.mark.parametrize("batch_size", [1, 20])
def test_metrics_of_texts_equal_those_of_training(
    text_run: Path, tmp_path: Path, batch_size: int
) -> None:
    checkpoint = text_run / "checkpoints" / "best.ckpt"
    evaluation = run_evaluate(tmp_path, f"ckpt={checkpoint}", f"data.batch_size={batch_size}")
    reported = json.loads((text_run / "metrics.json").read_text())
    assert evaluation.metrics == pytest.approx(reported, abs=1e-5)
    assert [row["true_label"] for row in read_csv(tmp_path / "predictions.csv")] == [
        "good",
        "bad",
    ] * 10


def test_texts_from_other_files(text_run: Path, text_files: list[str], tmp_path: Path) -> None:
    checkpoint = text_run / "checkpoints" / "best.ckpt"
    (test,) = (Path(text.partition("=")[2]) for text in text_files if "data.test=" in text)
    lines = [line.split(",")[::-1] for line in test.read_text().splitlines()]
    lines[0] = ["mood", "said"]
    other = tmp_path / "other.csv"
    other.write_text("\n".join(map(",".join, lines)))
    overrides = [f"data.test={other}", "data.text_column=said", "data.label_column=mood"]
    evaluation = run_evaluate(tmp_path / "out", f"ckpt={checkpoint}", *overrides)
    reported = json.loads((text_run / "metrics.json").read_text())
    assert evaluation.metrics == pytest.approx(reported, abs=1e-5)

    other.write_text(other.read_text() + "\nangry,a new mood\ngood, ")
    with pytest.raises(UserError, match=r"label 'angry', which no .* in other\.csv, 1 row: row 20"):
        run_evaluate(tmp_path / "out", f"ckpt={checkpoint}", *overrides)
    evaluation = run_evaluate(
        tmp_path / "out", f"ckpt={checkpoint}", *overrides, "data.on_bad_row=drop"
    )
    assert evaluation.metrics == pytest.approx(reported, abs=1e-5)


def test_keys_of_other_sources_are_refused(small_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.test=a\.csv means nothing to data=archive"):
        run_evaluate(tmp_path, f"ckpt={small_checkpoint}", "data.test=a.csv")


def test_another_folder_in_the_layout_of_the_hub(
    run_train: Callable, text_files: list[str], tmp_path: Path
) -> None:
    for text in text_files[1:3]:
        file = Path(text.partition("=")[2])
        for folder in ("first", "second"):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / folder / file.name)
    result = run_train(
        tmp_path / "run", "data=hub_text", f"data.path={tmp_path / 'first'}", text_files[-1]
    )
    shutil.rmtree(tmp_path / "first")
    evaluation = run_evaluate(
        tmp_path / "out", f"ckpt={result.checkpoint}", f"data.path={tmp_path / 'second'}"
    )
    assert evaluation.metrics == pytest.approx(result.metrics, abs=1e-5)
