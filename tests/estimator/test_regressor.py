"""The estimator that predicts numbers."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import attnlstm
from attnlstm.errors import UserError
from tests.estimators import SERIES, assert_same_weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("composed_once")]


def make_levels(count: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Return `[row, channel, time]` and the mean of each row without noise."""
    generator = np.random.default_rng(0)
    levels = generator.uniform(-3, 3, size=count)
    return generator.normal(size=(count, 2, 10)) + levels[:, None, None], levels


def make_table(levels: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"warmth": 20 + 5 * levels, "cost": 1000 - 50 * levels})


@pytest.fixture(scope="module")
def single() -> attnlstm.AttentionLSTMRegressor:
    return attnlstm.AttentionLSTMRegressor(SERIES).fit(*make_levels())


@pytest.fixture(scope="module")
def double() -> attnlstm.AttentionLSTMRegressor:
    X, levels = make_levels()
    settings = [*SERIES, "trainer.max_epochs=30"]
    return attnlstm.AttentionLSTMRegressor(settings).fit(X, make_table(levels))


def test_one_target_gives_the_weights_of_the_command_line(
    single: attnlstm.AttentionLSTMRegressor, tmp_path: Path
) -> None:
    X, levels = make_levels()
    np.savez(tmp_path / "train.npz", X=X, y=levels)
    path = tmp_path / "train.npz"
    run = attnlstm.train(
        *("data=series_files", f"data.train={path}", f"data.test={path}", *SERIES),
        *("data.axes=row,channel,time", "task=regression", "baseline=none"),
        *("callbacks.figures=null", f"hydra.run.dir={tmp_path / 'run'}"),
    )
    loaded = attnlstm.load(run.checkpoint)
    assert isinstance(loaded, attnlstm.AttentionLSTMRegressor)
    assert_same_weights(loaded, single)
    np.testing.assert_array_equal(loaded.predict(X), single.predict(X))


def test_one_target(single: attnlstm.AttentionLSTMRegressor) -> None:
    X, levels = make_levels()
    predicted = single.predict(X)
    assert (predicted.shape, predicted.dtype) == ((48,), np.float64)
    assert single.label_names == ["target"]
    assert not hasattr(single, "classes_")
    one_by_one = np.concatenate([single.predict(X[row : row + 1]) for row in range(4)])
    np.testing.assert_allclose(one_by_one, predicted[:4], atol=1e-5 * levels.std())
    assert [weights.shape for weights in single.attention(X[:2])] == [(10,), (10,)]


def test_several_targets(double: attnlstm.AttentionLSTMRegressor) -> None:
    X, levels = make_levels(80)
    new, table = X[48:], make_table(levels)[48:]
    predicted = double.predict(new)
    assert predicted.shape == (32, 2)
    assert double.label_names == ["warmth", "cost"]
    assert double.score(new, table) > 0.8
    assert double.score(new, table[["cost", "warmth"]]) == double.score(new, table)
    assert double.score(new, table.to_numpy()) == double.score(new, table)
    with pytest.raises(ValueError, match="columns 'warmth', 'costs', and the model predicts"):
        double.score(new, table.rename(columns={"cost": "costs"}))


def test_intervals(
    single: attnlstm.AttentionLSTMRegressor, double: attnlstm.AttentionLSTMRegressor
) -> None:
    X, levels = make_levels(80)
    table = make_table(levels).to_numpy()
    intervals = double.predict_interval(X, coverage=0.8)
    assert intervals.shape == (80, 2, 2)
    np.testing.assert_allclose(intervals.mean(axis=2), double.predict(X), rtol=1e-6)
    is_inside = (intervals[..., 0] <= table) & (table <= intervals[..., 1])
    assert (is_inside.mean(axis=0) > 0.7).all()
    wider = double.predict_interval(X, coverage=0.9)
    assert (np.diff(wider) >= np.diff(intervals)).all()
    assert single.predict_interval(X[:3]).shape == (3, 2)
    for coverage, message in ((0, "between 0 and 1"), (0.999, "needs 999 validation rows")):
        with pytest.raises(ValueError, match=message) as caught:
            single.predict_interval(X, coverage)
        assert isinstance(caught.value, UserError)


def test_saved_and_pickled_models(double: attnlstm.AttentionLSTMRegressor, tmp_path: Path) -> None:
    X, _ = make_levels()
    double.save(tmp_path / "model.ckpt")
    for restored in (attnlstm.load(tmp_path / "model.ckpt"), pickle.loads(pickle.dumps(double))):
        assert isinstance(restored, attnlstm.AttentionLSTMRegressor)
        np.testing.assert_array_equal(restored.predict(X), double.predict(X))
        np.testing.assert_array_equal(restored.predict_interval(X), double.predict_interval(X))


def test_scikit_learns_tools() -> None:
    X, levels = make_levels()
    model = attnlstm.AttentionLSTMRegressor(SERIES)
    pipeline = Pipeline([("double", FunctionTransformer(lambda x: 2 * x)), ("model", model)])
    search = GridSearchCV(pipeline, {"model__random_state": [1]}, cv=2, error_score="raise")
    search.fit(X, make_table(levels))
    assert search.best_estimator_["model"].config.seed == 1
    assert search.predict(X).shape == (48, 2)


@pytest.mark.parametrize(
    ("overrides", "y", "message"),
    [
        ([], [1.0, None, *range(46)], r"y has missing values \(NaN\) in row 1"),
        ([], np.ones(48), "only one value of 'target' in single precision"),
        ([], np.arange(47), "X has 48 rows and y has 47"),
        (["task=auto"], np.arange(48), "whose task is regression: leave it out"),
        (["task=multilabel"], np.arange(48), "use AttentionLSTMMultilabelClassifier"),
        (["loss.class_weights=balanced"], np.arange(48), "not for task=regression"),
    ],
)
def test_what_is_refused(overrides: list[str], y: Any, message: str) -> None:
    X, _ = make_levels()
    model = attnlstm.AttentionLSTMRegressor([*SERIES, *overrides])
    with pytest.raises(ValueError, match=message) as caught:
        model.fit(X, y)
    assert isinstance(caught.value, UserError)
    with pytest.raises(TypeError, match=r"does not support sample_weight$"):
        model.fit(X, y, sample_weight=np.ones(48))
