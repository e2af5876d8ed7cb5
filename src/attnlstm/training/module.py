"""The LightningModule that trains, validates and tests the classifier."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.plugins.precision import FSDPPrecision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection
from torchmetrics.utilities.distributed import gather_all_tensors

from attnlstm.checkpoint.calibration import CALIBRATION_KEY, EQUAL_WEIGHT
from attnlstm.checkpoint.classifier import build_configured
from attnlstm.checkpoint.content import FORMAT_KEY, FORMAT_VERSION
from attnlstm.checkpoint.load import TrainedModel
from attnlstm.config.data import Task
from attnlstm.data.batches import SequenceBatch
from attnlstm.data.encoders.encoding import encoder_from_dict
from attnlstm.errors import UserError
from attnlstm.nn import Classification, SequenceClassifier
from attnlstm.nn.ensemble import combine, members_of
from attnlstm.nn.head import at_least_float32, predict
from attnlstm.training.metrics import (
    MacroAUROC,
    MeanAveragePrecision,
    build_metrics,
    set_thresholds,
)
from attnlstm.training.objective import Objective
from attnlstm.training.optimization import configure, reads_validation

logger = logging.getLogger(__name__)

NGRAM_LR_FACTOR = 10.0
"""How many times the learning rate of the other parameters that of the n-grams is."""


class ClassificationModule(LightningModule):
    """Trains a classifier; its hyperparameters make a checkpoint complete.

    Args:
        config: of the run, a `TrainConfig` as plain containers.
        label_names: the classes in the order of their numbers, or the names of the numbers that a
            regression predicts.
        class_counts: number of training rows of each class, or with each number.
        encoder: of the rows, see its `to_dict`.
        trained_on: the parts of the data that "train" consists of, such as "validation".
        folds: the fold of each training row, `[row]`. Member i of the ensemble is then trained on
            all rows except those of fold i, and validated on those: the validation rows are the
            training rows. None: every member is trained on every row.

    Raises:
        UserError: the classifier cannot be built as configured.
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
        self.task: Task = config["task"]
        self.classifier = build_configured(
            config["model"], self.encoder, len(label_names), self.task
        )
        # Until they are fitted to validation rows, see training.calibrate:
        self.temperature = 1.0
        self.thresholds: Tensor | None = None  # of several classes
        self.objective = Objective(self.task, config["loss"], class_counts)
        metrics = build_metrics(self.task, len(label_names))
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        # Sums over the running epoch, which a checkpoint in the middle of it can hold.
        self.loss_sum: Tensor
        self.register_buffer("loss_sum", torch.zeros(()), persistent=False)
        self.rows_seen = 0
        self.rows_of_step: list[Tensor] = []  # since the optimizer's last step
        # Of validation rows, by member and row: an expert that is not trained answers only once.
        self.expert_logits: dict[int, dict[int, Tensor]] = defaultdict(dict)

    @property
    def members(self) -> list[SequenceClassifier]:
        """The classifiers of the ensemble, or the only classifier."""
        return members_of(self.classifier)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Classification:
        """Classify `[batch, time]` tokens or `[batch, time, feature]` steps.

        The logits are calibrated: unlike those of `classifier`, divided by the temperature.
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
        """Return the mean of the members' losses, each on the rows that it is trained on."""
        batches = [batch] * len(self.members)
        if self.folds is not None:
            folds = self.folds[batch.rows]
            batches = [select_rows(batch, folds != fold) for fold in range(len(self.members))]
        pairs = zip(self.members, batches, strict=True)
        return torch.stack([self._member_loss(*pair) for pair in pairs]).mean()

    def _member_loss(self, member: SequenceClassifier, batch: SequenceBatch) -> Tensor:
        """Return the loss of a member; with several experts, the sum of their losses.

        Each expert learns by itself: from the loss of their mean, the LSTM would learn what the
        n-grams leave over, and contribute little of its own on other texts.
        """
        if len(batch.targets) == 0:  # all rows of the batch are the member's validation rows
            return sum_of_zeros(member)
        answer = member(batch.inputs, batch.lengths)
        logits = answer.experts or (answer.logits,)
        return torch.stack([self.compute_loss(item, batch.targets) for item in logits]).sum()

    def _validate_member(self, number: int, batch: SequenceBatch) -> Classification:
        """Classify validation rows; the logits of an untrained expert are computed only once."""
        member = self.members[number]
        if member.expert is None or member.expert.is_trained:
            answer: Classification = member(batch.inputs, batch.lengths)
            return answer
        known, rows = self.expert_logits[number], batch.rows.tolist()
        if not known.keys() >= set(rows):
            known.update(zip(rows, member.expert(batch.inputs, batch.lengths), strict=True))
        return member(batch.inputs, batch.lengths, torch.stack([known[row] for row in rows]))

    def _validate_by_fold(self, batch: SequenceBatch, folds: Tensor) -> Classification:
        """Classify each training row by the one member that is not trained on it."""
        row_folds = folds[batch.rows]  # [batch]
        order, answers = [], []
        for fold in range(len(self.members)):
            wanted = row_folds == fold
            if wanted.any():
                order.append(wanted.nonzero().squeeze(1))
                rows = select_rows(batch, wanted, keep_time=True)
                answers.append(self._validate_member(fold, rows))
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
        """Clip as Lightning does, and stop if the loss or a gradient is NaN or infinite.

        Raises:
            UserError: it names the step and the rows; the step has not changed the weights.
        """
        plugin = self.trainer.precision_plugin
        scaler = getattr(plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # a fused optimizer would do so only in its step
        parameters = list(plugin.main_params(optimizer))
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        # The scaler of float16 skips the steps of infinite gradients by itself.
        is_finite = torch.isfinite(self.loss_sum + norm if scaler is None else self.loss_sum)
        # All processes stop together: otherwise the others would wait for the one that stops.
        if self.trainer.strategy.reduce_boolean_decision(not is_finite, all=False):
            taken = torch.cat(self.rows_of_step).to(self.device)
            if self.trainer.world_size > 1:
                taken = torch.cat(gather_all_tensors(taken))
            rows = ", ".join(map(str, taken.tolist()))
            if not self.trainer.is_global_zero:
                raise SystemExit(2)  # the first process raises the error
            raise UserError(
                f"the loss or a gradient is NaN or infinite in step {self.trainer.global_step}, "
                f"training rows {rows}: look at these rows, or lower optimizer.lr; "
                "trainer.detect_anomaly=true names the operation"
            )
        self.rows_of_step.clear()
        if isinstance(plugin, FSDPPrecision):  # each process has only a part of the gradients
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        elif gradient_clip_val:
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def on_train_epoch_end(self) -> None:
        loss = self.loss_sum / self.rows_seen
        self.log("train/loss", loss, prog_bar=True, sync_dist=True, batch_size=self.rows_seen)
        self.loss_sum, self.rows_seen = torch.zeros_like(self.loss_sum), 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[FORMAT_KEY] = FORMAT_VERSION
        checkpoint[CALIBRATION_KEY] = None  # it is fitted after training, see training.calibrate
        checkpoint["train_loss"] = {"loss_sum": self.loss_sum, "rows_seen": self.rows_seen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if any(weight.dtype == torch.float64 for weight in checkpoint["state_dict"].values()):
            self.double()  # Lightning does it too late: these weights would be rounded
        # Checkpoints of version 0.1 have neither of these two.
        self.set_calibration(checkpoint.get(CALIBRATION_KEY))
        if "train_loss" in checkpoint:
            self.loss_sum = checkpoint["train_loss"]["loss_sum"].to(self.loss_sum.device)
            self.rows_seen = checkpoint["train_loss"]["rows_seen"]

    def set_calibration(self, calibration: Mapping[str, Any] | None) -> None:
        """Use the fields of a `Calibration`; None: uncalibrated."""
        fields = calibration or {}
        self.temperature = fields.get("temperature", 1.0)
        self.thresholds = fields.get("thresholds")
        set_thresholds(self.test_metrics, self.thresholds)
        for member in self.members:
            member.expert_weight = fields.get("expert_weight", EQUAL_WEIGHT)

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        # These logits are not calibrated: the calibration is fitted to them.
        if self.folds is not None:
            answers = [self._validate_by_fold(batch, self.folds)]
        else:
            answers = [self._validate_member(number, batch) for number in range(len(self.members))]
        classification = combine(answers, self.task)
        loss = self.compute_loss(classification.logits, batch.targets)
        outputs = self._evaluate(batch, classification, loss, self.val_metrics)
        # The scale of the fixed convolutions' logits is already fitted, by leaving rows out. That
        # of the n-grams depends on how long they are trained: validation rows have to decide it.
        expert = self.members[0].expert
        if expert is not None and expert.is_trained:
            experts = [torch.stack(answer.experts, dim=1) for answer in answers]
            outputs["experts"] = torch.stack(experts, dim=1)  # [batch, member, 2, class]
        return outputs

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        classification = self(batch.inputs, batch.lengths)
        scale = self.members[0].target_scale
        loss = self.objective.plain(classification.logits, batch.targets, scale)
        return self._evaluate(batch, classification, loss, self.test_metrics)

    def _evaluate(
        self, batch: SequenceBatch, answer: Classification, loss: Tensor, metrics: MetricCollection
    ) -> dict[str, Any]:
        """Update the metrics, and return the logits and the attention for the callbacks."""
        metrics.update(predict(at_least_float32(answer.logits), self.task), batch.targets)
        name, size = f"{metrics.prefix}loss", len(batch.targets)
        self.log(name, loss, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=size)
        return {"logits": answer.logits, "attention": answer.attention}

    # Not after each batch: logging four metrics takes as long as a small batch.

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics, prog_bar=True)

    def on_validation_end(self) -> None:
        """Show the new metric to a schedule that reads it: Lightning would do so once an epoch."""
        trainer, monitor = self.trainer, self.config["scheduler"].get("monitor")
        is_of_fit = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if is_of_fit and reads_validation(monitor):
            scheduler: Any = self.lr_schedulers()
            scheduler.step(trainer.callback_metrics[monitor])

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.test_metrics)

    def teardown(self, stage: str) -> None:
        if stage != "test" or not self.trainer.is_global_zero:
            return
        for metric in self.test_metrics.values():
            if isinstance(metric, MacroAUROC | MeanAveragePrecision):
                left_out = metric.describe_left_out(self.label_names)
                if left_out is not None:
                    logger.info("%s", left_out)

    def compute_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of training, see `Objective`."""
        return self.objective(logits, targets, self.members[0].target_scale)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters in two groups: few rows have a gradient for those of n-grams."""
        named = dict(self.named_parameters())
        # n-grams are the only expert with parameters
        ngrams = [parameter for name, parameter in named.items() if ".expert." in f".{name}"]
        others = [parameter for name, parameter in named.items() if ".expert." not in f".{name}"]
        groups: list[dict[str, Any]] = [{"params": others}]
        if ngrams:
            groups.append({"params": ngrams, "lr_factor": NGRAM_LR_FACTOR, "weight_decay": 0.0})
        return groups

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return configure(
            self._parameter_groups(),
            self.config,
            total_steps=self.trainer.estimated_stepping_batches,
            epochs=self.trainer.max_epochs,
        )


def restore_module(trained: TrainedModel) -> ClassificationModule:
    """Return the training module of a checkpoint, for Lightning to test or train."""
    module = ClassificationModule(**trained.arguments)
    module.classifier = trained.classifier
    if trained.calibration is not None:
        module.set_calibration(trained.calibration._asdict())
    return module


def select_rows(batch: SequenceBatch, wanted: Tensor, keep_time: bool = False) -> SequenceBatch:
    """Return the rows of a batch for which `wanted` `[batch]` is True.

    They are cut to the longest of them, unless `keep_time`.
    """
    if bool(wanted.all()):
        return batch
    lengths = batch.lengths[wanted.to(batch.lengths.device)]
    inputs = batch.inputs[wanted]
    if len(lengths) and not keep_time:
        inputs = inputs[:, : int(lengths.max())]
    return SequenceBatch(inputs, lengths, batch.targets[wanted], batch.rows[wanted])


def sum_of_zeros(module: nn.Module) -> Tensor:
    """Return a zero that depends on all parameters, so that each of them gets a gradient."""
    return torch.stack([(parameter * 0).sum() for parameter in module.parameters()]).sum()
