"""Callbacks: the progress bar, the collector of logits, and the figures."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rich
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomBarColumn
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from matplotlib.image import imsave
from rich.progress import MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.aggregation import CatMetric
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.utilities.distributed import gather_all_tensors

from attnlstm.checkpoint.calibration import decide
from attnlstm.data.batches import SequenceBatch
from attnlstm.nn.head import at_least_float32, predict
from attnlstm.training.figures import (
    as_label,
    draw_attention,
    draw_confusion_matrix,
    draw_scatter,
    render,
)
from attnlstm.training.module import ClassificationModule

SEQUENCES_SHOWN = 12

IN_BAR = {
    **{"train/loss": "loss", "val/loss": "val loss", "val/accuracy": "acc"},
    **{"val/micro_f1": "f1", "val/r2": "r2"},
}
"""The metrics in the progress bar, and their short names."""


def has_terminal() -> bool:
    """Return whether standard output can show a progress bar: a terminal or a notebook."""
    return sys.stdout.isatty() or rich.get_console().is_jupyter


def build_progress_bar() -> Callback:
    """Build a progress bar for a terminal or a notebook, where rich's needs ipywidgets."""
    if rich.get_console().is_jupyter and find_spec("ipywidgets") is None:
        return PlainProgressBar()
    return ProgressBar()


class PlainProgressBar(TQDMProgressBar):
    """A progress bar of one line of text, for training only."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        return {label: metrics[name] for name, label in IN_BAR.items() if name in metrics}


class ProgressBar(RichProgressBar):
    """Lightning's RichProgressBar on one line of 80 columns, with epochs that count from 1.

    With less room, the bar itself shrinks first.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)
        self.shown_metrics = ""

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        theme, column = self.theme, Column(no_wrap=True)
        return [
            TextColumn("{task.description}", table_column=column),
            CustomBarColumn(
                bar_width=10,
                complete_style=theme.progress_bar,
                finished_style=theme.progress_bar_finished,
                pulse_style=theme.progress_bar_pulse,
            ),
            MofNCompleteColumn(table_column=column),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=column),
            _MetricsColumn(self),
        ]

    def _update_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's column, which shows all metrics by their full names."""
        if self.is_enabled:
            metrics = self.get_metrics(trainer, pl_module)
            self.shown_metrics = ", ".join(
                f"{label} {metrics[name]:.3f}" for name, label in IN_BAR.items() if name in metrics
            )

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        return f"epoch {current_epoch + 1}" + (f"/{last}" if last and last > 0 else "")

    @property
    def validation_description(self) -> str:
        return "validation"

    @property
    def test_description(self) -> str:
        return "testing"


class _MetricsColumn(ProgressColumn):
    """The newest metrics next to the bar of the training epoch."""

    def __init__(self, bar: ProgressBar) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))
        self.bar = bar

    def render(self, task: Task) -> Text:
        is_training = task.id == self.bar.train_progress_bar_id
        return Text(self.bar.shown_metrics if is_training else "", style=self.bar.theme.metrics)


class RowCollector(Callback):
    """Collect the logits of all rows of a validation or a test, in the order of the rows.

    Afterwards every process has them on the CPU, whichever process evaluated a row.

    Attributes:
        rows: numbers of the rows that were in a batch, `[row]`, ascending.
        targets: see `attnlstm.data.targets`.
        logits: `[row, class]`, at least float32.
        experts: logits of the LSTM and of the n-grams before they were combined,
            `[row, member, 2, class]`; no members in a test and without n-grams.
    """

    def __init__(self) -> None:
        self.rows = self.targets = torch.empty(0, dtype=torch.int64)
        self.logits = torch.empty(0, 0)
        self.experts = torch.empty(0, 0, 2, 0)
        self._batches: list[tuple[Tensor, ...]] = []

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: dict[str, Any],
        batch: SequenceBatch,
        *_: Any,
    ) -> None:
        logits = at_least_float32(outputs["logits"])
        none = logits.new_empty(len(logits), 0, 2, 0)
        experts = at_least_float32(outputs.get("experts", none))
        self._batches.append((batch.rows, batch.targets, logits, experts))

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self._batches:
            return
        columns = [torch.cat(column) for column in zip(*self._batches, strict=True)]
        self._batches = []
        if trainer.world_size > 1:
            columns = [torch.cat(gather_all_tensors(each.to(module.device))) for each in columns]
        order = columns[0].argsort()
        self.rows, self.targets, self.logits, self.experts = (
            column[order].cpu() for column in columns
        )

    on_test_batch_end = on_validation_batch_end  # type: ignore[assignment]
    on_test_epoch_end = on_validation_epoch_end  # type: ignore[assignment]


