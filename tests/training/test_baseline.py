"""The baseline matches scikit-learn and aeon, and a run reports where it falls short of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from aeon.classification.convolution_based import MiniRocketClassifier
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from attnlstm.config.schema import EvaluateConfig
from attnlstm.data.parts import LabelledParts, Part
from attnlstm.data.rows import Row, RowSource
from attnlstm.inference.evaluation import evaluate
from attnlstm.training.baseline import (
    Baseline,
    Predictions,
    Scores,
    SeriesBaseline,
    TextBaseline,
    choose_rows,
    measure_baseline,
    measure_majority,
)
from attnlstm.training.comparison import (
    describe_shortfall,
    fit_or_warn,
    read_validation_score,
)

pytestmark = pytest.mark.slow

WORDS = ["fine", "lovely", "great", "dull", "awful", "slow", "long", "short", "old", "new"]


class Values(RowSource):
    name = "values"

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __iter__(self) -> Iterator[Row]:
        for number, value in enumerate(self.values):
            yield Row(self.name, number, value, "label")

    def fingerprint(self) -> str:
        return ""


def part_of(values: list[Any], targets: np.ndarray) -> Part:
    return Part(((Values(values), np.arange(len(values)), targets),))


def make_texts(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts in which the words of their class of three are more frequent than others."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, count)
    chosen = generator.integers(0, 3, (count, 3)) + 2 * targets[:, None]
    other = generator.integers(0, len(WORDS), (count, 4))
    texts = [" ".join(WORDS[i] for i in row) for row in np.hstack([chosen, other])]
    return texts, targets


def make_dataset(**counts: int) -> LabelledParts:
    texts = {name: make_texts(count, seed) for seed, (name, count) in enumerate(counts.items())}
    return LabelledParts({name: part_of(*made) for name, made in texts.items()}, ["a", "b", "c"])


def values_of(part: Part) -> list[Any]:
    return [row.value for row in part]


def logistic_regression() -> Any:
    return make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))


def test_texts_match_scikit_learn() -> None:
    dataset = make_dataset(train=80, validation=30, test=70)
    train, validation, test = dataset.parts.values()
    baseline = measure_baseline(dataset, is_text=True, seed=0)
    model = logistic_regression().fit(values_of(train), train.targets)
    assert baseline.scores.validation == model.score(values_of(validation), validation.targets)
    model.fit(values_of(train + validation), (train + validation).targets)
    assert baseline.test_predictions is not None
    np.testing.assert_array_equal(baseline.test_predictions.values, model.predict(values_of(test)))
    assert baseline.scores.test == model.score(values_of(test), test.targets)
    assert 0.4 < baseline.scores.test < 1
    assert baseline.notes == []


def test_validation_out_of_fold() -> None:
    dataset = make_dataset(train=90, test=40)
    train, test = dataset.parts.values()
    folds = np.random.default_rng(0).integers(0, 3, 90)
    baseline = measure_baseline(dataset._replace(folds=folds), True, 0)
    texts, right = np.array(values_of(train)), np.zeros(90, dtype=bool)
    for fold in range(3):
        inside = folds == fold
        model = logistic_regression().fit(texts[~inside], train.targets[~inside])
        right[inside] = model.predict(texts[inside]) == train.targets[inside]
    assert baseline.scores.validation == right.mean()
    model = logistic_regression().fit(texts, train.targets)
    assert baseline.scores.test == model.score(values_of(test), test.targets)


def test_missing_parts() -> None:
    scores = measure_baseline(make_dataset(train=60, test=9), True, 0).scores
    assert scores.validation is None
    assert scores.test is not None
    dataset = make_dataset(train=60, validation=1)
    baseline = measure_baseline(dataset, True, 0)
    assert baseline.scores.validation in (0, 1)
    assert baseline.scores.test is baseline.test_predictions is None
    assert measure_majority(dataset).test is None


def test_the_majority_class_matches_scikit_learn() -> None:
    train, validation = np.repeat([0, 1, 2], [16, 18, 16]), np.repeat([0, 1, 2], [20, 10, 10])
    test = np.repeat([0, 1, 2], [10, 30, 20])
    named = {"train": train, "validation": validation, "test": test}
    parts = {name: part_of([""] * len(targets), targets) for name, targets in named.items()}
    dataset = LabelledParts(parts, ["a", "b", "c"])
    scores = measure_majority(dataset)
    dummy = DummyClassifier(strategy="most_frequent")
    assert scores.validation == dummy.fit(train, train).score(validation, validation)
    both = np.concatenate([train, validation])
    assert scores.test == dummy.fit(both, both).score(test, test)

    folds = np.arange(50) % 2
    right = [
        dummy.fit(train[folds != fold], train[folds != fold]).predict(train[folds == fold])
        == train[folds == fold]
        for fold in (0, 1)
    ]
    scores = measure_majority(dataset._replace(folds=folds))
    assert scores.validation == np.concatenate(right).mean()


def make_series(lengths: np.ndarray, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Waves of two channels and of two frequencies, with noise."""
    generator = np.random.default_rng(seed)
    targets = np.arange(len(lengths)) % 2
    series = [
        np.sin(np.linspace(0, 6 + 4 * target, length))[:, None]
        + generator.normal(0, 1, (length, 2))
        for length, target in zip(lengths, targets, strict=True)
    ]
    return series, targets


