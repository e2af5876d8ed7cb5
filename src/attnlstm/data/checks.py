"""What must hold before anything is trained: equal channels, finite values, known labels."""

import numpy as np
from datasets import Dataset, DatasetDict

from attnlstm.data.series import class_numbers, flatten_series
from attnlstm.errors import UserError

SHOWN = 10  # rows, and channels of a row, that a message names; of the others it gives the count


def check_series(dataset: DatasetDict) -> None:
    """Looks at every value of every split.

    Raises:
        UserError: a split or a series is empty, steps differ in their number of channels, a value
            is missing or infinite, a row has no label, or a label is not among those of "train".
            The message names every split, row and channel at fault, counted from 0.
    """
    problems = [f"split '{name}' has no rows" for name, rows in dataset.items() if not len(rows)]
    splits = {name: rows for name, rows in dataset.items() if len(rows)}
    reference = splits.get("train", next(iter(splits.values()), None))
    for name, rows in splits.items():
        problems += [f"split '{name}' has {problem}" for problem in _problems(rows, reference)]
    if problems:
        raise UserError(
            f"{'; '.join(problems)} (rows and channels count from 0): mend or remove these rows"
        )


def _problems(rows: Dataset, reference: Dataset) -> list[str]:
    values, widths, lengths = flatten_series(rows)
    labels = class_numbers(rows)
    row_of_step = np.repeat(np.arange(len(lengths)), lengths)
    num_channels = _usual_channels(reference)
    problems = []
    if (empty := np.flatnonzero(lengths == 0)).size:
        problems.append(f"empty series in {_name_rows(empty)}")
    if (odd := widths != num_channels).any():
        found = _enumerate(np.unique(widths[odd]))
        where = _name_rows(row_of_step[odd])
        problems.append(f"steps with {found} instead of {num_channels} channels in {where}")
    ends = np.cumsum(widths)  # a value belongs to the first step that ends after it
    for what, bad in (
        ("missing values (NaN)", np.isnan(values)),
        ("infinite values", np.isinf(values)),
    ):
        if (positions := np.flatnonzero(bad)).size:
            steps = np.searchsorted(ends, positions, side="right")
            channels = positions - (ends - widths)[steps]
            problems.append(f"{what} in {_name_rows(row_of_step[steps], channels)}")
    if (unlabelled := np.flatnonzero(labels < 0)).size:
        problems.append(f"no label in {_name_rows(unlabelled)}")
    # a class without a training row could never be predicted
    for label in np.setdiff1d(labels[labels >= 0], class_numbers(reference)).tolist():
        name = rows.features["label"].int2str(label)
        problems.append(
            f"label '{name}', which no training row has, in "
            f"{_name_rows(np.flatnonzero(labels == label))}"
        )
    return problems


def _usual_channels(rows: Dataset) -> int:
    """The number of channels that most steps have."""
    _, widths, _ = flatten_series(rows)
    return int(np.bincount(widths, minlength=2)[1:].argmax()) + 1


def _name_rows(rows: np.ndarray, channels: np.ndarray | None = None) -> str:
    """Such as `12 rows: row 3 (channel 1), row 5 (channels 0, 2), ...`; a row may recur."""
    numbers = np.unique(rows)
    names = []
    for row in numbers[:SHOWN]:
        name = f"row {row}"
        if channels is not None:
            at_fault = np.unique(channels[rows == row])
            name += f" (channel{'s' * (len(at_fault) > 1)} {_enumerate(at_fault)})"
        names.append(name)
    more = ", ..." * (len(numbers) > SHOWN)
    return f"{len(numbers)} row{'s' * (len(numbers) > 1)}: {', '.join(names)}{more}"


def _enumerate(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:SHOWN])) + ", ..." * (len(numbers) > SHOWN)
