"""The estimator on Python objects, beside the command line and scikit-learn's and aeon's checks."""

import os
import pickle
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from joblib import parallel_config
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import attnlstm
from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.cli.train import main as run_command
from attnlstm.errors import UserError
from attnlstm.training.module import ClassificationModule

pytestmark = pytest.mark.slow

FAST = [
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "model.lstm.hidden_size=4",
    "validation=holdout",
    "refit=false",
]
SERIES = [*FAST, "model/stem=none", "model.random_convolutions=null", "optimizer.lr=0.02"]
TEXTS = [*FAST, "model.embedding.size=4", "model.ngrams=null"]


def make_texts(count: int = 60) -> tuple[list[str], list[str]]:
    words = {"good": ["fine", "lovely", "great"], "bad": ["dull", "awful", "slow"]}
    labels = [("good", "bad")[row % 2] for row in range(count)]
    texts = [
        f"row {row} was {' '.join(words[label][(row + step) % 3] for step in range(row % 4 + 1))}"
        for row, label in enumerate(labels)
    ]
    return texts, labels


def make_series(count: int = 48, channels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return `[row, channel, time]` and labels 0, 1, 2: the mean of all values."""
    labels = np.arange(count) % 3
    noise = np.random.default_rng(0).normal(size=(count, channels, 10))
    return noise + 3 * labels[:, None, None], labels


def fit_series(**parameters: Any) -> attnlstm.AttentionLSTMClassifier:
    return attnlstm.AttentionLSTMClassifier(SERIES, **parameters).fit(*make_series())


@pytest.fixture(scope="module")
def text_model() -> attnlstm.AttentionLSTMClassifier:
    return attnlstm.AttentionLSTMClassifier(TEXTS).fit(*make_texts())


@pytest.fixture(scope="module")
def series_model() -> attnlstm.AttentionLSTMClassifier:
    return fit_series()


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return model.classifier.state_dict()


def assert_same_weights(first: Any, second: Any) -> None:
    ours, theirs = weights_of(first), weights_of(second)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name


def files_below(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


# The command line


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


# What a fitted model does


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


# The process


def test_nothing_is_written_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home, temporary = tmp_path / "here", tmp_path / "home", tmp_path / "temporary"
    for folder in (here, home, temporary):
        folder.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    cache = Path(os.environ["HF_DATASETS_CACHE"])
    before = files_below(cache)
    model = fit_series()
    model.predict(make_series()[0])
    assert files_below(here, home, temporary, cache) - before == set()
    asked = attnlstm.AttentionLSTMClassifier([*SERIES, "runs_dir=mine"]).fit(*make_series())
    (run_dir,) = (here / "mine" / "series_files").iterdir()
    assert {path.name for path in run_dir.iterdir()} >= {"config.yaml", "train.log", ".hydra"}
    saved = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    assert saved.classes == [0, 1, 2]
    assert_same_weights(asked, model)


def test_the_process_stays_as_it_was() -> None:
    def state() -> list[Any]:
        return [
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            signal.getsignal(signal.SIGINT),
            dict(os.environ),
            list(warnings.filters),
            GlobalHydra.instance().is_initialized(),
        ]

    torch.set_num_threads(2)
    try:
        before = state()
        X, _ = make_series()
        fit_series().predict(X)
        assert state() == before
    finally:
        torch.set_num_threads(1)


def test_it_works_within_a_hydra_program(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        outer = GlobalHydra.instance().hydra
        fit_series()
        assert GlobalHydra.instance().hydra is outer
        from hydra import compose

        assert compose("own") == {"a": 1}


def test_threads_fit_at_the_same_time(series_model: attnlstm.AttentionLSTMClassifier) -> None:
    models: list[Any] = []
    threads = [threading.Thread(target=lambda: models.append(fit_series())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(models) == 3
    for model in models:
        assert_same_weights(model, series_model)


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ctrl-C come during a training step."""
    original, count = ClassificationModule.training_step, iter(range(10**6))

    def training_step(self: Any, *args: Any) -> Any:
        if next(count) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args)

    monkeypatch.setattr(ClassificationModule, "training_step", training_step)


@pytest.mark.parametrize("step", [0, 8])
def test_an_interrupted_fit_leaves_a_model(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)
    X, y = make_series()
    model = attnlstm.AttentionLSTMClassifier([*SERIES, "trainer.max_epochs=1000"])
    interrupt_at(step, monkeypatch)
    with pytest.warns(UserWarning, match="interrupted: the model is the best so far"):
        model.fit(X, y)
    assert model.predict(X).shape == (48,)
    assert signal.getsignal(signal.SIGINT) is handler
    assert pickle.loads(pickle.dumps(model)).classes_.tolist() == [0, 1, 2]


def test_an_interrupt_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("attnlstm.training.run.split_sources", interrupted)
    model = attnlstm.AttentionLSTMClassifier(SERIES)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*make_series())
    assert not hasattr(model, "classes_")


# scikit-learn and aeon


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


def test_processes_fit_at_the_same_time() -> None:
    X, y = make_series()
    model = attnlstm.AttentionLSTMClassifier(SERIES)
    alone = cross_val_score(model, X, y, cv=2, scoring="neg_log_loss")
    with parallel_config("multiprocessing", n_jobs=2):  # forked, so they need not import torch
        together = cross_val_score(model, X, y, cv=2, scoring="neg_log_loss")
    np.testing.assert_allclose(together, alone, rtol=1e-9)
