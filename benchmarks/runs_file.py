"""A JSON file to which each finished run is added, so that a stopped benchmark goes on there."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from attnlstm.errors import UserError
from attnlstm.training.checkpoint_io import replacing

Run = dict[str, Any]
"""What one run was given and what it reached, as JSON has it."""


def read_runs(path: Path) -> list[Run]:
    """The runs of the file; none where there is no file yet.

    Raises:
        UserError: the file is of another kind.
    """
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["runs"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no runs: choose another --output") from error


def add_run(path: Path, run: Run) -> None:
    """Add one run; several processes may do so, each with sets of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        runs = [*read_runs(path), run]
        with replacing(path) as partial:
            partial.write_text(json.dumps({"runs": runs}, indent=1) + "\n", encoding="utf-8")


def unique(runs: Iterable[Run], key: str) -> list[Any]:
    """The values of a key, in the order in which they first occur."""
    return list(dict.fromkeys(run[key] for run in runs))


def format_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a `.md` file."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
