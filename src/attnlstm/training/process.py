"""A training within a program of the user's: one at a time, and the process stays as it was."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from attnlstm.locks import ForkSafeLock
from attnlstm.training.random_state import random_states, set_random_state

VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG")
"""What Lightning adds to the environment."""

_training = ForkSafeLock()


@contextmanager
def undisturbed_process() -> Iterator[None]:
    """Restore afterwards what a training changes in its process; other threads wait.

    These are the random numbers, which threads share, so that two trainings at a time would not be
    reproducible; torch's settings; filters of warnings; and the handler of Ctrl-C, which Lightning
    leaves turned off.
    """
    with _training.held(), warnings.catch_warnings():
        # numpy, Python and torch
        states, environment = random_states(), {name: os.environ.get(name) for name in VARIABLES}
        threads, filled = torch.get_num_threads(), torch.utils.deterministic
        is_deterministic = torch.are_deterministic_algorithms_enabled()
        warns = torch.is_deterministic_algorithms_warn_only_enabled()
        fills = filled.fill_uninitialized_memory  # type: ignore[attr-defined]
        benchmark = torch.backends.cudnn.benchmark
        lightning_logger = logging.getLogger("lightning.pytorch")
        level, interrupt = lightning_logger.level, signal.getsignal(signal.SIGINT)
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupt)
            lightning_logger.setLevel(level)
            torch.backends.cudnn.benchmark = benchmark
            filled.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
            torch.use_deterministic_algorithms(is_deterministic, warn_only=warns)
            torch.set_num_threads(threads)
            set_random_state(states, 0)
            for name, value in environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
