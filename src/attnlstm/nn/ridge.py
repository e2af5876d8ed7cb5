"""Ridge regression with a penalty that is chosen by leave-one-out cross-validation.

X [row, feature] are the standardized features, Y [row, class] the centered goals (1 or -1 for
classes, the numbers themselves for a regression), and X Xᵀ = V diag(λ) Vᵀ [row, row]. With
penalty α,

    weight  = Xᵀ V diag(1 / (λ + α)) Vᵀ Y            [feature, class]
    fitted  = V diag(λ / (λ + α)) Vᵀ Y               [row, class]
    h_i     = Σ_k V_ik² λ_k / (λ_k + α) + 1 / rows   [row], the leverage, with the intercept's
    error_i = (Y - fitted)_i / (1 - h_i)             [row, class], the error of row i if left out

so that one eigendecomposition serves every penalty.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.head import Task

STRENGTHS = torch.logspace(-3, 5, 17, dtype=torch.float64)
"""The penalties to choose from, for features with a standard deviation of 1."""

SCALES = torch.logspace(-1, 1.7, 28, dtype=torch.float64)
"""The factors to choose from by which scores become logits."""

SMOOTHING = 0.1
"""Label smoothing. Without it, the best factor for rows that are all correct would be infinite."""


class LinearClassifier(NamedTuple):
    """logits = features @ weight + bias; weight `[feature, class]`, bias `[class]`, float64."""

    weight: Tensor
    bias: Tensor


def fit_ridge(
    features: Tensor, targets: Tensor, num_classes: int, task: Task = "classification"
) -> LinearClassifier:
    """Fit a linear model to features and targets of the same rows.

    Each class has a score, which is fitted to 1 on the rows of the class and to -1 on the others;
    the scores of a regression are fitted to the numbers. The penalty is the one with the smallest
    squared error of left-out rows, as in scikit-learn's RidgeClassifierCV and RidgeCV on
    standardized features. The scores of classes are multiplied by the factor with the smallest
    cross-entropy of left-out rows, which makes them logits. The time grows with the cube of the
    number of rows.

    Args:
        features: `[row, feature]`.
        targets: class numbers `[row]`; indicators `[row, class]` of 0 and 1 with the task
            "multilabel"; numbers `[row, target]` with "regression".
        num_classes: number of classes, or of the numbers to predict.
        task: what is to be predicted; see `attnlstm.nn.head`.

    Raises:
        ValueError: there are fewer than two rows.
    """
    num_rows = len(features)
    if num_rows < 2:
        raise ValueError(f"a ridge regression needs at least 2 rows, got {num_rows}")
    features = features.double()
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    std = torch.where(std > 1e-12, std, 1.0)
    centered = (features - mean) / std
    has_classes = task in ("classification", "ordinal")
    goals = F.one_hot(targets, num_classes) if has_classes else targets
    goals = goals.double() if task == "regression" else 2.0 * goals.double() - 1
    offset = goals.mean(dim=0)  # [class]
    values, vectors = torch.linalg.eigh(centered @ centered.T)
    values = values.clamp(min=0)
    rotated = vectors.T @ (goals - offset)  # [row, class]
    best_error, best_strength, best_scores = math.inf, STRENGTHS[-1], goals
    for strength in STRENGTHS:
        shrunk = values / (values + strength)  # [row]
        fitted = vectors @ (shrunk.unsqueeze(1) * rotated) + offset
        leverage = (vectors.square() @ shrunk + 1 / num_rows).clamp(max=1 - 1e-9)
        scores = goals - (goals - fitted) / (1 - leverage).unsqueeze(1)
        error = float((goals - scores).square().mean())
        if error < best_error:
            best_error, best_strength, best_scores = error, strength, scores
    weight = centered.T @ (vectors @ (rotated / (values + best_strength).unsqueeze(1)))
    scale = 1.0 if task == "regression" else _choose_scale(best_scores, targets, task)
    weight = scale * weight / std.unsqueeze(1)
    return LinearClassifier(weight, scale * offset - mean @ weight)


def _choose_scale(scores: Tensor, targets: Tensor, task: Task) -> float:
    """Return the factor with which scores `[row, class]` of left-out rows are the best logits."""
    losses = []
    for scale in SCALES:
        if task == "multilabel":
            smooth = targets * (1 - SMOOTHING) + SMOOTHING / 2
            loss = F.binary_cross_entropy_with_logits(scale * scores, smooth.double())
        else:
            loss = F.cross_entropy(scale * scores, targets, label_smoothing=SMOOTHING)
        losses.append(float(loss))
    return float(SCALES[losses.index(min(losses))])
