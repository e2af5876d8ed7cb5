"""Several classifiers that answer as one."""

import math
from collections.abc import Iterable, Sequence

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
        answers = [member(inputs, lengths) for member in self.members]
        log_probabilities = torch.stack([answer.logits.log_softmax(dim=1) for answer in answers])
        logits = log_probabilities.logsumexp(dim=0) - math.log(len(answers))
        attention = None
        if answers[0].attention is not None:
            attention = torch.stack([answer.attention for answer in answers]).mean(dim=0)
        return Classification(logits, attention)
