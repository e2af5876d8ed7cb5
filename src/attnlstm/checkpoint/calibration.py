"""Calibrated probabilities and prediction sets, fitted to rows the model was not trained on.

One number, the temperature, divides all logits so that a probability is the share of rows on which
the model is right (Guo et al., 2017). Prediction sets come from split conformal prediction with the
score 1 - p(true class), which gives the smallest sets on average (Sadinle, Lei and Wasserman,
2019): for a new row from the distribution of the validation rows, the set contains the true class
with at least the requested probability, whatever the model. Because the temperature and the best
epoch depend on the same rows, this guarantee is slightly loosened.

Rows of several classes get one temperature for all classes, and each class a threshold: the
probability from which a row has the class. The scores of a regression are its absolute errors, so
that an interval around a prediction contains the true number with the requested probability.

If n-grams answer together with the LSTM, these rows also determine the weight of each.

This module must not import Lightning, which is slow to import.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.classifier import pool_logits
from attnlstm.nn.head import Task, at_least_float32, average, predict

CALIBRATION_KEY = "calibration"
"""The key in a checkpoint: the fields of a `Calibration`, or None."""

PROBABILITY_DECIMALS = 6
"""Fewer than float32 has, so that differences between backends do not show."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0

EQUAL_WEIGHT = 0.5

MAX_SCORES = 10_000
"""The number of scores a checkpoint keeps at most; they take 80 kB."""


class Calibration(NamedTuple):
    """What validation rows say about a model's logits.

    temperature: the divisor of the logits.
    expert_weight: the share of the second classifier, see `SequenceClassifier`.
    scores: `[score]`, or `[score, target]` for a regression, float64, ascending; see
        `conformal_scores` and `thin`. There are none for several classes.
    thresholds: `[class]`, float64, for several classes; None for other tasks.
    """

    temperature: float
    expert_weight: float
    scores: Tensor
    thresholds: Tensor | None = None


def fit_calibration(
    logits: Tensor,
    targets: Tensor,
    expert_weight: float = EQUAL_WEIGHT,
    task: Task = "classification",
) -> Calibration:
    """Fit a calibration to logits `[row, class]` and targets of validation rows."""
    temperature = fit_temperature(logits, targets, task)
    if task == "multilabel":
        probabilities = calibrated_predictions(logits, temperature, task)
        thresholds = fit_thresholds(probabilities, targets)
        return Calibration(temperature, expert_weight, probabilities.new_empty(0), thresholds)
    scores = thin(conformal_scores(logits, targets, temperature, task))
    return Calibration(temperature, expert_weight, scores)


