from collections.abc import Callable
from pathlib import Path

import pytest

from tests.inference.examples import (
    make_series,
    make_texts,
    make_unsure_texts,
    write_csv,
    write_long_table,
)


@pytest.fixture(scope="session")
def text_checkpoint(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a model that has learned three topics of texts."""
    folder = tmp_path_factory.mktemp("texts")
    train = write_csv(folder / "train.csv", ["text", "label"], make_texts(150, seed=0))
    test = write_csv(folder / "test.csv", ["text", "label"], make_texts(30, seed=1))
    result = run_train(
        folder / "run",
        "data=text_files",
        f"data.train={train}",
        f"data.test={test}",
        "data.max_length=10",
        "trainer.max_epochs=10",
        "data.batch_size=8",
        "model.lstm.hidden_size=16",
        "model.embedding.size=16",
        "model.embedding.variational_dropout=0",
        "model.dropout=0",
        "optimizer.lr=2e-2",
    )
    assert result.metrics["test/accuracy"] > 0.9
    return folder / "run" / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="session")
def series_checkpoint(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a model trained on series from a long table."""
    folder = tmp_path_factory.mktemp("series")
    train = write_long_table(folder / "train.csv", *make_series(60, seed=0))
    result = run_train(
        folder / "run",
        "data=series_files",
        f"data.train={train}",
        "trainer.max_epochs=10",
        "model.lstm.dropout=0",
        "model.dropout=0",
        "optimizer.lr=1e-2",
    )
    assert result.metrics["test/accuracy"] > 0.8
    return folder / "run" / "checkpoints" / "best.ckpt"


@pytest.fixture
def texts(tmp_path):
    """A file of labelled texts, two of them unreadable."""
    rows = make_texts(40, seed=2)
    rows.insert(3, ("", "film"))
    path = write_csv(tmp_path / "new.csv", ["text", "label"], rows)
    with path.open("ab") as file:
        file.write(b"broken \xff encoding,film\n")
    return path


@pytest.fixture(scope="session")
def unsure_checkpoint(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best checkpoint of a model of texts with noisy labels, with 300 validation rows."""
    folder = tmp_path_factory.mktemp("unsure")
    train = write_csv(folder / "train.csv", ["text", "label"], make_unsure_texts(600, seed=0))
    test = write_csv(folder / "test.csv", ["text", "label"], make_unsure_texts(50, seed=1))
    run_train(
        folder / "run",
        "data=text_files",
        f"data.train={train}",
        f"data.test={test}",
        "data.val_fraction=0.5",
        "trainer.max_epochs=5",
        "model.embedding.size=8",
        "model.embedding.variational_dropout=0",
        "model.dropout=0",
        "data.batch_size=8",
        "optimizer.lr=2e-2",
    )
    return folder / "run" / "checkpoints" / "best.ckpt"
