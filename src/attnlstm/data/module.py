"""The encoded splits as Lightning's data loaders."""

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from attnlstm.config.data import DataConfig, SeriesConfig
from attnlstm.data.batches import BucketedBatchSampler, EncodedSplit, SequenceBatch, crop_batch

EVALUATION_BATCH_FACTOR = 4
"""Size of validation and test batches in training batches: nothing is kept for gradients."""


class ResumableLoader(DataLoader[int]):
    """Yields the batches of the trainer's epoch, from where a stopped run left off.

    Lightning stores epochs and batches in its checkpoints, but by itself it sets the epoch of
    samplers only, not of batch samplers, and starts a stopped epoch again at its first batch. The
    counters are read when the first batch is requested: until then, a restored run changes them.

    An epoch draws one random number, however many workers there are, and the rest of a stopped
    epoch draws none. So neither a stop nor the number of workers changes other random draws.
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
            # A DataLoader without a generator of its own seeds its workers with this number.
            self.generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        yield from islice(super().__iter__(), done, None)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing; having this method tells Lightning that the loader can resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing: Lightning's counters suffice."""


def leave_process_group(worker: int) -> None:
    """Protect a worker from the signals that Ctrl-C and `kill` send to the whole group.

    The training process finishes its batch after such a signal, and needs its workers until then.
    """
    os.setpgid(0, 0)


class SequenceDataModule(lightning.LightningDataModule):
    """Batches of the splits "train", "validation" and "test", any of which may be missing.

    Under several processes, `Trainer(use_distributed_sampler=False)` is needed: the batches are
    already dealt out here.

    Args:
        splits: by name.
        config: how rows become batches; `batch_size` must be set.
        seed: determines the order of the training batches, together with the epoch.
        fingerprints: digests of the files behind the data, by name, for a resumed run to compare.
    """

    def __init__(
        self,
        splits: dict[str, EncodedSplit],
        config: DataConfig,
        seed: int = 0,
        fingerprints: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.splits = splits
        self.config = config
        self.seed = seed
        self.fingerprints = fingerprints or {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores about the data."""
        return {"fingerprints": self.fingerprints}

    def train_dataloader(self) -> DataLoader[int] | list[Any]:
        # overfit_batches takes the first batches of every epoch, which must stay the same
        overfit = self.trainer and self.trainer.overfit_batches  # type: ignore[attr-defined]
        return self._loader("train", shuffle=not overfit)

    def val_dataloader(self) -> DataLoader[int] | list[Any]:
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> DataLoader[int] | list[Any]:
        return self._loader("test", shuffle=False)

    def on_after_batch_transfer(self, batch: SequenceBatch, dataloader_idx: int) -> SequenceBatch:
        """Crop a training batch and add noise, on its device; padding stays 0."""
        if not (self.trainer and self.trainer.training):
            return batch
        if self.config.crop is not None:
            batch = crop_batch(batch, self.config.crop)
        if not (isinstance(self.config, SeriesConfig) and self.config.noise):
            return batch
        steps = torch.arange(batch.inputs.shape[1], device=batch.inputs.device)
        real = steps < batch.lengths.unsqueeze(1)  # [batch, time]
        noise = self.config.noise * torch.randn_like(batch.inputs) * real.unsqueeze(2)
        return batch._replace(inputs=batch.inputs + noise)

    def sampler(self, name: str, shuffle: bool) -> BucketedBatchSampler:
        """Return the batches of a split for this process."""
        split, config, trainer = self.splits[name], self.config, self.trainer
        assert config.batch_size is not None
        is_balanced = config.sampler == "balanced" and name == "train"
        return BucketedBatchSampler(
            split.lengths,
            config.batch_size if name == "train" else EVALUATION_BATCH_FACTOR * config.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            rank=trainer.global_rank if trainer else 0,
            num_replicas=trainer.world_size if trainer else 1,
            batch_tokens=config.batch_tokens,
            balanced=split.targets if is_balanced else None,
        )

    def _loader(self, name: str, shuffle: bool) -> DataLoader[int] | list[Any]:
        """Return a split's loader; an empty list tells Lightning that there is no such split."""
        if name not in self.splits:
            return []
        split, trainer = self.splits[name], self.trainer
        return ResumableLoader(
            split,
            batch_sampler=self.sampler(name, shuffle),
            collate_fn=split.collate,
            num_workers=self.config.num_workers,
            persistent_workers=self.config.num_workers > 0,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            trainer=trainer,
        )