def fit_thresholds(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return for each class the threshold with the highest F1 score on these rows, `[class]`.

    It is a multiple of 0.05; of those with the same score, the one closest to 0.5.

    Args:
        probabilities: `[row, class]`.
        targets: `[row, class]`, 0 or 1.
    """
    grid = sorted((step / 20 for step in range(1, 20)), key=lambda step: abs(step - 0.5))
    is_true = targets == 1
    scores = []
    for threshold in grid:
        found = probabilities >= threshold
        right = (found & is_true).sum(dim=0).double()
        scores.append(right / (found.sum(dim=0) + is_true.sum(dim=0)).clamp(min=1))
    best = torch.stack(scores).argmax(dim=0)  # the first of equal ones
    return torch.tensor(grid, dtype=torch.float64)[best]


def fit_expert_weight(experts: Tensor, targets: Tensor, task: Task = "classification") -> float:
    """Return the weight of the n-grams that makes the targets most likely.

    The logits pooled with weight w get a temperature of their own. With l(w), the mean negative log
    likelihood of the n rows, the result is the multiple of 0.05 that minimizes

        n l(w) - log w - log(1 - w).

    This is the posterior mode under a Beta(2, 2) prior, which keeps the weight near 0.5 if there
    are few rows or if both classifiers say the same.

    Args:
        experts: logits `[row, member, 2, class]` of the LSTM and of the n-grams.
        targets: `[row]`, class indices.
    """
    costs = {}
    for weight in (step / 20 for step in range(1, 20)):
        logits = pool_members(experts, weight, task)
        scaled = logits.double() / fit_temperature(logits, targets, task)
        cost = _negative_log_likelihood(scaled, targets, task)
        costs[weight] = cost - math.log(weight) - math.log(1 - weight)
    return min(costs, key=lambda weight: (costs[weight], abs(weight - EQUAL_WEIGHT)))


def _negative_log_likelihood(logits: Tensor, targets: Tensor, task: Task) -> float:
    """Return the sum over the rows; the numbers of a regression have a normal distribution."""
    if task == "multilabel":
        loss = F.binary_cross_entropy_with_logits(logits, targets.double(), reduction="sum")
        return float(loss / targets.size(1))
    if task == "regression":
        variance = (logits - targets).square().mean(dim=0).clamp(min=1e-300)  # [target]
        return float(len(targets) / 2 * variance.log().mean())
    return float(F.cross_entropy(logits, targets, reduction="sum"))


def pool_members(experts: Tensor, expert_weight: float, task: Task = "classification") -> Tensor:
    """Return an ensemble's logits `[row, class]`, given its experts' `[row, member, 2, class]`."""
    members = pool_logits(experts[:, :, 0], experts[:, :, 1], expert_weight)
    return average(members.unbind(dim=1), task)


def fit_temperature(logits: Tensor, targets: Tensor, task: Task = "classification") -> float:
    """Return the temperature in [0.05, 20] that makes the targets most likely.

    It minimizes the negative log likelihood of softmax(logits / temperature) over the n rows and an
    extra one: a random row with a random class. Without the extra row, a model that is right on
    every row would have a temperature of 0; its influence shrinks as n grows, as in Platt's scaling
    (1999). With the inverse temperature b, the logits z_i of row i and its true class y_i, the
    objective divided by n + 1 is

        mean_i logsumexp(b z_i) - b a,    a = (sum_i z_i[y_i] + mean of all z) / (n + 1).

    It is convex in b, so bisection finds the root of its derivative. If the logits are
    uninformative, the temperature is 1. For several classes, each pair of a row and a class counts
    as a row with two classes, whose logits are z and 0. That of a regression is 1.

    Args:
        logits: `[row, class]`.
        targets: see `attnlstm.data.targets`.
        task: what is predicted.

    Raises:
        ValueError: there is no row, or a logit is NaN or infinite.
    """
    if not len(logits) or not torch.isfinite(logits).all():
        raise ValueError("a temperature needs at least one row, and finite logits")
    if task == "regression":
        return 1.0
    if task == "multilabel":
        z = logits.reshape(-1, 1)
        return fit_temperature(
            torch.cat([torch.zeros_like(z), z], dim=1), targets.long().reshape(-1)
        )
    z = logits.double()
    z = z - z.amax(dim=1, keepdim=True)  # does not change the probabilities
    true = z.gather(1, targets.unsqueeze(1)).sum()
    mean_true = (true + z.mean()) / (len(z) + 1)

    def slope(b: float) -> float:
        return float(((b * z).softmax(dim=1) * z).sum(dim=1).mean() - mean_true)

    if slope(1.0) == 0:
        return 1.0
    low, high = -math.log(MAX_TEMPERATURE), -math.log(MIN_TEMPERATURE)  # log b
    for _ in range(40):  # to 6e-12
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def calibrated_predictions(
    logits: Tensor, temperature: float, task: Task = "classification"
) -> Tensor:
    """Return the probabilities `[row, class]` to report: float64, rounded, on the CPU.

    Those of a regression are its numbers `[row, target]`, which are not rounded.
    """
    predictions = predict(at_least_float32(logits) / temperature, task).cpu().double()
    if task == "regression":
        return predictions
    return predictions.round(decimals=PROBABILITY_DECIMALS)


def decide(predictions: Tensor, task: Task, thresholds: Tensor | None = None) -> Tensor:
    """Return what predictions `[row, class]` say, in the form of `attnlstm.data.targets`.

    A row of several classes has those whose probability reaches the threshold; None: 0.5.
    """
    if task == "regression":
        return predictions
    if task == "multilabel":
        return (predictions >= (0.5 if thresholds is None else thresholds)).to(torch.int8)
    return predictions.argmax(dim=1)


def conformal_scores(
    logits: Tensor, targets: Tensor, temperature: float, task: Task = "classification"
) -> Tensor:
    """Return 1 - p(true class) `[row]`, or a regression's errors `[row, target]`, in float64."""
    if task == "regression":
        return (logits.cpu().double() - targets.cpu()).abs()
    probabilities = calibrated_predictions(logits, temperature)
    return 1 - probabilities.gather(1, targets.cpu().unsqueeze(1)).squeeze(1)


def thin(scores: Tensor, most: int = MAX_SCORES) -> Tensor:
    """Return the scores in ascending order, reduced to `most` quantiles if there are more.

    The j-th of the kept scores has rank ceil(j n / most) among all n. For any coverage, the
    threshold of the kept scores is at least that of all scores, so the guarantee holds.
    """
    scores = scores.sort(dim=0).values
    if len(scores) <= most:
        return scores
    ranks = -(-torch.arange(1, most + 1) * len(scores) // most)  # rounded up
    return scores[ranks - 1]


def conformal_threshold(scores: Tensor, coverage: float) -> float:
    """Return the largest score of a class in a prediction set, given ascending scores `[score]`.

    It is the ceil((n + 1) coverage)-th of n ascending scores. If n is less than `scores_needed`, it
    is infinity: sets then contain every class.
    """
    rank = max(1, _ceil((len(scores) + 1) * coverage))
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def scores_needed(coverage: float) -> int:
    """Return the fewest scores with which sets can leave out a class."""
    return _ceil(coverage / (1 - coverage))


def _ceil(value: float) -> int:
    """Round up, but 90.00000000000001 to 90."""
    return math.ceil(round(value, 9))


def in_prediction_set(probabilities: Tensor, threshold: float) -> Tensor:
    """Return whether each class is in a row's set, bool `[row, class]`.

    The most probable class is in every set, so none is empty.

    Args:
        probabilities: `[row, class]`, see `calibrated_predictions`.
        threshold: see `conformal_threshold`.
    """
    is_in = 1 - probabilities <= threshold
    return is_in.scatter(1, probabilities.argmax(dim=1, keepdim=True), True)
