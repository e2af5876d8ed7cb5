"""The metrics of a validation and of a test."""

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

from attnlstm.console import counted, enumerate_names


class MacroAUROC(MulticlassAUROC):
    """The mean of each class's one-vs-rest AUROC, as scikit-learn's `roc_auc_score`.

    A class without rows, or with all rows, has no AUROC: the mean is over the other classes, and
    NaN if there are none. torchmetrics would count such a class as 0, and warn.

    Probabilities are rounded to five decimals: backends differ beyond those, which breaks ties.

    Attributes:
        class_counts: number of rows of each class in the last result.
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
        """Describe the classes that the last result leaves out; None if there are none."""
        pairs = list(zip(label_names, self.class_counts, strict=False))  # none before a result
        present = [name for name, count in pairs if count]
        absent = [name for name, count in pairs if not count]
        if not absent:
            return None
        if len(present) < 2:
            return f"there is no auroc: all rows are of class {enumerate_names(present)}"
        left_out = counted(len(absent), "class", "classes")
        return f"auroc leaves out {left_out} without a row: {enumerate_names(absent)}"


def classification_metrics(num_classes: int) -> MetricCollection:
    """Return the metrics, which take probabilities `[row, class]` and class numbers `[row]`."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "macro_f1": MulticlassF1Score(num_classes, average="macro"),
            "auroc": MacroAUROC(num_classes),
            "calibration_error": MulticlassCalibrationError(num_classes),
        }
    )
