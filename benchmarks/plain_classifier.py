"""A straightforward classifier with nn.LSTM on packed batches, and its batches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from attnlstm.config.schema import TrainConfig
from attnlstm.data.batches import EncodedSplit, pad
from attnlstm.nn import TokenEmbedding
from attnlstm.training.module import ClassificationModule


class PlainClassifier(nn.Module):
    """nn.LSTM on packed sequences, attention with h_n, and a head; only the embedding is ours."""

    def __init__(self, config: TrainConfig, module: ClassificationModule) -> None:
        super().__init__()
        ours = module.members[0]
        self.embedding = None
        if ours.embedding is not None:
            self.embedding = TokenEmbedding(
                ours.embedding.num_embeddings,
                ours.embedding.embedding_size,
                unknown_id=ours.embedding.unknown_id,
                word_dropout=ours.embedding.word_dropout,
                variational_dropout=ours.embedding.variational_dropout,
            )
        self.lstm = nn.LSTM(
            ours.lstm.input_size,
            ours.lstm.hidden_size,
            ours.lstm.num_layers,
            batch_first=True,
            dropout=ours.lstm.dropout,
            bidirectional=True,
        )
        self.dropout = nn.Dropout(config.model.dropout)
        self.head = nn.Linear(2 * ours.lstm.hidden_size, len(module.label_names))

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return logits `[batch, class]` for `[batch, time]` or `[batch, time, feature]` inputs."""
        if self.embedding is not None:
            inputs = self.embedding(inputs)
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        packed_outputs, (h_n, _) = self.lstm(packed)
        outputs, _ = pad_packed_sequence(packed_outputs, batch_first=True)
        query = torch.cat([h_n[-2], h_n[-1]], dim=1)  # [batch, feature]
        scores = torch.bmm(outputs, query.unsqueeze(2)).squeeze(2) / query.shape[1] ** 0.5
        is_padding = torch.arange(outputs.shape[1]) >= lengths.unsqueeze(1)
        weights = scores.masked_fill(is_padding, -torch.inf).softmax(dim=1)
        context = torch.bmm(weights.unsqueeze(1), outputs).squeeze(1)
        logits: Tensor = self.head(self.dropout(context))
        return logits


def to_rows(split: EncodedSplit) -> list[tuple[Tensor, int]]:
    """Return the steps of each row, `[time]` or `[time, feature]`, and its class index."""
    targets = split.targets.tolist()
    return [(pad([split.steps(row)])[0], target) for row, target in enumerate(targets)]


def collate_plainly(rows: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inputs padded with 0, their lengths, and the class indices."""
    inputs = [steps for steps, _ in rows]
    lengths = torch.tensor([len(steps) for steps in inputs])
    targets = torch.tensor([target for _, target in rows])
    return pad_sequence(inputs, batch_first=True), lengths, targets
