"""Small runs that several tests look at."""

from collections.abc import Callable
from pathlib import Path

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
