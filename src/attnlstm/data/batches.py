"""From one split held in memory to padded batches, cut so that little is padded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from attnlstm.errors import UserError

POOL_BATCHES = 16  # batches shuffled together before sorting: more pads less, fewer mixes better


class SequenceBatch(NamedTuple):
    """Rows of one split, right padded with 0 to the longest of them."""

    inputs: Tensor  # [batch, time, feature] float32
    lengths: Tensor  # [batch] int64, the real steps of each row
    targets: Tensor  # [batch] int64, the class numbers
    rows: Tensor  # [batch] int64, the row numbers within the split


@dataclass(frozen=True, eq=False)
class EncodedSplit(Dataset[int]):
    """One split as tensors; row `i` is `steps[offsets[i] : offsets[i] + lengths[i]]`."""

    steps: Tensor  # [total_time, feature] float32, all rows one after the other
    offsets: Tensor  # [row] int64, where each row begins in steps
    lengths: Tensor  # [row] int64
    targets: Tensor  # [row] int64

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> int:
        """The row number itself: a DataLoader hands a list of them to `collate`."""
        return range(len(self))[row]

    def collate(self, rows: Sequence[int]) -> SequenceBatch:
        """The batch that holds `rows`, in this order."""
        numbers = torch.as_tensor(rows, dtype=torch.int64)
        lengths = self.lengths[numbers]
        time = torch.arange(int(lengths.max()))
        places = self.offsets[numbers].unsqueeze(1) + time  # [batch, time], too far where padded
        inputs = self.steps[places.clamp(max=len(self.steps) - 1)]  # [batch, time, feature]
        inputs[time >= lengths.unsqueeze(1)] = 0
        return SequenceBatch(inputs, lengths, self.targets[numbers], numbers)


class BucketedBatchSampler(Sampler[list[int]]):
    """Batches of rows of similar length; every row exactly once per epoch, over all ranks.

    With `shuffle`, each epoch draws a fresh order from (seed, epoch) alone, whatever else used a
    random number: the rows are permuted, cut into pools of 16 batches, sorted by length within
    each pool, cut into batches, and the batches are permuted. Without `shuffle`, all rows are
    sorted by length.

    With several processes, `num_replicas` times `batch_size` rows are drawn at a time and dealt
    out, so that every rank yields the same number of batches, none of them empty. The last batch
    may hold fewer rows than `batch_size`, or one more where otherwise a rank would go without.
    """

    def __init__(
        self,
        lengths: Tensor,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size} must be at least 1")
        if len(lengths) < num_replicas:
            raise UserError(
                f"{len(lengths)} rows are too few for {num_replicas} processes, each needs one: "
                "add rows or lower trainer.devices"
            )
        self.lengths = lengths
        self.global_batch_size = batch_size * num_replicas
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.num_replicas = num_replicas
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the epoch that the next iteration goes through."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.global_batch_size)
        return whole + (rest >= self.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._global_batches():
            yield batch[self.rank :: self.num_replicas].tolist()

    def _global_batches(self) -> list[Tensor]:
        """The batches of all ranks together, in the order of this epoch."""
        if not self.shuffle:
            return self._cut(torch.argsort(self.lengths, stable=True))
        # SeedSequence mixes the two numbers, so that (seed 0, epoch 1) is not (seed 1, epoch 0)
        mixed = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        permutation = torch.randperm(len(self.lengths), generator=generator)
        pools = permutation.split(POOL_BATCHES * self.global_batch_size)
        batches = self._cut(
            torch.cat([pool[torch.argsort(self.lengths[pool], stable=True)] for pool in pools])
        )
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def _cut(self, rows: Tensor) -> list[Tensor]:
        """Consecutive global batches; a last one too small for all ranks joins the one before."""
        batches = list(rows.split(self.global_batch_size))
        if len(batches) > 1 and len(batches[-1]) < self.num_replicas:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches
