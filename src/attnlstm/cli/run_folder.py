"""The folder of a run: a new one for each, and what is said if it cannot be written to."""

import itertools
from pathlib import Path

from attnlstm.errors import UserError


def create_folder(wanted: str) -> str:
    """A new folder of that name or, if another run was faster, with a number behind it.

    Raises:
        UserError: it cannot be made.
    """
    for number in itertools.count(1):
        folder = wanted if number == 1 else f"{wanted}_{number}"
        try:
            Path(folder).mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"cannot create {folder}: {error.strerror}; set runs_dir") from error
    return folder


def explain_failed_write(error: Exception) -> UserError | None:
    """One line about what Hydra could not write before a job; None if it is about something else.

    These are the folder, its record of the configuration, and the log file.
    """
    cause = error.__cause__ or error  # logging wraps what the system says of the log file
    if not isinstance(cause, OSError):
        return None
    place = cause.filename or "the run's folder"
    return UserError(f"cannot write to {place}: {cause.strerror}; choose another folder")
