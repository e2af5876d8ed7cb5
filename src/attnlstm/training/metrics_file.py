"""metrics.csv, which a resumed run continues, and metrics.json."""

import csv
import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from attnlstm.files import replacing


def write_metrics(path: Path, metrics: Mapping[str, float]) -> None:
    """Write metrics as JSON, which has no NaN and no infinity: these become null."""
    values = {name: value if isfinite(value) else None for name, value in metrics.items()}
    with replacing(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n")


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
        with Path(self.metrics_file_path).open(newline="") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or ()), list(reader)

    def _write(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        with replacing(Path(self.metrics_file_path)) as partial, partial.open("w", newline="") as f:
            writer = csv.DictWriter(f, fieldnames=columns)
            writer.writeheader()
            writer.writerows(rows)
