"""The metrics of a validation and of a test, by task."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassCohenKappa,
    MulticlassF1Score,
    MultilabelAveragePrecision,
    MultilabelF1Score,
)
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError
from torchmetrics.utilities.data import dim_zero_cat

from attnlstm.config.data import Task
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
        pairs = zip(label_names, self.class_counts, strict=False)
        present = [name for name, count in pairs if count]
        if self.class_counts and len(present) < 2:
            return f"there is no auroc: all rows are of class {enumerate_names(present)}"
        return _describe_absent("auroc", label_names, self.class_counts)


def _describe_absent(metric: str, label_names: list[str], class_counts: list[int]) -> str | None:
    """Describe the classes without a row; None if there are none, or no counts yet."""
    pairs = zip(label_names, class_counts, strict=False)
    absent = [name for name, count in pairs if not count]
    if not absent:
        return None
    left_out = counted(len(absent), "class", "classes")
    return f"{metric} leaves out {left_out} without a row: {enumerate_names(absent)}"


class MeanAveragePrecision(MultilabelAveragePrecision):
    """The mean of the classes' average precisions, as scikit-learn's `average_precision_score`.

    A class without rows has no average precision: the mean is over the other classes, and NaN if
    there are none. torchmetrics would count such a class as 0, and warn.

    Attributes:
        class_counts: number of rows of each class in the last result.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels)
        self.class_counts: list[int] = []

    def compute(self) -> Tensor:  # type: ignore[override]
        preds, target = dim_zero_cat(self.preds), dim_zero_cat(self.target)
        self.class_counts = target.sum(dim=0).tolist()
        scores = [
            binary_average_precision(preds[:, number], target[:, number], validate_args=False)
            for number, count in enumerate(self.class_counts)
            if count
        ]
        return torch.stack(scores).mean() if scores else preds.new_tensor(torch.nan)

    def describe_left_out(self, label_names: list[str]) -> str | None:
        """Describe the classes that the last result leaves out; None if there are none."""
        return _describe_absent("map", label_names, self.class_counts)


class ThresholdedF1(MultilabelF1Score):
    """The F1 score of several classes, each with a threshold of its own.

    Attributes:
        thresholds: `[class]`, the probability from which a row has the class.
    """

    thresholds: Tensor

    def __init__(self, num_labels: int, average: Literal["micro", "macro"]) -> None:
        super().__init__(num_labels, average=average)
        self.register_buffer("thresholds", torch.full((num_labels,), 0.5), persistent=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update((preds >= self.thresholds).long(), target)


class MeanR2(Metric):
    """The mean of the targets' coefficients of determination, as scikit-learn's `r2_score`.

    It is NaN for a single row. torchmetrics takes sums of squares below 1e-4 for 0, which makes
    every model of small numbers perfect.
    """

    true: list[Tensor]
    said: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("true", default=[], dist_reduce_fx="cat")
        self.add_state("said", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.true.append(target.double())
        self.said.append(preds.double())

    def compute(self) -> Tensor:
        true, said = dim_zero_cat(self.true), dim_zero_cat(self.said)  # [row, target]
        if len(true) < 2:
            return true.new_tensor(torch.nan)
        errors = (true - said).square().sum(dim=0)
        variation = (true - true.mean(dim=0)).square().sum(dim=0)
        is_constant = true.amax(dim=0) == true.amin(dim=0)
        of_constant = (errors == 0).to(errors.dtype)
        return torch.where(is_constant, of_constant, 1 - errors / variation).mean()


class ClassDistance(MeanAbsoluteError):  # noqa: N818 - it is no exception
    """The mean number of classes between the most probable class and the true one."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds.argmax(dim=1), target)


MAIN_METRIC: Mapping[Task, str] = {
    "classification": "accuracy",
    "ordinal": "accuracy",
    "multilabel": "micro_f1",
    "regression": "r2",
}
"""The metric by which runs are compared; the higher, the better."""


def build_metrics(task: Task, num_classes: int) -> MetricCollection:
    """Return the metrics of a task, which take predictions and targets.

    The predictions are probabilities `[row, class]`, or numbers `[row, target]`; for the targets
    see `attnlstm.data.targets`. The metrics of several numbers are means over them.
    """
    metrics: dict[str, Metric | MetricCollection]
    match task:
        case "multilabel":
            metrics = {
                "micro_f1": ThresholdedF1(num_classes, "micro"),
                "macro_f1": ThresholdedF1(num_classes, "macro"),
                "map": MeanAveragePrecision(num_classes),
            }
        case "regression":
            metrics = {
                "mae": MeanAbsoluteError(),
                "rmse": MeanSquaredError(squared=False),
                "r2": MeanR2(),
            }
        case _:
            metrics = {
                "accuracy": MulticlassAccuracy(num_classes, average="micro"),
                "macro_f1": MulticlassF1Score(num_classes, average="macro"),
                "auroc": MacroAUROC(num_classes),
                "calibration_error": MulticlassCalibrationError(num_classes),
            }
    if task == "ordinal":
        metrics |= {
            "class_distance": ClassDistance(),
            "quadratic_kappa": MulticlassCohenKappa(num_classes, weights="quadratic"),
        }
    return MetricCollection(metrics)


def set_thresholds(metrics: MetricCollection, thresholds: Tensor | None) -> None:
    """Use the thresholds of a calibration, `[class]`, in the metrics of several classes."""
    for metric in metrics.values():
        if isinstance(metric, ThresholdedF1):
            new = torch.full_like(metric.thresholds, 0.5) if thresholds is None else thresholds
            metric.thresholds.copy_(new)
