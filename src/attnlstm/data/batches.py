"""From an encoded split to padded batches of sequences of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from attnlstm.errors import UserError

if TYPE_CHECKING:  # importing datasets takes half a second, and prediction does not need it
    import datasets

POOL_BATCHES = 16  # batches that are sorted together: more need less padding, fewer mix better


class SequenceBatch(NamedTuple):
    """Rows of one split, right padded with 0 to the longest of them."""

    inputs: Tensor  # [batch, time] int64 token ids, or [batch, time, feature] float32
    lengths: Tensor  # [batch] int64, the real steps of each row
    targets: Tensor  # [batch] or [batch, target], see `attnlstm.data.targets`
    rows: Tensor  # [batch] int64, the row numbers within the split


def crop_batch(batch: SequenceBatch, smallest_share: float) -> SequenceBatch:
    """Keep a random piece of each sequence, of a random share of its steps.

    This is window slicing (Le Guennec, Malinowski and Tavenard, 2016). The share is uniform between
    `smallest_share` and 1, and so is the start of the piece, which has at least one step.
    """
    device = batch.lengths.device
    share, place = torch.rand(2, len(batch.lengths), device=device)
    share = smallest_share + (1 - smallest_share) * share
    lengths = (batch.lengths * share).ceil().long().clamp(min=1)
    starts = (place * (batch.lengths - lengths + 1)).long()
    steps = torch.arange(int(lengths.max()), device=device)
    taken = (starts.unsqueeze(1) + steps).clamp(max=batch.inputs.size(1) - 1)  # [batch, time]
    inputs = batch.inputs[torch.arange(len(lengths), device=device).unsqueeze(1), taken]
    inputs[steps >= lengths.unsqueeze(1)] = 0
    return batch._replace(inputs=inputs, lengths=lengths)


class EncodedSplit(Dataset[int]):
    """One split; only the rows of a batch are copied into memory.

    Args:
        rows: the column `steps`, a flat list of numbers for each row.
        targets: `[row]` or `[row, target]`, see `attnlstm.data.targets`.
        step_size: the numbers of a step, that is the channels of a series; None for token ids.
    """

    def __init__(
        self, rows: "datasets.Dataset", targets: np.ndarray, step_size: int | None
    ) -> None:
        self.step_size = step_size
        chunks = rows.data.column("steps").chunks
        # Views of the Arrow buffers: [total] numbers, and where each row begins [row + 1].
        self.values = [chunk.values.to_numpy() for chunk in chunks]
        self.offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self.first_rows = np.cumsum([0, *map(len, chunks)])  # of each chunk
        counts = np.concatenate([np.diff(offsets) for offsets in self.offsets])
        self.lengths = torch.from_numpy(counts.astype(np.int64) // (step_size or 1))  # [row]
        self.targets = torch.from_numpy(targets)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> int:
        """Return the row number: a DataLoader passes a list of them to `collate`."""
        return range(len(self))[row]

    def steps(self, row: int) -> np.ndarray:
        """Return token ids [time], or [time, feature]; a view that must not be written to."""
        chunk = int(np.searchsorted(self.first_rows, row, side="right")) - 1
        start, stop = self.offsets[chunk][row - self.first_rows[chunk] :][:2]
        values = self.values[chunk][start:stop]
        return values if self.step_size is None else values.reshape(-1, self.step_size)

    def collate(self, rows: Sequence[int]) -> SequenceBatch:
        """Return the batch that holds `rows`, in this order."""
        numbers = torch.as_tensor(rows, dtype=torch.int64)
        return SequenceBatch(
            pad([self.steps(row) for row in numbers.tolist()]),
            self.lengths[numbers],
            self.targets[numbers],
            numbers,
        )


def pad(sequences: Sequence[np.ndarray]) -> Tensor:
    """Right pad with 0 to the longest: [batch, time] int64, or [batch, time, feature] float32."""
    first = sequences[0]
    longest = max(map(len, sequences))
    kind = np.float32 if first.ndim == 2 else np.int64
    padded = np.zeros((len(sequences), longest, *first.shape[1:]), kind)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    return torch.from_numpy(padded)


@dataclass(eq=False)
class BucketedBatchSampler(Sampler[list[int]]):
    """Batches of rows of similar length; every row exactly once per epoch, over all ranks.

    With `shuffle`, the order of an epoch depends only on (seed, epoch); without, rows are sorted by
    length.

    With `batch_size`, the shuffled rows are split into pools of 16 batches. Each pool is sorted by
    length and split into batches, and the batches are shuffled.

    With `batch_tokens`, a batch holds as many rows as fit after padding. The shuffled rows are
    sorted by length rounded up by at most a tenth, and split into batches, which are shuffled. So
    every epoch has the same number of batches. A row longer than the budget is a batch of its own.

    With several processes, a batch is drawn for all of them and dealt out, so every rank yields the
    same number of batches, none of them empty. The last batch may hold fewer rows than the others,
    or one more if otherwise a rank would get none.

    With `balanced`, each epoch draws as many rows as there are, with replacement: first a class,
    then one of its rows.
    """

    lengths: Tensor  # [row], the steps of each row
    batch_size: int
    _: KW_ONLY
    shuffle: bool
    seed: int
    rank: int = 0  # the process that the batches are for
    num_replicas: int = 1  # the number of processes
    batch_tokens: int | None = None  # padding included; replaces `batch_size`
    balanced: Tensor | None = None  # [row], the class numbers

    def __post_init__(self) -> None:
        for name, value in (("batch_size", self.batch_size), ("batch_tokens", self.batch_tokens)):
            if value is not None and value < 1:
                raise UserError(f"data.{name}={value} must be at least 1")
        if len(self.lengths) < self.num_replicas:
            raise UserError(
                f"{len(self.lengths)} rows are too few for {self.num_replicas} processes, each "
                "needs one: add rows or lower trainer.devices"
            )
        self.epoch = 0
        self.bounds = _round_up(self.lengths)  # [row]
        self.num_batches = len(self._cut(self._sort(torch.arange(len(self.lengths)))))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._global_batches():
            yield batch[self.rank :: self.num_replicas].tolist()

    def padding_share(self) -> float:
        """Return the share of padding among the steps of this epoch's batches, in [0, 1]."""
        batches = [self.lengths[batch] for batch in self]
        padded = sum(len(lengths) * int(lengths.max()) for lengths in batches)
        return 1 - sum(int(lengths.sum()) for lengths in batches) / padded

    def _global_batches(self) -> list[Tensor]:
        """Return the batches of all ranks together, in the order of this epoch."""
        if not self.shuffle:
            longest_first = self.batch_tokens is not None
            return self._cut(torch.argsort(self.lengths, stable=True, descending=longest_first))
        # SeedSequence mixes the two numbers, so that (seed 0, epoch 1) is not (seed 1, epoch 0)
        mixed = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        batches: list[Tensor] = []
        while len(batches) < self.num_batches:  # once, unless rows are drawn with replacement
            batches += self._cut(self._sort(self._draw(generator)))
        order = torch.randperm(len(batches), generator=generator)[: self.num_batches]
        return [batches[i] for i in order.tolist()]

    def _draw(self, generator: torch.Generator) -> Tensor:
        """Draw all rows in random order, or as many with replacement from balanced classes."""
        num_rows = len(self.lengths)
        if self.balanced is None:
            return torch.randperm(num_rows, generator=generator)
        by_class = torch.argsort(self.balanced, stable=True)
        _, counts = torch.unique(self.balanced, return_counts=True)  # of the classes with rows
        classes = torch.randint(len(counts), (num_rows,), generator=generator)
        share = torch.rand(num_rows, generator=generator, dtype=torch.float64)
        within = (share * counts[classes]).long()
        return by_class[(counts.cumsum(0) - counts)[classes] + within]

    def _sort(self, rows: Tensor) -> Tensor:
        """Bring rows of similar length together; rows of equal length stay in order."""
        if self.batch_tokens is not None:
            return rows[torch.argsort(self.bounds[rows], stable=True, descending=True)]
        pools = rows.split(POOL_BATCHES * self.batch_size * self.num_replicas)
        return torch.cat([pool[torch.argsort(self.lengths[pool], stable=True)] for pool in pools])

    def _cut(self, rows: Tensor) -> list[Tensor]:
        """Split rows into global batches; a last one too small for all ranks joins the others."""
        if self.batch_tokens is None:
            batches = list(rows.split(self.batch_size * self.num_replicas))
        else:
            batches, start = [], 0
            while start < len(rows):
                longest = int(self.bounds[rows[start]])
                size = max(1, self.batch_tokens // longest) * self.num_replicas
                batches.append(rows[start : start + size])
                start += size
        if len(batches) > 1 and len(batches[-1]) < self.num_replicas:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches


def _round_up(lengths: Tensor) -> Tensor:
    """Round each length up, by at most a tenth, to one of a few numbers."""
    steps, longest = [1], int(lengths.max())
    while steps[-1] < longest:
        steps.append(max(steps[-1] + 1, int(steps[-1] * 1.1)))
    steps[-1] = longest
    numbers = torch.tensor(steps)
    return numbers[torch.searchsorted(numbers, lengths)]
