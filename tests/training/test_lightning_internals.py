"""Lightning still has the private attributes that are used."""

import operator

import lightning
import pytest

from attnlstm.training.lightning_internals import PRIVATE_ATTRIBUTES


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


def test_no_other_file_uses_them() -> None:
    from pathlib import Path

    import attnlstm.training

    names = {part for path in PRIVATE_ATTRIBUTES for part in path.split(".") if part[0] == "_"}
    for file in Path(attnlstm.training.__path__[0]).parent.rglob("*.py"):
        if file.name != "lightning_internals.py":
            text = file.read_text()
            assert not [name for name in names if f".{name}" in text], file
