"""The LightningModule: what a step, a validation and a test of the classifier are."""

from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)

from attnlstm.data import SequenceBatch, encoder_from_dict
from attnlstm.nn import Classification, SequenceClassifier
from attnlstm.training.checkpoint_content import FORMAT_KEY, FORMAT_VERSION
from attnlstm.training.classifier import at_least_float32, build_classifier, members_of
from attnlstm.training.optimization import configure


class ClassificationModule(lightning.LightningModule):
    """Trains a `SequenceClassifier`; its hyperparameters make a checkpoint complete.

    Args:
        config: the run's configuration as plain containers, see `attnlstm.config.TrainConfig`.
        label_names: the classes' names, in the order of their numbers.
        class_counts: the number of training rows of each class.
        encoder: what turned rows into inputs, as its `to_dict` gives it.
        trained_on: the parts of the data that it is trained on: "train", and "validation" too.

    Raises:
        UserError: the LSTM cannot be built as configured.
    """

    def __init__(
        self,
        config: dict[str, Any],
        label_names: list[str],
        class_counts: list[int],
        encoder: dict[str, Any],
        trained_on: list[str],
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.config = config
        self.label_names = label_names
        self.encoder = encoder_from_dict(encoder)
        self.classifier = build_classifier(config["model"], self.encoder, len(label_names))
        is_balanced = config["loss"]["class_weights"] == "balanced"
        class_weights = balanced_class_weights(class_counts) if is_balanced else None
        self.register_buffer("class_weights", class_weights, persistent=False)
        metrics = classification_metrics(len(label_names))
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")

    @property
    def members(self) -> list[SequenceClassifier]:
        """The classifiers of the ensemble; without one, the classifier alone."""
        return members_of(self.classifier)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[FORMAT_KEY] = FORMAT_VERSION

    def forward(self, inputs: Tensor, lengths: Tensor) -> Classification:
        """Classify `[batch, time]` tokens or `[batch, time, feature]` steps, see the classifier."""
        return self.classifier(inputs, lengths)

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        losses = [
            self.compute_loss(member(batch.inputs, batch.lengths).logits, batch.targets)
            for member in self.members
        ]
        loss = torch.stack(losses).mean()
        self.log(
            "train/loss",
            loss,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=len(batch.targets),
        )
        return loss

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        return self._evaluation_step(batch, self.val_metrics, "val/loss")

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        return self._evaluation_step(batch, self.test_metrics, "test/loss")

    def _evaluation_step(
        self, batch: SequenceBatch, metrics: MetricCollection, loss_name: str
    ) -> dict[str, Any]:
        """Update the metrics; callbacks get the returned logits and attention as `outputs`."""
        classification = self(batch.inputs, batch.lengths)
        logits = at_least_float32(classification.logits)
        loss = self.compute_loss(logits, batch.targets)
        # Rounded, so that what the backends' last digits differ in does not break ties in AUROC.
        metrics.update(logits.softmax(dim=1).round(decimals=5), batch.targets)
        self.log(
            loss_name,
            loss,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=len(batch.targets),
        )
        self.log_dict(metrics, on_epoch=True, batch_size=len(batch.targets))
        return classification._asdict()

    def compute_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy with the configured label smoothing and class weights.

        With a gamma above 0 it is the focal loss (Lin et al., 2017): a row's loss is multiplied by
        (1 - p)^gamma, p the probability of its class, so that rows that are easy count less.
        """
        logits = at_least_float32(logits)
        weights = None
        if isinstance(self.class_weights, Tensor):
            weights = self.class_weights.to(logits.dtype)
        gamma = self.config["loss"]["focal_gamma"]
        loss = F.cross_entropy(
            logits,
            targets,
            weight=weights,
            label_smoothing=self.config["loss"]["label_smoothing"],
            reduction="none" if gamma else "mean",
        )
        if not gamma:
            return loss
        log_p = logits.log_softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)  # [batch]
        # above 0: at 0 the power of a gamma below 1 has no derivative
        rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).eps)  # 1 - p
        total = len(targets) if weights is None else weights[targets].sum()
        return (rest**gamma * loss).sum() / total

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return configure(
            self.parameters(),
            self.config,
            total_steps=self.trainer.estimated_stepping_batches,
            epochs=self.trainer.max_epochs,
        )


def balanced_class_weights(class_counts: list[int]) -> Tensor:
    """Weights inversely proportional to the classes' rows, 1 on average over the rows.

    rows / (classes * count), as scikit-learn's class_weight="balanced".
    """
    counts = torch.tensor(class_counts, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)


def classification_metrics(num_classes: int) -> MetricCollection:
    """What is reported of a validation and of a test; from probabilities and class numbers."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "macro_f1": MulticlassF1Score(num_classes, average="macro"),
            "auroc": MulticlassAUROC(num_classes),
            "calibration_error": MulticlassCalibrationError(num_classes),
        }
    )
