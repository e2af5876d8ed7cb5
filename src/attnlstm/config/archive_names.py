"""The data sets of the UCR and UEA archives, and where their files are.

This is separate from `attnlstm.data`, whose imports take seconds, so that a mistyped name is
answered at once.
"""

import os
from difflib import get_close_matches
from importlib.metadata import distribution
from pathlib import Path

from attnlstm.errors import UserError


def cache_folder() -> Path:
    """Return the folder of downloaded sets, to which sets can also be added by hand."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "attnlstm/archive"


def check_archive_name(name: str) -> None:
    """Raise a UserError if there is no such set; importing aeon for a bundled one is too slow."""
    if not (_bundled_folder() / name).is_dir():
        locate_archive(name)


def locate_archive(name: str) -> Path | None:
    """Return the folder that contains the set's folder, or None if it has to be downloaded.

    Raises:
        UserError: there is no such classification set; the message names the nearest ones.
    """
    from aeon.datasets.dataset_collections import get_downloaded_tsc_tsr_datasets as list_sets
    from aeon.datasets.tsc_datasets import tsc_zenodo
    from aeon.datasets.tsf_datasets import tsf_all

    bundled = list_bundled()
    choose = f"choose a bundled set ({', '.join(bundled)})"
    if name in bundled:
        return _bundled_folder()
    if name in list_sets(str(cache_folder())):
        return cache_folder()
    if name in _regression_sets():
        raise UserError(f"data.name={name} is a regression set, without classes: {choose}")
    if name in tsf_all or name in os.listdir(_bundled_folder()):
        raise UserError(
            f"data.name={name} is for forecasting, segmentation or anomaly detection, "
            f"not for classification: {choose}"
        )
    if name not in tsc_zenodo:
        known = {known.lower(): known for known in (*tsc_zenodo, *bundled)}
        nearest = [known[match] for match in get_close_matches(name.lower(), known)]
        meant = f"did you mean {' or '.join(nearest)}? Or " if nearest else ""
        raise UserError(f"data.name={name} is in no archive: {meant}{choose}")
    return None


def list_bundled() -> list[str]:
    """Return the classification sets that come with aeon."""
    from aeon.datasets.dataset_collections import get_downloaded_tsc_tsr_datasets as list_sets

    regression = _regression_sets()
    return [name for name in list_sets(str(_bundled_folder())) if name not in regression]


def _regression_sets() -> set[str]:
    from aeon.datasets.tser_datasets import tser_monash, tser_soton, tsr_zenodo

    return {*tser_monash, *tser_soton, *tsr_zenodo}


def _bundled_folder() -> Path:
    # Importing aeon to find it would take seconds.
    return Path(str(distribution("aeon").locate_file("aeon/datasets/data")))
