"""The estimator whose rows have any number of classes."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from sklearn.model_selection import cross_val_score

import attnlstm
from attnlstm.errors import UserError
from tests.estimators import SERIES, assert_same_weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("composed_once")]


def make_mixed(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return `[row, channel, time]`, and 1 for each of three channels that lies higher."""
    flags = np.array([[row >> bit & 1 for bit in range(3)] for row in range(count)])
    return np.random.default_rng(0).normal(size=(count, 3, 10)) + 3 * flags[:, :, None], flags


def to_sets(flags: np.ndarray) -> list[list[str]]:
    return [[name for name, flag in zip("abc", row, strict=True) if flag] for row in flags]


@pytest.fixture(scope="module")
def model() -> attnlstm.AttentionLSTMMultilabelClassifier:
    settings = [*SERIES, "trainer.max_epochs=30"]
    return attnlstm.AttentionLSTMMultilabelClassifier(settings).fit(*make_mixed())


@pytest.fixture(scope="module")
def quick() -> attnlstm.AttentionLSTMMultilabelClassifier:
    return attnlstm.AttentionLSTMMultilabelClassifier(SERIES).fit(*make_mixed())


def test_an_indicator(model: attnlstm.AttentionLSTMMultilabelClassifier) -> None:
    X, flags = make_mixed(90)
    new, true = X[60:], flags[60:]
    probabilities, predicted = model.predict_proba(new), model.predict(new)
    assert model.classes_.tolist() == [0, 1, 2]
    assert (predicted.shape, predicted.dtype) == (true.shape, true.dtype)
    np.testing.assert_array_equal(predicted, probabilities >= model.calibration.thresholds.numpy())
    assert f1_score(true, predicted, average="macro") > 0.9
    assert model.score(new, true) == (predicted == true).all(axis=1).mean()
    assert model.labels(new) == [tuple(np.flatnonzero(row)) for row in predicted]


def test_labels_give_the_same_weights(quick: attnlstm.AttentionLSTMMultilabelClassifier) -> None:
    X, flags = make_mixed()
    named = attnlstm.AttentionLSTMMultilabelClassifier(SERIES).fit(X, to_sets(flags))
    assert_same_weights(named, quick)
    assert named.classes_.tolist() == ["a", "b", "c"]
    assert named.labels(X) == [*map(tuple, to_sets(quick.predict(X)))]
    table = pd.DataFrame(flags, columns=list("abc"))
    for y in (to_sets(flags), table, table[["c", "a", "b"]]):
        assert named.score(X, y) == quick.score(X, flags)
    with pytest.raises(ValueError, match="differ in the classes 'd'"):
        named.score(X, [["a", "d"]] * 60)


def test_the_order_of_columns_is_kept(
    quick: attnlstm.AttentionLSTMMultilabelClassifier, tmp_path: Path
) -> None:
    X, flags = make_mixed()
    table = pd.DataFrame(flags, columns=["warm", "10", "9"])
    model = attnlstm.AttentionLSTMMultilabelClassifier(SERIES).fit(X, table)
    assert_same_weights(model, quick)
    model.save(tmp_path / "model.ckpt")
    for restored in (attnlstm.load(tmp_path / "model.ckpt"), pickle.loads(pickle.dumps(model))):
        assert isinstance(restored, attnlstm.AttentionLSTMMultilabelClassifier)
        assert restored.classes_.tolist() == ["warm", "10", "9"]
        np.testing.assert_array_equal(restored.predict_proba(X), quick.predict_proba(X))


def test_cross_validation() -> None:
    X, flags = make_mixed()
    model = attnlstm.AttentionLSTMMultilabelClassifier(SERIES)
    scores = cross_val_score(model, X, flags, cv=2, scoring="f1_micro", error_score="raise")
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("overrides", "y", "message"),
    [
        ([], np.arange(60) % 2, "0 instead of a list of labels in row 0"),
        ([], np.eye(59, 2, dtype=int), "X has 60 rows and y has 59"),
        ([], np.ones((60, 1), int), "1 class, '0', and has to have several"),
        ([], np.eye(60, 2, dtype=int) * [1, 0], "no row of class '1'"),
        (["task=ordinal"], np.eye(60, 2, dtype=int), "use AttentionLSTMClassifier"),
        (["data.sampler=balanced"], np.eye(60, 2, dtype=int), "not for task=multilabel"),
    ],
)
def test_what_is_refused(overrides: list[str], y: Any, message: str) -> None:
    X, _ = make_mixed()
    model = attnlstm.AttentionLSTMMultilabelClassifier([*SERIES, *overrides])
    with pytest.raises(ValueError, match=message) as caught:
        model.fit(X, y)
    assert isinstance(caught.value, UserError)
