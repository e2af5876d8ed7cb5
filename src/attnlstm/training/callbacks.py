"""What happens beside the steps: the progress bar and the figures."""

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from attnlstm.data import SequenceBatch
from attnlstm.training.figures import as_label, draw_attention, draw_confusion_matrix, render
from attnlstm.training.module import ClassificationModule

SEQUENCES_SHOWN = 12


class ProgressBar(RichProgressBar):
    """Lightning's, drawn a few times a second and without the logger's version number."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)

    def get_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {k: v for k, v in super().get_metrics(*args, **kwargs).items() if k != "v_num"}


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
            "confusion_matrix": draw_confusion_matrix(confusion, self.label_names)
        }
        if self.attention:
            figures["attention"] = draw_attention(
                [self.attention[row] for row in sorted(self.attention)]
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
