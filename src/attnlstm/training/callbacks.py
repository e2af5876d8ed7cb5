"""What happens beside the steps: the progress bar and the figures."""

import sys
from pathlib import Path
from typing import Any

import lightning
import rich
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomBarColumn
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from matplotlib.image import imsave
from rich.progress import (
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from attnlstm.data.batches import SequenceBatch
from attnlstm.training.figures import as_label, draw_attention, draw_confusion_matrix, render
from attnlstm.training.module import ClassificationModule

SEQUENCES_SHOWN = 12

IN_BAR = {"train/loss": "loss", "val/loss": "val loss", "val/accuracy": "acc"}
"""The metrics that the progress bar shows, and what it calls them."""


def has_terminal() -> bool:
    """Whether standard output can show a progress bar: a terminal or a notebook."""
    return sys.stdout.isatty() or rich.get_console().is_jupyter


class ProgressBar(RichProgressBar):
    """Lightning's, with epochs from 1, on one line of a terminal of 80 columns.

    It is drawn a few times a second. Where there is less room, the bar itself is the first to
    shrink.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)
        self.shown_metrics = ""

    def configure_columns(self, trainer: lightning.Trainer) -> list[ProgressColumn]:
        theme = self.theme
        return [
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            CustomBarColumn(
                bar_width=10,
                complete_style=theme.progress_bar,
                finished_style=theme.progress_bar_finished,
                pulse_style=theme.progress_bar_pulse,
            ),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(
                compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True)
            ),
            _MetricsColumn(self),
        ]

    def _update_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """In place of Lightning's, whose column shows all metrics by their full names."""
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
    """Shows the newest metrics next to the bar of the training epoch."""

    def __init__(self, bar: ProgressBar) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))
        self.bar = bar

    def render(self, task: Task) -> Text:
        is_training = task.id == self.bar.train_progress_bar_id
        return Text(self.bar.shown_metrics if is_training else "", style=self.bar.theme.metrics)


class TestPredictions(Callback):
    """Keeps which class each test row is predicted to be.

    classes: `[row]`, in the rows' own order; -1 for rows that are in no batch.
    """

    def __init__(self, num_rows: int) -> None:
        self.classes = torch.full((num_rows,), -1)

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: dict[str, Any],
        batch: SequenceBatch,
        *_: Any,
    ) -> None:
        self.classes[batch.rows.cpu()] = outputs["logits"].argmax(dim=1).cpu()

    def on_test_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Each process has predicted rows of its own."""
        classes = trainer.strategy.reduce(self.classes.to(module.device), reduce_op="max")
        self.classes = classes.cpu()


class ValidationFigures(Callback):
    """Draws the validation's confusion matrix and the attention on some of its sequences.

    As PNG files in `folder`, which keep the newest, and into TensorBoard, which keeps all.

    Args:
        folder: where the PNG files go.
        every_n_epochs: how often to draw, besides at the end of training.
    """

    def __init__(self, folder: Path, every_n_epochs: int) -> None:
        self.folder = folder
        self.every_n_epochs = every_n_epochs

        self.confusion: MulticlassConfusionMatrix | None = None  # there is nothing new to draw

    def on_validation_epoch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        assert isinstance(module, ClassificationModule)
        self.label_names = module.label_names
        self.confusion = MulticlassConfusionMatrix(len(self.label_names)).to(module.device)
        self.attention: dict[int, tuple[str, Tensor]] = {}

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: dict[str, Any],
        batch: SequenceBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
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
                title = f"row {row}: {as_label(self.label_names[int(batch.targets[position])])}"
                if predictions[position] != batch.targets[position]:
                    title += f", said {as_label(self.label_names[int(predictions[position])])}"
                length = int(batch.lengths[position])
                self.attention[row] = (title, outputs["attention"][position, :length].cpu())

    def on_validation_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if not trainer.sanity_checking and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer)

    def on_train_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._draw(trainer)

    def _draw(self, trainer: lightning.Trainer) -> None:
        confusion, self.confusion = self.confusion, None
        if confusion is None:
            return
        confusion.compute()  # on all ranks, as it gathers from all
        if not trainer.is_global_zero:
            return
        figures: dict[str, Figure] = {
            "confusion_matrix": draw_confusion_matrix(confusion, self.label_names, "validation")
        }
        if self.attention:
            figures["attention"] = draw_attention(
                [self.attention[row] for row in sorted(self.attention)], "validation"
            )
        self.folder.mkdir(exist_ok=True)
        for name, figure in figures.items():
            pixels = render(figure)  # once: it takes longer than many a step of training
            imsave(self.folder / f"{name}.png", pixels)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(
                        f"val/{name}", pixels, trainer.global_step, dataformats="HWC"
                    )
