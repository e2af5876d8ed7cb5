"""Token ids to vectors, with the dropouts that are particular to words."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.arguments import check_probability

PRETRAINED_SCALE = 0.3
"""Root mean square of pretrained features beside trained ones, which start at 0.1 and grow."""


class TokenEmbedding(nn.Module):
    """A table with a vector for each token, as nn.Embedding, but drawn from N(0, 0.1²).

    Beside the N(0, 1) of nn.Embedding the updates of a short training are small: on validation
    parts of news texts it was worse.

    In training, and only then, in this order:

    - word dropout (Bowman et al., 2016; Iyyer et al., 2015): each token is replaced by the unknown
      one, or where there is none its vector by zeros;
    - embedding dropout (Gal and Ghahramani, 2016; Merity et al., 2018): the vectors of some tokens
      of the vocabulary are zero wherever they occur in the batch, the others times 1 / (1 - p);
    - variational dropout (Gal and Ghahramani, 2016): some features of a sequence's vectors are zero
      at all of its steps, the others times 1 / (1 - p).

    Args:
        num_embeddings: number of tokens.
        embedding_size: of each vector.
        unknown_id: the token that stands for what is unknown.
        word_dropout: probability of replacing a token, drawn for each step.
        embedding_dropout: probability of dropping a token of the vocabulary, drawn for each batch.
        variational_dropout: probability of zeroing a feature, drawn for each sequence.
        pretrained_size: features beside the trained ones that are never trained, 0 for tokens that
            have none; see `set_pretrained`.

    Attributes:
        feature_size: of the vectors that come out, `embedding_size + pretrained_size`.
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
        # Vectors that are not trained [frozen, size], and the row of each token in them [token],
        # -1 where it has none. They are not in `weight`, where weight decay would shrink them.
        self.feature_size = embedding_size + pretrained_size
        # [token, pretrained_size], in no older checkpoint
        self.register_buffer(
            "pretrained", torch.zeros(num_embeddings, pretrained_size) if pretrained_size else None
        )
        self.register_buffer("frozen_vectors", torch.empty(0, embedding_size))
        self.register_buffer("frozen_rows", torch.full((num_embeddings,), -1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw `weight` anew."""
        if not self.weight.is_meta:  # there is nothing to draw, and torch would import its compiler
            nn.init.normal_(self.weight, std=0.1)

    @torch.no_grad()
    def copy_vectors(self, ids: Tensor, vectors: Tensor, freeze: bool) -> None:
        """Give some tokens pretrained vectors.

        With `freeze` these vectors are never trained, and the other tokens' are: tokens that the
        vectors' source lacks, such as the unknown one, would otherwise stay random. `weight` stays
        one parameter of the same shape, so that an optimizer's state fits with and without.

        Args:
            ids: `[found]`, the tokens, each once.
            vectors: `[found, embedding_size]`.
            freeze: keep them as they are; the ones frozen by an earlier call are not any more.

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
        """Give some tokens the features that are never trained, at `PRETRAINED_SCALE`.

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
        """The vectors `[batch, time, feature_size]` of tokens `[batch, time]`."""
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
        if isinstance(saved, Tensor):  # how many are frozen is known only here
            shape = (*saved.shape[:1], self.embedding_size)
            self.frozen_vectors = self.frozen_vectors.new_empty(shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
