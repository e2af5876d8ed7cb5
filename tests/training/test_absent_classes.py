"""Runs whose parts lack classes: what is left out is reported, and the files stay valid."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from attnlstm.config.schema import EvaluateConfig
from attnlstm.errors import UserError
from attnlstm.inference.evaluation import evaluate

pytestmark = pytest.mark.slow

WORDS = {"sport": "goal coach match", "tech": "phone code app", "food": "oven salt bread"}


def write(path: Path, labels: str, count: int) -> Path:
    """Write `count` texts of each class, which their words give away."""
    rows = [f"{label},{WORDS[label]} {n}" for n in range(count) for label in labels.split()]
    path.write_text("\n".join(["label,text", *rows, ""]))
    return path


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    train = write(tmp_path / "train.csv", "sport tech food", 20)
    return ["data=text_files", f"data.train={train}", "model.embedding.size=6"]


def parse_strict_json(text: str) -> dict[str, float | None]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_class_without_a_test_row_is_left_out_of_auroc_and_reported(
    run_train: Callable, options: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    test = write(tmp_path / "test.csv", "sport tech", 4)
    more = ["trainer.max_epochs=8", "optimizer.lr=0.05"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="torchmetrics")
        result = run_train(tmp_path / "run", *options, f"data.test={test}", *more)
    message = "auroc leaves out 1 class without a row: 'food'"
    assert caplog.text.count(message) == 1
    assert result.metrics["test/accuracy"] == 1
    assert result.metrics["test/auroc"] == 1
    caplog.clear()
    evaluation = evaluate(EvaluateConfig(ckpt=str(result.checkpoint)), tmp_path / "evaluation")
    assert evaluation.metrics == pytest.approx(result.metrics, abs=1e-5)
    assert caplog.text.count(message) == 1
    assert "test rows of each class: food: 0, sport: 4, tech: 4" in caplog.text


def test_without_an_auroc_it_is_null_and_a_dash(
    run_train: Callable,
    options: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("INFO")
    test = write(tmp_path / "test.csv", "tech", 4)
    result = run_train(tmp_path / "run", *options, f"data.test={test}")
    evaluate(EvaluateConfig(ckpt=str(result.checkpoint)), tmp_path / "evaluation")
    for folder in ("run", "evaluation"):
        written = (tmp_path / folder / "metrics.json").read_text()
        metrics = parse_strict_json(written)
        assert metrics["test/auroc"] is None
        assert metrics["test/loss"] == pytest.approx(result.metrics["test/loss"])
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if "test/auroc" in line]
    assert [line[3] for line in shown] == ["-", "-"]
    assert caplog.text.count("there is no auroc: all rows are of class 'tech'") == 2


@pytest.mark.parametrize(
    "override",
    [
        ["callbacks.checkpoint.monitor=val/auroc", "callbacks.checkpoint.mode=max"],
        [
            "callbacks=early_stopping",
            "callbacks.early_stopping.monitor=val/auroc",
            "callbacks.early_stopping.mode=max",
        ],
        ["scheduler=plateau", "scheduler.monitor=val/auroc", "scheduler.mode=max"],
    ],
)
def test_an_auroc_that_does_not_exist_cannot_be_monitored(
    run_train: Callable, options: list[str], tmp_path: Path, override: list[str]
) -> None:
    validation = write(tmp_path / "validation.csv", "food", 4)
    key = next(text for text in override if text.endswith("=val/auroc"))
    with pytest.raises(UserError, match=f"{key}: there is no AUROC") as refusal:
        run_train(tmp_path / "run", *options, f"data.validation={validation}", *override)
    assert "watch val/loss" in str(refusal.value)
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_early_stopping_is_patient_where_few_validation_batches_have_one_class(
    run_train: Callable, options: list[str], tmp_path: Path
) -> None:
    validation = tmp_path / "validation.csv"  # batches of four texts of similar length
    rows = ["tech,app"] * 4 + ["sport,goal goal"] * 4 + ["tech,app app app"] * 4
    validation.write_text("\n".join(["label,text", *rows, ""]))
    result = run_train(
        tmp_path / "run",
        *options,
        f"data.validation={validation}",
        "callbacks=early_stopping",
        "callbacks.early_stopping.monitor=val/auroc",
        "callbacks.early_stopping.mode=max",
        "callbacks.early_stopping.patience=3",
        "data.batch_size=1",
        "trainer.limit_val_batches=1",
        "trainer.limit_train_batches=1",
        "trainer.max_epochs=9",
    )
    assert result.trainer.current_epoch == 3


def test_means_over_runs_when_one_has_no_auroc(capsys: pytest.CaptureFixture[str]) -> None:
    from attnlstm.console import print_means

    print_means([{"loss": 1.0, "auroc": float("nan")}, {"loss": 2.0, "auroc": 0.5}])
    rows = {line.split()[1]: line.split() for line in capsys.readouterr().out.splitlines()[5:7]}
    assert rows["auroc"][3:6:2] == ["-", "-"]
    assert rows["loss"][3:6:2] == ["1.5000", "0.7071"]
