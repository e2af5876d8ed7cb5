"""The folder of a run: its own, not used twice unknowingly, and gone after a start that failed."""

import os
import shutil
from pathlib import Path

from attnlstm.errors import UserError

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
"""Environment variables of launchers that are not 0 in the processes that join a run."""


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
    """Check that a folder the user has named is empty or new, unless this process joins a run.

    Such processes are those that the first process of ddp starts, and a job that SLURM requeues.

    Raises:
        UserError: it has files in it.
    """
    if joins_run() or os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
        return
    path = Path(folder)
    if not path.is_dir() or not any(path.iterdir()):
        return
    resume = f", resume={folder} to continue the run in it" * (path / "config.yaml").is_file()
    raise UserError(
        f"{key}={folder} has files in it already: add overwrite=true to use it all the "
        f"same{resume}, or name another folder"
    )


def joins_run() -> bool:
    """Return whether another process of the run is the first one, which has checked the folder."""
    return any(os.environ.get(name, "0") != "0" for name in RANKS)


def find_missing(folder: str) -> Path | None:
    """Return the outermost folder that has to be made for this one; None if it exists."""
    path, missing = Path(folder).absolute(), None
    while not path.exists():
        path, missing = path.parent, path
    return missing


def remove_failed_start(folder: str, made: Path) -> None:
    """Remove a run's folder if it holds only what every run begins with.

    The folders above it are removed too, up to `made`, as far as nothing else is in them.
    """
    path = Path(folder).absolute()
    if not path.is_dir() or not all(_is_of_start(path, file) for file in path.rglob("*")):
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
