"""What fitting does to the process, its threads, its files and its interrupts."""

import os
import pickle
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from joblib import parallel_config
from sklearn.model_selection import cross_val_score

import attnlstm
from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.training.module import ClassificationModule
from tests.estimators import (
    SERIES,
    assert_same_weights,
    fit_series,
    make_series,
)

pytestmark = pytest.mark.slow


def files_below(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


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


def test_processes_fit_at_the_same_time() -> None:
    X, y = make_series()
    model = attnlstm.AttentionLSTMClassifier(SERIES)
    alone = cross_val_score(model, X, y, cv=2, scoring="neg_log_loss")
    with parallel_config("multiprocessing", n_jobs=2):  # forked, so they need not import torch
        together = cross_val_score(model, X, y, cv=2, scoring="neg_log_loss")
    np.testing.assert_allclose(together, alone, rtol=1e-9)
