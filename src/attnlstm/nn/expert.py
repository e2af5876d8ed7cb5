"""What every second classifier beside the LSTM gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn


class Expert(nn.Module, ABC):
    """A classifier of the same inputs as the LSTM's, which answers together with it.

    It is linear in features that need no training, so that the members of an ensemble, whose
    features are the same, compute them once.

    Attributes:
        is_trained: whether gradient descent trains it; otherwise it is fitted before training.
    """

    is_trained: ClassVar[bool]

    def forward(self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """The logits `[batch, class]` of right-padded inputs; see `features`."""
        logits: Tensor = self.classify(self.features(inputs, lengths))
        return logits

    @abstractmethod
    def features(self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Any:
        """What `classify` takes.

        Raises:
            ValueError: lengths are not one integer from 0 to time for each sequence.
        """

    @abstractmethod
    def classify(self, features: Any) -> Tensor:
        """The logits `[batch, class]` of what `features` returned."""

    @abstractmethod
    def has_features_of(self, other: "Expert") -> bool:
        """Whether both compute the same features."""
