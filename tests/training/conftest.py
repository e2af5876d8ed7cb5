import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnlstm.training.module import ClassificationModule
from tests.training.interruptions import SERIES, Killed


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, Any], None]:
    """Stop the next run: `stop(method of the module, number of its call, signal or None)`."""

    def arrange(method: str, call: int, number: int | None) -> None:
        original, calls = getattr(ClassificationModule, method), iter(range(1, sys.maxsize))

        def stopping(*arguments: Any) -> Any:
            if next(calls) == call:
                if number is None:
                    raise Killed
                signal.raise_signal(number)
            return original(*arguments)

        monkeypatch.setattr(ClassificationModule, method, stopping)

    return arrange


@pytest.fixture(scope="session")
def alone(run_train: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stops."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    run_train(run_dir, *SERIES)
    return run_dir
