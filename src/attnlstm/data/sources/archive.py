"""Data sets of the archives of time series, for classification and regression, read by aeon."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from attnlstm.config.data import SeriesConfig
from attnlstm.config.schema import register_source
from attnlstm.config.section import Name
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.sources.source import Source
from attnlstm.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@register_source
class ArchiveSource(Source, SeriesConfig):
    """Sets of the UCR, UEA and TSER archives of time series."""

    source: Literal["archive"] = "archive"
    name: Name = "JapaneseVowels"
    """name of the set, and of the folder of its runs"""

    def check(self) -> None:
        # Importing aeon takes a second, and a set that comes with it needs no closer look.
        if not (_bundled_folder() / self.name).is_dir():
            _locate(self.name)

    def open(self, only: str | None = None) -> Mapping[str, RowSource]:
        if not self.name:
            raise UserError("data.name must be given: the name of a set of the archive")
        parts = ["test"] if only == "test" else ["train", "test"]
        return {part: ArchiveRows(self.name, part) for part in parts}


class ArchiveRows(RowSource):
    """One split of a set, "train" or "test": float32 series and labels as aeon has them.

    Names of classes are in lowercase; the labels of a regression set are numbers.

    Sets that come with aeon need no network. Others are downloaded once into `attnlstm/archive` in
    the user's cache folder, to which sets can also be added by hand.

    Raises:
        UserError: there is no such set, it cannot be downloaded, or its files
            cannot be read.
    """

    def __init__(self, set_name: str, split: str) -> None:
        self.name = f"the {split} split of {set_name}"
        folder = _locate(set_name) or _download(set_name)
        self.task = "regression" if set_name in _regression_sets() else None
        self.series, self.labels = _read(set_name, split, folder)

    def __iter__(self) -> Iterator[Row]:
        for number, (steps, label) in enumerate(zip(self.series, self.labels, strict=True)):
            yield Row(self.name, number, steps, label)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for steps, label in zip(self.series, self.labels, strict=True):
            digest.update(repr((steps.shape, label)).encode())
            digest.update(steps.tobytes())
        return digest.hexdigest()


def _locate(name: str) -> Path | None:
    """Return the folder that contains the set's folder, or None if it has to be downloaded.

    Raises:
        UserError: there is no such set; the message names the nearest ones.
    """
    from difflib import get_close_matches

    from aeon.datasets.dataset_collections import get_downloaded_tsc_tsr_datasets as list_sets
    from aeon.datasets.tsc_datasets import tsc_zenodo
    from aeon.datasets.tsf_datasets import tsf_all

    bundled = _list_bundled()
    choose = f"choose a bundled set ({', '.join(bundled)})"
    if name in bundled:
        return _bundled_folder()
    if name in list_sets(str(_cache_folder())):
        return _cache_folder()
    if name in tsf_all or name in os.listdir(_bundled_folder()):
        raise UserError(
            f"data.name={name} is for forecasting, segmentation or anomaly detection, "
            f"not for classification or regression: {choose}"
        )
    if name not in tsc_zenodo and name not in _regression_sets():
        names = (*tsc_zenodo, *_regression_sets(), *bundled)
        known = {known.lower(): known for known in names}
        nearest = [known[match] for match in get_close_matches(name.lower(), known)]
        meant = f"did you mean {' or '.join(nearest)}? Or " if nearest else ""
        raise UserError(f"data.name={name} is in no archive: {meant}{choose}")
    return None


def _list_bundled() -> list[str]:
    from aeon.datasets.dataset_collections import get_downloaded_tsc_tsr_datasets as list_sets

    return list_sets(str(_bundled_folder()))


def _regression_sets() -> set[str]:
    from aeon.datasets.tser_datasets import tser_monash, tser_soton, tsr_zenodo

    return {*tser_monash, *tser_soton, *tsr_zenodo}


def _bundled_folder() -> Path:
    return Path(str(distribution("aeon").locate_file("aeon/datasets/data")))


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "attnlstm/archive"


def _download(name: str) -> Path:
    """Download a set to the cache folder, which never holds half a set, and return that folder."""
    from aeon.datasets import load_classification, load_regression

    load = load_regression if name in _regression_sets() else load_classification
    cache = _cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache) as unfinished:
            load(name, extract_path=unfinished)
            if not (cache / name).exists():  # another process may have been faster
                os.replace(Path(unfinished) / name, cache / name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.name={name} does not come with aeon and cannot be downloaded "
            f"({_one_line(error)}): connect to the network, put {name}_TRAIN.ts and "
            f"{name}_TEST.ts into {cache / name}, or choose a bundled set "
            f"({', '.join(_list_bundled())})"
        ) from error
    return cache


def _read(name: str, split: str, folder: Path) -> "tuple[list[np.ndarray], list[str]]":
    """Return the series `[time, channel]` and the labels of a split.

    aeon accepts labels that the header does not declare, and loses minus signs next to time stamps.
    """
    from aeon.datasets import load_classification, load_regression

    is_regression = name in _regression_sets()
    load = load_regression if is_regression else load_classification
    where = f"the {split} file of data.name={name} (in {folder / name})"
    try:
        series, labels, header = load(
            name, split=split, extract_path=str(folder), return_metadata=True
        )
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{where} cannot be read ({_one_line(error)}): fix the file") from error
    if header["timestamps"]:
        raise UserError(f"{where} has time stamps: save it without them, evenly sampled")
    labels = [str(label).strip() for label in labels]
    if is_regression:
        return [row.T.astype("float32") for row in series], labels
    if undeclared := set(labels) - set(header["class_values"]):
        raise UserError(
            f"{where} has labels that its @classLabel line does not declare "
            f"({', '.join(sorted(undeclared))}): fix the labels or the line"
        )
    return [row.T.astype("float32") for row in series], labels


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
