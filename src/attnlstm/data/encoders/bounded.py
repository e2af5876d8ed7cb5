"""Bounds the time of calls into a library that Python cannot interrupt."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1


def run_bounded(function: Callable[[], T], seconds: float) -> T:
    """Return the result of a function that releases the interpreter's lock, such as Rust code.

    It runs in another thread, so the process handles signals meanwhile. A call that takes too long
    goes on in that thread until the process ends.

    Args:
        seconds: the processor time that the process may use, so a busy machine does not matter.

    Raises:
        TimeoutError: the function takes longer.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # such as a panic of Rust code, for the caller to handle
            future.set_exception(error)

    end = time.process_time() + seconds
    Thread(target=run, daemon=True).start()
    while True:
        try:
            return future.result(POLL_SECONDS)
        except TimeoutError:
            if not future.done() and time.process_time() > end:
                raise
