import signal
from threading import Event

import pytest

from attnlstm.data.encoders.bounded import run_bounded


class Panic(BaseException):
    pass


def test_results_and_errors_are_those_of_the_function():
    assert run_bounded(lambda: 3, seconds=60) == 3

    def panic():
        raise Panic

    with pytest.raises(Panic):
        run_bounded(panic, seconds=60)


def test_a_call_that_takes_too_long():
    release = Event()
    with pytest.raises(TimeoutError):
        run_bounded(release.wait, seconds=-1)
    release.set()


def test_signals_are_handled_during_a_call():
    def stop(*_):
        raise Panic

    release = Event()
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Panic):
            run_bounded(release.wait, seconds=60)
    finally:
        signal.signal(signal.SIGALRM, before)
        release.set()
