"""Find runs and their checkpoints by name."""

import logging
import os
from pathlib import Path

from attnlstm.console import enumerate_names
from attnlstm.errors import UserError

logger = logging.getLogger(__name__)

NEWEST = "last"
"""The name of the newest run."""

PREFERRED = ("best.ckpt", "last.ckpt")
"""The checkpoint that stands for a run: the first of these that it has."""


def find_newest_run(runs_dir: str, key: str) -> Path:
    """Return the folder of the newest run in `runs_dir`; `key` is the setting that asks for it.

    Raises:
        UserError: there is none.
    """
    # Every run of train.py has a config.yaml; Hydra's own are in a folder below.
    configs = [p for p in Path(runs_dir).rglob("config.yaml") if p.parent.name != ".hydra"]
    if not configs:
        raise UserError(f"{key}={NEWEST}: there is no run in {runs_dir}; set runs_dir")
    return max(configs, key=lambda path: path.stat().st_mtime).parent


def check_path(path: Path, key: str) -> None:
    """Raise a UserError if `path`, which `key` has chosen, is not a file."""
    try:
        if path.is_file():
            return
        what = "is not a regular file" if path.exists() else "does not exist"
    except OSError as error:
        raise UserError(
            f"{key}={path} cannot be read ({error.strerror}): check the path"
        ) from error
    if path.is_dir():
        what = "is a folder, not a checkpoint file"
    raise UserError(f"{key}={path} {what}: give a file such as runs/.../checkpoints/best.ckpt")


def find_checkpoint(ckpt: str, runs_dir: str) -> Path:
    """Return the path of a checkpoint, given its path, a run folder or "last".

    Raises:
        UserError: the file or the run does not exist, or the run has no checkpoint.
    """
    folder = find_newest_run(runs_dir, "ckpt") if ckpt == NEWEST else Path(ckpt)
    checkpoints = folder / "checkpoints"
    if not os.path.isdir(checkpoints) and not os.path.isfile(folder / "config.yaml"):
        check_path(folder, "ckpt")
        return folder
    for name in PREFERRED:
        if os.path.exists(checkpoints / name):
            logger.info("ckpt=%s is %s", ckpt, checkpoints / name)
            return checkpoints / name
    others = sorted(path.name for path in checkpoints.glob("*.ckpt"))
    hint = f"give one of its {enumerate_names(others)}" if others else "give another run"
    raise UserError(f"ckpt={ckpt}: the run {folder} has neither {' nor '.join(PREFERRED)}: {hint}")
