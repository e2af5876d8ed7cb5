"""Every use of Lightning's private attributes, in one place.

Lightning has no public way to resume exactly in the middle of an epoch, nor to continue a CSV file.
A new version may rename any of these attributes; a test names those that are missing.
"""

import csv
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from attnlstm.errors import UserError
from attnlstm.files import reading, replacing

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

OVERRIDDEN_METHODS = ("_check_log_dir_exists", "_rewrite_with_new_header")
"""Of `ExperimentWriter`."""


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


class MetricsFile(CSVLogger):
    """Lightning's CSVLogger, which keeps the first `keep_rows` rows of a run that is resumed."""

    def __init__(self, folder: Path, keep_rows: int) -> None:
        super().__init__(folder, name="", version="")
        self.keep_rows = keep_rows
        self.num_rows = keep_rows  # including those not yet written

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if not isinstance(self._experiment, _Writer):
            self._experiment = _Writer(self.log_dir, self.keep_rows)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self.num_rows += 1


class _Writer(ExperimentWriter):
    """Lightning's writer, which replaces the file as a whole whenever it has to be rewritten."""

    def __init__(self, folder: str, keep_rows: int) -> None:
        self.keep_rows = keep_rows
        super().__init__(folder)

    def _check_log_dir_exists(self) -> None:
        """Keep the first rows of an existing file; Lightning's method would remove it."""
        path = Path(self.metrics_file_path)
        if self.keep_rows == 0:
            path.unlink(missing_ok=True)
        elif path.is_file():
            self.metrics_keys, rows = self._read()
            self._write(self.metrics_keys, rows[: self.keep_rows])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._write(fieldnames, self._read()[1])

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        path = Path(self.metrics_file_path)
        with reading(path, csv.Error, UnicodeDecodeError), path.open(newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns, rows = list(reader.fieldnames or ()), list(reader)
        if any(None in row or None in row.values() for row in rows):
            raise UserError(
                f"{path} is damaged: a row has another number of values; remove the file"
            )
        return columns, rows

    def _write(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        with replacing(Path(self.metrics_file_path)) as partial, partial.open("w", newline="") as f:
            writer = csv.DictWriter(f, fieldnames=columns)
            writer.writeheader()
            writer.writerows(rows)
