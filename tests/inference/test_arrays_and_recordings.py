"""Whole runs on arrays, recordings, series with gaps and windows: train, evaluate, predict."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import EvaluateConfig, PredictConfig, TrainConfig
from attnlstm.inference.evaluation import evaluate
from attnlstm.inference.prediction import predict
from attnlstm.training.run import train
from tests.config.composed import CONF

SMALL = (
    *("model/stem=none", "model.lstm.hidden_size=8", "model.random_convolutions=null"),
    *("trainer.max_epochs=2", "trainer.accelerator=cpu", "baseline=none", "refit=false"),
    *("validation=holdout", "data.batch_size=16"),
)

pytestmark = pytest.mark.slow


def run_train(folder: Path, *overrides: str) -> Path:
    given = ["data=series_files", *SMALL, *overrides]
    config = compose_config(CONF, "train", TrainConfig, given)
    result = train(config, folder / "run")
    assert result.checkpoint is not None
    return result.checkpoint


def run_evaluate(folder: Path, checkpoint: Path, *overrides: str) -> dict[str, float]:
    given = [f"ckpt={checkpoint}", *overrides]
    return evaluate(compose_config(CONF, "evaluate", EvaluateConfig, given), folder / "e").metrics


def run_predict(folder: Path, checkpoint: Path, *overrides: str) -> pd.DataFrame:
    output = folder / "predictions.csv"
    given = [f"ckpt={checkpoint}", f"output={output}", "overwrite=true", *overrides]
    predict(compose_config(CONF, "predict", PredictConfig, given), folder / "p")
    return pd.read_csv(output)


def make_series(num_rows: int = 40, steps: int = 12, channels: int = 3, seed: int = 0):
    labels = np.arange(num_rows) % 2
    series = np.random.default_rng(seed).normal(size=(num_rows, steps, channels))
    return series + labels[:, None, None], np.array(["low", "high"])[labels]


def probabilities(predictions: pd.DataFrame) -> np.ndarray:
    return predictions.filter(regex="^probability").to_numpy()


def test_both_orders_of_the_axes_give_the_same_model(tmp_path: Path) -> None:
    series, labels = make_series()
    metrics, found = [], []
    for number, (array, axes) in enumerate(
        [(series, "row,time,channel"), (np.swapaxes(series, 1, 2), "row,channel,time")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        np.savez(folder / "walks.npz", X=array, y=labels)
        np.save(folder / "X_new.npy", array[:5])
        np.save(folder / "y_new.npy", labels[:5])
        checkpoint = run_train(folder, f"data.train={folder}/walks.npz", f"data.axes={axes}")
        assert load_checkpoint(checkpoint).encoder.axes == axes
        metrics.append(run_evaluate(folder, checkpoint))
        predictions = run_predict(folder, checkpoint, f"input={folder}/X_new.npy")
        assert predictions["true_label"].tolist() == labels[:5].tolist()
        found.append(predictions.drop(columns="file"))
    assert metrics[0] == metrics[1]
    pd.testing.assert_frame_equal(found[0], found[1])


@pytest.mark.parametrize("missing", ["interpolate", "mask"])
def test_series_with_gaps(tmp_path: Path, missing: str) -> None:
    series, labels = make_series()
    generator = np.random.default_rng(1)
    series[:, :, 1] = np.where(generator.random((40, 12)) < 0.3, np.nan, series[:, :, 1])
    np.savez(tmp_path / "walks.npz", X=series, y=labels)
    axes = "data.axes=row,time,channel"
    given = [f"data.train={tmp_path}/walks.npz", axes, f"data.missing={missing}", "baseline=auto"]
    checkpoint = run_train(tmp_path, *given)
    encoder = load_checkpoint(checkpoint).encoder
    assert encoder.missing == missing
    assert encoder.num_features == (4 if missing == "mask" else 3)
    assert (tmp_path / "run" / "baseline.json").is_file()
    training = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert run_evaluate(tmp_path, checkpoint)["test/accuracy"] == training["test/accuracy"]
    whole = pd.DataFrame(series[0]).interpolate(limit_direction="both").to_numpy()
    np.savez(tmp_path / "new.npz", X=np.stack([series[0], whole, series[0]]))
    report = tmp_path / "report.html"
    predictions = run_predict(tmp_path, checkpoint, f"input={tmp_path}/new.npz", f"report={report}")
    assert predictions["error"].isna().all()
    first, interpolated, again = probabilities(predictions)
    np.testing.assert_array_equal(first, again)
    if missing == "interpolate":
        np.testing.assert_allclose(first, interpolated, atol=1e-6)
    else:
        assert not np.array_equal(first, interpolated)


def test_recordings(tmp_path: Path) -> None:
    series, labels = make_series()
    for number, (steps, label) in enumerate(zip(series, labels, strict=True)):
        for part in ("rec", "flat"):
            path = tmp_path / part / (label if part == "rec" else "") / f"{label}_{number}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(steps, columns=["x", "y", "z"]).to_csv(path, index=False)
    checkpoint = run_train(tmp_path, f"data.train={tmp_path}/rec")
    without = run_predict(tmp_path, checkpoint, f"input={tmp_path}/flat/*.csv")
    assert without["true_label"].isna().all()
    assert without["label"].notna().all()
    flat = run_predict(tmp_path, checkpoint, f"input={tmp_path}/flat")
    pd.testing.assert_frame_equal(without, flat)
    named = run_predict(
        tmp_path, checkpoint, f"input={tmp_path}/flat/*.csv", "data.label_from=name:(.+)_"
    )
    assert named["true_label"].tolist() == sorted(labels)
    assert named["label"].tolist() == without["label"].tolist()
    test = run_evaluate(
        tmp_path, checkpoint, f"data.test={tmp_path}/flat/*.csv", "data.label_from=name:(.+)_"
    )
    accuracy = (named["label"] == named["true_label"]).mean()
    assert test["test/accuracy"] == pytest.approx(accuracy)


def test_windows(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(["sit", "walk"], 50)
    frames = [
        pd.DataFrame(
            {
                "user": f"u{user}",
                "x": generator.normal(size=100) + 2 * (labels == "walk"),
                "activity": labels,
            }
        )
        for user in range(8)
    ]
    pd.concat(frames).to_csv(tmp_path / "streams.csv", index=False)
    checkpoint = run_train(
        tmp_path,
        f"data.train={tmp_path}/streams.csv",
        *("data.group_column=user", "data.label_column=activity"),
        *("data.window=20", "data.stride=10"),
    )
    new = frames[0].drop(columns="activity")
    new.to_csv(tmp_path / "new.csv", index=False)
    predictions = run_predict(tmp_path, checkpoint, f"input={tmp_path}/new.csv")
    assert predictions["step"].tolist() == list(range(0, 81, 10))
    assert predictions["id"].tolist() == ["u0"] * 9
    with_stride = run_predict(tmp_path, checkpoint, f"input={tmp_path}/new.csv", "data.stride=40")
    assert with_stride["step"].tolist() == [0, 40, 80]
    np.testing.assert_array_equal(probabilities(with_stride), probabilities(predictions)[[0, 4, 8]])
