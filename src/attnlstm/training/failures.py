"""What a user is told when a run fails."""

import errno
import os
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnlstm.errors import UserError
from attnlstm.training.newest_checkpoint import show_path

IS_TAKEN = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""Errors of files and folders whose name something else has."""

CANNOT_WRITE = (
    *IS_TAKEN,
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
)
"""These, and errors of folders that may not be written to, and of disks that are full or broken."""


@contextmanager
def explain_failures(run_dir: Path) -> Iterator[None]:
    """Add the newest checkpoint to the message of an error that ends a run.

    Raises:
        UserError: instead of an OSError in writing or about a folder that was removed, and instead
            of another UserError.
    """
    thread_hook, threading.excepthook = threading.excepthook, _ignore_write_errors
    try:
        yield
    except OSError as error:
        removed = _find_removed(error, run_dir)
        if error.errno not in CANNOT_WRITE and removed is None:
            raise  # a bug, which keeps its traceback
        reason = "somebody has removed it"
        if removed is None:
            is_taken = error.errno in IS_TAKEN and error.filename is not None
            reason = f"{error.strerror or error}{f': {error.filename}' if is_taken else ''}"
        message = f"cannot write to {show_path(removed or run_dir)}: {reason}"
        raise UserError("; ".join([message, *_describe_checkpoints(run_dir, True)])) from error
    except UserError as error:
        raise UserError("; ".join([str(error), *_describe_checkpoints(run_dir)])) from error
    finally:
        threading.excepthook = thread_hook


def _describe_checkpoints(run_dir: Path, cannot_write: bool = False) -> list[str]:
    """Describe the newest checkpoint, if there is one, and how to use it."""
    checkpoints = list((run_dir / "checkpoints").glob("*.ckpt"))
    if not checkpoints:
        return []
    # Two may have been written within a tick of the file system's clock.
    newest = max(checkpoints, key=lambda p: (p.stat().st_mtime_ns, p.stem != "best"))
    parts = [f"the newest good checkpoint is {show_path(newest)}"]
    if not {path.stem for path in checkpoints} & {"last", "refit"}:
        argument = shlex.quote(f"ckpt={show_path(newest)}")
        parts.append(f"there is no last.ckpt to resume from: attnlstm evaluate {argument}")
    elif cannot_write:
        command = f"attnlstm train resume={show_path(run_dir)}"
        parts.append(f"once it can be written to, {command} resumes the run")
    return parts


def _find_removed(error: OSError, run_dir: Path) -> Path | None:
    """Return the run folder, or the folder in it that the error is about, if it is gone."""
    if not run_dir.exists():
        return run_dir
    if not isinstance(error.filename, str | bytes):
        return None
    folder = Path(os.fsdecode(error.filename)).parent
    return folder if folder.is_relative_to(run_dir) and not folder.exists() else None


def _ignore_write_errors(failed: threading.ExceptHookArgs) -> None:
    """Ignore errors of TensorBoard's thread: logging raises them again in the main thread."""
    if not issubclass(failed.exc_type, OSError):
        threading.__excepthook__(failed)