class ValidationFigures(Callback):
    """Draw what the validation says: a confusion matrix or a scatter picture, and the attention.

    The attention is that on some of the sequences. Rows of several classes have no picture of
    their own. The newest figures are PNG files in `folder`; TensorBoard keeps all of them.
    """

    def __init__(self, folder: Path, every_n_epochs: int) -> None:
        self.folder = folder
        self.every_n_epochs = every_n_epochs
        self.is_new = False  # whether there is a validation that has not been drawn

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, ClassificationModule)
        self.label_names, self.task = module.label_names, module.task
        self.outcomes: Metric | None = None
        if self.task == "regression":
            self.outcomes = CatMetric().to(module.device)
        elif self.task != "multilabel":
            self.outcomes = MulticlassConfusionMatrix(len(self.label_names)).to(module.device)
        self.attention: dict[int, tuple[str, Tensor]] = {}
        self.is_new = True

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: dict[str, Any],
        batch: SequenceBatch,
        *_: Any,
    ) -> None:
        predictions = decide(predict(at_least_float32(outputs["logits"]), self.task), self.task)
        if isinstance(self.outcomes, MulticlassConfusionMatrix):
            self.outcomes.update(predictions, batch.targets)
        elif self.outcomes is not None:
            self.outcomes.update(torch.stack([predictions, batch.targets], dim=1).float())
        if outputs["attention"] is None:
            return
        last = len(trainer.val_dataloaders.dataset) - 1  # type: ignore[union-attr]
        shown = torch.linspace(0, last, SEQUENCES_SHOWN).long().tolist()
        for position, row in enumerate(batch.rows.tolist()):
            if row in shown:
                true, said = (self._name(each[position]) for each in (batch.targets, predictions))
                title = f"row {row}: {true}" + f", said {said}" * (said != true)
                length = int(batch.lengths[position])
                self.attention[row] = (title, outputs["attention"][position, :length].cpu())

    def _name(self, target: Tensor) -> str:
        """Return the target of a row as text."""
        if self.task == "regression":
            return ", ".join(f"{number:.4g}" for number in target.tolist())
        if self.task == "multilabel":
            names = [self.label_names[number] for number in target.nonzero().flatten().tolist()]
            return as_label(" + ".join(names) or "no class")
        return as_label(self.label_names[int(target)])

    def on_validation_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self._write(trainer)

    def _draw(self, outcomes: Any) -> dict[str, Figure]:
        figures = {}
        if isinstance(self.outcomes, MulticlassConfusionMatrix):
            matrix = draw_confusion_matrix(self.outcomes, self.label_names, "validation")
            figures["confusion_matrix"] = matrix
        elif self.outcomes is not None:
            predictions, targets = outcomes.cpu().unbind(dim=1)
            figures["scatter"] = draw_scatter(predictions, targets, self.label_names, "validation")
        if self.attention:
            sequences = [self.attention[row] for row in sorted(self.attention)]
            figures["attention"] = draw_attention(sequences, "validation")
        return figures

    def _write(self, trainer: Trainer) -> None:
        """Write the figures, unless those of this validation have been written already."""
        if not self.is_new:
            return
        self.is_new = False
        # In all processes, as it gathers from all.
        outcomes = None if self.outcomes is None else self.outcomes.compute()
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(exist_ok=True)
        for name, figure in self._draw(outcomes).items():
            pixels = render(figure)  # once: it takes longer than many training steps
            imsave(self.folder / f"{name}.png", pixels)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(
                        f"val/{name}", pixels, trainer.global_step, dataformats="HWC"
                    )