def stretch(series: np.ndarray, length: int) -> list[np.ndarray]:
    old, new = np.linspace(0, 1, len(series)), np.linspace(0, 1, length)
    return [np.interp(new, old, channel) for channel in series.T]


def test_series_match_aeon() -> None:
    """Series of one length are not changed; others are stretched to the longest training series."""
    for train_lengths, test_lengths in (
        (np.full(40, 20), np.full(300, 20)),
        (np.arange(40) % 5 + 3, np.arange(300) % 9 + 1),
    ):
        train, test = make_series(train_lengths, 0), make_series(test_lengths, 1)
        dataset = LabelledParts({"train": part_of(*train), "test": part_of(*test)}, ["a", "b"])
        baseline = measure_baseline(dataset, is_text=False, seed=3)
        length = max(9, train_lengths.max())
        inputs = [np.array([stretch(one, length) for one in made[0]]) for made in (train, test)]
        model = MiniRocketClassifier(random_state=3).fit(inputs[0], train[1])
        assert baseline.test_predictions is not None
        same = baseline.test_predictions.values == model.predict(inputs[1])
        assert same.mean() > 0.99  # the last digit of a stretched series may tip the scales
        assert baseline.scores.test == pytest.approx(model.score(inputs[1], test[1]), abs=0.01)
        stretched = ["series of other lengths are stretched to 9 steps"]
        assert baseline.notes == ([] if length == 20 else stretched)


@pytest.mark.parametrize(("most_rows", "most_cost"), [(100, 1e9), (10_000, 200.0)])
def test_a_choice_of_rows_has_the_same_share_of_each_class(
    most_rows: int, most_cost: float
) -> None:
    targets = np.repeat([0, 1, 2, 3], [600, 300, 99, 1])
    costs = np.full(1000, 2.0)
    rows = choose_rows(targets, costs, most_rows, most_cost, seed=0)
    assert len(np.unique(rows)) == 100
    assert (np.diff(rows) > 0).all()
    np.testing.assert_allclose(np.bincount(targets[rows]), [60, 30, 10, 1], atol=1)
    assert (targets[rows] == 3).sum() == 1  # the only row of its class
    np.testing.assert_array_equal(rows, choose_rows(targets, costs, most_rows, most_cost, 0))
    assert (rows != choose_rows(targets, costs, most_rows, most_cost, 1)).any()


def test_large_data_is_replaced_by_some_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextBaseline, "most_rows", 50)
    monkeypatch.setattr(TextBaseline, "most_evaluated_cost", 2_000)  # 20 short texts
    monkeypatch.setattr(TextBaseline, "most_weights", 3 * 8)
    baseline = measure_baseline(make_dataset(train=200, test=90), True, 0)
    assert baseline.notes == [
        "fitted on 50 of 200 training rows",
        "with the 8 most frequent words only",
        "evaluated on 20 of 90 rows",
    ]
    assert baseline.test_predictions is not None
    values, predicted = baseline.test_predictions
    assert predicted.sum() == 20
    targets = make_dataset(train=200, test=90).parts["test"].targets
    right = (values == targets)[predicted].mean()
    assert baseline.scores.test == right > 0.4


def test_long_series_are_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeriesBaseline, "most_stretched_steps", 12)
    train = part_of(*make_series(np.arange(20) + 10, 0))
    baseline = measure_baseline(
        LabelledParts({"train": train, "test": train}, ["a", "b"]), False, 0
    )
    assert baseline.notes == ["series of other lengths are stretched to 12 steps"]
    assert baseline.scores.test == 1


