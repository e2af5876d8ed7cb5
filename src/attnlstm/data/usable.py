"""Whether the rows that a survey has found will do: what is dropped, and what is no class."""

from collections.abc import Mapping, Sequence

import numpy as np

from attnlstm.config.data import DROP_ALL, OnBadRow, Task
from attnlstm.console import counted, enumerate_names
from attnlstm.data.checks import MISSING, Survey
from attnlstm.data.rows import RowSource, as_tuple
from attnlstm.errors import UserError

MOST_DROPPED = 0.5
"""The share of the rows of a source that `data.on_bad_row=drop` may remove."""

REMEDIES = {
    MISSING: "data.missing=interpolate or data.missing=mask fills in missing values",
    "several labels in one series": "data.window=128 cuts series into windows with a label each",
}
"""By problem, the setting that would make such rows usable."""


def check_bad_rows(
    surveys: Mapping[str, Survey], on_bad_row: OnBadRow, task: Task = "classification"
) -> list[str]:
    """Return what looks wrong with the sources, and which rows are dropped.

    Raises:
        UserError: there are bad rows and `on_bad_row` is "stop", or they are more than it allows;
            the message says where the first ones are.
    """
    doubts = [found.source.doubt for found in surveys.values() if found.source.doubt is not None]
    doubts = doubts[:1]  # the other parts are most likely alike
    problems = [text for found in surveys.values() for text in found.describe_problems()]
    suspicious = next((found.doubts for found in surveys.values() if found.doubts), [])
    if not problems:
        return doubts + suspicious
    lost: list[str] = []
    if task != "regression":
        lost = [text for found in surveys.values() for text in _describe_lost_classes(found)]
    refused: list[str] = []
    if on_bad_row != DROP_ALL:
        most = on_bad_row if isinstance(on_bad_row, float) else MOST_DROPPED
        refused = [text for found in surveys.values() for text in _describe_losses(found, most)]
    if on_bad_row in ("stop", "drop"):
        refused += lost
    leaves_classes = all(found.usable.any() for found in surveys.values())
    if "train" in surveys:
        leaves_classes &= len(surveys["train"].names) > 1
    if on_bad_row == "stop":
        if not all(found.is_complete for found in surveys.values()):
            problems.append("and perhaps more, as no more were looked for")
        advice = "Rows and channels count from 0, lines from 1. Fix or remove these rows"
        if refused:
            advice += f": without them, {' and '.join(refused)} would be missing"
        elif leaves_classes:
            advice += ", or set data.on_bad_row=drop to continue without them"
        found_problems = {what for found in surveys.values() for what in found.problems}
        remedies = [remedy for what, remedy in REMEDIES.items() if what in found_problems]
        raise UserError(". ".join(["; ".join(problems), *doubts, *remedies, advice]))
    if refused:
        start = f"data.on_bad_row={on_bad_row} does not remove {' and '.join(refused)}: "
        advice = "Fix these rows"
        if leaves_classes:
            advice += f", or set data.on_bad_row={DROP_ALL} to continue without them"
        raise UserError(". ".join([start + "; ".join(problems), *doubts, advice]))
    count = sum(int((~found.usable).sum()) for found in surveys.values())
    dropped = [f"dropped {counted(count, 'bad row')}:", *(f"  {text}" for text in problems)]
    return [*doubts, *suspicious, *dropped, *(f"  these are {text}" for text in lost)]


def _describe_losses(found: Survey, most: float) -> list[str]:
    """Return what the source loses if it loses more than this share of its rows."""
    num_bad, num_rows = int((~found.usable).sum()), len(found.labels)
    if num_bad <= most * num_rows:
        return []
    return [f"{num_bad:,} of the {num_rows:,} rows of {found.source.name}"]


def _describe_lost_classes(found: Survey) -> list[str]:
    """Return the classes whose rows in the source are all bad."""
    kept = {name for label in found.names for name in as_tuple(label)}
    lost = sorted({name for label in found.bad_labels for name in as_tuple(label)} - kept)
    if not lost:
        return []
    plural = "es" * (len(lost) > 1)
    return [f"all rows of class{plural} {enumerate_names(lost)} of {found.source.name}"]


def describe_single_rows(
    source: RowSource, strata: np.ndarray, label_names: Sequence[str]
) -> list[str]:
    """Return a warning about classes with a single training row; `strata` are `[row]`."""
    counts = np.bincount(strata, minlength=len(label_names))
    names = sorted(name for name, count in zip(label_names, counts, strict=False) if count == 1)
    if not names:
        return []
    which = (
        f"es {enumerate_names(names)} have" if len(names) > 1 else f" {enumerate_names(names)} has"
    )
    return [
        f"class{which} one row in {source.name}, which is validated by a model that has not seen "
        "the class: add rows"
    ]
