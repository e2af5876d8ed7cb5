"""How training goes, in lines for the log: one a validation, and which epoch was best."""

import logging
import math
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from attnlstm.training.module import ClassificationModule

logger = logging.getLogger(__name__)

LINES_WITHOUT_VALIDATION = 10


class EpochLog(Callback):
    """Logs a line after each validation, and at the end which epoch validated best.

    Without validation it is a line for each tenth of the epochs. Epochs count from 1. The order of
    the callbacks matters: after a progress bar, whose terminal the last line would disturb.

    Args:
        monitor: what says which epoch is best, such as "val/loss".
        lower_is_better: whether the best value is the smallest one.
        writes_lines: whether there are lines but the last one.
        validates: whether there are validations.
        title: what each line begins with.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        lower_is_better: bool = True,
        writes_lines: bool = True,
        validates: bool = True,
        title: str = "",
    ) -> None:
        self.monitor = monitor
        self.lower_is_better = lower_is_better
        self.writes_lines = writes_lines
        self.validates = validates
        self.title = title

        self.last_epoch = 0  # that was validated; none yet
        self.best_epoch = 0  # the same
        self.best_step = 0
        self.best: dict[str, float] = {}  # its metrics

    def state_dict(self) -> dict[str, Any]:
        names = ("last_epoch", "best_epoch", "best_step", "best")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_validation_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        if trainer.sanity_checking:
            return
        self.last_epoch = trainer.current_epoch + 1
        names = dict.fromkeys([self.monitor, "val/loss", "val/accuracy"])
        found = {name: float(trainer.callback_metrics[name]) for name in names}
        if self._is_best(found[self.monitor]):
            self.best_epoch, self.best = trainer.current_epoch + 1, found
            self.best_step = trainer.global_step
        parts = [f"train loss {_train_loss(trainer, module):.3f}"]
        parts += [f"val {_describe(name, value)}" for name, value in found.items()]
        if self.best_epoch:
            parts.append(f"best epoch {self.best_epoch}")
        self._write_line(trainer, parts)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        if self.validates:
            return
        loss, epoch, last = _train_loss(trainer, module), trainer.current_epoch + 1, _last(trainer)
        every = LINES_WITHOUT_VALIDATION
        if last is not None:
            every = math.ceil(last / LINES_WITHOUT_VALIDATION)
        if epoch % every == 0 or epoch == last:
            self._write_line(trainer, [f"train loss {loss:.3f}"])

    def teardown(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str
    ) -> None:
        if stage != "fit" or not self.best_epoch or not trainer.is_global_zero:
            return
        epochs = max(self.best_epoch, trainer.current_epoch)
        logger.info(
            "%svalidation was best in epoch %d of %d: %s",
            self.title,
            self.best_epoch,
            epochs,
            ", ".join(_describe(name, value) for name, value in self.best.items()),
        )
        if 2 * self.best_epoch <= self.last_epoch:
            logger.warning(
                "%sthe second half of the training made the validation no better: "
                "budget.steps=%d takes half the time or less",
                self.title,
                self.best_step,
            )

    def _is_best(self, value: float) -> bool:
        if not self.best_epoch:
            return not math.isnan(value)
        best = self.best[self.monitor]
        return value < best if self.lower_is_better else value > best

    def _write_line(self, trainer: lightning.Trainer, parts: list[str]) -> None:
        if self.writes_lines and trainer.is_global_zero:
            last = _last(trainer)
            epoch = f"epoch {trainer.current_epoch + 1}" + (f"/{last}" if last else "")
            logger.info(
                "%s%s, step %d: %s", self.title, epoch, trainer.global_step, ", ".join(parts)
            )


def _last(trainer: lightning.Trainer) -> int | None:
    """The last epoch that there can be, None where steps or the time limit the training."""
    epochs = trainer.max_epochs
    return epochs if epochs is not None and epochs > 0 else None


def _train_loss(trainer: lightning.Trainer, module: lightning.LightningModule) -> float:
    """The mean over the rows of the running epoch, on all processes, which all have to ask."""
    assert isinstance(module, ClassificationModule)
    loss = module.loss_sum / module.rows_seen
    return float(trainer.strategy.reduce(loss, reduce_op="mean"))


def _describe(name: str, value: float) -> str:
    """Such as "loss 0.431", "accuracy 0.8889" or "macro f1 0.8712"."""
    digits = 3 if name.endswith("loss") else 4
    return f"{name.removeprefix('val/').replace('_', ' ')} {value:.{digits}f}"
