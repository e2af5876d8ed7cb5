"""The newest state of a run in one file, and the signals that ask for it."""

import logging
import os
import shlex
import signal
import threading
import time
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

from attnlstm.training.lightning_internals import (
    begin_epoch_as_any_other,
    count_logged_steps,
    end_epoch_as_any_other,
    get_cluster_environment,
    is_within_epoch,
)
from attnlstm.training.metrics_file import MetricsFile
from attnlstm.training.optimization import RUN_LENGTH
from attnlstm.training.random_state import random_states, set_random_state

logger = logging.getLogger(__name__)


class Moment(StrEnum):
    """When a checkpoint is taken: only where Lightning's loops can go on without a difference."""

    after_batch = "after_batch"  # not the last of an epoch, nor one that a validation follows
    in_validation = "in_validation"  # which is run again from its start
    between_epochs = "between_epochs"


class NewestCheckpoint(Callback):
    """Writes the newest checkpoint, from which a run goes on to the last bit.

    Beside what Lightning puts into any checkpoint it holds, under "resume", the random state,
    gradients that are being accumulated, the metrics that schedulers look at, and how many rows
    metrics.csv had.

    SIGINT, SIGTERM and the signal by which SLURM announces that it takes the machine away let the
    batch come to its end, write a checkpoint and end the run; a second Ctrl-C ends it at once.

    It must be the first callback: what others log at the start of an epoch comes after it.

    Args:
        path: the file, which newer ones replace.
        every_n_epochs: how often to write it, besides at the end.
        every_n_train_steps: also after this many steps of the optimizer.
        every_n_minutes: also after so much time.
        on_signal: whether signals are waited for.
    """

    def __init__(
        self,
        path: Path,
        every_n_epochs: int = 1,
        every_n_train_steps: int | None = None,
        every_n_minutes: float | None = None,
        on_signal: bool = True,
    ) -> None:
        self.path = path
        self.every_n_epochs = every_n_epochs
        self.every_n_train_steps = every_n_train_steps
        self.every_n_minutes = every_n_minutes
        self.on_signal = on_signal

        self.moment: Moment | None = None  # of the checkpoint that is being written
        self.saved: tuple[int, Moment] | None = None  # batches and moment of the newest one
        self.saved_time = time.monotonic()
        self.is_due = False
        self.random_states: list[dict[str, Any]] | None = None  # from before a validation
        self.restored: dict[str, Any] | None = None  # until training starts
        self.signal: int | None = None
        self.handlers: dict[int, Any] = {}  # those before ours

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self.on_signal:
            self._take_signals(trainer)
        if self.restored is not None:
            self._restore(trainer, module, self.restored)
            self.restored = None
        self.saved_time = time.monotonic()

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        epochs = trainer.current_epoch
        self.is_due |= epochs > 0 and epochs % self.every_n_epochs == 0
        self._save_if_wanted(trainer, Moment.between_epochs)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if self.every_n_train_steps and trainer.global_step % self.every_n_train_steps == 0:
            self.is_due = True
        if self.every_n_minutes and time.monotonic() - self.saved_time >= 60 * self.every_n_minutes:
            self.is_due = True
        if is_within_epoch(trainer):
            self._save_if_wanted(trainer, Moment.after_batch)

    def on_validation_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.random_states = random_states()
            self._save_if_wanted(trainer, Moment.in_validation)

    def on_validation_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self._save_if_wanted(trainer, Moment.in_validation)

    def on_validation_end(self, *_: Any) -> None:
        self.random_states = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        end_epoch_as_any_other(trainer)

    def on_train_end(self, *_: Any) -> None:
        self._give_signals_back()

    def on_fit_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if self.restored is None:  # otherwise there was nothing left to train
            self.is_due = True
            self._save_if_wanted(trainer, Moment.between_epochs)
            trainer.strategy.checkpoint_io.teardown()  # waits until it is written

    def on_exception(self, *_: Any) -> None:
        self._give_signals_back()

    def _save_if_wanted(self, trainer: lightning.Trainer, moment: Moment) -> None:
        """Write a checkpoint if one is due or a signal came, and in that case end the run."""
        decide = trainer.strategy.reduce_boolean_decision  # one process decides for all
        if not decide(self.is_due or self.signal is not None, all=False):
            return
        stops = decide(self.signal is not None, all=False)
        here = (trainer.fit_loop.total_batch_idx, moment)
        if self.saved != here:
            for metrics in trainer.loggers:
                metrics.save()  # before the checkpoint, which counts on its rows
            self.moment = moment
            trainer.save_checkpoint(self.path)
            self.moment = None
            self.saved = here
        self.saved_time = time.monotonic()
        self.is_due = False
        if stops:
            self._stop(trainer)

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        if self.moment is None:
            return  # another callback's
        loops = checkpoint["loops"]["fit_loop"]
        if self.moment is Moment.between_epochs:
            # At the start of an epoch one more is counted as ready, and Lightning would go on
            # with the end of the one before.
            for progress in loops["epoch_progress"].values():
                progress["ready"] = progress["started"]
            checkpoint["epoch"] -= 1  # as in other checkpoints the last one, not their number
        validated = None
        if self.moment is Moment.in_validation:
            # As after a failure in the first batch, which Lightning begins again with.
            progress = loops["epoch_loop.val_loop.batch_progress"]
            total, current = progress["total"], progress["current"]
            validated = {name: total[name] - current[name] for name in total}
            progress["current"] = dict.fromkeys(current, 0)
            progress["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        gradients = {}
        if trainer.accumulate_grad_batches > 1 and self.moment is not Moment.between_epochs:
            parameters = module.named_parameters()
            gradients = {name: p.grad for name, p in parameters if p.grad is not None}
        checkpoint["resume"] = {
            "moment": self.moment.value,
            "random_states": self.random_states or random_states(),
            "gradients": gradients,
            "metrics": dict(trainer.callback_metrics),
            "metric_rows": _count_metric_rows(trainer),
            "log_step": count_logged_steps(trainer),
            "validated": validated,  # batches, by earlier validations in the epoch
            "should_stop": trainer.should_stop,
        }

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        if "resume" not in checkpoint:
            return  # one that is tested
        self.restored = checkpoint["resume"]
        trainer.should_stop = self.restored["should_stop"]
        # The length of the run may have been changed, and with it that of the schedule.
        for scheduler in checkpoint["lr_schedulers"]:
            for key in (*RUN_LENGTH, "_schedule_phases"):
                scheduler.pop(key, None)
        # The run folder may have been moved.
        folder = os.path.realpath(self.path.parent)
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if isinstance(callback, ModelCheckpoint) and state is not None:
                _move(state, folder)
                callback.current_score = state["current_score"]  # which Lightning leaves out

    def _restore(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        restored: dict[str, Any],
    ) -> None:
        moment = Moment(restored["moment"])
        set_random_state(restored["random_states"], trainer.global_rank)
        trainer.callback_metrics.update(restored["metrics"])
        for name, parameter in module.named_parameters():
            if name in restored["gradients"]:
                parameter.grad = restored["gradients"][name].to(parameter.device)
        if moment is Moment.in_validation:
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.load_state_dict(
                restored["validated"]
            )
        if moment is Moment.between_epochs:
            begin_epoch_as_any_other(trainer)
        self.saved = (trainer.fit_loop.total_batch_idx, moment)

    def _take_signals(self, trainer: lightning.Trainer) -> None:
        """Have signals noted; Lightning's handlers would end the run between other moments."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python calls handlers in the main thread only
        signals: list[int] = [signal.SIGINT, signal.SIGTERM]
        environment = get_cluster_environment(trainer)
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            signals.append(environment.requeue_signal or signal.SIGUSR1)
        for number in signals:
            self.handlers[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def _give_signals_back(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def _stop(self, trainer: lightning.Trainer) -> None:
        """End the run, and say how it goes on; other processes than the one with the signal too."""
        number = self.signal or signal.SIGTERM
        handler = self.handlers.get(number)
        folder = shlex.quote(f"resume={show_path(self.path.parent.parent)}")
        if trainer.is_global_zero:
            logger.info("stopped: go on with attnlstm train %s", folder)
        self._give_signals_back()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number != signal.SIGTERM and callable(handler):
            handler(number, None)  # Lightning's, which has SLURM requeue the job
        raise SIGTERMException


def show_path(path: Path) -> Path:
    """A path as short as it can be written."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _count_metric_rows(trainer: lightning.Trainer) -> int:
    return sum(metrics.num_rows for metrics in trainer.loggers if isinstance(metrics, MetricsFile))


def _move(state: dict[str, Any], folder: str) -> None:
    """Have the state of a ModelCheckpoint name files in this folder."""

    def moved(path: str) -> str:
        return path and os.path.join(folder, os.path.basename(path))

    state["dirpath"] = folder
    for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[key] = moved(state[key])
    state["best_k_models"] = {moved(path): value for path, value in state["best_k_models"].items()}
