"""Sets of the UCR and UEA time series classification archives, read by aeon."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from attnlstm.config.archive_names import (
    cache_folder,
    check_archive_name,
    list_bundled,
    locate_archive,
)
from attnlstm.config.data import SeriesConfig
from attnlstm.config.schema import register_source
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.sources.source import Source
from attnlstm.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@register_source
class ArchiveSource(Source, SeriesConfig):
    """Sets of the UCR and UEA archives of time series."""

    source: Literal["archive"] = "archive"
    name: str = "JapaneseVowels"
    """the set, and the folder of its runs"""

    def check(self) -> None:
        check_archive_name(self.name)

    def open(self, only: str | None = None) -> Mapping[str, RowSource]:
        if not self.name:
            raise UserError("data.name must be given: the name of a set of the archive")
        parts = ["test"] if only == "test" else ["train", "test"]
        return {part: ArchiveRows(self.name, part) for part in parts}


class ArchiveRows(RowSource):
    """A split of a set of the archives, "train" or "test": series float32 and their labels.

    Labels are lower case, as aeon reads them.

    The sets that come with aeon need no network. Any other is downloaded once into
    `attnlstm/archive` in the user's cache folder, where it can also be put by hand.

    Raises:
        UserError: there is no such classification set, it cannot be downloaded, or its files
            cannot be read.
    """

    def __init__(self, set_name: str, split: str) -> None:
        self.name = f"the {split} split of {set_name}"
        self.series, self.labels = _read(set_name, split, _find(set_name))

    def __iter__(self) -> Iterator[Row]:
        for number, (steps, label) in enumerate(zip(self.series, self.labels, strict=True)):
            yield Row(self.name, number, steps, label)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for steps, label in zip(self.series, self.labels, strict=True):
            digest.update(repr((steps.shape, label)).encode())
            digest.update(steps.tobytes())
        return digest.hexdigest()


def _find(name: str) -> Path:
    """The folder that holds the set's folder; a set that is not there is downloaded first."""
    folder = locate_archive(name)
    if folder is not None:
        return folder
    cache = cache_folder()
    try:
        _download(name, cache)
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.name={name} does not come with aeon and cannot be downloaded "
            f"({_one_line(error)}): connect to the network, put {name}_TRAIN.ts and "
            f"{name}_TEST.ts into {cache / name}, or choose a bundled set "
            f"({', '.join(list_bundled())})"
        ) from error
    return cache


def _download(name: str, cache: Path) -> None:
    """Downloads beside the cached sets and then moves, so that no set is ever half there."""
    from aeon.datasets import load_classification

    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as unfinished:
        load_classification(name, extract_path=unfinished)
        if not (cache / name).exists():  # another process may have been faster
            os.replace(Path(unfinished) / name, cache / name)


def _read(name: str, split: str, folder: Path) -> "tuple[list[np.ndarray], list[str]]":
    """Each row's series `[time, channel]` and label.

    aeon takes labels that the header does not declare, and loses minus signs beside time stamps.
    """
    from aeon.datasets import load_classification

    where = f"the {split} file of data.name={name} (in {folder / name})"
    try:
        series, labels, header = load_classification(
            name, split=split, extract_path=str(folder), return_metadata=True
        )
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{where} cannot be read ({_one_line(error)}): fix the file") from error
    if header["timestamps"]:
        raise UserError(f"{where} has time stamps: save it without them, evenly sampled")
    labels = [str(label).strip() for label in labels]
    if undeclared := set(labels) - set(header["class_values"]):
        raise UserError(
            f"{where} has labels that its @classLabel line does not declare "
            f"({', '.join(sorted(undeclared))}): fix the labels or the line"
        )
    return [row.T.astype("float32") for row in series], labels


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
