"""The default recipe learns what an LSTM on raw samples does not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attnlstm.training.run import train

pytestmark = pytest.mark.slow

FEW = [
    *("validation=holdout", "refit=false", "baseline=none", "callbacks.figures=null"),
    *("trainer.accelerator=cpu", "budget.steps=60", "model.lstm.hidden_size=16"),
    "model.random_convolutions=null",  # which would find the shape without anything trained
]


def write_bumps(path: Path, seed: int) -> None:
    """60 series of 300 steps of noise; somewhere in each 24 go up and down, or down and up."""
    generator = np.random.default_rng(seed)
    series = generator.normal(size=(60, 300))
    labels = np.arange(60) % 2
    shape = 3 * np.concatenate([np.hanning(12), -np.hanning(12)])
    for steps, label in zip(series, labels, strict=True):
        start = generator.integers(276)
        steps[start : start + 24] += shape if label else -shape
    np.savez(path, X=series[:, :, np.newaxis], y=labels)


@pytest.fixture(scope="module")
def bumps(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("bumps")
    for seed, name in enumerate(("train", "test")):
        write_bumps(folder / f"{name}.npz", seed)
    paths = [f"data.{name}={folder / name}.npz" for name in ("train", "test")]
    return ["data=series_files", *paths]


@pytest.mark.parametrize(
    "stem", [["model.stem.num_filters=24"], ["model/stem=conv", "model.stem.num_filters=24"]]
)
def test_a_stem_finds_a_short_shape_in_long_series(
    compose_train: Callable, bumps: list[str], tmp_path: Path, stem: list[str]
) -> None:
    result = train(compose_train(*bumps, *FEW, *stem), tmp_path)
    assert result.metrics["test/accuracy"] >= 0.9


def test_without_a_stem_the_lstm_does_not_find_it_in_that_time(
    compose_train: Callable, bumps: list[str], tmp_path: Path
) -> None:
    result = train(compose_train(*bumps, *FEW, "model/stem=none"), tmp_path)
    assert result.metrics["test/accuracy"] < 0.75  # about half by chance
