"""The estimator on Python objects, and scikit-learn's tools on the estimator."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import attnlstm
from attnlstm.errors import UserError
from tests.estimators import (
    SERIES,
    TEXTS,
    assert_same_weights,
    fit_series,
    make_series,
    make_texts,
    weights_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("composed_once")]


def test_a_fitted_text_model(text_model: attnlstm.AttentionLSTMClassifier) -> None:
    texts, _ = make_texts(7)
    probabilities = text_model.predict_proba(texts)
    assert text_model.classes_.tolist() == ["bad", "good"]
    assert probabilities.shape == (7, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    expected = text_model.classes_[probabilities.argmax(axis=1)]
    assert text_model.predict(pd.Series(texts, index=range(9, 16))).tolist() == expected.tolist()
    attention = text_model.attention(texts)
    assert [len(weights) for weights in attention] == [
        len(text_model.encoder.tokens(text)) for text in texts
    ]
    np.testing.assert_allclose([weights.sum() for weights in attention], 1, atol=1e-5)


def test_it_learns_and_takes_every_container() -> None:
    X, y = make_series(60)
    options = [*SERIES, "trainer.max_epochs=30"]
    model = attnlstm.AttentionLSTMClassifier(options).fit(X[:48], y[:48])
    assert model.score(X[48:], y[48:]) > 0.9
    same = attnlstm.AttentionLSTMClassifier(options)
    same.fit([torch.from_numpy(series.T.copy()) for series in X[:48]], torch.from_numpy(y[:48]))
    assert_same_weights(model, same)
    nested = pd.DataFrame({"a": list(X[:, 0]), "b": list(X[:, 1])}, index=y)
    np.testing.assert_array_equal(model.predict_proba(nested), model.predict_proba(X))


def test_a_wide_table_of_several_channels() -> None:
    X, y = make_series()
    model = attnlstm.AttentionLSTMClassifier(SERIES).fit(X, y)
    columns = {f"{name}_{step}": X[:, c, step] for step in range(10) for c, name in enumerate("ab")}
    wide = pd.DataFrame(columns, index=y)
    assert_same_weights(model, attnlstm.AttentionLSTMClassifier(SERIES).fit(wide, y))
    np.testing.assert_array_equal(model.predict_proba(wide), model.predict_proba(X))


def test_an_index_is_no_channel() -> None:
    X, y = make_series(channels=1)
    plain = pd.DataFrame(X[:, 0])
    model = attnlstm.AttentionLSTMClassifier(SERIES).fit(plain, y)
    assert model.n_features_in_ == 10
    indexed = plain.set_index(pd.Index(y * 100, name="index"))
    assert_same_weights(model, attnlstm.AttentionLSTMClassifier(SERIES).fit(indexed, y))
    np.testing.assert_array_equal(model.predict_proba(indexed), model.predict_proba(X))
    with pytest.raises(ValueError, match=r"X has 9 features, but .* is expecting 10"):
        model.predict(plain.iloc[:, :9])


@pytest.mark.parametrize(
    "labels", [[3, 20, 100], [False, True, True], ["10", "9", "a"], [1.0, 2.0, 30.0]]
)
def test_labels_of_any_type_come_back(labels: list[Any], tmp_path: Path) -> None:
    X, y = make_series()
    expected = np.array(labels)[y]
    model = attnlstm.AttentionLSTMClassifier(SERIES).fit(X, expected)
    np.testing.assert_array_equal(model.classes_, np.unique(expected))
    assert model.classes_.dtype.kind == expected.dtype.kind
    model.save(tmp_path / "model.ckpt")
    loaded = attnlstm.load(tmp_path / "model.ckpt")
    np.testing.assert_array_equal(loaded.classes_, model.classes_)
    assert loaded.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.score(X, expected) == model.score(X, expected)


def test_many_numbers_are_classes() -> None:
    X, _ = make_series()
    y = np.arange(48) % 24
    model = attnlstm.AttentionLSTMClassifier(SERIES).fit(X, y)
    assert model.task == "classification"
    assert model.classes_.tolist() == list(range(24))


def test_classes_in_order() -> None:
    X, y = make_series()
    model = attnlstm.AttentionLSTMClassifier([*SERIES, "task=ordinal"]).fit(X, y + 9)
    assert model.task == "ordinal"
    assert model.classes_.tolist() == [9, 10, 11]
    assert set(model.predict(X)) <= {9, 10, 11}


def test_the_columns_of_probabilities_are_those_of_the_classes() -> None:
    X, y = make_series()
    labels = np.array(["9", "10", "11"])[y]  # the engine sorts numbers as numbers
    model = attnlstm.AttentionLSTMClassifier([*SERIES, "trainer.max_epochs=30"]).fit(X, labels)
    assert model.label_names == ["9", "10", "11"]
    assert model.classes_.tolist() == ["10", "11", "9"]
    assert model.score(X, labels) > 0.9


def test_a_loaded_model(small_checkpoint: Path) -> None:
    model = attnlstm.load(str(small_checkpoint))
    assert model.label_names == [str(n) for n in range(1, 10)]
    assert model.temperature > 0
    X = [np.ones((7, 12)), np.zeros((9, 12))]
    assert set(model.predict(X)) <= set(model.classes_)
    with pytest.raises(ValueError, match=r"2 instead of 12 channels in X, 1 row: row 0"):
        model.predict([np.ones((7, 2)), np.ones((9, 12))])
    naive = attnlstm.load(small_checkpoint, backend="naive")
    np.testing.assert_allclose(naive.predict_proba(X), model.predict_proba(X), atol=2e-6)


def test_pickles_and_clones(series_model: attnlstm.AttentionLSTMClassifier) -> None:
    X, _ = make_series()
    restored = pickle.loads(pickle.dumps(series_model))
    np.testing.assert_array_equal(restored.predict_proba(X), series_model.predict_proba(X))
    assert restored.get_params() == series_model.get_params()
    with pytest.raises(NotFittedError):
        clone(series_model).predict(X)


def test_the_seed() -> None:
    first, again, other = (fit_series(random_state=seed) for seed in (3, np.int64(3), 4))
    assert_same_weights(first, again)
    assert any(not torch.equal(w, weights_of(other)[n]) for n, w in weights_of(first).items())
    drawn = fit_series(random_state=np.random.RandomState(0))
    assert drawn.config.seed == np.random.RandomState(0).randint(2**31 - 1)


# What is refused


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.train=x.csv"], "data.train: the rows are the series given to fit"),
        (["data.id_column=id", "resume=last"], "overrides: data.id_column, resume: the rows are"),
        (["hydra.run.dir=mine"], "hydra.run.dir: name runs_dir"),
        (["data=text_files"], "data=text_files: the rows are the series given to fit"),
        (["model.lstm.hiden_size=4"], r"did you mean model\.lstm\.hidden_size\?"),
        (["optimizer.lrr=1"], "lrr"),
        ("seed=1", "overrides='seed=1': give a list of strings"),
        (["task=regression"], "classification or ordinal: use AttentionLSTMRegressor"),
        ([*SERIES, "callbacks.checkpoint=null"], "wrote no checkpoint"),
    ],
)
def test_overrides_that_do_not_fit(overrides: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        attnlstm.AttentionLSTMClassifier(overrides).fit(*make_series())
    assert isinstance(caught.value, UserError)


def test_rows_that_do_not_fit(
    series_model: attnlstm.AttentionLSTMClassifier, text_model: attnlstm.AttentionLSTMClassifier
) -> None:
    X, y = make_series()
    new = attnlstm.AttentionLSTMClassifier(SERIES)
    with pytest.raises(ValueError, match="X has 48 rows and y has 47"):
        new.fit(X, y[:47])
    X[3, 0, 4] = np.nan
    with pytest.raises(ValueError, match=r"missing values \(NaN\) in X, 1 row: row 3, channel 0"):
        new.fit(X, y)
    with pytest.raises(ValueError, match=r"missing values \(NaN\).* in X, 1 row: row 3"):
        series_model.predict(X)
    with pytest.raises(ValueError, match=r"no text in X, 2 rows: row 1; row 3"):
        text_model.predict(["a", "", "b", None])
    with pytest.raises(ValueError, match="this model reads texts, and X has series"):
        text_model.predict(np.ones((2, 1, 5)))
    with pytest.raises(TypeError, match=r"does not support sample_weight; loss\.class_weights"):
        new.fit(X, y, sample_weight=np.ones(48))
    with pytest.raises(NotFittedError):
        new.predict(X)
    X, y = make_series()
    pooled = attnlstm.AttentionLSTMClassifier([*SERIES, "model.pooling=[mean]"]).fit(X, y)
    with pytest.raises(ValueError, match=r"model\.pooling=\['mean'\] has no attention"):
        pooled.attention(X)


def test_columns_left_out_are_named() -> None:
    texts, labels = make_texts()
    table = pd.DataFrame({"id": range(60), "review": texts, "city": ["x", "y"] * 30})
    model = attnlstm.AttentionLSTMClassifier(TEXTS)
    with pytest.warns(UserWarning, match="column 'review'; left out: 'id', 'city'"):
        model.fit(table, labels)
    table["text"] = "another text"
    assert model.predict(table).tolist() == model.predict(texts).tolist()


def test_scikit_learns_tools() -> None:
    texts, labels = make_texts(40)
    model = attnlstm.AttentionLSTMClassifier(TEXTS)
    assert cross_val_score(model, texts, labels, cv=2, error_score="raise").shape == (2,)
    X, y = make_series()
    lists = [series.T[: 5 + row % 5] for row, series in enumerate(X)]
    model = attnlstm.AttentionLSTMClassifier(SERIES)
    assert cross_val_score(model, lists, y, cv=2, error_score="raise").shape == (2,)
    grid = {"overrides": [SERIES, [*SERIES, "trainer.max_epochs=8"]], "random_state": [1]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_estimator_.config.seed == 1
    pipeline = Pipeline([("double", FunctionTransformer(lambda x: 2 * x)), ("model", model)])
    assert pipeline.fit(X, y).predict_proba(X).shape == (48, 3)
    calibrated = CalibratedClassifierCV(model, cv=2).fit(X, y)
    assert calibrated.predict_proba(X).shape == (48, 3)
