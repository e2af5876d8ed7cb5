"""The packed layout of a ragged batch, in which every backend computes.

As in `torch.nn.utils.rnn.PackedSequence`, sequences are sorted by descending length and their real
steps are laid out time-major: first step 0 of every sequence, then step 1 of every sequence that
has one, and so on. Sequences of lengths 3, 2, 1 become six rows:

    row        0  1  2    3  4    5
    sequence   a  b  c    a  b    a         batch sizes 3, 2, 1
    step       0  0  0    1  1    2

There is no padding to compute or to mask. At each step the running sequences are the first rows of
the state.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


class BatchSizes:
    """The number of sequences at each time step of a packed batch, in descending order.

    Args:
        time: number of time steps T.
        batch: number of sequences at the first step, B.
        tensor: [T], int64 on the CPU, as in a PackedSequence; None: all sequences have T steps.
    """

    def __init__(self, time: int, batch: int, tensor: Tensor | None = None) -> None:
        self.time = time
        self.batch = batch
        self._tensor = tensor

    @classmethod
    def of_lengths(cls, lengths: Tensor) -> Self:
        """Return the sizes for lengths [B], int64 on the CPU, at least 1 and descending."""
        longest = int(lengths[0]) if len(lengths) else 0
        times = torch.arange(longest, device="cpu").unsqueeze(1)  # [T, 1]
        return cls(longest, len(lengths), (times < lengths).sum(1))

    @cached_property
    def numbers(self) -> list[int]:
        """The sizes as Python numbers."""
        return [self.batch] * self.time if self._tensor is None else self._tensor.tolist()

    @cached_property
    def lengths(self) -> Tensor:
        """The length of each sequence, [B], int64 on the CPU, descending."""
        if self._tensor is None:
            return torch.full((self.batch,), self.time, dtype=torch.int64, device="cpu")
        ranks = torch.arange(self.batch, device="cpu")
        return (self._tensor.unsqueeze(1) > ranks).sum(0)

    @property
    def tensor(self) -> Tensor:
        """The sizes as a PackedSequence has them, [T], int64 on the CPU."""
        if self._tensor is None:
            return torch.full((self.time,), self.batch, dtype=torch.int64, device="cpu")
        return self._tensor

    @property
    def is_full(self) -> bool:
        """Whether all sequences have the same length."""
        return self._tensor is None


class ReadingOrder:
    """The order in which one direction reads the steps of a packed batch.

    The forward direction starts at each sequence's first step, the reverse one at each sequence's
    own last step. Only the order of the time steps differs; their places do not.

    Args:
        batch_sizes: number of sequences at each time step, in descending order.
        reverse: whether the last time step is read first.
    """

    def __init__(self, batch_sizes: Sequence[int], *, reverse: bool) -> None:
        self.batch_sizes = tuple(batch_sizes)
        self.reverse = reverse

    def opposite(self) -> "ReadingOrder":
        """Return the order from the last step read to the first, in which a backward runs."""
        return ReadingOrder(self.batch_sizes, reverse=not self.reverse)

    @property
    def times(self) -> range:
        """The time steps in this order."""
        steps = range(len(self.batch_sizes))
        return steps[::-1] if self.reverse else steps

    @property
    def sizes(self) -> Sequence[int]:
        """The number of sequences at each time step, in this order."""
        return self.batch_sizes[::-1] if self.reverse else self.batch_sizes

    @property
    def slices(self) -> Sequence[slice]:
        """The rows of each time step, in this order."""
        ends = accumulate(self.batch_sizes, initial=0)
        steps = [slice(start, stop) for start, stop in pairwise(ends)]
        return steps[::-1] if self.reverse else steps

    def split(self, packed: Tensor) -> Sequence[Tensor]:
        """Split a packed tensor [N, ...] into its time steps, in this order."""
        steps = packed.split(self.batch_sizes)
        return steps[::-1] if self.reverse else steps

    def last_rows(self, device: torch.device) -> Tensor:
        """Return the row of the step that is read last of each sequence, [B]."""
        sizes = torch.tensor(self.batch_sizes, device="cpu")
        ranks = torch.arange(self.batch_sizes[0], device="cpu")
        if self.reverse:
            return ranks.to(device)
        lengths = (sizes.unsqueeze(1) > ranks).sum(0)
        return ((sizes.cumsum(0) - sizes)[lengths - 1] + ranks).to(device)

    def before_each_step(self, states: Tensor, initial: Tensor) -> Tensor:
        """Return the state that each step starts from, [N, feature].

        Args:
            states: the state after each step, [N, feature].
            initial: the state before the first step that is read, [B, feature].
        """
        sizes = torch.tensor(self.batch_sizes, device="cpu")
        batch, steps = self.batch_sizes[0], torch.arange(len(states), device="cpu")
        if self.reverse:
            offsets = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
            ranks = steps - offsets
            following = torch.cat([sizes[1:], sizes.new_zeros(1)]).repeat_interleave(sizes)
            rows = torch.where(
                ranks < following, batch + steps + sizes.repeat_interleave(sizes), ranks
            )
        else:
            rows = batch + steps - torch.cat([sizes[:1], sizes[:-1]]).repeat_interleave(sizes)
        return torch.cat([initial, states]).index_select(0, rows.to(states.device))


def drop_features_of_sequences(data: Tensor, batch_sizes: BatchSizes, probability: float) -> Tensor:
    """Apply variational dropout (Gal and Ghahramani, 2016) to packed data [N, feature].

    Each sequence has one mask, which all its steps share.
    """
    mask = F.dropout(data.new_ones(batch_sizes.batch, data.size(1)), probability)
    return data * torch.cat([mask[:size] for size in batch_sizes.numbers])
