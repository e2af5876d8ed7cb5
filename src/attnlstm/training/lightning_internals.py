"""Every use of Lightning's private attributes, in one place.

Lightning has no public way to resume exactly in the middle of an epoch. A new version may rename
any of these attributes; a test checks `PRIVATE_ATTRIBUTES` and names those that are missing.
"""

from lightning import Trainer
from lightning.fabric.plugins.environments import ClusterEnvironment

PRIVATE_ATTRIBUTES = (
    "_accelerator_connector.cluster_environment",
    "fit_loop._data_fetcher",
    "fit_loop._restarting",
    "fit_loop.epoch_loop._batches_that_stepped",
    "fit_loop.epoch_loop._is_training_done",
    "fit_loop.epoch_loop._restarting",
    "fit_loop.epoch_loop._should_check_val_fx",
    "fit_loop.epoch_loop.val_loop._restarting",
)
"""Paths from a `lightning.Trainer`."""


def get_cluster_environment(trainer: Trainer) -> ClusterEnvironment | None:
    """Return what launched the processes, such as SLURM."""
    return trainer._accelerator_connector.cluster_environment


def is_within_epoch(trainer: Trainer) -> bool:
    """Return whether neither a validation nor the end of the epoch follows the last batch."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return not loop._is_training_done and not loop._should_check_val_fx(fetcher)


def count_logged_steps(trainer: Trainer) -> int:
    """Return the step that loggers get: the number of batches after which the optimizer stepped."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def end_epoch_normally(trainer: Trainer) -> None:
    """Have a restored epoch step ReduceLROnPlateau, which Lightning would leave out."""
    trainer.fit_loop._restarting = False


def begin_epoch_normally(trainer: Trainer) -> None:
    """Begin a new epoch: with max_steps, Lightning assumes that a run stopped within one."""
    loop = trainer.fit_loop
    loop._restarting = loop.epoch_loop._restarting = False
    loop.epoch_loop.val_loop._restarting = False
    loop.epoch_loop.reset_restart_stage()
