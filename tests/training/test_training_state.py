"""Training states that are damaged or come from a stranger are refused before they are restored."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnlstm.errors import UserError
from attnlstm.training.fit import read_resume_point
from tests.checkpoint.altered import changed

pytestmark = pytest.mark.slow


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change that sets a value; a name may be the beginning of a key."""

    def change(loaded: Any) -> None:
        for name in path[:-1]:
            if isinstance(name, str):
                name = next(key for key in loaded if str(key).startswith(name))
            loaded = loaded[name]
        loaded[path[-1]] = value

    return change


RANDOM = ("resume", "random_states", 0)
FIELDS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no state": (lambda loaded: loaded.pop("resume"), "it has no 'resume'"),
    "no schedulers": (lambda loaded: loaded.pop("lr_schedulers"), "it has no 'lr_schedulers'"),
    "callbacks of nothing": (put("callbacks", value=None), "callbacks is not a dictionary"),
    "scheduler of nothing": (put("lr_schedulers", value=["x"]), "are not dictionaries"),
    "other Lightning": (put("pytorch-lightning_version", value="x"), "version of Lightning"),
    "no moment": (put("resume", "moment", value="now"), "its moment is unknown"),
    "rows below 0": (put("resume", "metric_rows", value=-1), "metric_rows is not like that"),
    "rows beyond all": (put("resume", "metric_rows", value=10**400), "metric_rows is not like"),
    "metrics in words": (put("resume", "metrics", value={"a": "b"}), "metrics are not tensors"),
    "no random state": (
        put("resume", "random_states", value=[]),
        "random_states are of no process",
    ),
    "short random state": (put(*RANDOM, "torch", value=torch.zeros(3)), "RNG state must be"),
    "odd random state": (put(*RANDOM, "python", 0, value=9), "state with version 9 passed"),
    "numpy beyond its end": (put(*RANDOM, "numpy", 2, value=10**6), "numpy has another form"),
}
MOMENTS = ("optimizer_states", 0, "state", 0, "exp_avg")
MODEL_CHECKPOINT = ("callbacks", "ModelCheckpoint")
STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a folder above": (
        put(*MODEL_CHECKPOINT, "kth_best_model_path", value="x/.."),
        "ModelCheckpoint names 'x/..', which is no checkpoint",
    ),
    "a folder": (
        put(*MODEL_CHECKPOINT, "best_model_path", value="a/folder.ckpt"),
        "ModelCheckpoint names 'a/folder.ckpt', which is no checkpoint",
    ),
    "moments of another shape": (put(*MOMENTS, value=torch.zeros(3)), "exp_avg is not like that"),
    "moments of nothing": (
        lambda loaded: loaded["optimizer_states"][0]["state"][0]["exp_avg"].fill_(torch.nan),
        "exp_avg is not like that",
    ),
    "a step never taken": (
        put("lr_schedulers", 0, "last_epoch", value=10**6),
        "lr_schedulers are not within its",
    ),
    "other labels": (
        put("hyper_parameters", "label_names", value=list("abcdefghi")),
        "was written with other labels than those of this run",
    ),
    "another scale": (
        put("hyper_parameters", "encoder", "mean", value=[5.0] * 12),
        "was written with other channels, or another normalization of them",
    ),
}


def test_fields_are_checked_before_data_is_read(small_run: Path, tmp_path: Path) -> None:
    last = small_run / "checkpoints" / "last.ckpt"
    path, states = tmp_path / "last.ckpt", torch.get_rng_state()
    assert read_resume_point(last) is not None
    for what, (change, said) in FIELDS.items():
        path.write_bytes(changed(last, change))
        with pytest.raises(UserError) as refusal:
            read_resume_point(path)
        assert said in str(refusal.value), what
        assert str(refusal.value).startswith(f"{path} does not hold a state")
    assert torch.equal(states, torch.get_rng_state())


def test_nothing_is_lost_to_a_state_that_does_not_fit(
    run_train: Callable, small_run: Path, tmp_path: Path
) -> None:
    run_dir = shutil.copytree(small_run, tmp_path / "run")
    (run_dir / "checkpoints" / "folder.ckpt").mkdir()
    last = run_dir / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    before = {path for path in run_dir.rglob("*") if "events" not in path.name}
    for what, (change, said) in STATES.items():
        last.write_bytes(content)
        last.write_bytes(changed(last, change))
        with pytest.raises(UserError) as refusal:
            run_train(run_dir, f"resume={run_dir}", "trainer.max_epochs=3")
        assert said in str(refusal.value), what
        assert before <= set(run_dir.rglob("*")), what
