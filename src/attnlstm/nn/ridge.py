"""Ridge regression on class indicators, its strength chosen by leaving out one row at a time."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

STRENGTHS = torch.logspace(-3, 5, 17, dtype=torch.float64)
"""Penalties to choose from, of features with a standard deviation of 1."""

SCALES = torch.logspace(-1, 1.7, 28, dtype=torch.float64)
"""Factors from scores to logits to choose from."""

SMOOTHING = 0.1
"""Without it, rows that are all right would ask for a boundless factor."""


class LinearClassifier(NamedTuple):
    """logits = features @ weight + bias; weight `[feature, class]`, bias `[class]`, float64."""

    weight: Tensor
    bias: Tensor


def fit_ridge(features: Tensor, targets: Tensor, num_classes: int) -> LinearClassifier:
    """Fit a classifier to features `[row, feature]` and class numbers `[row]`.

    Each class has a score, fitted by ridge regression to 1 on its own rows and -1 on others. The
    penalty is the one with the least squared error of the rows left out, as in scikit-learn's
    RidgeClassifierCV on standardised features; the error of leaving out row i is its residual
    divided by 1 - h_ii, h the hat matrix. The scores become logits by the factor with the least
    cross-entropy, with label smoothing, of the rows left out. The work grows with the cube of the
    rows.

    Raises:
        ValueError: there are fewer than two rows.
    """
    num_rows = len(features)
    if num_rows < 2:
        raise ValueError(f"a ridge regression needs at least 2 rows, got {num_rows}")
    features = features.double()
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    std = torch.where(std > 1e-12, std, 1.0)
    centred = (features - mean) / std
    indicators = 2.0 * F.one_hot(targets, num_classes).double() - 1
    offset = indicators.mean(dim=0)  # [class]
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    values = values.clamp(min=0)
    rotated = vectors.T @ (indicators - offset)  # [row, class]
    best_error, best_strength, best_scores = math.inf, STRENGTHS[-1], indicators
    for strength in STRENGTHS:
        shrunk = values / (values + strength)  # [row]
        fitted = vectors @ (shrunk.unsqueeze(1) * rotated) + offset
        leverage = (vectors.square() @ shrunk + 1 / num_rows).clamp(max=1 - 1e-9)
        scores = indicators - (indicators - fitted) / (1 - leverage).unsqueeze(1)
        error = float((indicators - scores).square().mean())
        if error < best_error:
            best_error, best_strength, best_scores = error, strength, scores
    weight = centred.T @ (vectors @ (rotated / (values + best_strength).unsqueeze(1)))
    losses = [
        float(F.cross_entropy(scale * best_scores, targets, label_smoothing=SMOOTHING))
        for scale in SCALES
    ]
    scale = SCALES[losses.index(min(losses))]
    weight = scale * weight / std.unsqueeze(1)
    return LinearClassifier(weight, scale * offset - mean @ weight)
