"""The losses of training, by task."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from attnlstm.config.data import Task
from attnlstm.nn.head import TargetScale, at_least_float32


class Objective(nn.Module):
    """The loss of a task with its configured options.

    Args:
        task: what is predicted.
        options: the `loss` section of the configuration as plain containers.
        class_counts: number of training rows of each class.
    """

    class_weights: Tensor | None

    def __init__(self, task: Task, options: Mapping[str, Any], class_counts: Sequence[int]) -> None:
        super().__init__()
        self.task = task
        self.gamma: float = options["focal_gamma"]
        self.smoothing: float = options["label_smoothing"]
        self.huber_delta: float | None = options["huber_delta"]
        is_balanced = options["class_weights"] == "balanced"
        weights = balanced_class_weights(class_counts) if is_balanced else None
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, scale: TargetScale | None = None) -> Tensor:
        """Return the mean loss of outputs `[batch, class]`; see `attnlstm.data.targets`.

        The errors of a regression are in units of its `scale`.
        With gamma > 0 it is the focal loss (Lin et al., 2017): a row's loss is multiplied by
        (1 - p)^gamma, where p is the probability of its class, so that easy rows count less.
        """
        logits = at_least_float32(logits)
        if self.task == "regression":
            assert scale is not None
            return self._huber_loss(scale.standardize(logits), scale.standardize(targets))
        if self.task == "multilabel":
            return self._binary_cross_entropy(logits, targets)
        return self._cross_entropy(logits, targets)

    def plain(self, logits: Tensor, targets: Tensor, scale: TargetScale | None = None) -> Tensor:
        """Return the mean loss without the options for classes, to evaluate test rows.

        Label smoothing would rate sharper, better probabilities as worse.
        """
        if self.task == "regression":
            return self(logits, targets, scale)
        if self.task == "multilabel":
            return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
        return F.cross_entropy(logits, targets)

    def _huber_loss(self, numbers: Tensor, targets: Tensor) -> Tensor:
        if self.huber_delta is None:
            return F.mse_loss(numbers, targets)
        return F.huber_loss(numbers, targets, delta=self.huber_delta)

    def _binary_cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over rows and classes, each of which is a classification of its own."""
        targets = targets.to(logits.dtype)
        smooth = targets * (1 - self.smoothing) + self.smoothing / 2
        loss = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
        if self.gamma:
            log_p = F.logsigmoid(torch.where(targets == 1, logits, -logits))
            loss = loss * _one_minus(log_p) ** self.gamma
        return loss.mean()

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        loss = F.cross_entropy(
            logits,
            targets,
            weight=weights,
            label_smoothing=self.smoothing,
            reduction="none" if self.gamma else "mean",
        )
        if not self.gamma:
            return loss
        log_p = logits.log_softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)  # [batch]
        total = len(targets) if weights is None else weights[targets].sum()
        return (_one_minus(log_p) ** self.gamma * loss).sum() / total


def _one_minus(log_p: Tensor) -> Tensor:
    """Return 1 - p, above 0: at 0 the power of a gamma below 1 has no derivative."""
    return (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).eps)


def balanced_class_weights(class_counts: Sequence[int]) -> Tensor:
    """Return rows / (classes * count) for each class, as scikit-learn's class_weight="balanced"."""
    counts = torch.tensor(class_counts, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)
