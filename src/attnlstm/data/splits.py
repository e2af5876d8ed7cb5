"""A validation part, carved out of the training part."""

import math

import numpy as np
from datasets import Dataset, DatasetDict

from attnlstm.data.series import class_numbers
from attnlstm.errors import UserError


def carve_validation(train: Dataset, fraction: float, seed: int) -> DatasetDict:
    """Splits `train` by label into "train" and "validation", the same way for the same seed.

    Raises:
        UserError: `fraction` is not between 0 and 1, a class has only one row, or a class would
            get no row in one of the two parts.
    """
    if not 0 < fraction < 1:
        raise UserError(f"data.val_fraction={fraction} must lie between 0 and 1, such as 0.2")
    names = train.features["label"].names
    counts = _count_classes(train)
    if single := [names[label] for label in np.flatnonzero(counts == 1)]:
        raise UserError(
            f"only one training row has class {', '.join(map(repr, single))}, too few to share "
            "with a validation part: add rows or remove the class"
        )
    smallest = np.where(counts > 0, counts, len(train) + 1).argmin()
    try:
        parts = train.train_test_split(fraction, stratify_by_column="label", seed=seed)
        fewest = np.minimum(_count_classes(parts["train"]), _count_classes(parts["test"]))
        without = np.flatnonzero((counts > 0) & (fewest == 0))
    except ValueError:  # datasets refuses a part with fewer rows than there are classes
        without = np.array([smallest])
    if without.size:
        label = without[0]
        lowest = math.ceil(1000 / counts[smallest]) / 1000
        raise UserError(
            f"data.val_fraction={fraction} leaves class {names[label]!r} ({counts[label]} rows) "
            f"without a training or a validation row: use a value from {lowest:g} to {1 - lowest:g}"
        )
    return DatasetDict(train=parts["train"], validation=parts["test"])


def _count_classes(rows: Dataset) -> np.ndarray:
    """Rows of each class, [class]."""
    return np.bincount(class_numbers(rows), minlength=rows.features["label"].num_classes)
