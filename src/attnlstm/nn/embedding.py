"""From token ids `[batch, time]` to vectors `[batch, time, feature]`, with dropout for words."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.arguments import check_probability

PRETRAINED_SCALE = 0.3
"""Root mean square of pretrained features. Trained ones start at 0.1 and grow."""


class TokenEmbedding(nn.Module):
    """A table with one vector per token, like nn.Embedding, with initial values from N(0, 0.1²).

    nn.Embedding's N(0, 1) was worse on validation parts of news texts: a short training changes
    such large values too little.

    Three kinds of dropout are applied in training, in this order:

    - word dropout (Bowman et al., 2016; Iyyer et al., 2015) replaces a token by the unknown one,
      or, if there is none, its vector by zeros;
    - embedding dropout (Gal and Ghahramani, 2016; Merity et al., 2018) zeroes the vectors of some
      tokens of the vocabulary wherever they occur in the batch, and multiplies the others by
      1 / (1 - p);
    - variational dropout (Gal and Ghahramani, 2016) zeroes some features at all steps of a
      sequence, and multiplies the others by 1 / (1 - p).

    Args:
        num_embeddings: number of tokens.
        embedding_size: size of each trained vector.
        unknown_id: the token that stands for unknown words; None: there is none.
        word_dropout: probability of replacing a token, drawn for each step.
        embedding_dropout: probability of dropping a token of the vocabulary, drawn for each batch.
        variational_dropout: probability of zeroing a feature, drawn for each sequence.
        pretrained_size: number of additional features, which are never trained and are 0 unless
            `set_pretrained` sets them.

    Attributes:
        feature_size: size of the returned vectors, `embedding_size + pretrained_size`.

    Example:
        >>> embedding = TokenEmbedding(num_embeddings=100, embedding_size=8)
        >>> embedding(torch.tensor([[3, 1, 4], [1, 5, 0]])).shape  # token ids [batch, time]
        torch.Size([2, 3, 8])
    """

    frozen_vectors: Tensor
    frozen_rows: Tensor
    pretrained: Tensor | None

    def __init__(
        self,
        num_embeddings: int,
        embedding_size: int,
        *,
        unknown_id: int | None = None,
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        variational_dropout: float = 0.0,
        pretrained_size: int = 0,
    ) -> None:
        super().__init__()
        if unknown_id is not None and not 0 <= unknown_id < num_embeddings:
            raise ValueError(f"unknown_id should be one of {num_embeddings} ids, got {unknown_id}")
        check_probability("word_dropout", word_dropout)
        check_probability("embedding_dropout", embedding_dropout)
        check_probability("variational_dropout", variational_dropout)
        self.num_embeddings = num_embeddings
        self.embedding_size = embedding_size
        self.unknown_id = unknown_id
        self.word_dropout = float(word_dropout)
        self.embedding_dropout = float(embedding_dropout)
        self.variational_dropout = float(variational_dropout)
        self.weight = nn.Parameter(torch.empty(num_embeddings, embedding_size))
        self.feature_size = embedding_size + pretrained_size
        # [token, pretrained_size]. Older checkpoints do not have it.
        self.register_buffer(
            "pretrained", torch.zeros(num_embeddings, pretrained_size) if pretrained_size else None
        )
        # Frozen vectors [frozen, size], and the row of each token in them [token], or -1. They are
        # kept apart from `weight`, where weight decay would shrink them.
        self.register_buffer("frozen_vectors", torch.empty(0, embedding_size))
        self.register_buffer("frozen_rows", torch.full((num_embeddings,), -1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values for `weight`."""
        if not self.weight.is_meta:  # where torch would import its compiler to draw nothing
            nn.init.normal_(self.weight, std=0.1)

    @torch.no_grad()
    def copy_vectors(self, ids: Tensor, vectors: Tensor, freeze: bool) -> None:
        """Give some tokens pretrained vectors.

        With `freeze`, only these tokens keep their vectors; the others are still trained, because
        tokens without a pretrained vector, such as the unknown one, would otherwise stay random.
        The shape of `weight` does not depend on `freeze`, nor does the optimizer's state.

        Args:
            ids: `[found]`, the tokens, each once.
            vectors: `[found, embedding_size]`.
            freeze: whether these vectors are never trained. Vectors that were frozen by an earlier
                call are trained again.

        Raises:
            ValueError: the shapes do not fit.
        """
        if vectors.shape != (len(ids), self.embedding_size):
            raise ValueError(
                f"Expected vectors of size {(len(ids), self.embedding_size)}, got "
                f"{tuple(vectors.shape)}"
            )
        self.weight[ids] = vectors.to(self.weight)
        self.frozen_rows.fill_(-1)
        self.frozen_vectors = self.weight.new_empty(0, self.embedding_size)
        if freeze:
            self.frozen_rows[ids] = torch.arange(len(ids), device=self.frozen_rows.device)
            self.frozen_vectors = vectors.to(self.weight, copy=True)

    @torch.no_grad()
    def set_pretrained(self, ids: Tensor, vectors: Tensor) -> None:
        """Set the features that are never trained, scaled to `PRETRAINED_SCALE`.

        Args:
            ids: `[found]`, the tokens, each once.
            vectors: `[found, pretrained_size]`.

        Raises:
            ValueError: the shapes do not fit.
        """
        size = 0 if self.pretrained is None else self.pretrained.size(1)
        if self.pretrained is None or vectors.shape != (len(ids), size):
            raise ValueError(
                f"Expected vectors of size {(len(ids), size)}, got {tuple(vectors.shape)}"
            )
        scale = vectors.square().mean().sqrt().clamp(min=torch.finfo(vectors.dtype).tiny)
        self.pretrained.zero_()
        self.pretrained[ids] = (PRETRAINED_SCALE / scale * vectors).to(self.pretrained)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors `[batch, time, feature_size]` of token ids `[batch, time]`."""
        drops_words = self.training and self.word_dropout > 0
        if drops_words:
            is_dropped = torch.rand(ids.shape, device=ids.device) < self.word_dropout
            if self.unknown_id is not None:
                ids = ids.masked_fill(is_dropped, self.unknown_id)
        vectors = F.embedding(ids, self.weight)  # [batch, time, size]
        if len(self.frozen_vectors):
            rows = self.frozen_rows[ids]  # [batch, time]
            frozen = F.embedding(rows.clamp(min=0), self.frozen_vectors)
            vectors = torch.where((rows >= 0).unsqueeze(-1), frozen, vectors)
        if self.pretrained is not None:
            vectors = torch.cat([vectors, F.embedding(ids, self.pretrained)], dim=-1)
        if drops_words and self.unknown_id is None:
            vectors = vectors.masked_fill(is_dropped.unsqueeze(-1), 0)
        if self.training and self.embedding_dropout > 0:
            kept = F.dropout(vectors.new_ones(self.num_embeddings), self.embedding_dropout)
            vectors = vectors * kept[ids].unsqueeze(-1)
        if self.training and self.variational_dropout > 0:
            ones = vectors.new_ones(len(ids), 1, self.feature_size)
            vectors = vectors * F.dropout(ones, self.variational_dropout)
        return vectors

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_size}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}frozen_vectors")
        if isinstance(saved, Tensor):  # which says how many vectors are frozen
            shape = (*saved.shape[:1], self.embedding_size)
            self.frozen_vectors = self.frozen_vectors.new_empty(shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
