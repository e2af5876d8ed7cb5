"""The whole model, from inputs to logits.

    tokens [batch, time]             ->  embedding  ->  LSTM  ->  pooling  ->  head  ->  logits
    series [batch, time, channel]    ->  stem       ->  LSTM  ->  pooling  ->  head  ->  logits

A second classifier, the expert, may read the same inputs; its logits are averaged with those of the
LSTM. The prediction for a sequence is the same alone, in any batch, and with any padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnlstm.nn.arguments import check_lengths
from attnlstm.nn.embedding import TokenEmbedding
from attnlstm.nn.expert import Expert
from attnlstm.nn.head import TargetScale, Task, build_head
from attnlstm.nn.lstm import LSTM
from attnlstm.nn.pooling import Pooling
from attnlstm.nn.stem import Stem


class Classification(NamedTuple):
    """What a classifier returns for a batch.

    Attributes:
        logits: `[batch, class]`; of a regression, the predicted numbers `[batch, target]`.
        attention: `[batch, time]`, 0 on padding, or None if the pooling has no attention.
        experts: the two logits `[batch, class]` whose weighted mean `logits` is: the LSTM's and the
            expert's, each of which gets its own loss. Empty if there is only the LSTM.
    """

    logits: Tensor
    attention: Tensor | None
    experts: tuple[Tensor, ...] = ()


class SequenceClassifier(nn.Module):
    """Reads a sequence with an LSTM, pools its outputs into one vector, and classifies the vector.

        steps = embedding(tokens) or stem(series)        [batch, time', input]
        outputs, (h_n, _) = lstm(steps)                  [batch, time', feature]
        context, attention = pooling(outputs, h_n)       [batch, context], [batch, time']
        context = [context, skip_pooling(steps)]         if there is a skip pooling
        logits = head(dropout(context))                  [batch, class]
        logits = (1 - w) logits + w expert(inputs)       if there is an expert
        logits = target_scale(logits)                    for a regression

    Args:
        lstm: has `batch_first=True`.
        pooling: pools the outputs of the LSTM; see `build_pooling`.
        num_classes: number of classes, or of the numbers to predict.
        dropout: probability of zeroing an element of the context.
        embedding: turns token ids into vectors of the LSTM's input size; None: the inputs are
            vectors.
        stem: shortens series to steps of the LSTM's input size; the attention is spread over the
            original steps. None: the LSTM reads the inputs themselves.
        skip_pooling: pools the LSTM's inputs, so that they also reach the head directly.
        expert: a second classifier of the same inputs, which makes different errors. Averaging
            logits is the same as averaging the logarithms of probabilities (up to a constant): a
            logarithmic opinion pool. An expert that is not trained is left out in training.
        max_steps: the largest number of steps of a sequence that the LSTM reads; None: all. The
            expert always reads all.
        reads_end: whether `max_steps` keeps the last steps of a sequence, instead of the first.
        task: decides the head and what its outputs mean; see `attnlstm.nn.head`.

    Attributes:
        expert_weight: w, the expert's share of the logits, in [0, 1]. It is 0.5 unless it is chosen
            by validation.

    Raises:
        ValueError: the LSTM has `batch_first=False`, or `max_steps` is less than 1.

    Example:
        >>> lstm = LSTM(3, 8, batch_first=True, bidirectional=True)
        >>> pooling = build_pooling("hn_query", lstm.feature_size)
        >>> classifier = SequenceClassifier(lstm, pooling, num_classes=5)
        >>> series = torch.randn(2, 50, 3)  # [batch, time, channel]
        >>> answer = classifier(series, lengths=[50, 9])
        >>> answer.logits.shape, answer.attention.shape
        (torch.Size([2, 5]), torch.Size([2, 50]))
    """

    def __init__(
        self,
        lstm: LSTM,
        pooling: Pooling,
        num_classes: int,
        dropout: float = 0.0,
        embedding: TokenEmbedding | None = None,
        stem: Stem | None = None,
        skip_pooling: Pooling | None = None,
        expert: Expert | None = None,
        max_steps: int | None = None,
        reads_end: bool = False,
        task: Task = "classification",
    ) -> None:
        super().__init__()
        if not lstm.batch_first:
            raise ValueError("SequenceClassifier needs an LSTM with batch_first=True")
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"max_steps should be at least 1 or None, got {max_steps}")
        self.embedding = embedding
        self.stem = stem
        self.lstm = lstm
        self.pooling = pooling
        self.skip_pooling = skip_pooling
        self.dropout = nn.Dropout(dropout)
        context_size = pooling.context_size(lstm.feature_size)
        if skip_pooling is not None:
            context_size += skip_pooling.context_size(lstm.input_size)
        self.head = build_head(task, context_size, num_classes)
        self.task = task
        self.target_scale = TargetScale(num_classes) if task == "regression" else None
        self.expert = expert
        self.expert_weight = 0.5
        self.max_steps = max_steps
        self.reads_end = reads_end

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        expert_logits: Tensor | None = None,
    ) -> Classification:
        """Classify right-padded sequences.

        Args:
            inputs: `[batch, time, feature]`, or token ids `[batch, time]` if there is an embedding.
            lengths: `[batch]`, the number of real steps of each sequence; None: no padding.
            expert_logits: `[batch, class]`, what the expert returns if it is already known.

        Raises:
            ValueError: lengths are not one integer from 0 to time for each sequence.
        """
        logits, attention = self._read(inputs, lengths)
        if self.expert is None or (self.training and not self.expert.is_trained):
            return Classification(self._to_units(logits), attention)
        of_expert = self.expert(inputs, lengths) if expert_logits is None else expert_logits
        experts = self._to_units(logits), self._to_units(of_expert.to(logits.dtype))
        return Classification(pool_logits(*experts, self.expert_weight), attention, experts)

    def _to_units(self, outputs: Tensor) -> Tensor:
        return outputs if self.target_scale is None else self.target_scale(outputs)

    def _read(
        self, inputs: Tensor, lengths: Tensor | Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the LSTM's logits and its attention, which is 0 on steps that it does not read."""
        batch, time = inputs.shape[:2]
        if self.max_steps is None or time <= self.max_steps:
            return self._classify(inputs, lengths)
        lengths = check_lengths([time] * batch if lengths is None else lengths, batch, time)
        start = torch.zeros_like(lengths)
        if self.reads_end:
            start = (lengths - self.max_steps).clamp(min=0)
        places = start.unsqueeze(1) + torch.arange(self.max_steps)  # [batch, max_steps]
        places = places.to(inputs.device)
        rows = torch.arange(batch, device=inputs.device).unsqueeze(1)
        logits, weights = self._classify(inputs[rows, places], lengths.clamp(max=self.max_steps))
        if weights is None:
            return logits, None
        return logits, weights.new_zeros(batch, time).scatter(1, places, weights)

    def _classify(
        self, inputs: Tensor, lengths: Tensor | Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None]:
        steps, step_lengths = inputs, lengths
        if self.embedding is not None:
            steps = self.embedding(inputs)
        if self.stem is not None:
            steps, step_lengths = self.stem(steps, lengths)
        outputs, (h_n, _) = self.lstm(steps, lengths=step_lengths)
        context, attention = self.pooling(outputs, h_n, step_lengths)
        if self.skip_pooling is not None:
            skipped, _ = self.skip_pooling(steps, h_n, step_lengths)
            context = torch.cat([context, skipped.to(context.dtype)], dim=1)
        if attention is not None and self.stem is not None:
            attention = self.stem.spread(attention, lengths, inputs.size(1))
        return self.head(self.dropout(context)), attention


def pool_logits(of_lstm: Tensor, of_expert: Tensor, expert_weight: float) -> Tensor:
    """Return the mean of two logits, weighted by 1 - expert_weight and expert_weight."""
    return (1 - expert_weight) * of_lstm + expert_weight * of_expert
