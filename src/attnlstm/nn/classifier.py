"""The whole model: embedding (of tokens), LSTM, pooling, head."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from attnlstm.nn.embedding import TokenEmbedding
from attnlstm.nn.lstm import LSTM
from attnlstm.nn.pooling import Pooling


class Classification(NamedTuple):
    """What the classifier says of a batch.

    logits `[batch, class]`; attention `[batch, time]`, 0 on padding, or None where the pooling has
    no attention.
    """

    logits: Tensor
    attention: Tensor | None


class SequenceClassifier(nn.Module):
    """Reads a sequence with an LSTM, pools its outputs to one vector and classifies that.

        inputs = embedding(tokens)                       [batch, time, input]
        outputs, (h_n, _) = lstm(inputs)                 [batch, time, feature]
        context, attention = pooling(outputs, h_n)       [batch, feature], [batch, time]
        logits = head(dropout(context))                  [batch, class]

    Args:
        lstm: with `batch_first=True`.
        pooling: one of `attnlstm.nn.pooling`.
        num_classes: number of classes.
        dropout: probability of zeroing an element of the context.
        embedding: of token numbers into vectors of the LSTM's input size; None: the inputs are
            such vectors already.
    """

    def __init__(
        self,
        lstm: LSTM,
        pooling: Pooling,
        num_classes: int,
        dropout: float = 0.0,
        embedding: TokenEmbedding | None = None,
    ) -> None:
        super().__init__()
        if not lstm.batch_first:
            raise ValueError("SequenceClassifier needs an LSTM with batch_first=True")
        self.embedding = embedding
        self.lstm = lstm
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(lstm.feature_size, num_classes)

    def forward(
        self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None
    ) -> Classification:
        """Classify right-padded sequences.

        Args:
            inputs: `[batch, time, feature]`, or with an embedding token numbers `[batch, time]`.
            lengths: `[batch]`, the number of real steps of each; None: no padding.
        """
        if self.embedding is not None:
            inputs = self.embedding(inputs)
        outputs, (h_n, _) = self.lstm(inputs, lengths=lengths)
        context, attention = self.pooling(outputs, h_n, lengths)
        return Classification(self.head(self.dropout(context)), attention)
