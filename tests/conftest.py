"""Small runs that several tests share."""

import logging
import os
import resource
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Set before datasets is imported, which reads it once: tests never touch the user's own cache.
CACHE = os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="attnlstm_tests_")
# Set before torch is imported: otherwise the threads of `pytest -n` processes block each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import attnlstm
from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import TrainConfig

ROOT = Path(__file__).parents[1]

SMALL = [
    "model.lstm.hidden_size=8",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "model/stem=none",
    "model.pooling=[hn_query]",
    "model.random_convolutions=null",
    "data.batch_size=16",
    "validation=holdout",
    "refit=false",
    "model.random_convolutions=null",
    "baseline=none",
]
"""Overrides that make the default run take about a second."""


LONGEST = (
    *("test_notebooks.py", "test_readme.py", "test_package.py", "test_accuracy_benchmarks.py"),
    *("test_native_build.py", "test_site.py", "test_names_from_data.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest tests, so that no process runs one of them alone at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests of the native backend without a compiler; with one, a failed build is a bug."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = [value for value in parameters if isinstance(value, str)]
    if item.path.name.startswith("test_native") or "native" in names:
        from attnlstm.nn.backends import BACKENDS

        if BACKENDS["native"].load() is not None:
            from torch.utils.cpp_extension import get_cxx_compiler

            has_compiler = shutil.which(get_cxx_compiler()) is not None
            report = pytest.fail if has_compiler else pytest.skip
            report(f"no native backend: {BACKENDS['native'].failure}")


@dataclass(frozen=True)
class Finished:
    """A script that has ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Finished]]:
    """`run_script("train.py", "key=value", ...)` runs a script in this process.

    A process of its own would take seconds to import what is imported here already.
    """

    def run(script: str | Path, *arguments: str) -> Finished:
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        capsys.readouterr()
        code: object = None
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        assert code is None or isinstance(code, int)
        return Finished(code or 0, *capsys.readouterr())

    root = logging.getLogger()
    handlers, level = root.handlers.copy(), root.level
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def compose_train() -> Callable:
    """`compose_train(*overrides)` returns the config of a command line of train.py.

    Equal command lines are composed once, because that takes a third of the time of a small run.
    """

    def compose(*overrides: str) -> TrainConfig:
        return compose_config(ROOT / "conf", "train", TrainConfig, overrides)

    composed = cache(compose)

    def compose_once(*overrides: str) -> TrainConfig:
        if any(override.startswith("resume=") for override in overrides):
            return compose(*overrides)  # it depends on the run's folder
        return composed(*overrides)

    return compose_once


@pytest.fixture(scope="session")
def run_train(compose_train: Callable) -> Callable:
    """`run_train(run_dir, *overrides)` trains in this process.

    Figures are drawn only with `figures=True`, because they would take most of the time.
    """
    from attnlstm.training.run import TrainingResult, train  # slow, and not all tests train

    def run(run_dir: Path, *overrides: str, figures: bool = False) -> TrainingResult:
        small = SMALL if figures else [*SMALL, "callbacks.figures=null"]
        if any(override.startswith("resume=") for override in overrides):
            small = []  # the run already has them
        return train(compose_train(*small, *overrides), run_dir)

    return run


@pytest.fixture(scope="session")
def small_run(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run of train.py, with its figures."""
    run_dir = tmp_path_factory.mktemp("runs") / "small"
    run_train(run_dir, "callbacks.figures.every_n_epochs=1", figures=True)
    return run_dir


@pytest.fixture(scope="session")
def small_checkpoint(small_run: Path) -> Path:
    return small_run / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="session")
def text_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for a small text set with two classes: 60 training texts and 20 test texts."""
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


@pytest.fixture(scope="module")
def composed_once() -> Iterator[None]:
    """Equal overrides of estimators are composed once: that takes half the time of a small fit."""
    from attnlstm.cli import in_process  # imports torch

    compose_job = in_process.compose_job
    composed = cache(lambda *overrides: compose_job(overrides))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_process, "compose_job", lambda overrides: composed(*overrides))
        yield


@pytest.fixture(scope="session")
def text_model() -> "attnlstm.AttentionLSTMClassifier":
    from tests.estimators import TEXTS, make_texts  # imports torch

    return attnlstm.AttentionLSTMClassifier(TEXTS).fit(*make_texts())


@pytest.fixture(scope="session")
def series_model() -> "attnlstm.AttentionLSTMClassifier":
    from tests.estimators import fit_series  # imports torch

    return fit_series()


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Limit the size of files, like a full disk: `file_size_limit(bytes)`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
