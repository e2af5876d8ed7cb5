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
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.utilities.distributed import gather_all_tensors

from attnlstm.data.batches import SequenceBatch
from attnlstm.nn.classifier import at_least_float32
from attnlstm.training.figures import as_label, draw_attention, draw_confusion_matrix, render
from attnlstm.training.module import ClassificationModule

SEQUENCES_SHOWN = 12

IN_BAR = {"train/loss": "loss", "val/loss": "val loss", "val/accuracy": "acc"}
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
        targets: class numbers, `[row]`.
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
    """Draw the validation's confusion matrix and the attention on some of its sequences.

    The newest figures are PNG files in `folder`; TensorBoard keeps all of them.
    """

    def __init__(self, folder: Path, every_n_epochs: int) -> None:
        self.folder = folder
        self.every_n_epochs = every_n_epochs

        self.confusion: MulticlassConfusionMatrix | None = None  # None: nothing new to draw

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, ClassificationModule)
        self.label_names = module.label_names
        self.confusion = MulticlassConfusionMatrix(len(self.label_names)).to(module.device)
        self.attention: dict[int, tuple[str, Tensor]] = {}

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: dict[str, Any],
        batch: SequenceBatch,
        *_: Any,
    ) -> None:
        predictions = outputs["logits"].argmax(dim=1)
        assert self.confusion is not None
        self.confusion.update(predictions, batch.targets)
        if outputs["attention"] is None:
            return
        last = len(trainer.val_dataloaders.dataset) - 1  # type: ignore[union-attr]
        shown = torch.linspace(0, last, SEQUENCES_SHOWN).long().tolist()
        for position, row in enumerate(batch.rows.tolist()):
            if row in shown:
                target, prediction = int(batch.targets[position]), int(predictions[position])
                title = f"row {row}: {as_label(self.label_names[target])}"
                if prediction != target:
                    title += f", said {as_label(self.label_names[prediction])}"
                length = int(batch.lengths[position])
                self.attention[row] = (title, outputs["attention"][position, :length].cpu())

    def on_validation_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self._write(trainer)

    def _draw(self, confusion: MulticlassConfusionMatrix) -> dict[str, Figure]:
        matrix = draw_confusion_matrix(confusion, self.label_names, "validation")
        figures = {"confusion_matrix": matrix}
        if self.attention:
            sequences = [self.attention[row] for row in sorted(self.attention)]
            figures["attention"] = draw_attention(sequences, "validation")
        return figures

    def _write(self, trainer: Trainer) -> None:
        """Write the figures, unless those of this validation have been written already."""
        confusion, self.confusion = self.confusion, None
        if confusion is None:
            return
        confusion.compute()  # in all processes, as it gathers from all
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(exist_ok=True)
        for name, figure in self._draw(confusion).items():
            pixels = render(figure)  # once: it takes longer than many training steps
            imsave(self.folder / f"{name}.png", pixels)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(
                        f"val/{name}", pixels, trainer.global_step, dataformats="HWC"
                    )
