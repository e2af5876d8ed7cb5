"""The folder of a run: its own, not used twice unknowingly, and gone after a start that failed."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from attnlstm.errors import UserError

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
"""Environment variables of launchers; not 0 in the processes that join a run."""

SIZES = ("WORLD_SIZE", "SLURM_NTASKS")
"""Environment variables of launchers: how many processes they start."""

RESTARTS = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
"""Environment variables of launchers: how many times they have started a job again."""


class RunFolder(NamedTuple):
    """The folder of a run, and the outermost folder made for it; None if it was there before."""

    path: str
    outermost: Path | None

    def remove_failed_start(self) -> None:
        """Remove the folder if it was made for this run and holds only what every run begins with.

        The folders above it are removed too, as far as they were made for it and are empty.
        """
        path = Path(self.path).absolute()
        if self.outermost is None or not path.is_dir():
            return
        if not all(_is_of_start(path, file) for file in path.rglob("*")):
            return
        shutil.rmtree(path, ignore_errors=True)
        while path != self.outermost and self.outermost in path.parents:
            path = path.parent
            try:
                path.rmdir()
            except OSError:  # it is in use
                return


def claim_folder(key: str, wanted: str, is_named: bool, overwrite: bool = False) -> RunFolder:
    """Take a folder for a run: the one that the user has named by `key`, or else a new one.

    A named folder is not made yet. Processes that join a run never remove its folder.

    Raises:
        UserError: the named folder has files in it already, or the new one cannot be created.
    """
    if is_named and not overwrite:
        _check_unused(key, wanted)
    missing = None if _joins_run() else _find_missing(wanted)
    return RunFolder(wanted if is_named else _create_folder(wanted), missing)


def _create_folder(wanted: str) -> str:
    """Create a folder of this name or, if another run was faster, with a number appended."""
    folder, number = wanted, 1
    while True:
        try:
            Path(folder).mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = f"{wanted}_{number}"
        except OSError as error:
            raise UserError(f"cannot create {folder}: {error.strerror}; set runs_dir") from error


def _check_unused(key: str, folder: str) -> None:
    """Check that a folder the user has named is empty or new, unless a run may have made it.

    Raises:
        UserError: it has files in it.
    """
    try:
        names = os.listdir(folder)
    except OSError:  # it does not exist, or Hydra will say what is wrong with it
        return
    if not names or _joins_run() or any(_number(name) > 0 for name in RESTARTS):
        return
    resume = f", resume={folder} to continue the run in it" * ("config.yaml" in names)
    raise UserError(
        f"{key}={folder} has files in it already: add overwrite=true to use it all the "
        f"same{resume}, or name another folder"
    )


def _joins_run() -> bool:
    """Return whether this is one of several processes of a run, which share its folder.

    It is not for the first one that Lightning starts itself: it is alone at the beginning.
    """
    return any(_number(name) > 0 for name in RANKS) or any(_number(name) > 1 for name in SIZES)


def _number(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else 0


def _find_missing(folder: str) -> Path | None:
    """Return the outermost folder that has to be made for this one; None if it exists."""
    path, missing = Path(folder).absolute(), None
    while not os.path.exists(path):  # False where the folder above it cannot be read
        path, missing = path.parent, path
    return missing


def _is_of_start(folder: Path, path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        return True
    place = path.relative_to(folder)
    is_first = place.parts == (place.name,)
    return place.parts[0] == ".hydra" or (
        is_first and (place.name == "config.yaml" or place.suffix == ".log")
    )
