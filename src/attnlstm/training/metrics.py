"""What is reported of a validation and of a test."""

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities.data import dim_zero_cat

from attnlstm.console import enumerate_names


class MacroAUROC(MulticlassAUROC):
    """The mean of each class's AUROC against the rest, as scikit-learn's `roc_auc_score`.

    A class without a row, or with all rows, has no AUROC: the mean is over the other classes, and
    NaN where there are none. torchmetrics would count such a class as 0, and warn.

    Probabilities are rounded to five decimals: in the last, which break ties, backends differ.

    Attributes:
        class_counts: the rows of each class that the last result is of.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.class_counts: list[int] = []

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds.round(decimals=5), target)

    def compute(self) -> Tensor:  # type: ignore[override]
        preds, target = dim_zero_cat(self.preds), dim_zero_cat(self.target)
        self.class_counts = target.bincount(minlength=self.num_classes).tolist()
        scores = [
            binary_auroc(preds[:, number], (target == number).long(), validate_args=False)
            for number, count in enumerate(self.class_counts)
            if 0 < count < len(target)
        ]
        return torch.stack(scores).mean() if scores else preds.new_tensor(torch.nan)

    def describe_left_out(self, label_names: list[str]) -> str | None:
        """One line about the classes that the last result leaves out; None if there are none."""
        pairs = list(zip(label_names, self.class_counts, strict=False))  # none before a result
        present = [name for name, count in pairs if count]
        absent = [name for name, count in pairs if not count]
        if not absent:
            return None
        if len(present) < 2:
            return f"there is no auroc: all rows are of class {enumerate_names(present)}"
        kind = "class" if len(absent) == 1 else "classes"
        return f"auroc leaves out {len(absent)} {kind} without a row: {enumerate_names(absent)}"


def classification_metrics(num_classes: int) -> MetricCollection:
    """What is reported of a validation and of a test; from probabilities and class numbers."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "macro_f1": MulticlassF1Score(num_classes, average="macro"),
            "auroc": MacroAUROC(num_classes),
            "calibration_error": MulticlassCalibrationError(num_classes),
        }
    )
