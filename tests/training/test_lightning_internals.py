"""Lightning still has the private attributes that are used."""

import operator
from pathlib import Path

import lightning
import pytest
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

import attnlstm
from attnlstm.errors import UserError
from attnlstm.training.lightning_internals import (
    OVERRIDDEN_METHODS,
    PRIVATE_ATTRIBUTES,
    MetricsFile,
)


@pytest.mark.parametrize("path", PRIVATE_ATTRIBUTES)
def test_lightning_has_the_private_attribute(path: str) -> None:
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    try:
        operator.attrgetter(path)(trainer)
    except AttributeError:
        pytest.fail(
            f"lightning {lightning.__version__} has no Trainer.{path}: "
            "adapt attnlstm.training.lightning_internals"
        )


@pytest.mark.parametrize("name", OVERRIDDEN_METHODS)
def test_lightning_has_the_overridden_method(name: str) -> None:
    assert callable(getattr(ExperimentWriter, name, None)), (
        f"lightning {lightning.__version__} has no ExperimentWriter.{name}: "
        "adapt attnlstm.training.lightning_internals"
    )


def test_lightning_keeps_the_writer_of_a_csv_file(tmp_path: Path) -> None:
    assert hasattr(CSVLogger(tmp_path), "_experiment")


def test_no_other_file_uses_them() -> None:
    names = {*OVERRIDDEN_METHODS, "_experiment"}
    names |= {part for path in PRIVATE_ATTRIBUTES for part in path.split(".") if part[0] == "_"}
    for file in Path(attnlstm.__path__[0]).rglob("*.py"):
        if file.name != "lightning_internals.py":
            text = file.read_text()
            assert not [name for name in names if f".{name}" in text], file


@pytest.mark.parametrize("content", [b"\xff\0\x80", b"step,loss\n1,2,3\n", b"step,loss\n1\n"])
def test_a_damaged_file_of_metrics_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv (cannot be read|is damaged)"):
        MetricsFile(tmp_path, keep_rows=1).log_metrics({"loss": 1.0}, 1)
