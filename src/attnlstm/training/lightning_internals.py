"""All that is used of Lightning's private attributes, in one place.

Lightning has no public way to go on in the middle of an epoch exactly. Its next version may rename
any of these; `PRIVATE_ATTRIBUTES` lists them for the test that says which one is missing.
"""

import lightning
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


def get_cluster_environment(trainer: lightning.Trainer) -> ClusterEnvironment | None:
    """What has started the processes, such as SLURM."""
    return trainer._accelerator_connector.cluster_environment


def is_within_epoch(trainer: lightning.Trainer) -> bool:
    """Whether neither a validation nor the end of the epoch follows the batch that has ended."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return not loop._is_training_done and not loop._should_check_val_fx(fetcher)


def count_logged_steps(trainer: lightning.Trainer) -> int:
    """The step that loggers have seen last: batches after which the optimizer may have stepped."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def end_epoch_as_any_other(trainer: lightning.Trainer) -> None:
    """Of a restored epoch Lightning would leave out the step of ReduceLROnPlateau."""
    trainer.fit_loop._restarting = False


def begin_epoch_as_any_other(trainer: lightning.Trainer) -> None:
    """With max_steps Lightning takes every restored run for one that stopped within an epoch."""
    loop = trainer.fit_loop
    loop._restarting = loop.epoch_loop._restarting = False
    loop.epoch_loop.val_loop._restarting = False
    loop.epoch_loop.reset_restart_stage()
