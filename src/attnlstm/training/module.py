"""The LightningModule: what a step, a validation and a test of the classifier are."""

import logging
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.precision import FSDPPrecision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim import Optimizer
from torchmetrics import MetricCollection
from torchmetrics.utilities.distributed import gather_all_tensors

from attnlstm.data import SequenceBatch, encoder_from_dict
from attnlstm.errors import UserError
from attnlstm.nn import Classification, SequenceClassifier
from attnlstm.training.checkpoint_content import FORMAT_KEY, FORMAT_VERSION
from attnlstm.training.classifier import at_least_float32, build_classifier, members_of
from attnlstm.training.metrics import MacroAUROC, classification_metrics
from attnlstm.training.optimization import configure

logger = logging.getLogger(__name__)


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
        # Of the running epoch; plain sums, which a checkpoint in the middle of it can hold.
        self.loss_sum: Tensor
        self.register_buffer("loss_sum", torch.zeros(()), persistent=False)
        self.rows_seen = 0
        self.rows_of_step: list[Tensor] = []  # since the optimizer's last step

    @property
    def members(self) -> list[SequenceClassifier]:
        """The classifiers of the ensemble; without one, the classifier alone."""
        return members_of(self.classifier)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Classification:
        """Classify `[batch, time]` tokens or `[batch, time, feature]` steps, see the classifier."""
        return self.classifier(inputs, lengths)

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        losses = [
            self.compute_loss(member(batch.inputs, batch.lengths).logits, batch.targets)
            for member in self.members
        ]
        loss = torch.stack(losses).mean()
        self.loss_sum = self.loss_sum + loss.detach() * len(batch.targets)
        self.rows_seen += len(batch.targets)
        self.rows_of_step.append(batch.rows)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does, and stop at a loss or a gradient that is no longer a number.

        Raises:
            UserError: it names the step and the rows; the weights are as they were before the step.
        """
        plugin = self.trainer.precision_plugin
        scaler = getattr(plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # a fused optimizer would do so in its step, after this
        parameters = list(plugin.main_params(optimizer))
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        # The scaler of float16 finds infinite gradients by itself, and leaves their steps out.
        is_finite = torch.isfinite(self.loss_sum + norm if scaler is None else self.loss_sum)
        # All processes stop together: one alone would leave the others waiting for it.
        if self.trainer.strategy.reduce_boolean_decision(not is_finite, all=False):
            taken = torch.cat(self.rows_of_step).to(self.device)
            if self.trainer.world_size > 1:
                taken = torch.cat(gather_all_tensors(taken))
            rows = ", ".join(map(str, taken.tolist()))
            if not self.trainer.is_global_zero:
                raise SystemExit(2)  # the first process says why
            raise UserError(
                f"the loss or a gradient is NaN or infinite in step {self.trainer.global_step}, "
                f"training rows {rows}: look at these rows, or lower optimizer.lr; "
                "trainer.detect_anomaly=true names the operation"
            )
        self.rows_of_step.clear()
        if isinstance(plugin, FSDPPrecision):  # each process sees a part of the gradients only
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        elif gradient_clip_val:
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def on_train_epoch_end(self) -> None:
        self.log(
            "train/loss",
            self.loss_sum / self.rows_seen,
            prog_bar=True,
            sync_dist=True,
            batch_size=self.rows_seen,
        )
        self.loss_sum, self.rows_seen = torch.zeros_like(self.loss_sum), 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[FORMAT_KEY] = FORMAT_VERSION
        checkpoint["train_loss"] = {"loss_sum": self.loss_sum, "rows_seen": self.rows_seen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if any(weight.dtype == torch.float64 for weight in checkpoint["state_dict"].values()):
            self.double()  # which Lightning does too late: these weights would be rounded
        if "train_loss" in checkpoint:  # not in those of version 0.1
            self.loss_sum = checkpoint["train_loss"]["loss_sum"].to(self.loss_sum.device)
            self.rows_seen = checkpoint["train_loss"]["rows_seen"]

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
        metrics.update(logits.softmax(dim=1), batch.targets)
        self.log(
            loss_name,
            loss,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=len(batch.targets),
        )
        return classification._asdict()

    # At the end, and not with each batch: logging four metrics takes as long as a small batch.

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics, prog_bar=True)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.test_metrics)

    def teardown(self, stage: str) -> None:
        auroc = self.test_metrics["auroc"]
        assert isinstance(auroc, MacroAUROC)
        left_out = auroc.describe_left_out(self.label_names) if stage == "test" else None
        if left_out is not None and self.trainer.is_global_zero:
            logger.info("%s", left_out)

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
