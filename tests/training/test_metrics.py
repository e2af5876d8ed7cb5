"""The metrics against scikit-learn's, and when classes have no rows."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)
from torch import Tensor

from attnlstm.config.data import Task
from attnlstm.training.metrics import (
    MacroAUROC,
    MeanAveragePrecision,
    build_metrics,
    set_thresholds,
)


def scores(targets: list[int], num_classes: int) -> tuple[Tensor, Tensor]:
    """Probabilities `[row, class]` that favour the targets a little, and the targets."""
    torch.manual_seed(0)
    labels = torch.tensor(targets)
    logits = torch.randn(len(targets), num_classes) + torch.eye(num_classes)[labels]
    return logits.softmax(dim=1), labels


def reference(probabilities: Tensor, targets: Tensor, classes: list[int]) -> float:
    rounded = probabilities.round(decimals=5).numpy()
    return float(np.mean([roc_auc_score(targets == c, rounded[:, c]) for c in classes]))


def test_auroc_is_scikit_learns_one_vs_rest() -> None:
    probabilities, targets = scores([0, 1, 2, 0, 1, 2, 2, 0, 1, 1], 3)
    expected = roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    assert MacroAUROC(3)(probabilities, targets).item() == pytest.approx(expected, abs=1e-6)


def test_classes_without_a_row_are_left_out_of_auroc_without_a_warning() -> None:
    probabilities, targets = scores([0, 3, 3, 0, 5, 0, 3, 3, 5], 7)
    auroc = MacroAUROC(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = auroc(probabilities, targets).item()
    assert value == pytest.approx(reference(probabilities, targets, [0, 3, 5]), abs=1e-6)
    message = auroc.describe_left_out(list("abcdefg"))
    assert message == "auroc leaves out 4 classes without a row: 'b', 'c', 'e', 'g'"


def test_a_perfect_ranking_of_the_present_classes_is_1() -> None:
    auroc = MacroAUROC(3)
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.6, 0.3, 0.1]])
    assert auroc(probabilities, torch.tensor([0, 1, 0])) == 1.0
    assert auroc.describe_left_out(list("abc")) == "auroc leaves out 1 class without a row: 'c'"


def test_all_classes_are_present() -> None:
    auroc = MacroAUROC(2)
    assert auroc.describe_left_out(["a", "b"]) is None  # before there is anything
    auroc(torch.tensor([[0.7, 0.3], [0.4, 0.6]]), torch.tensor([0, 1]))
    assert auroc.describe_left_out(["a", "b"]) is None


def test_a_single_class_has_no_auroc() -> None:
    metrics = build_metrics("classification", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = metrics(torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.7, 0.1]]), torch.tensor([1, 1]))
    assert values["auroc"].isnan()
    assert values["accuracy"] == 0.5
    auroc = metrics["auroc"]
    assert isinstance(auroc, MacroAUROC)
    message = auroc.describe_left_out(["a", "b", "c"])
    assert message == "there is no auroc: all rows are of class 'b'"


def test_two_processes_share_their_classes() -> None:
    """Each has rows of one class only, and their numbers of rows differ."""
    probabilities, targets = scores([0, 0, 0, 2, 2], 4)
    ours, theirs = (MacroAUROC(4) for _ in range(2))
    ours.update(probabilities[:3], targets[:3])
    theirs.update(probabilities[3:], targets[3:])
    other = {torch.float32: theirs.preds, torch.int64: theirs.target}
    ours.distributed_available_fn = lambda: True
    ours.dist_sync_fn = lambda state, group: [state, torch.cat(other[state.dtype])]
    expected = reference(probabilities, targets, [0, 2])
    assert ours.compute().item() == pytest.approx(expected, abs=1e-6)
    assert ours.class_counts == [3, 0, 2, 0]


def update(task: Task, predictions: Tensor, targets: Tensor) -> dict[str, float]:
    metrics = build_metrics(task, predictions.size(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in (slice(0, 2), slice(2, None)):  # two batches
            if len(targets[part]):
                metrics.update(predictions[part], targets[part])
        return {name: float(value) for name, value in metrics.compute().items()}


def test_the_metrics_of_several_classes_are_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(30, 4, generator=generator)
    targets = (torch.rand(30, 4, generator=generator) < 0.4).to(torch.int8)
    found = update("multilabel", p, targets)
    said = (p >= 0.5).long()
    for average in ("micro", "macro"):
        expected = f1_score(targets, said, average=average)
        assert found[f"{average}_f1"] == pytest.approx(expected, abs=1e-6)
    assert found["map"] == pytest.approx(average_precision_score(targets, p), abs=1e-6)


def test_a_class_without_a_row_is_left_out_of_the_average_precision() -> None:
    p = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.7, 0.3], [0.6, 0.1, 0.4]])
    targets = torch.tensor([[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    assert update("multilabel", p, targets)["map"] == pytest.approx((1 + 0.5) / 2)
    metric = MeanAveragePrecision(3)
    metric.update(p, targets)
    metric.compute()
    assert metric.describe_left_out(list("abc")) == "map leaves out 1 class without a row: 'b'"


def test_thresholds_decide_which_classes_a_row_has() -> None:
    metrics = build_metrics("multilabel", 2)
    p, targets = torch.tensor([[0.3, 0.6], [0.1, 0.4]]), torch.tensor([[1, 0], [0, 0]])
    metrics.update(p, targets)
    assert metrics.compute()["micro_f1"] == 0
    metrics.reset()
    set_thresholds(metrics, torch.tensor([0.2, 0.7]).double())
    metrics.update(p, targets)
    assert metrics.compute()["micro_f1"] == 1


def test_the_metrics_of_numbers_are_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    true = 1e3 + torch.randn(30, 2, generator=generator, dtype=torch.float64)
    said = (true + 0.5 * torch.randn(30, 2, generator=generator)).float()
    found = update("regression", said, true)
    assert found["r2"] == pytest.approx(r2_score(true, said), rel=1e-6)
    assert found["mae"] == pytest.approx(mean_absolute_error(true, said), rel=1e-3)
    assert found["rmse"] == pytest.approx(mean_squared_error(true, said) ** 0.5, rel=1e-3)
    assert math.isnan(update("regression", said[:1], true[:1])["r2"])


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_r2_does_not_depend_on_the_units(scale: float) -> None:
    true = torch.tensor([[1.0, 3], [2, 3], [4, 3]], dtype=torch.float64)
    said = torch.tensor([[1.0, 3], [2, 3.5], [5, 3]], dtype=torch.float64)
    assert update("regression", scale * said, scale * true)["r2"] == pytest.approx(
        r2_score(true, said)
    )


def test_the_metrics_of_ordinal_classes() -> None:
    targets = torch.tensor([0, 1, 2, 3, 4, 4, 0, 2])
    said = torch.tensor([0, 2, 2, 1, 4, 3, 0, 0])
    found = update("ordinal", torch.eye(5)[said], targets)
    assert found["class_distance"] == pytest.approx((1 + 2 + 1 + 2) / 8)
    kappa = cohen_kappa_score(targets, said, weights="quadratic")
    assert found["quadratic_kappa"] == pytest.approx(kappa, abs=1e-6)
