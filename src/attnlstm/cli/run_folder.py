"""The folder of a run: its own, not used twice unknowingly, and gone after a start that failed."""

import os
import shutil
from pathlib import Path

from attnlstm.errors import UserError

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
"""Environment variables of launchers; not 0 in the processes that join a run."""

SIZES = ("WORLD_SIZE", "SLURM_NTASKS")
"""Environment variables of launchers: how many processes they start."""

RESTARTS = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
"""Environment variables of launchers: how many times they have started a job again."""


def create_folder(wanted: str) -> str:
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


def check_unused(key: str, folder: str) -> None:
    """Check that a folder the user has named is empty or new, unless a run may have made it.

    Raises:
        UserError: it has files in it.
    """
    try:
        names = os.listdir(folder)
    except OSError:  # it does not exist, or Hydra will say what is wrong with it
        return
    if not names or joins_run() or any(_number(name) > 0 for name in RESTARTS):
        return
    resume = f", resume={folder} to continue the run in it" * ("config.yaml" in names)
    raise UserError(
        f"{key}={folder} has files in it already: add overwrite=true to use it all the "
        f"same{resume}, or name another folder"
    )


def joins_run() -> bool:
    """Return whether this is one of several processes of a run, which share its folder.

    It is not for the first one that Lightning starts itself: it is alone at the beginning.
    """
    return any(_number(name) > 0 for name in RANKS) or any(_number(name) > 1 for name in SIZES)


def _number(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else 0


def find_missing(folder: str) -> Path | None:
    """Return the outermost folder that has to be made for this one; None if it exists."""
    path, missing = Path(folder).absolute(), None
    while not os.path.exists(path):  # False where the folder above it cannot be read
        path, missing = path.parent, path
    return missing


def remove_failed_start(folder: str, made: Path) -> None:
    """Remove a run's folder if it holds only what every run begins with.

    The folders above it are removed too, up to `made`, as far as nothing else is in them.
    """
    path = Path(folder).absolute()
    if not os.path.isdir(path) or not all(_is_of_start(path, file) for file in path.rglob("*")):
        return
    shutil.rmtree(path, ignore_errors=True)
    while path != made and made in path.parents:
        path = path.parent
        try:
            path.rmdir()
        except OSError:  # it is in use
            return


def _is_of_start(folder: Path, path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        return True
    place = path.relative_to(folder)
    is_first = place.parts == (place.name,)
    return place.parts[0] == ".hydra" or (
        is_first and (place.name == "config.yaml" or place.suffix == ".log")
    )
