"""Several classifiers whose mean is the answer."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from attnlstm.nn.classifier import Classification, SequenceClassifier
from attnlstm.nn.head import Task, average


class ClassifierEnsemble(nn.Module):
    """Averages the predictions, and the attention, of several classifiers.

    Each member is trained by its own loss on the same batches. Different initial weights and
    dropout make them err on different rows, so that the mean is right more often than a member
    (Lakshminarayanan, Pritzel and Blundell, 2017).

    Args:
        members: classifiers of the same classes for the same task.

    Example:
        >>> def build_member():
        ...     lstm = LSTM(3, 8, batch_first=True)
        ...     return SequenceClassifier(lstm, build_pooling("mean", 8), num_classes=5)
        >>> ensemble = ClassifierEnsemble(build_member() for _ in range(3))
        >>> ensemble(torch.randn(2, 50, 3), lengths=[50, 9]).logits.shape
        torch.Size([2, 5])
    """

    def __init__(self, members: Iterable[SequenceClassifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(
        self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None
    ) -> Classification:
        """Classify right-padded sequences; see `SequenceClassifier.forward`.

        The logits `[batch, class]` stand for the mean predictions; see `attnlstm.nn.head`.
        """
        # A cast, not isinstance: a member may be wrapped, as by torch.compile.
        members = cast("list[SequenceClassifier]", list(self.members))
        shared = self._ask_experts(members, inputs, lengths)
        answers = [
            member(inputs, lengths, expert_logits)
            for member, expert_logits in zip(members, shared, strict=True)
        ]
        return combine(answers, members[0].task)

    def _ask_experts(
        self,
        members: list[SequenceClassifier],
        inputs: Tensor,
        lengths: Tensor | Sequence[int] | None,
    ) -> list[Tensor] | list[None]:
        """Return the logits of the members' experts if these share features, else None for each.

        Shared features are computed once.
        """
        experts = [member.expert for member in members if member.expert is not None]
        is_shared = len(experts) == len(members) and all(
            expert.has_features_of(experts[0]) for expert in experts[1:]
        )
        if not is_shared or self.training:
            return [None] * len(members)
        features = experts[0].features(inputs, lengths)
        return [expert.classify(features) for expert in experts]


def combine(answers: Sequence[Classification], task: Task) -> Classification:
    """Average the predictions of several members, which become logits, and their attention."""
    logits = average([answer.logits for answer in answers], task)
    weights = [answer.attention for answer in answers if answer.attention is not None]
    attention = torch.stack(weights).mean(dim=0) if weights else None
    return Classification(logits, attention)


Classifier = SequenceClassifier | ClassifierEnsemble


def members_of(classifier: Classifier) -> list[SequenceClassifier]:
    """Return the members of an ensemble, or the classifier itself as the only one."""
    if isinstance(classifier, ClassifierEnsemble):
        return cast("list[SequenceClassifier]", list(classifier.members))
    return [classifier]
