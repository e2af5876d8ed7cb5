"""Several classes a row, numbers, and classes in order, from the training to predictions."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, mean_absolute_error, r2_score

from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.errors import UserError
from attnlstm.training.run import TrainingResult
from tests.inference.verbs import read_csv, run_evaluate, run_predict

pytestmark = pytest.mark.slow

WORDS = {"sport": ["ball", "goal", "team"], "money": ["bank", "cash", "price"]}
SETTINGS = [
    "data=text_files",
    "trainer.max_epochs=6",
    "optimizer.lr=0.02",
    "model.embedding.size=8",
]


def write_texts(path: Path, count: int = 120) -> None:
    """Texts with any of two topics, a number that depends on them, and a number of stars."""
    generator = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "tags", *WORDS, "price", "weight", "stars"])
        for row in range(count):
            has = generator.integers(0, 2, 2)
            topics = [topic for topic, flag in zip(WORDS, has, strict=True) if flag]
            words = [str(generator.choice(WORDS[topic])) for topic in topics for _ in range(3)]
            noise = generator.normal(0, 5, 2).round(2)
            price, weight = 1000 + 100 * has[0] + noise[0], -50 * has[1] + noise[1]
            text = " ".join([*words, "the", f"w{row}"])
            writer.writerow([row, text, "|".join(topics), *has, price, weight, 1 + has.sum()])


class Trained:
    """A small run on such texts, and its evaluation and predictions."""

    def __init__(self, run_train: Callable, folder: Path, *overrides: str) -> None:
        self.folder, self.texts = folder, folder / "texts.csv"
        write_texts(self.texts)
        self.result: TrainingResult = run_train(
            folder / "run", *SETTINGS, f"data.train={self.texts}", *overrides
        )
        self.ckpt = folder / "run" / "checkpoints" / "best.ckpt"
        self.evaluation = run_evaluate(folder / "evaluation", f"ckpt={self.ckpt}")

    def predict(self, *arguments: str, name: str = "out.csv") -> dict[str, float]:
        output = f"output={self.folder / name}"
        given = [f"ckpt={self.ckpt}", f"input={self.texts}", output, "overwrite=true"]
        return run_predict(self.folder / "prediction", *given, *arguments)

    def rows(self) -> list[dict[str, str]]:
        return read_csv(self.folder / "out.csv")


@pytest.fixture(scope="module")
def tags(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    columns = ["data.label_column=tags", "data.label_separator='|'"]
    return Trained(run_train, tmp_path_factory.mktemp("tags"), *columns)


@pytest.fixture(scope="module")
def prices(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    columns = "data.label_column=[price,weight]"
    return Trained(run_train, tmp_path_factory.mktemp("prices"), columns, "baseline=auto")


def test_several_classes(tags: Trained, tmp_path: Path) -> None:
    trained = load_checkpoint(tags.ckpt)
    assert (trained.task, trained.label_names) == ("multilabel", ["money", "sport"])
    assert trained.calibration is not None
    assert trained.calibration.thresholds is not None
    tested, evaluation = tags.result.metrics, tags.evaluation
    assert tested["test/micro_f1"] > 0.9
    for name, value in evaluation.metrics.items():
        assert value == pytest.approx(tested[name], abs=1e-5)
    said = evaluation.predictions.numpy() >= trained.calibration.thresholds.numpy()
    assert tested["test/macro_f1"] == pytest.approx(
        f1_score(evaluation.targets, said, average="macro"), abs=1e-5
    )
    written = {path.name for path in (tags.folder / "evaluation").iterdir()}
    assert written >= {"metrics.json", "per_class.csv", "predictions.csv"}
    assert "confusion_matrix.png" not in written


def test_predictions_of_several_classes(tags: Trained) -> None:
    metrics = tags.predict()
    rows, right = tags.rows(), 0
    assert list(rows[0])[3:] == [
        *("true_label", "label", "probability of money", "probability of sport", "error")
    ]
    named = 0
    for row, source in zip(rows, read_csv(tags.texts), strict=True):
        true, said = set(json.loads(row["true_label"])), set(json.loads(row["label"]))
        assert true == set(filter(None, source["tags"].split("|")))
        right, named = right + len(true & said), named + len(true) + len(said)
    assert metrics == {"micro_f1": pytest.approx(2 * right / named)}
    with pytest.raises(UserError, match="says several classes: leave it out"):
        tags.predict("prediction_sets=0.9")


def test_files_may_say_the_classes_in_another_way(tags: Trained, caplog: Any) -> None:
    """A model of tags in one column is compared with columns of 0 and 1."""
    first = tags.predict()
    metrics = tags.predict("data.label_column=[sport,money]")
    assert metrics == first
    assert tags.predict("data.label_column=[sport,price]") == {}
    assert "120 rows with labels other than 0 and 1, and not compared" in caplog.text


def test_numbers(prices: Trained) -> None:
    trained, evaluation, tested = load_checkpoint(prices.ckpt), prices.evaluation, prices.result
    assert (trained.task, trained.label_names) == ("regression", ["price", "weight"])
    said, true = evaluation.predictions.numpy(), evaluation.targets.numpy()
    assert tested.metrics["test/r2"] == pytest.approx(r2_score(true, said), abs=1e-4)
    assert tested.metrics["test/r2"] > 0.8
    per_target = read_csv(prices.folder / "evaluation" / "per_target.csv")
    for place, row in enumerate(per_target):
        expected = mean_absolute_error(true[:, place], said[:, place])
        assert float(row["mae"]) == pytest.approx(expected, rel=1e-3)
    assert [row["target"] for row in per_target] == ["price", "weight"]
    assert (prices.folder / "evaluation" / "scatter.png").is_file()
    baseline = json.loads((prices.folder / "run" / "baseline.json").read_text())
    assert list(baseline) == ["TF-IDF + ridge regression", "mean"]
    assert baseline["mean"]["test/r2"] < 0.1


def test_predictions_of_numbers(prices: Trained) -> None:
    metrics = prices.predict("prediction_sets=0.8")
    rows = prices.rows()
    kinds = ["true_value", "prediction", "lower", "upper"]
    columns = [f"{kind} of {name}" for name in ("price", "weight") for kind in kinds]
    assert list(rows[0])[3:] == [*columns, "error"]
    values = {name: np.array([float(row[name]) for row in rows]) for name in columns}
    errors, covered = [], []
    for name in ("price", "weight"):
        true, said, lower, upper = (values[f"{kind} of {name}"] for kind in kinds)
        np.testing.assert_allclose(upper - said, said - lower, rtol=1e-3, atol=1e-3)
        errors.append(np.abs(true - said).mean())
        covered.append((lower <= true) & (true <= upper))
    assert metrics["mae"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert metrics["coverage"] == pytest.approx(np.mean(covered))


def test_columns_of_numbers_can_be_in_another_order(prices: Trained) -> None:
    metrics = prices.predict()
    assert prices.predict("data.label_column=[weight,price]") == metrics


def test_intervals_without_enough_rows_have_no_ends(prices: Trained, caplog: Any) -> None:
    prices.predict("prediction_sets=0.999")
    assert "every interval is infinite" in caplog.text
    assert all(row["lower of price"] == row["upper of price"] == "" for row in prices.rows())


def test_rows_with_labels_that_are_no_numbers(prices: Trained, tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "new.csv"
    path.write_text("text,price,weight\nball goal,1100,0\nbank,n/a,3\ncash,,\n")
    metrics = run_predict(
        tmp_path, f"ckpt={prices.ckpt}", f"input={path}", f"output={tmp_path}/o.csv"
    )
    rows = read_csv(tmp_path / "o.csv")
    assert [row["true_value of price"] for row in rows] == ["1100.0", "", ""]
    assert all(math.isfinite(float(row["prediction of price"])) for row in rows)
    assert "1 row with a label that is not a number, and not compared" in caplog.text
    assert metrics["mae"] > 0


def test_every_backend_predicts_the_same_numbers(prices: Trained) -> None:
    prices.predict("model.lstm.backend=naive")
    naive = [float(row["prediction of price"]) for row in prices.rows()]
    prices.predict("model.lstm.backend=torch")
    assert naive == pytest.approx(
        [float(row["prediction of price"]) for row in prices.rows()], rel=1e-5
    )


def test_a_regression_has_its_scale_in_the_weights(prices: Trained) -> None:
    """Whoever loads the classifier alone gets numbers in the units of the data."""
    trained = load_checkpoint(prices.ckpt)
    ids = torch.zeros(1, 3, dtype=torch.int64)
    assert 900 < trained.classifier.eval()(ids).logits[0, 0] < 1200


def test_classes_in_order(run_train: Callable, tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    write_texts(path)
    columns = ["data.label_column=stars", "task=ordinal"]
    result = run_train(tmp_path / "run", *SETTINGS, f"data.train={path}", *columns)
    assert result.metrics["test/accuracy"] > 0.8
    assert result.metrics["test/class_distance"] < 0.3
    trained = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert (trained.task, trained.label_names) == ("ordinal", ["1", "2", "3"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=regression", "data.sampler=balanced"], "not for task=regression: choose shuffled"),
        (["task=regression", "loss.focal_gamma=2"], "loss.focal_gamma=2 is for classes"),
        (["task=multilabel", "loss.class_weights=balanced"], "not for task=multilabel"),
        (
            [
                "data.label_column=price",
                "callbacks.checkpoint.monitor=val/accuracy",
                "callbacks.checkpoint.mode=max",
            ],
            "monitor=val/accuracy does not exist with task=regression: watch val/loss, val/mae",
        ),
    ],
)
def test_settings_that_do_not_apply(
    run_train: Callable, tmp_path: Path, overrides: list[str], said: str
) -> None:
    path = tmp_path / "texts.csv"
    write_texts(path)
    with pytest.raises(UserError, match=said):
        run_train(tmp_path / "run", *SETTINGS, f"data.train={path}", *overrides)
