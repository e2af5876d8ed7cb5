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

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from attnlstm.config.lightning import CheckpointConfig
from attnlstm.training.lightning_internals import (
    MetricsFile,
    begin_epoch_normally,
    count_logged_steps,
    end_epoch_normally,
    get_cluster_environment,
    is_within_epoch,
)
from attnlstm.training.optimization import RUN_LENGTH
from attnlstm.training.random_state import random_states, set_random_state
from attnlstm.training.training_state import (
    PATHS,
    check_callbacks,
    check_training_state,
    explaining,
)

logger = logging.getLogger(__name__)


class Moment(StrEnum):
    """When a checkpoint is taken: only where Lightning's loops can resume exactly."""

    after_batch = "after_batch"  # neither the last of an epoch nor followed by a validation
    in_validation = "in_validation"  # which starts again
    between_epochs = "between_epochs"


class NewestCheckpoint(Callback):
    """Write the newest checkpoint, from which a run resumes bit-exactly.

    In addition to what Lightning puts into every checkpoint it holds, under "resume", the random
    state, accumulated gradients, the metrics that schedulers read, and the number of rows in
    metrics.csv.

    On SIGINT, SIGTERM and the signal with which SLURM announces a requeue, the run finishes the
    batch, writes a checkpoint and ends; a second Ctrl-C ends it at once.

    It must be the first callback: what others log at the start of an epoch comes after it.
    """

    def __init__(self, path: Path, config: CheckpointConfig) -> None:
        self.path = path
        self.config = config

        self.moment: Moment | None = None  # of the checkpoint that is being written
        self.saved: tuple[int, Moment] | None = None  # batches and moment of the newest one
        self.saved_time = time.monotonic()
        self.is_due = False
        self.random_states: list[dict[str, Any]] | None = None  # from before a validation
        self.loaded: dict[str, Any] | None = None  # the checkpoint that is being restored
        self.restored: dict[str, Any] | None = None  # until training starts
        self.signal: int | None = None
        self.handlers: dict[int, Any] = {}  # the previous ones

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.loaded is not None:  # Lightning restores its state next
            with explaining(self.path):
                check_training_state(trainer, module, self.loaded)
            self.loaded = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.config.save_on_exception:
            self._install_handlers(trainer)
        if self.restored is not None:
            self._restore(trainer, module, self.restored)
            self.restored = None
        self.saved_time = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        epochs = trainer.current_epoch
        self.is_due |= epochs > 0 and epochs % self.config.every_n_epochs == 0
        self._save_if_due(trainer, Moment.between_epochs)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        steps, minutes = self.config.every_n_train_steps, self.config.every_n_minutes
        if steps and trainer.global_step % steps == 0:
            self.is_due = True
        if minutes and time.monotonic() - self.saved_time >= 60 * minutes:
            self.is_due = True
        if is_within_epoch(trainer):
            self._save_if_due(trainer, Moment.after_batch)

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.random_states = random_states()
            self._save_if_due(trainer, Moment.in_validation)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self._save_if_due(trainer, Moment.in_validation)

    def on_validation_end(self, *_: Any) -> None:
        self.random_states = None

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        end_epoch_normally(trainer)

    def on_train_end(self, *_: Any) -> None:
        self._restore_handlers()

    def on_fit_end(self, trainer: Trainer, *_: Any) -> None:
        if self.restored is None:  # otherwise there was nothing left to train
            self.is_due = True
            self._save_if_due(trainer, Moment.between_epochs)
            trainer.strategy.checkpoint_io.teardown()  # waits until it is written

    def on_exception(self, *_: Any) -> None:
        self._restore_handlers()

    def _save_if_due(self, trainer: Trainer, moment: Moment) -> None:
        """Write a checkpoint if one is due; after a signal, write one and end the run."""
        decide = trainer.strategy.reduce_boolean_decision  # one process decides for all
        if not decide(self.is_due or self.signal is not None, all=False):
            return
        stops = decide(self.signal is not None, all=False)
        here = (trainer.fit_loop.total_batch_idx, moment)
        if self.saved != here:
            for metrics in trainer.loggers:
                metrics.save()  # before the checkpoint, which counts their rows
            self.moment = moment
            trainer.save_checkpoint(self.path)
            self.moment = None
            self.saved = here
        self.saved_time = time.monotonic()
        self.is_due = False
        if stops:
            self._stop(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.moment is None:
            return  # another callback writes this one
        loops = checkpoint["loops"]["fit_loop"]
        if self.moment is Moment.between_epochs:
            # At the start of an epoch one more is counted as ready, and Lightning would resume
            # with the end of the previous one.
            for progress in loops["epoch_progress"].values():
                progress["ready"] = progress["started"]
            checkpoint["epoch"] -= 1  # as in other checkpoints, the last epoch, not their number
        validated = None
        if self.moment is Moment.in_validation:
            # As after a failure in the first batch, from which Lightning starts again.
            progress = loops["epoch_loop.val_loop.batch_progress"]
            total, current = progress["total"], progress["current"]
            validated = {name: total[name] - current[name] for name in total}
            progress["current"] = dict.fromkeys(current, 0)
            progress["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        gradients = {}
        if trainer.accumulate_grad_batches > 1 and self.moment is not Moment.between_epochs:
            parameters = module.named_parameters()
            gradients = {name: p.grad for name, p in parameters if p.grad is not None}
        files = [metrics for metrics in trainer.loggers if isinstance(metrics, MetricsFile)]
        checkpoint["resume"] = {
            "moment": self.moment.value,
            "random_states": self.random_states or random_states(),
            "gradients": gradients,
            "metrics": dict(trainer.callback_metrics),
            "metric_rows": sum(metrics.num_rows for metrics in files),
            "log_step": count_logged_steps(trainer),
            "validated": validated,  # batches of earlier validations in the epoch
            "should_stop": trainer.should_stop,
        }

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self.loaded = checkpoint
        self.restored = checkpoint["resume"]
        trainer.should_stop = self.restored["should_stop"]
        # The length of the run, and with it that of the schedule, may have been changed.
        for scheduler in checkpoint["lr_schedulers"]:
            for key in (*RUN_LENGTH, "_schedule_phases"):
                scheduler.pop(key, None)
        # The run folder may have been moved.
        folder = os.path.realpath(self.path.parent)
        with explaining(self.path):
            check_callbacks(trainer, checkpoint, folder)
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if isinstance(callback, ModelCheckpoint) and state is not None:
                _move(state, folder)
                callback.current_score = state["current_score"]  # which Lightning leaves out

    def _restore(self, trainer: Trainer, module: LightningModule, restored: dict[str, Any]) -> None:
        moment = Moment(restored["moment"])
        set_random_state(restored["random_states"], trainer.global_rank)
        trainer.callback_metrics.update(restored["metrics"])
        for name, parameter in module.named_parameters():
            if name in restored["gradients"]:
                parameter.grad = restored["gradients"][name].to(parameter.device)
        if moment is Moment.in_validation:
            progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            progress.total.load_state_dict(restored["validated"])
        if moment is Moment.between_epochs:
            begin_epoch_normally(trainer)
        self.saved = (trainer.fit_loop.total_batch_idx, moment)

    def _install_handlers(self, trainer: Trainer) -> None:
        """Only note signals; Lightning's handlers would end the run at other moments."""
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

    def _restore_handlers(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def _stop(self, trainer: Trainer) -> None:
        """End the run in every process, and say how to resume it."""
        number = self.signal or signal.SIGTERM  # the signal may have gone to another process
        handler = self.handlers.get(number)
        folder = shlex.quote(f"resume={show_path(self.path.parent.parent)}")
        if trainer.is_global_zero:
            logger.info("stopped: resume with attnlstm train %s", folder)
        self._restore_handlers()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number != signal.SIGTERM and callable(handler):
            handler(number, None)  # Lightning's, which has SLURM requeue the job
        raise SIGTERMException


def show_path(path: Path) -> Path:
    """Return a path relative to the working directory where that is possible."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _move(state: dict[str, Any], folder: str) -> None:
    """Make the state of a ModelCheckpoint refer to files in this folder."""

    def moved(path: str) -> str:
        return path and os.path.join(folder, os.path.basename(path))

    state["dirpath"] = folder
    for key in PATHS:
        state[key] = moved(state[key])
    state["best_k_models"] = {moved(path): value for path, value in state["best_k_models"].items()}
