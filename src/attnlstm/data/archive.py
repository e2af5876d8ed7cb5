"""Sets of the UCR and UEA time series classification archives, read by aeon."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from attnlstm.errors import UserError


def load_archive(name: str) -> DatasetDict:
    """The archive's own splits "train" and "test", with the columns `series` and `label`.

    `series` is `[time, channel]` float32, of each row's own length. `label` is a `ClassLabel` of
    the class values as strings (lower case, as aeon reads them), sorted, as numbers where all are.

    The sets that come with aeon need no network. Any other is downloaded once into
    `attnlstm/archive` in the user's cache folder, where it can also be put by hand.

    Raises:
        UserError: there is no such classification set, it cannot be downloaded, or its files
            cannot be read.
    """
    folder = _find(name)
    splits = {split: _read(name, split, folder) for split in ("train", "test")}
    names = _sort({label for _, labels in splits.values() for label in labels})
    features = Features({"series": List(List(Value("float32"))), "label": ClassLabel(names=names)})
    return DatasetDict(
        {
            split: Dataset.from_dict({"series": series, "label": labels}, features=features)
            for split, (series, labels) in splits.items()
        }
    )


def _find(name: str) -> Path:
    """The folder that holds the set's folder: aeon's own, or the cache, downloaded if need be."""
    import aeon.datasets
    from aeon.datasets.dataset_collections import get_downloaded_tsc_tsr_datasets as list_sets
    from aeon.datasets.tsc_datasets import tsc_zenodo
    from aeon.datasets.tser_datasets import tser_monash, tser_soton, tsr_zenodo
    from aeon.datasets.tsf_datasets import tsf_all

    regression = {*tser_monash, *tser_soton, *tsr_zenodo}
    bundled_folder = Path(aeon.datasets.__file__).parent / "data"
    bundled = [found for found in list_sets(str(bundled_folder)) if found not in regression]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "attnlstm/archive"
    choose = f"choose a bundled set ({', '.join(bundled)})"

    if name in bundled:
        return bundled_folder
    if name in list_sets(str(cache)):
        return cache
    if name in regression:
        raise UserError(f"data.name={name} is a regression set, without classes: {choose}")
    if name in tsf_all or name in os.listdir(bundled_folder):
        raise UserError(
            f"data.name={name} is for forecasting, segmentation or anomaly detection, "
            f"not for classification: {choose}"
        )
    if name not in tsc_zenodo:
        known = {known.lower(): known for known in (*tsc_zenodo, *bundled)}
        nearest = [known[match] for match in get_close_matches(name.lower(), known)]
        meant = f"did you mean {' or '.join(nearest)}? Or " if nearest else ""
        raise UserError(f"data.name={name} is in no archive: {meant}{choose}")
    try:
        _download(name, cache)
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.name={name} does not come with aeon and cannot be downloaded "
            f"({_one_line(error)}): connect to the network, put {name}_TRAIN.ts and "
            f"{name}_TEST.ts into {cache / name}, or {choose}"
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


def _read(name: str, split: str, folder: Path) -> tuple[list[np.ndarray], list[str]]:
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
        raise UserError(f"{where} cannot be read ({_one_line(error)}): mend the file") from error
    if header["timestamps"]:
        raise UserError(f"{where} has time stamps: save it without them, evenly sampled")
    labels = [str(label).strip() for label in labels]
    if undeclared := set(labels) - set(header["class_values"]):
        raise UserError(
            f"{where} has labels that its @classLabel line does not declare "
            f"({', '.join(_sort(undeclared))}): mend the labels or the line"
        )
    return [row.T.astype(np.float32) for row in series], labels


def _sort(labels: Iterable[str]) -> list[str]:
    try:
        return sorted(labels, key=lambda label: (float(label), label))
    except ValueError:
        return sorted(labels)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
