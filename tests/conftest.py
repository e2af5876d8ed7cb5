"""Small runs that several tests look at."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# Before datasets is imported, which reads it then: no test touches the cache of whoever runs it.
CACHE = os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="attnlstm_tests_")

import pytest

from attnlstm.config import TrainConfig
from attnlstm.entry_point import compose_config
from attnlstm.training.run import TrainingResult, train

ROOT = Path(__file__).parents[1]

SMALL = [
    "model.lstm.hidden_size=8",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "refit=false",
]
"""Overrides that make the main job a matter of a second."""


@pytest.fixture(scope="session", autouse=True)
def remove_cache() -> Iterator[None]:
    yield
    shutil.rmtree(CACHE)


@pytest.fixture(scope="session")
def run_train() -> Callable[..., TrainingResult]:
    """Train in this process: `run_train(run_dir, *overrides)`."""

    def run(run_dir: Path, *overrides: str) -> TrainingResult:
        config = compose_config(ROOT / "conf", "train", TrainConfig, [*SMALL, *overrides])
        return train(config, run_dir)

    return run


@pytest.fixture(scope="session")
def small_run(
    run_train: Callable[..., TrainingResult], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a small run of the main job."""
    run_dir = tmp_path_factory.mktemp("runs") / "small"
    run_train(run_dir)
    return run_dir


@pytest.fixture(scope="session")
def small_checkpoint(small_run: Path) -> Path:
    return small_run / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="session")
def text_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The overrides of a small text set: 60 training and 20 test texts of two classes."""
    folder = tmp_path_factory.mktemp("texts")
    words = {"good": ["fine", "lovely", "great"], "bad": ["dull", "awful", "slow"]}
    for name, count in (("train", 60), ("test", 20)):
        lines = ["text,label"]
        for row in range(count):
            label = ("good", "bad")[row % 2]
            chosen = [words[label][(row + step) % 3] for step in range(row % 4 + 1)]
            lines.append(f"{name} {row} was {' '.join(chosen)},{label}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return [
        "data=text_files",
        f"data.train={folder / 'train.csv'}",
        f"data.test={folder / 'test.csv'}",
        "model.embedding.size=6",
    ]
