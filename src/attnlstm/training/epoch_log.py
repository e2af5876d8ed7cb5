"""Log lines about the progress of training: one per validation, and the best epoch."""

import logging
import math
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from attnlstm.training.metrics import MAIN_METRIC
from attnlstm.training.module import ClassificationModule

logger = logging.getLogger(__name__)

LINES_WITHOUT_VALIDATION = 10


class EpochLog(Callback):
    """Log a line after each validation, and at the end which epoch validated best.

    Without validation, log a line for every tenth of the epochs. Epochs count from 1; `title`
    begins each line. This callback must come after a progress bar, which the last line would
    disturb. With a progress bar, `writes_lines` is off: only the last line is logged.
    """

    def __init__(
        self, monitor: str, lower_is_better: bool, writes_lines: bool, validates: bool, title: str
    ) -> None:
        self.monitor = monitor
        self.lower_is_better = lower_is_better
        self.writes_lines = writes_lines
        self.validates = validates
        self.title = title

        self.last_epoch = 0  # the last one validated; 0: none yet
        self.best_epoch = 0
        self.best_step = 0
        self.best: dict[str, float] = {}  # metrics of the best epoch

    def state_dict(self) -> dict[str, Any]:
        names = ("last_epoch", "best_epoch", "best_step", "best")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.last_epoch = trainer.current_epoch + 1
        assert isinstance(module, ClassificationModule)
        main = f"val/{MAIN_METRIC[module.task]}"
        names = dict.fromkeys([self.monitor, "val/loss", main])
        metrics = {name: float(trainer.callback_metrics[name]) for name in names}
        if self._is_best(metrics[self.monitor]):
            self.best_epoch, self.best = self.last_epoch, metrics
            self.best_step = trainer.global_step
        parts = [f"val {_describe(name, value)}" for name, value in metrics.items()]
        if self.best_epoch:
            parts.append(f"best epoch {self.best_epoch}")
        self._write_line(trainer, module, parts)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.validates:
            return
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or -1
        every = math.ceil(last / LINES_WITHOUT_VALIDATION) if last > 0 else LINES_WITHOUT_VALIDATION
        if epoch % every == 0 or epoch == last:
            self._write_line(trainer, module, [])

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if stage != "fit" or not self.best_epoch or not trainer.is_global_zero:
            return
        logger.info(
            "%svalidation was best in epoch %d of %d: %s",
            self.title,
            self.best_epoch,
            max(self.best_epoch, trainer.current_epoch),
            ", ".join(_describe(name, value) for name, value in self.best.items()),
        )
        if 2 * self.best_epoch <= self.last_epoch:
            logger.warning(
                "%sthe second half of training did not improve the validation: "
                "budget.steps=%d takes half the time or less",
                self.title,
                self.best_step,
            )

    def _is_best(self, value: float) -> bool:
        if not self.best_epoch:
            return not math.isnan(value)
        best = self.best[self.monitor]
        return value < best if self.lower_is_better else value > best

    def _write_line(self, trainer: Trainer, module: LightningModule, parts: list[str]) -> None:
        assert isinstance(module, ClassificationModule)
        # The mean over the rows of the running epoch; all processes have to call reduce.
        loss = trainer.strategy.reduce(module.loss_sum / module.rows_seen, reduce_op="mean")
        if self.writes_lines and trainer.is_global_zero:
            epoch, last = f"epoch {trainer.current_epoch + 1}", trainer.max_epochs or -1
            logger.info(
                "%s%s, step %d: %s",
                self.title,
                f"{epoch}/{last}" if last > 0 else epoch,  # otherwise steps or time are the limit
                trainer.global_step,
                ", ".join([f"train loss {float(loss):.3f}", *parts]),
            )


def _describe(name: str, value: float) -> str:
    """Return a text such as "loss 0.431", "accuracy 0.8889" or "macro f1 0.8712"."""
    digits = 3 if name.endswith("loss") else 4
    return f"{name.removeprefix('val/').replace('_', ' ')} {value:.{digits}f}"
