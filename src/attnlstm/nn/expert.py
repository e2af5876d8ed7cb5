"""The interface of experts: second classifiers, whose logits are averaged with the LSTM's."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn


class Expert(nn.Module, ABC):
    """A linear classifier of features that need no training.

    It reads the same inputs as the LSTM. Because the features are not trained, the members of an
    ensemble share them and compute them once.

    Attributes:
        is_trained: whether gradient descent trains the weights; if not, they are fitted before.
    """

    is_trained: ClassVar[bool]

    def forward(self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Return the logits `[batch, class]` of right-padded inputs; see `features`."""
        logits: Tensor = self.classify(self.features(inputs, lengths))
        return logits

    @abstractmethod
    def features(self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Any:
        """Compute the features that `classify` takes.

        Args:
            inputs: right-padded sequences.
            lengths: `[batch]`, the number of real steps of each sequence; None: no padding.

        Raises:
            ValueError: lengths are not one integer from 0 to time for each sequence.
        """

    @abstractmethod
    def classify(self, features: Any) -> Tensor:
        """Return the logits `[batch, class]` of the result of `features`."""

    @abstractmethod
    def has_features_of(self, other: "Expert") -> bool:
        """Whether both experts compute the same features."""
