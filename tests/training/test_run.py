"""What a training run writes, and that it is reproducible."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attnlstm.checkpoint.calibration import fit_temperature
from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.config.data import Task
from attnlstm.config.lightning import MONITORED
from attnlstm.config.schema import EvaluateConfig
from attnlstm.errors import UserError
from attnlstm.inference.evaluation import evaluate
from attnlstm.training.metrics import build_metrics
from attnlstm.training.module import restore_module

pytestmark = pytest.mark.slow


def read_metrics(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_run_folder_is_complete(small_run: Path) -> None:
    config = yaml.safe_load((small_run / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 2
    assert config["model"]["lstm"]["hidden_size"] == 8
    assert "${" not in (small_run / "config.yaml").read_text()
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (small_run / name).is_file()
    for name in ("confusion_matrix", "attention"):
        assert (small_run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((small_run / "metrics.json").read_text())
    names = {"loss", "accuracy", "macro_f1", "auroc", "calibration_error"}
    assert metrics.keys() == {f"test/{name}" for name in names}


def test_metrics_are_logged_as_csv_and_tensorboard_events(small_run: Path) -> None:
    rows = read_metrics(small_run)
    names = ("loss", "accuracy", "macro_f1", "auroc", "calibration_error")
    for epoch in ("0", "1"):
        validation = [row for row in rows if row["epoch"] == epoch and row["val/loss"]]
        assert len(validation) == 1
        assert all(validation[0][f"val/{name}"] for name in names)
    assert any(row["train/loss"] for row in rows)
    assert any(row["lr-AdamW"] for row in rows)

    events = EventAccumulator(str(small_run / "tensorboard"))
    events.Reload()
    assert {f"val/{name}" for name in names} <= set(events.Tags()["scalars"])
    for name in ("confusion_matrix", "attention"):
        drawn = [image.step for image in events.Images(f"val/{name}")]
        assert drawn == [14, 28]  # the last epoch's are not drawn again at the end of training
    logged = [event.value for event in events.Scalars("val/loss")]
    assert logged == pytest.approx([float(row["val/loss"]) for row in rows if row["val/loss"]])


def test_best_is_the_epoch_with_the_lowest_validation_loss(
    run_train: Callable, tmp_path: Path
) -> None:
    rising = ["scheduler=none", "optimizer=sgd", "+optimizer.maximize=true", "trainer.max_epochs=4"]
    result = run_train(tmp_path, *rising)
    losses = [float(row["val/loss"]) for row in read_metrics(tmp_path) if row["val/loss"]]
    assert losses.index(min(losses)) < 3
    best = torch.load(result.checkpoint, weights_only=True)
    assert best["epoch"] == losses.index(min(losses))
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 3


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_seed_gives_the_same_run(run_train: Callable, tmp_path: Path, seed: int) -> None:
    overrides = [f"seed={seed}", "data.noise=0.1", "model.dropout=0.2"]
    first, second = (run_train(tmp_path / name, *overrides) for name in ("first", "second"))
    assert (tmp_path / "first/metrics.csv").read_bytes() == (
        tmp_path / "second/metrics.csv"
    ).read_bytes()
    weights = [result.module.state_dict() for result in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_another_seed_gives_another_run(
    small_run: Path, run_train: Callable, tmp_path: Path
) -> None:
    run_train(tmp_path, "seed=1")
    assert (tmp_path / "metrics.csv").read_text() != (small_run / "metrics.csv").read_text()


def test_early_stopping_and_checkpoint_follow_any_metric(
    run_train: Callable, tmp_path: Path
) -> None:
    result = run_train(
        tmp_path,
        "trainer.max_epochs=10",
        "optimizer.lr=0.0",  # nothing improves
        "callbacks=early_stopping",
        "callbacks.early_stopping.monitor=val/macro_f1",
        "callbacks.early_stopping.mode=max",
        "callbacks.early_stopping.patience=2",
        "callbacks.checkpoint.monitor=val/accuracy",
        "callbacks.checkpoint.mode=max",
    )
    assert result.trainer.current_epoch == 3
    assert torch.load(result.checkpoint, weights_only=True)["epoch"] == 0


@pytest.mark.parametrize(
    "overrides",
    [
        ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/acuracy"],
        ["callbacks.checkpoint.monitor=val/acuracy"],
    ],
)
def test_a_metric_that_is_not_logged_is_named(
    run_train: Callable, tmp_path: Path, overrides: list[str]
) -> None:
    with pytest.raises(UserError, match=r"did you mean val/accuracy\?"):
        run_train(tmp_path, *overrides)


def test_every_metric_that_can_be_monitored_is_one_of_a_task(small_run: Path) -> None:
    logged = read_metrics(small_run)[0].keys()
    assert {f"val/{name}" for name in build_metrics("classification", 9)} <= logged
    tasks: list[Task] = ["ordinal", "multilabel", "regression"]
    known = {f"val/{name}" for task in tasks for name in build_metrics(task, 3)}
    assert set(MONITORED) == known | {"val/loss", "train/loss"}


def calibration_error(probabilities: np.ndarray, is_right: np.ndarray) -> float:
    """Expected calibration error over 15 equal bins of confidence (Guo et al., 2017)."""
    confidence = probabilities.max(axis=1)
    bins = np.clip(np.floor(confidence * 15).astype(int), 0, 14)
    gaps = [
        abs(is_right[bins == n].mean() - confidence[bins == n].mean()) * (bins == n).mean()
        for n in np.unique(bins)
    ]
    return float(sum(gaps))


def test_metrics_match_their_formulas(small_checkpoint: Path, tmp_path: Path) -> None:
    from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

    evaluation = evaluate(EvaluateConfig(ckpt=str(small_checkpoint)), tmp_path)
    rounded = evaluation.predictions.round(decimals=5).numpy()
    probabilities = evaluation.predictions.double().numpy()
    targets = evaluation.targets.numpy()
    predictions = probabilities.argmax(axis=1)
    assert evaluation.metrics == pytest.approx(
        {
            "test/loss": log_loss(targets, probabilities),  # without label smoothing
            "test/accuracy": accuracy_score(targets, predictions),
            "test/macro_f1": f1_score(targets, predictions, average="macro"),
            "test/auroc": np.mean([roc_auc_score(targets == c, rounded[:, c]) for c in range(9)]),
            "test/calibration_error": calibration_error(probabilities, predictions == targets),
        },
        abs=1e-6,
    )


def test_a_refit_trains_on_all_training_rows_and_replaces_best(
    run_train: Callable, tmp_path: Path
) -> None:
    result = run_train(tmp_path / "run", "refit=true", figures=True)
    folder = tmp_path / "run" / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "last.ckpt", "validated.ckpt"}
    best = torch.load(result.checkpoint, weights_only=True)
    assert best["epoch"] == 1
    assert best["global_step"] == 2 * 17  # batches of 16 of 270 rows
    assert best["hyper_parameters"]["trained_on"] == ["train", "validation"]
    assert best["hyper_parameters"]["class_counts"] == [30] * 9
    validated = torch.load(folder / "validated.ckpt", weights_only=True)
    assert validated["hyper_parameters"]["trained_on"] == ["train"]
    # the calibration is the validated model's, fitted to rows that it has not seen
    assert best["calibration"]["temperature"] == validated["calibration"]["temperature"] != 1
    assert torch.equal(best["calibration"]["scores"], validated["calibration"]["scores"])
    assert result.module.temperature == best["calibration"]["temperature"]

    evaluation = evaluate(EvaluateConfig(ckpt=str(result.checkpoint)), tmp_path)
    assert evaluation.metrics == pytest.approx(result.metrics, abs=1e-6)


def test_the_calibration_is_that_of_the_validation_rows(
    run_train: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run_train(tmp_path / "run", "trainer.max_epochs=3", "model.ensemble_size=2")
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    calibration = torch.load(checkpoint, weights_only=True)["calibration"]
    config = EvaluateConfig(ckpt=str(checkpoint), data={"split": "validation"})
    evaluation = evaluate(config, tmp_path / "evaluated")
    p, targets = evaluation.predictions.double(), evaluation.targets
    scores = 1 - p.gather(1, targets.unsqueeze(1)).squeeze(1)
    assert calibration["scores"].numpy() == pytest.approx(np.sort(scores.numpy()), abs=2e-6)
    # the temperature of calibrated probabilities is 1
    assert fit_temperature(p.log(), targets) == pytest.approx(1, abs=1e-4)
    error = evaluation.metrics["val/calibration_error"]
    line = rf"temperature {calibration['temperature']:.2f} fitted on 54 validation rows: "
    assert re.search(rf"{line}calibration error 0\.\d+ -> {error:.3f}", caplog.text)


def test_a_calibration_leaves_no_trace_in_the_curves(small_run: Path) -> None:
    validations = [row for row in read_metrics(small_run) if row["val/loss"]]
    assert [row["epoch"] for row in validations] == ["0", "1"]


def test_without_validation_rows_there_is_no_calibration(
    run_train: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = "callbacks.checkpoint.monitor=train/loss"
    result = run_train(tmp_path, "trainer.limit_val_batches=0", monitor)
    assert "not calibrated: no validation rows" in caplog.text
    assert load_checkpoint(result.checkpoint).calibration is None


def test_an_impossible_refit_is_reported(
    run_train: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_train(tmp_path, "refit=true", "scheduler=plateau")
    assert "no refit: scheduler.monitor=val/loss" in caplog.text
    assert not (tmp_path / "checkpoints" / "validated.ckpt").exists()


def test_a_plateau_counts_validations_not_epochs(run_train: Callable, tmp_path: Path) -> None:
    options = ["trainer.max_epochs=6", "trainer.check_val_every_n_epoch=2", "optimizer.lr=0.01"]
    never_better = ["scheduler.threshold=1.0", "scheduler.patience=0"]
    run_train(tmp_path, *options, "scheduler=plateau", *never_better)
    rates = [float(row["lr-AdamW"]) for row in read_metrics(tmp_path) if row["lr-AdamW"]]
    # halved after the validations of epochs 2 and 4; the third one ends the run
    assert sorted(set(rates), reverse=True) == [0.01, 0.005, 0.0025]


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.max_steps=5"],
        ["trainer.limit_val_batches=0"],
        ["trainer.enable_checkpointing=false"],
        ["optimizer.name=Adagrad"],
        ["scheduler=none", "scheduler.name=ExponentialLR", "scheduler.gamma=0.9"],
        ["optimizer=sgd", "scheduler=cosine", "trainer.accumulate_grad_batches=2"],
    ],
)
def test_trainer_and_optimizer_options_work_with_the_defaults(
    run_train: Callable, tmp_path: Path, overrides: list[str]
) -> None:
    assert run_train(tmp_path, *overrides, figures=True).metrics["test/accuracy"] > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["callbacks.checkpoint.monitor=val/accuracy"], "set callbacks.checkpoint.mode=max"),
        (
            ["callbacks=early_stopping", "callbacks.early_stopping.mode=max"],
            "set callbacks.early_stopping.mode=min",
        ),
        (["trainer.accelerator=gpu"], "trainer.accelerator=gpu: this machine has no such device"),
    ],
)
def test_impossible_options_are_refused(
    run_train: Callable, tmp_path: Path, overrides: list[str], message: str
) -> None:
    if overrides == ["trainer.accelerator=gpu"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=message):
        run_train(tmp_path, *overrides)


def test_without_checkpoints_the_last_weights_are_tested(
    run_train: Callable, tmp_path: Path
) -> None:
    result = run_train(
        tmp_path, "callbacks.checkpoint=null", "callbacks.figures=null", figures=True
    )
    assert result.checkpoint is None
    assert result.metrics["test/accuracy"] > 0
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_is_named(
    run_train: Callable, tmp_path: Path, package: str
) -> None:
    with pytest.raises(UserError, match=f"pip install {package}"):
        run_train(tmp_path, f"logger={package}")


def test_an_ensemble_trains_each_member_and_is_loaded_with_any_backend(
    run_train: Callable, tmp_path: Path
) -> None:
    result = run_train(tmp_path, "model.ensemble_size=2", "data.name=UnitTest", figures=True)
    first, second = result.module.members
    assert not torch.equal(first.head.weight, second.head.weight)
    assert result.checkpoint is not None
    loaded = restore_module(load_checkpoint(result.checkpoint, "naive"))
    assert [member.lstm.backend for member in loaded.members] == ["naive", "naive"]
    inputs, lengths = torch.randn(3, 5, 1), torch.tensor([5, 2, 4])
    with torch.no_grad():
        ours = result.module.eval()(inputs, lengths).logits
        torch.testing.assert_close(loaded.eval()(inputs, lengths).logits, ours, atol=1e-5, rtol=0)
