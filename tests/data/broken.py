"""What a training run says about a broken file."""

import re
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest

from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError
from attnlstm.training.run import train
from tests.data.formats.contents import GOOD

BrokenFiles = dict[str, tuple[str | bytes, str]]
"""Name of a file -> its content, and the pattern of the message."""


def cases(files: BrokenFiles) -> pytest.MarkDecorator:
    """Parametrize a test by the files' `name`, `content` and `said`."""
    return pytest.mark.parametrize(
        ("name", "content", "said"),
        [pytest.param(name, content, said, id=name) for name, (content, said) in files.items()],
    )


def check_refusal(
    folder: Path,
    config: TrainConfig,
    name: str,
    content: str | bytes,
    said: str,
    key: str = "data.train",
) -> None:
    """Train with the broken file as the value of `key`: one message, which matches `said`."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "good.csv").write_text(GOOD)
    values = config.model_dump()
    values["data"]["train"] = str(folder / "good.csv")
    *sections, last = key.split(".")
    reduce(getitem, sections, values)[last] = str(path)
    with pytest.raises(UserError) as refusal:
        train(TrainConfig.model_validate(values), folder / "run")
    message = " ".join(str(refusal.value).split())  # as it is printed
    assert re.search(said, message), message
    assert name in message
    assert len(message) < 2_000
    assert not (folder / "run" / "checkpoints").exists()
