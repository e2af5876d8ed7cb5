"""The encoded splits as Lightning's data loaders."""

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from attnlstm.data.batches import (
    BucketedBatchSampler,
    EncodedSplit,
    SequenceBatch,
    crop_batch,
)
from attnlstm.errors import UserError

EVALUATION_BATCH_FACTOR = 4
"""Size of validation and test batches in training batches: nothing is kept for gradients."""


class ResumableLoader(DataLoader[int]):
    """Trains on the batches of the trainer's epoch, from where a stopped run left off.

    Lightning counts epochs and batches in its checkpoints, but by itself it sets the epoch of
    samplers only, not of batch samplers, and begins a stopped epoch again at its first batch. The
    counters are read when the first batch is asked for: before, a restored run still moves them.

    An epoch takes one random number, however many workers there are, and its rest takes none: so
    neither a stop nor the number of workers shifts what else is drawn.
    """

    def __init__(self, *args: Any, trainer: lightning.Trainer | None, **kwargs: Any) -> None:
        kwargs |= {"generator": torch.Generator(), "worker_init_fn": leave_process_group}
        super().__init__(*args, **kwargs)
        self.trainer = trainer

    def __iter__(self) -> Iterator[SequenceBatch]:  # type: ignore[override]
        done = 0
        if self.trainer is not None and self.trainer.training:
            loop = self.trainer.fit_loop
            epoch = loop.epoch_progress.current.processed  # type: ignore[attr-defined]
            self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
            done = loop.epoch_loop.batch_progress.current.ready
        if done == 0:
            # what a DataLoader without a generator of its own seeds its workers with
            self.generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        yield from islice(super().__iter__(), done, None)

    def state_dict(self) -> dict[str, Any]:
        """Nothing beyond Lightning's counters; having one tells Lightning that it can resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def leave_process_group(worker: int) -> None:
    """Keep a worker from what Ctrl-C and `kill` send to the whole group.

    The training process goes on to the end of a batch and needs it until then.
    """
    os.setpgid(0, 0)


class SequenceDataModule(lightning.LightningDataModule):
    """Batches of the splits "train", "validation" and "test", of which any may be missing.

    Args:
        batch_size: rows of a training batch; one of validation or test has four times as many.
        batch_tokens: steps of a batch, padding included, instead of `batch_size`.
        balanced: whether training rows are drawn so that every class comes equally often.
        noise: standard deviation of the Gaussian noise that is added to training series.
        crop: the smallest share of a training sequence that is read, a new piece in every epoch;
            None: all of it.
        seed: with the epoch it decides the order of the training batches.
        fingerprints: of what the data comes from, by name, for a run that goes on to compare.

    Under several processes, `Trainer(use_distributed_sampler=False)` is needed: the batches are
    already dealt out here.
    """

    def __init__(
        self,
        splits: dict[str, EncodedSplit],
        batch_size: int,
        num_workers: int = 0,
        batch_tokens: int | None = None,
        balanced: bool = False,
        noise: float = 0.0,
        crop: float | None = None,
        seed: int = 0,
        fingerprints: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        for name, value, lowest in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("noise", noise, 0),
        ):
            if not value >= lowest:
                raise UserError(f"data.{name}={value} must be at least {lowest}")
        self.splits = splits
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.batch_tokens = batch_tokens
        self.balanced = balanced
        self.noise = noise
        self.crop = crop
        self.seed = seed
        self.fingerprints = fingerprints or {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint says about the data."""
        return {"fingerprints": self.fingerprints}

    def train_dataloader(self) -> DataLoader[int] | list[Any]:
        # overfit_batches takes the first batches of every epoch, which then have to stay the same
        overfit = self.trainer and self.trainer.overfit_batches  # type: ignore[attr-defined]
        return self._loader("train", shuffle=not overfit)

    def val_dataloader(self) -> DataLoader[int] | list[Any]:
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> DataLoader[int] | list[Any]:
        return self._loader("test", shuffle=False)

    def on_after_batch_transfer(self, batch: SequenceBatch, dataloader_idx: int) -> SequenceBatch:
        """Crops and adds the noise, on the device of the batch; padding stays 0."""
        if not (self.trainer and self.trainer.training):
            return batch
        if self.crop is not None:
            batch = crop_batch(batch, self.crop)
        if not self.noise:
            return batch
        steps = torch.arange(batch.inputs.shape[1], device=batch.inputs.device)
        real = steps < batch.lengths.unsqueeze(1)  # [batch, time]
        noise = self.noise * torch.randn_like(batch.inputs) * real.unsqueeze(2)
        return batch._replace(inputs=batch.inputs + noise)

    def sampler(self, name: str, shuffle: bool) -> BucketedBatchSampler:
        """What the batches of a split are, for this process."""
        split, trainer = self.splits[name], self.trainer
        return BucketedBatchSampler(
            split.lengths,
            self.batch_size if name == "train" else EVALUATION_BATCH_FACTOR * self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            rank=trainer.global_rank if trainer else 0,
            num_replicas=trainer.world_size if trainer else 1,
            batch_tokens=self.batch_tokens,
            balanced=split.targets if self.balanced and name == "train" else None,
        )

    def _loader(self, name: str, shuffle: bool) -> DataLoader[int] | list[Any]:
        """No loader, for Lightning an empty list, where there is no such split."""
        if name not in self.splits:
            return []
        split, trainer = self.splits[name], self.trainer
        return ResumableLoader(
            split,
            batch_sampler=self.sampler(name, shuffle),
            collate_fn=split.collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            trainer=trainer,
        )
