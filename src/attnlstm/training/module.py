"""The LightningModule: what a step, a validation and a test of the classifier are."""

import logging
from collections import defaultdict
from collections.abc import Mapping
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

from attnlstm.checkpoint.calibration import CALIBRATION_KEY, EQUAL_WEIGHT
from attnlstm.checkpoint.classifier import build_configured
from attnlstm.checkpoint.content import FORMAT_KEY, FORMAT_VERSION
from attnlstm.checkpoint.load import TrainedModel
from attnlstm.data.batches import SequenceBatch
from attnlstm.data.encoders.encoding import encoder_from_dict
from attnlstm.errors import UserError
from attnlstm.nn import (
    Classification,
    ClassifierEnsemble,
    SequenceClassifier,
)
from attnlstm.nn.classifier import at_least_float32
from attnlstm.nn.ensemble import members_of
from attnlstm.training.metrics import MacroAUROC, classification_metrics
from attnlstm.training.optimization import configure

logger = logging.getLogger(__name__)

NGRAM_LR_FACTOR = 10.0
"""By which the learning rate of n-grams is higher than that of the other parameters."""


class ClassificationModule(lightning.LightningModule):
    """Trains a `SequenceClassifier`; its hyperparameters make a checkpoint complete.

    Args:
        config: the run's configuration as plain containers, see
            `attnlstm.config.schema.TrainConfig`.
        label_names: the classes' names, in the order of their numbers.
        class_counts: the number of training rows of each class.
        encoder: what turned rows into inputs, as its `to_dict` gives it.
        trained_on: the parts of the data that it is trained on: "train", and "validation" too.
        folds: `[row]`, the fold of each training row. Member i of the ensemble is then trained on
            all rows but those of fold i, and validated on those: the validation rows are the
            training rows. None: every member is trained on every row.

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
        folds: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="folds", logger=False)
        self.folds: Tensor | None
        self.register_buffer("folds", folds, persistent=False)
        self.config = config
        self.label_names = label_names
        self.encoder = encoder_from_dict(encoder)
        self.classifier = build_configured(config["model"], self.encoder, len(label_names))
        self.temperature = 1.0  # until validation rows say another, see training.calibration
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
        # Of validation rows, by member and row: an expert that is not trained never changes them.
        self.expert_logits: dict[int, dict[int, Tensor]] = defaultdict(dict)

    @property
    def members(self) -> list[SequenceClassifier]:
        """The classifiers of the ensemble; without one, the classifier alone."""
        return members_of(self.classifier)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Classification:
        """Classify `[batch, time]` tokens or `[batch, time, feature]` steps, see the classifier.

        These logits are calibrated, divided by the temperature; those of `classifier` are not.
        """
        answer = self.classifier(inputs, lengths)
        return answer._replace(logits=at_least_float32(answer.logits) / self.temperature)

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        loss = self.training_loss(batch)
        self.loss_sum = self.loss_sum + loss.detach() * len(batch.targets)
        self.rows_seen += len(batch.targets)
        self.rows_of_step.append(batch.rows)
        return loss

    def training_loss(self, batch: SequenceBatch) -> Tensor:
        """The mean of the members' losses on a batch."""
        losses = [
            self._member_loss(member, batch if self.folds is None else self._without(batch, fold))
            for fold, member in enumerate(self.members)
        ]
        return torch.stack(losses).mean()

    def _member_loss(self, member: SequenceClassifier, batch: SequenceBatch) -> Tensor:
        """The loss of a member on its rows of a batch."""
        if len(batch.targets) == 0:  # all of the batch are the member's validation rows
            return sum_of_zeros(member)
        return self._expert_loss(member(batch.inputs, batch.lengths), batch.targets)

    def _expert_loss(self, answer: Classification, targets: Tensor) -> Tensor:
        """The loss of the logits; where they are those of several experts, the sum of their own.

        Each expert learns by itself: of the loss of the mean, the LSTM would learn what the
        n-grams leave over, and have little of its own to add on other texts.
        """
        logits = answer.experts or (answer.logits,)
        return torch.stack([self.compute_loss(item, targets) for item in logits]).sum()

    def _ask(self, number: int, batch: SequenceBatch) -> Classification:
        """A member's answer on validation rows; what its fixed expert says is computed once."""
        member = self.members[number]
        if member.expert is None or member.expert.is_trained:
            answer: Classification = member(batch.inputs, batch.lengths)
            return answer
        known, rows = self.expert_logits[number], batch.rows.tolist()
        if not known.keys() >= set(rows):
            known.update(zip(rows, member.expert(batch.inputs, batch.lengths), strict=True))
        return member(batch.inputs, batch.lengths, torch.stack([known[row] for row in rows]))

    def _without(self, batch: SequenceBatch, fold: int) -> SequenceBatch:
        """The rows of a training batch that are not in this fold."""
        assert self.folds is not None
        return select_rows(batch, self.folds[batch.rows] != fold)

    def _out_of_fold(self, batch: SequenceBatch) -> Classification:
        """Each training row classified by the one member that is not trained on it."""
        assert self.folds is not None
        folds = self.folds[batch.rows]  # [batch]
        order, answers = [], []
        for fold in range(len(self.members)):
            wanted = folds == fold
            if wanted.any():
                part = select_rows(batch, wanted, keep_time=True)
                order.append(wanted.nonzero().squeeze(1))
                answers.append(self._ask(fold, part))
        back = torch.cat(order).argsort()
        logits = torch.cat([answer.logits for answer in answers])[back]
        weights = [answer.attention for answer in answers if answer.attention is not None]
        attention = torch.cat(weights)[back] if weights else None
        by_expert = zip(*(answer.experts for answer in answers), strict=True)
        experts = tuple(torch.cat(logits)[back] for logits in by_expert)
        return Classification(logits, attention, experts)

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
        checkpoint[CALIBRATION_KEY] = None  # that comes after the training, see training.calibrate
        checkpoint["train_loss"] = {"loss_sum": self.loss_sum, "rows_seen": self.rows_seen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if any(weight.dtype == torch.float64 for weight in checkpoint["state_dict"].values()):
            self.double()  # which Lightning does too late: these weights would be rounded
        self.calibrate(checkpoint.get(CALIBRATION_KEY))  # not in those of version 0.1
        if "train_loss" in checkpoint:  # not in those of version 0.1
            self.loss_sum = checkpoint["train_loss"]["loss_sum"].to(self.loss_sum.device)
            self.rows_seen = checkpoint["train_loss"]["rows_seen"]

    def calibrate(self, calibration: Mapping[str, Any] | None) -> None:
        """Answer as the fields of a `Calibration` say; None: uncalibrated."""
        fields = calibration or {}
        self.temperature = fields.get("temperature", 1.0)
        for member in self.members:
            member.expert_weight = fields.get("expert_weight", EQUAL_WEIGHT)

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        # uncalibrated: the calibration is fitted to these logits
        if self.folds is not None:
            answers = [self._out_of_fold(batch)]
        else:
            answers = [self._ask(number, batch) for number in range(len(self.members))]
        classification = ClassifierEnsemble.combine(answers)
        loss = self.compute_loss(classification.logits, batch.targets)
        outputs = self._evaluation_step(batch, classification, self.val_metrics, "val/loss", loss)
        # The scale of the fixed convolutions' logits is already fitted, by leaving rows out. That
        # of the n-grams depends on how long they are trained: validation rows have to say it.
        expert = self.members[0].expert
        is_weighted = expert is not None and expert.is_trained
        of_experts = [torch.stack(answer.experts, dim=1) for answer in answers if is_weighted]
        none = classification.logits.new_empty(len(batch.targets), 0, 2, len(self.label_names))
        return outputs | {"experts": torch.stack(of_experts, dim=1) if of_experts else none}

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        classification = self(batch.inputs, batch.lengths)
        # the plain log loss: label smoothing would say that sharper, better probabilities are worse
        loss = F.cross_entropy(classification.logits, batch.targets)
        return self._evaluation_step(batch, classification, self.test_metrics, "test/loss", loss)

    def _evaluation_step(
        self,
        batch: SequenceBatch,
        classification: Classification,
        metrics: MetricCollection,
        loss_name: str,
        loss: Tensor,
    ) -> dict[str, Any]:
        """Update the metrics; callbacks get the returned logits and attention as `outputs`."""
        logits = at_least_float32(classification.logits)
        metrics.update(logits.softmax(dim=1), batch.targets)
        self.log(
            loss_name,
            loss,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=len(batch.targets),
        )
        return {"logits": classification.logits, "attention": classification.attention}

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

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters, those of n-grams, which rows seldom move, in a group of their own."""
        named = list(self.named_parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in named if not is_of_ngrams(name)]}
        ]
        of_ngrams = [p for name, p in named if is_of_ngrams(name)]
        if of_ngrams:
            groups.append({"params": of_ngrams, "lr_factor": NGRAM_LR_FACTOR, "weight_decay": 0.0})
        return groups

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return configure(
            self._parameter_groups(),
            self.config,
            total_steps=self.trainer.estimated_stepping_batches,
            epochs=self.trainer.max_epochs,
            validated_every=self.trainer.check_val_every_n_epoch or 1,
        )


def restore_module(trained: TrainedModel) -> ClassificationModule:
    """The training module around the classifier of a checkpoint, for Lightning to test or train."""
    module = ClassificationModule(**trained.arguments)
    module.classifier = trained.classifier
    module.temperature = trained.temperature
    return module


def is_of_ngrams(name: str) -> bool:
    """Whether a parameter is one of an `NgramClassifier`, the only expert that has any."""
    return ".expert." in f".{name}"


def select_rows(batch: SequenceBatch, wanted: Tensor, keep_time: bool = False) -> SequenceBatch:
    """The rows of a batch for which `wanted` `[batch]` is True.

    The steps end with the longest of them, unless `keep_time`.
    """
    if bool(wanted.all()):
        return batch
    lengths = batch.lengths[wanted.to(batch.lengths.device)]
    inputs = batch.inputs[wanted]
    if len(lengths) and not keep_time:
        inputs = inputs[:, : int(lengths.max())]
    return SequenceBatch(inputs, lengths, batch.targets[wanted], batch.rows[wanted])


def sum_of_zeros(module: nn.Module) -> Tensor:
    """A zero that depends on all parameters, so that each of them gets a gradient."""
    return torch.stack([(parameter * 0).sum() for parameter in module.parameters()]).sum()


def balanced_class_weights(class_counts: list[int]) -> Tensor:
    """Weights inversely proportional to the classes' rows, 1 on average over the rows.

    rows / (classes * count), as scikit-learn's class_weight="balanced".
    """
    counts = torch.tensor(class_counts, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)
