"""Several classifiers that answer as one."""

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from attnlstm.nn.classifier import Classification, SequenceClassifier


class ClassifierEnsemble(nn.Module):
    """The mean of the probabilities, and of the attention, of several classifiers.

    Each is trained with a loss of its own, on the same batches. They differ by their initial
    weights and their dropout, and so by some of their errors, which the mean does not share
    (Lakshminarayanan, Pritzel and Blundell, 2017).

    Args:
        members: classifiers of the same classes.
    """

    def __init__(self, members: Iterable[SequenceClassifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(
        self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None
    ) -> Classification:
        """Classify right-padded sequences; see `SequenceClassifier.forward`.

        The logits `[batch, class]` are the logarithms of the mean probabilities.
        """
        # Not by their class: a member may be wrapped, as torch.compile does, and still counts.
        members = cast("list[SequenceClassifier]", list(self.members))
        shared = self._ask_experts(members, inputs, lengths)
        return self.combine(
            [
                member(inputs, lengths, expert_logits)
                for member, expert_logits in zip(members, shared, strict=True)
            ]
        )

    def _ask_experts(
        self,
        members: list[SequenceClassifier],
        inputs: Tensor,
        lengths: Tensor | Sequence[int] | None,
    ) -> list[Tensor] | list[None]:
        """What the members' experts say, where they share features; these are computed once."""
        experts = [member.expert for member in members if member.expert is not None]
        is_shared = len(experts) == len(members) and all(
            expert.has_features_of(experts[0]) for expert in experts[1:]
        )
        if not is_shared or self.training:
            return [None] * len(members)
        features = experts[0].features(inputs, lengths)
        return [expert.classify(features) for expert in experts]

    @staticmethod
    def combine(answers: Sequence[Classification]) -> Classification:
        """The mean of the members' probabilities, as logits, and of their attention."""
        logits = mean_probabilities([answer.logits for answer in answers])
        weights = [answer.attention for answer in answers if answer.attention is not None]
        attention = torch.stack(weights).mean(dim=0) if weights else None
        return Classification(logits, attention)


Classifier = SequenceClassifier | ClassifierEnsemble


def members_of(classifier: Classifier) -> list[SequenceClassifier]:
    """The classifiers of an ensemble; without one, the classifier alone."""
    if isinstance(classifier, ClassifierEnsemble):
        return cast("list[SequenceClassifier]", list(classifier.members))
    return [classifier]


def mean_probabilities(logits: Sequence[Tensor]) -> Tensor:
    """The mean of the probabilities of several logits `[batch, class]`, as logits."""
    if len(logits) == 1:
        return logits[0]
    log_probabilities = torch.stack([item.log_softmax(dim=1) for item in logits])
    return log_probabilities.logsumexp(dim=0) - math.log(len(logits))
