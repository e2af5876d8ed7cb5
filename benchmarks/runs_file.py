"""A JSON file of finished runs, which lets a stopped benchmark continue where it left off."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from attnlstm.errors import UserError
from attnlstm.training.checkpoint_io import replacing

Run = dict[str, Any]
"""The settings and the results of one run, as JSON values."""


def read_runs(path: Path) -> list[Run]:
    """Return the runs of a file, or an empty list if there is no file yet.

    Raises:
        UserError: the file has another format.
    """
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["runs"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} contains no runs: choose another --output") from error


def add_run(path: Path, run: Run) -> None:
    """Add one run. Several processes may add runs at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        runs = [*read_runs(path), run]
        with replacing(path) as partial:
            partial.write_text(json.dumps({"runs": runs}, indent=1) + "\n", encoding="utf-8")


def unique(runs: Iterable[Run], key: str) -> list[Any]:
    """Return the distinct values of a key, in order of first occurrence."""
    return list(dict.fromkeys(run[key] for run in runs))


def format_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
