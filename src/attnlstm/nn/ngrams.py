"""A linear classifier of n-grams, which learns from few texts what an LSTM needs many for.

    tokens [batch, time]  ->  rows and scores of n-grams [batch, 2 * time - 1]  ->  logits

The n-grams are the tokens of a text and the pairs of neighboring tokens. An n-gram's score is its
tf-idf: high if it is frequent in the text and rare in the training texts.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.arguments import check_lengths
from attnlstm.nn.expert import Expert

Ids = TypeVar("Ids", Tensor, np.ndarray)

MULTIPLIERS = (1_000_003, 7_919)
"""Factors of the two tokens of a pair. They are prime, which spreads pairs over the buckets."""


class NgramClassifier(Expert):
    """Logistic regression on the tokens and the pairs of neighboring tokens of a text.

        logits = Σ over n-grams of tf * idf / norm * weight[n-gram] + bias       [batch, class]
        idf    = log((1 + texts) / (1 + texts with the n-gram)) + 1

    as in scikit-learn's TfidfVectorizer. Each token has its own row of `weight`; pairs share
    `num_buckets` rows by their hash (Weinberger et al., 2009).

    Args:
        num_embeddings: number of tokens.
        num_classes: number of classes.
        num_buckets: number of rows for pairs.
        sublinear_tf: whether an n-gram that occurs c times is one term with tf = 1 + log(c), as in
            TfidfVectorizer(sublinear_tf=True). Otherwise each occurrence is a term with tf = 1. The
            norm is the Euclidean norm of all terms' tf * idf.

    Raises:
        ValueError: `num_buckets` is less than 1.

    Example:
        >>> ngrams = NgramClassifier(num_embeddings=100, num_classes=5)
        >>> ngrams.fit_idf([np.array([3, 1, 4, 1]), np.array([5, 9])])  # the training texts
        >>> ngrams(torch.tensor([[3, 1, 4], [1, 5, 0]]), lengths=[3, 2]).shape
        torch.Size([2, 5])
    """

    is_trained = True
    idf: Tensor

    def __init__(
        self,
        num_embeddings: int,
        num_classes: int,
        num_buckets: int = 2**16,
        sublinear_tf: bool = True,
    ) -> None:
        super().__init__()
        if num_buckets < 1:
            raise ValueError(f"num_buckets should be at least 1, got {num_buckets}")
        self.num_embeddings = num_embeddings
        self.num_buckets = num_buckets
        self.sublinear_tf = sublinear_tf
        rows = num_embeddings + num_buckets
        self.weight = nn.Parameter(torch.zeros(rows, num_classes))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.register_buffer("idf", torch.ones(rows))

    def fit_idf(self, texts: Iterable[np.ndarray]) -> None:
        """Compute the idf of each n-gram from the training texts, each of token ids `[time]`."""
        counts = np.zeros(len(self.idf), np.int64)
        num_texts = 0
        for ids in texts:
            tokens = ids.astype(np.int64)
            pairs = self._hash_pairs(tokens[:-1], tokens[1:])
            counts[np.unique(np.concatenate([tokens, pairs]))] += 1
            num_texts += 1
        idf = np.log((1 + num_texts) / (1 + counts)) + 1
        self.idf.copy_(torch.from_numpy(idf))

    def features(
        self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of `weight` for texts, and their factors, both `[batch, 2 * time - 1]`.

        Args:
            inputs: token ids `[batch, time]`.
            lengths: `[batch]`, the number of tokens of each text; None: no padding.

        Raises:
            ValueError: lengths are not one integer from 0 to time for each text.
        """
        ids = inputs
        batch, time = ids.shape
        lengths = check_lengths([time] * batch if lengths is None else lengths, batch, time)
        is_real = torch.arange(time, device=ids.device) < lengths.to(ids.device).unsqueeze(1)
        pairs = self._hash_pairs(ids[:, :-1], ids[:, 1:])
        rows = torch.cat([ids, pairs], dim=1)  # [batch, 2 * time - 1]
        is_real = torch.cat([is_real, is_real[:, 1:]], dim=1)
        if self.sublinear_tf:
            rows, counts = count_occurrences(rows, is_real)
            counts = counts.to(self.idf.dtype)
            scores = self.idf[rows] * torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0)
        else:
            scores = self.idf[rows] * is_real
        norm = scores.square().sum(dim=1, keepdim=True).sqrt()
        return rows, scores / norm.clamp(min=torch.finfo(norm.dtype).eps)

    def classify(self, features: tuple[Tensor, Tensor]) -> Tensor:
        rows, scores = features
        if rows.size(1) == 0:  # which embedding_bag refuses
            return self.bias.expand(len(rows), -1)
        scores = scores.to(self.weight.dtype)
        summed = F.embedding_bag(rows, self.weight, mode="sum", per_sample_weights=scores)
        return summed + self.bias

    def has_features_of(self, other: Expert) -> bool:
        if not isinstance(other, NgramClassifier) or self.sublinear_tf != other.sublinear_tf:
            return False
        return self.num_buckets == other.num_buckets and torch.equal(self.idf, other.idf)

    def _hash_pairs(self, first: Ids, second: Ids) -> Ids:
        """Return the rows of `weight` for pairs of int64 tokens."""
        mixed = first * MULTIPLIERS[0] + second * MULTIPLIERS[1]
        return mixed % self.num_buckets + self.num_embeddings

    def extra_repr(self) -> str:
        return (
            f"{self.num_embeddings}, {len(self.bias)}, num_buckets={self.num_buckets}, "
            f"sublinear_tf={self.sublinear_tf}"
        )


def count_occurrences(rows: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each text's row numbers `[batch, place]`, and count how often each occurs.

    Returns:
        the numbers in ascending order, and their counts in float32. Of equal numbers, the first one
        has the count and the others have 0, as have those that are not real.
    """
    ordered, order = rows.masked_fill(~is_real, torch.iinfo(rows.dtype).max).sort(dim=1)
    is_first = torch.ones_like(is_real)
    is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = is_first.cumsum(dim=1) - 1
    ones = is_real.gather(1, order).float()
    sizes = torch.zeros_like(ones).scatter_add_(1, group, ones)
    counts = sizes.gather(1, group) * is_first
    return rows.gather(1, order), counts
