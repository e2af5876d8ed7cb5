"""Calibrated probabilities and prediction sets, from rows that the model was not trained on.

Where n-grams answer together with the LSTM, these rows also say how much they count.
One number, the temperature, divides all logits so that the probabilities say how often the model is
right (Guo et al., 2017). Prediction sets are those of split conformal prediction with the score
1 - p(true class), which gives the smallest sets on average (Sadinle, Lei and Wasserman, 2019): for
a new row from the same distribution as the validation rows, the set holds the true class with at
least the probability that is asked for, whatever the model. Two things loosen that a little: the
temperature, and the epoch that was chosen, depend on the same rows.

This module imports no Lightning, which is slow to import.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.classifier import at_least_float32, pool_logits
from attnlstm.nn.ensemble import mean_probabilities

CALIBRATION_KEY = "calibration"
"""Of a checkpoint: the temperature and the scores, or None as long as there are none."""

PROBABILITY_DECIMALS = 6
"""Fewer than float32 has: what the backends' last digits differ in does not show."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0

EQUAL_WEIGHT = 0.5

MAX_SCORES = 10_000
"""Scores that a checkpoint keeps, which take 80 kB."""


class Calibration(NamedTuple):
    """What validation rows say about a model's logits.

    temperature: what to divide the logits by.
    expert_weight: how much the second classifier counts, see `SequenceClassifier`.
    scores: `[score]`, float64, ascending; see `conformal_scores` and `thin`.
    """

    temperature: float
    expert_weight: float
    scores: Tensor


def fit_calibration(
    logits: Tensor, targets: Tensor, expert_weight: float = EQUAL_WEIGHT
) -> Calibration:
    """The temperature and, with it, the scores of logits `[row, class]` and targets `[row]`."""
    temperature = fit_temperature(logits, targets)
    scores = thin(conformal_scores(logits, targets, temperature))
    return Calibration(temperature, expert_weight, scores)


def fit_expert_weight(experts: Tensor, targets: Tensor) -> float:
    """The weight of the n-grams under which the targets are most likely.

    For each weight w the logits are pooled and get their own temperature, and n rows have the mean
    negative log likelihood l(w). The weight is the one that minimizes

        n l(w) - log w - log(1 - w)

    among multiples of 0.05: the posterior mode under a Beta(2, 2) prior, which keeps the weight
    near 0.5 where rows are few, or where the two say the same.

    Args:
        experts: logits `[row, member, 2, class]` of the LSTM and of the n-grams.
        targets: `[row]`, the numbers of the true classes.
    """
    costs = {}
    for weight in (step / 20 for step in range(1, 20)):
        logits = pool_members(experts, weight)
        scaled = logits.double() / fit_temperature(logits, targets)
        cost = float(F.cross_entropy(scaled, targets, reduction="sum"))
        costs[weight] = cost - math.log(weight) - math.log(1 - weight)
    return min(costs, key=lambda weight: (costs[weight], abs(weight - EQUAL_WEIGHT)))


def pool_members(experts: Tensor, expert_weight: float) -> Tensor:
    """The logits `[row, class]` of an ensemble whose members pool their experts' logits.

    Args:
        experts: `[row, member, 2, class]`.
        expert_weight: of the second one.
    """
    members = pool_logits(experts[:, :, 0], experts[:, :, 1], expert_weight)
    return mean_probabilities(members.unbind(dim=1))


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature under which the targets are most likely.

    It minimizes the negative log likelihood of softmax(logits / temperature) over the n rows and
    one more, which is any of them with a class drawn at random. Without that one, the temperature
    of a model that is right on all rows would be 0; the fewer the rows, the more it counts, as in
    Platt's scaling (1999). With the inverse temperature b, row i's logits z_i and its true class
    y_i, the objective, divided by n + 1, is

        mean_i logsumexp(b z_i) - b a,    a = (sum_i z_i[y_i] + mean of all z) / (n + 1),

    which is convex in b; its derivative is monotone, and its root is found by bisection.

    Args:
        logits: `[row, class]`, at least one row, finite.
        targets: `[row]`, the numbers of the true classes.

    Returns:
        A temperature in [0.05, 20]; 1 where the logits say nothing.

    Raises:
        ValueError: there is no row, or a logit is NaN or infinite.
    """
    if not len(logits) or not torch.isfinite(logits).all():
        raise ValueError("a temperature needs at least one row, and finite logits")
    z = logits.double()
    z = z - z.amax(dim=1, keepdim=True)  # which changes no probability
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


def calibrated_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities `[row, class]` as they are written: float64, rounded, on the CPU."""
    probabilities = (at_least_float32(logits) / temperature).softmax(dim=1)
    return probabilities.cpu().double().round(decimals=PROBABILITY_DECIMALS)


def conformal_scores(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """1 - p(true class) of each row `[row]`, float64.

    Args:
        logits: `[row, class]`.
        targets: `[row]`, the numbers of the true classes.
        temperature: what to divide the logits by.
    """
    probabilities = calibrated_probabilities(logits, temperature)
    return 1 - probabilities.gather(1, targets.cpu().unsqueeze(1)).squeeze(1)


def thin(scores: Tensor, most: int = MAX_SCORES) -> Tensor:
    """The scores in ascending order; of more than `most`, that many of their quantiles.

    Of n scores the j-th that is kept is the one of rank ceil(j n / most). Whatever coverage is
    asked for, their threshold is then at least that of all n, so that the guarantee holds.
    """
    scores = scores.sort().values
    if len(scores) <= most:
        return scores
    ranks = -(-torch.arange(1, most + 1) * len(scores) // most)  # rounded up
    return scores[ranks - 1]


def conformal_threshold(scores: Tensor, coverage: float) -> float:
    """The largest score of a class in the set: the ceil((n + 1) coverage)-th smallest of n scores.

    Infinity, so that sets have all classes, where n is smaller than `scores_needed`.

    Args:
        scores: `[score]`, in ascending order.
        coverage: in (0, 1), the share of sets that are to hold the true class.
    """
    rank = max(1, _ceil((len(scores) + 1) * coverage))
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def scores_needed(coverage: float) -> int:
    """How many scores it takes for sets that do not have all classes."""
    return _ceil(coverage / (1 - coverage))


def _ceil(value: float) -> int:
    """Rounded up, where 90.00000000000001 is 90."""
    return math.ceil(round(value, 9))


def in_prediction_set(probabilities: Tensor, threshold: float) -> Tensor:
    """Which classes each set has, bool `[row, class]`: never none, as the most probable is in it.

    Args:
        probabilities: `[row, class]`, see `calibrated_probabilities`.
        threshold: see `conformal_threshold`.
    """
    is_in = 1 - probabilities <= threshold
    return is_in.scatter(1, probabilities.argmax(dim=1, keepdim=True), True)
