"""Which sets of the UCR and UEA archives there are, and where their files lie.

Apart from `attnlstm.data`, whose imports take seconds: a mistyped name is answered at once.
"""

import os
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from attnlstm.errors import UserError


def cache_folder() -> Path:
    """Where downloaded sets are kept, and sets can be put by hand."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "attnlstm/archive"


def check_archive_name(name: str) -> None:
    """Raise a UserError if there is no such set; a bundled one is not looked at closer."""
    if not (_bundled_folder() / name).is_dir():
        locate_archive(name)


def locate_archive(name: str) -> Path | None:
    """The folder that holds the set's folder, or None if the set has to be downloaded.

    Raises:
        UserError: there is no such classification set; it names the nearest ones.
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
    """The classification sets that come with aeon."""
    from aeon.datasets.dataset_collections import get_downloaded_tsc_tsr_datasets as list_sets

    regression = _regression_sets()
    return [name for name in list_sets(str(_bundled_folder())) if name not in regression]


def _regression_sets() -> set[str]:
    from aeon.datasets.tser_datasets import tser_monash, tser_soton, tsr_zenodo

    return {*tser_monash, *tser_soton, *tsr_zenodo}


def _bundled_folder() -> Path:
    spec = find_spec("aeon")  # without importing it
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data"
