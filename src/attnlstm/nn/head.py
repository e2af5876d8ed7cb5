"""The last layer of a classifier, and what its outputs mean.

The outputs are `[batch, class]`, or `[batch, target]` for a regression:

    task             head             outputs                         prediction
    classification   linear           logits                          softmax(logits)
    ordinal          CumulativeHead   log-probabilities               softmax(logits), the same
    multilabel       linear           logits of each class by itself  sigmoid(logits)
    regression       linear           numbers, see TargetScale        the numbers
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Task = Literal["classification", "multilabel", "ordinal", "regression"]

SPEED = 20.0
"""How many times faster than other parameters the thresholds of a `CumulativeHead` move."""


class CumulativeHead(nn.Module):
    """The proportional odds model: classes in order are ranges of one score.

        score          = w · context                                   [batch]
        P(class > k)   = sigmoid(score - t_k),    t_0 < t_1 < ... < t_{K-2}
        P(class = k)   = P(class > k - 1) - P(class > k)

    (McCullagh, 1980). The thresholds t_k are a first one and positive differences,

        t_0 = 20 first,    t_k = t_{k-1} + softplus(20 gap_k)

    where 20 makes up for the learning rate: a class in the middle is certain only between
    thresholds far apart, and a step of Adam moves a parameter by no more than the rate.

    Args:
        context_size: number of features of the context.
        num_classes: number of classes, K.

    Example:
        >>> head = CumulativeHead(8, num_classes=5)
        >>> head(torch.randn(2, 8)).shape  # log-probabilities
        torch.Size([2, 5])
    """

    def __init__(self, context_size: int, num_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(context_size, 1, bias=False)
        # Thresholds with which all classes are equally probable for a score of 0.
        shares = torch.arange(1, num_classes, dtype=torch.float64) / num_classes
        thresholds = shares.logit()
        self.first = nn.Parameter(thresholds[:1].float() / SPEED)
        self.gaps = nn.Parameter(thresholds.diff().expm1().log().float() / SPEED)  # softplus⁻¹

    def forward(self, context: Tensor) -> Tensor:
        """Return the log-probabilities `[batch, class]` of contexts `[batch, context]`."""
        first, gaps = SPEED * self.first, F.softplus(SPEED * self.gaps)
        thresholds = torch.cat([first, first + gaps.cumsum(dim=0)])
        above = self.score(context) - thresholds  # [batch, class - 1], logits of P(class > k)
        # log(σ(a) - σ(b)) = log σ(a) + log σ(-b) + log(1 - exp(b - a)), where a - b is a gap
        lower, upper = F.logsigmoid(above), F.logsigmoid(-above)
        between = lower[:, :-1] + upper[:, 1:] + torch.log(-torch.expm1(-gaps))
        return torch.cat([upper[:, :1], between, lower[:, -1:]], dim=1)


class TargetScale(nn.Module):
    """Brings standardized outputs to the units of a regression's targets.

        numbers = outputs * std + mean        [batch, target]

    Args:
        num_targets: number of targets.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_targets: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_targets))
        self.register_buffer("std", torch.ones(num_targets))

    def fit(self, targets: Tensor) -> None:
        """Take the mean and the standard deviation of targets `[row, target]`; of equal ones, 1."""
        targets = targets.double()
        std = targets.std(dim=0, correction=0)
        self.mean.copy_(targets.mean(dim=0))
        self.std.copy_(torch.where(std > 0, std, 1.0))

    def standardize(self, numbers: Tensor) -> Tensor:
        """Return numbers `[batch, target]` without their units, in the precision of the scale."""
        return ((numbers - self.mean.to(numbers.dtype)) / self.std).to(self.mean.dtype)

    def forward(self, outputs: Tensor) -> Tensor:
        # Half precision has three digits, too few for most units.
        return at_least_float32(outputs) * self.std + self.mean


def at_least_float32(values: Tensor) -> Tensor:
    """Return values of half precision in float32, and others unchanged."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def build_head(task: Task, context_size: int, num_outputs: int) -> nn.Module:
    """Build the head of a task with one output for each class or number."""
    if task == "ordinal":
        return CumulativeHead(context_size, num_outputs)
    return nn.Linear(context_size, num_outputs)


def predict(logits: Tensor, task: Task) -> Tensor:
    """Return the probabilities, or the numbers of a regression, that outputs stand for."""
    if task == "regression":
        return logits
    return logits.sigmoid() if task == "multilabel" else logits.softmax(dim=1)


def average(logits: Sequence[Tensor], task: Task) -> Tensor:
    """Return the outputs `[batch, class]` that stand for the mean prediction of several."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack(list(logits))
    if task == "regression":
        return stacked.mean(dim=0)
    if task == "multilabel":  # log(mean of p) - log(mean of 1 - p)
        return F.logsigmoid(stacked).logsumexp(dim=0) - F.logsigmoid(-stacked).logsumexp(dim=0)
    return stacked.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(logits))