@pytest.mark.parametrize("text", ["a", "! ?", "x y z"])
def test_a_baseline_that_cannot_be_fitted_is_a_warning(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    part = part_of([text] * 4, np.array([0, 1, 0, 1]))
    dataset = LabelledParts({"train": part, "test": part}, ["a", "b"])
    assert fit_or_warn(dataset, is_text=True, seed=0) is None
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "no baseline, as it cannot be fitted: empty vocabulary" in record.getMessage()
    assert "\n" not in record.getMessage()


def predictions_of(classes: list[int | None]) -> Predictions:
    values = np.array([-1 if number is None else number for number in classes])
    return Predictions(values, values >= 0)


def describe(
    ours: list[int | None], theirs: list[int | None] | None, majority: float = 0.1
) -> str | None:
    """`describe_shortfall` for rows whose class is always 1; None is not predicted."""
    baseline = None
    if theirs is not None:
        baseline = Baseline(Scores("a baseline", None, None), predictions_of(theirs), [])
    scores = Scores("majority class", None, majority)
    return describe_shortfall(
        *(predictions_of(ours), np.ones(len(ours)), "classification", baseline, scores),
        is_text=True,
    )


@pytest.mark.parametrize(
    ("only_ours", "only_theirs", "warns"),
    [
        (0, 5, False),  # p = 2 / 2^5 = 0.0625
        (0, 6, True),  # p = 2 / 2^6 = 0.031
        (5, 15, True),  # p = 0.041
        (6, 15, False),  # p = 0.078
        (15, 5, False),
        (0, 0, False),
    ],
)
def test_below_the_baseline_by_more_than_chance(
    only_ours: int, only_theirs: int, warns: bool
) -> None:
    """McNemar's exact test; the rows that both get right, or wrong, do not count."""
    ours = [1] * only_ours + [0] * only_theirs + [1, 1, 1, 0, 0]
    theirs = [0] * only_ours + [1] * only_theirs + [1, 1, 1, 0, 0]
    warning = describe(ours, theirs)
    assert (warning is not None) == warns
    if warning:
        assert "below a baseline" in warning
        assert f"on {len(ours)} test rows, more than chance): try " in warning
        assert "majority" not in warning


def test_rows_that_only_one_has_predicted_do_not_count() -> None:
    ours, theirs = [0] * 6 + [1] * 4, [1] * 6 + [1] * 4
    assert describe(ours, theirs) is not None
    assert describe([*ours[1:], 1], [None, *theirs[1:]]) is None
    assert describe([None, *ours[1:]], theirs) is None
    assert describe([None] * 6, [1] * 6) is None


def test_at_or_below_the_majority_class() -> None:
    for majority, warns in ((0.4, False), (0.5, True), (0.6, True)):
        warning = describe([1, 0, 1, 0], None, majority)
        assert (warning is not None) == warns
    assert warning is not None
    start = "the test accuracy is not above the majority class (0.5000 against 0.6000): try "
    assert warning.startswith(start)
    assert "budget.steps" in warning
    assert describe([1, 1], None, 1.0) is None  # nothing is above it


def read_table(printed: str) -> dict[str, list[str]]:
    """The cells of the rows of all tables, by the first."""
    rows = [line.strip("│").split("│") for line in printed.splitlines() if line.startswith("│")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_closing_table(
    run_train: Callable,
    text_files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    untrained = ["refit=true", "optimizer.lr=1e-9", "baseline=auto"]
    result = run_train(tmp_path, *text_files, *untrained, "data.val_fraction=0.3")
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    table = read_table(printed)
    written = json.loads((tmp_path / "baseline.json").read_text())
    assert list(written) == ["TF-IDF + logistic regression", "majority class"]
    for name, scores in written.items():
        assert table[name] == [f"{scores[key]:.4f}" for key in ("val/accuracy", "test/accuracy")]
    validated = EvaluateConfig(
        ckpt=str(tmp_path / "checkpoints" / "validated.ckpt"), data={"split": "validation"}
    )
    of_best = evaluate(validated, tmp_path / "validation").metrics["val/accuracy"]
    assert table["attnlstm"][0] == f"{of_best:.4f}"
    assert table["attnlstm"][1] == f"{result.metrics['test/accuracy']:.4f}"
    assert table["attnlstm"][1] == table["test/accuracy"][0]
    assert written["majority class"]["test/accuracy"] == 0.5
    assert written["TF-IDF + logistic regression"]["test/accuracy"] > 0.9
    assert json.loads((tmp_path / "metrics.json").read_text()) == result.metrics
    assert "below TF-IDF + logistic regression" in caplog.text


@pytest.mark.parametrize(("best", "expected"), [(0.3, 0.75), (None, 0.625)])
def test_the_validation_accuracy_is_that_of_the_best_checkpoint(
    tmp_path: Path, best: float | None, expected: float
) -> None:
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/loss")
    trainer = lightning.Trainer(
        accelerator="cpu", callbacks=[checkpoint], logger=False, enable_progress_bar=False
    )
    assert read_validation_score(trainer, tmp_path, "accuracy") is None
    checkpoint.best_model_score = None if best is None else torch.tensor(best)
    score = torch.tensor(0.3).item()  # as the file has it
    rows = ["0.5,0.5,", ",,1.9", f"{score},0.75,", ",,1.2", "0.7,0.625,", ",,1.1"]
    (tmp_path / "metrics.csv").write_text("\n".join(["val/loss,val/accuracy,train/loss", *rows]))
    assert read_validation_score(trainer, tmp_path, "accuracy") == expected


@pytest.mark.parametrize("skipped", ["baseline=none", "trainer.fast_dev_run=true"])
def test_runs_without_a_baseline(
    run_train: Callable,
    text_files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    skipped: str,
) -> None:
    run_train(tmp_path, *text_files, "baseline=auto", skipped)
    assert not (tmp_path / "baseline.json").exists()
    assert "majority class" not in capsys.readouterr().out
