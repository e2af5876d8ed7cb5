"""`resume=`: which run goes on, and with which configuration.

It is the one in the run's config.yaml; the command line may change what does not change the
experiment. Importing this module imports neither torch nor lightning.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from attnlstm.config.checks import show, validate
from attnlstm.config.data import drop_keys_of_other_sources
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError

CHANGEABLE = (
    *("logger", "baseline", "num_threads", "data.num_workers", "callbacks.figures"),
    *(f"callbacks.checkpoint.every_n_{unit}" for unit in ("epochs", "train_steps", "minutes")),
    "callbacks.checkpoint.save_on_exception",
    *(f"trainer.{key}" for key in ("accelerator", "devices", "num_nodes", "strategy")),
    *(f"trainer.{key}" for key in ("max_epochs", "log_every_n_steps", "profiler", "benchmark")),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.detect_anomaly"),
)
"""Keys, and sections, that a resumed run may have other values of than before."""


REFIT = ("refit", "validated")
"""Checkpoints that are there once the refit has begun, or is done."""


def find_run(resume: str, runs_dir: str) -> Path:
    """The folder of the run that `resume` names: a path, or "last" for the newest in `runs_dir`.

    Raises:
        UserError: there is none.
    """
    if resume == "last":
        # Every run of train.py has a config.yaml; Hydra's own are in a folder below.
        configs = [p for p in Path(runs_dir).rglob("config.yaml") if p.parent.name != ".hydra"]
        if not configs:
            raise UserError(f"resume=last: there is no run in {runs_dir}; set runs_dir")
        return max(configs, key=lambda path: path.stat().st_mtime).parent
    folder = Path(resume)
    if not (folder / "config.yaml").is_file():
        what = "is no folder of a run" if folder.exists() else "does not exist"
        raise UserError(
            f"resume={resume} {what}: give one such as runs/JapaneseVowels/..., or last"
        )
    return folder


def resume_config(composed: TrainConfig, plain: TrainConfig, changed: Iterable[str]) -> TrainConfig:
    """The configuration of the run that `composed.resume` names, with what the user changes.

    Args:
        composed: what the command line means for a new run.
        plain: what no command line means; of a group or a section only what differs counts.
        changed: the keys, groups and sections that were given on it.

    Raises:
        UserError: there is no such run, or a change would make it another experiment.
    """
    folder = find_run(str(composed.resume), composed.runs_dir)
    values = _read(folder / "config.yaml")
    old, new = flatten(values), flatten(composed.model_dump())
    default = flatten(plain.model_dump())
    refused = []
    for key in (name.replace("/", ".") for name in changed):
        if key in ("resume", "runs_dir"):  # they say which run
            continue
        if key in ("experiment", "debug"):  # they are no part of the config that they change
            refused.append(key)
        if key in old.keys() - new.keys():
            refused.append(f"~{key}")
        for leaf in [leaf for leaf in new if _is_within(leaf, [key])]:
            is_default = leaf != key and new[leaf] == default.get(leaf, ...)
            if is_default or new[leaf] == old.get(leaf, ...):
                continue
            if _is_within(leaf, CHANGEABLE):
                _set(values, leaf, new[leaf])
            else:
                refused.append(f"{leaf}={show(new[leaf])} (it was {show(old.get(leaf))})")
    if refused:
        raise UserError(
            f"resume={folder} goes on with the same experiment, of which these are a part: "
            f"{', '.join(sorted(refused))}; leave them out, or start another run"
        )
    has_refit = any((folder / "checkpoints" / f"{name}.ckpt").exists() for name in REFIT)
    if has_refit and old["trainer.max_epochs"] != values["trainer"]["max_epochs"]:
        raise UserError(
            f"resume={folder}: its refit has begun, with the epochs there were; "
            "leave trainer.max_epochs out"
        )
    return validate(values | {"resume": str(folder)}, TrainConfig)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
        drop_keys_of_other_sources(values["data"])
        return validate(values, TrainConfig).model_dump()
    except (OSError, ValueError, KeyError, yaml.YAMLError, TypeError, UserError) as error:
        raise UserError(f"{path} is not the configuration of a run of train.py: {error}") from error


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Full keys of everything that is not a section."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        flat |= flatten(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return flat


def _is_within(key: str, sections: Iterable[str]) -> bool:
    return any(f"{key}.".startswith(f"{section}.") for section in sections)


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values[section] = values[section] or {}  # it may have been off
        values = values[section]
    values[name] = value
