"""`resume=`: the run to continue and its configuration.

The configuration is that of the run's config.yaml; the command line may change whatever does not
change the experiment. Importing this module imports neither torch nor lightning.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from attnlstm.checkpoint.find import NEWEST, find_newest_run
from attnlstm.config.checks import flatten, is_within, show, validate
from attnlstm.config.data import drop_keys_of_other_sources
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError

CHANGEABLE = re.compile(
    r"""(logger | baseline | num_threads | max_memory | data\.num_workers | callbacks\.figures
    | callbacks\.checkpoint\.(every_n_(epochs|train_steps|minutes) | save_on_exception)
    | trainer\.(accelerator | devices | num_nodes | strategy | max_epochs | log_every_n_steps
        | profiler | benchmark | enable_progress_bar | enable_model_summary | detect_anomaly)
    )(\.|$)""",
    re.VERBOSE,
)
"""Keys and sections whose values a resumed run may change."""

LARGEST_CONFIG = 1 << 20  # bytes; a list of 10,000 files takes about as much

DEEPEST_CONFIG = 20  # levels of sections and lists

REFIT = ("refit", "validated")
"""Checkpoints that exist once the refit has begun or ended."""


def find_run(resume: str, runs_dir: str) -> Path:
    """Return the folder of a run: a path, or "last" for the newest in `runs_dir`.

    Raises:
        UserError: there is no such run.
    """
    if resume == NEWEST:
        return find_newest_run(runs_dir, "resume")
    folder = Path(resume)
    if not (folder / "config.yaml").is_file():
        what = "is not the folder of a run" if folder.exists() else "does not exist"
        raise UserError(
            f"resume={resume} {what}: give one such as runs/JapaneseVowels/..., or last"
        )
    return folder


def resume_config(composed: TrainConfig, plain: TrainConfig, given: Iterable[str]) -> TrainConfig:
    """Return the configuration of the run `composed.resume`, with the changes of a command line.

    Args:
        composed: the configuration that the command line gives to a new run.
        plain: the configuration without a command line; only the differences from it count as
            changes where a whole group or section is given.
        given: the keys, groups and sections on the command line.

    Raises:
        UserError: there is no such run, or a change would make it another experiment.
    """
    folder = find_run(str(composed.resume), composed.runs_dir)
    values = _read(folder / "config.yaml")
    old, new = flatten(values), flatten(composed.model_dump())
    default = flatten(plain.model_dump())
    keys = {name.replace("/", ".") for name in given} - {
        "resume",
        "runs_dir",
        "overwrite",
    }  # of the folder
    refused = list(keys & {"experiment", "debug"})  # files that may change anything
    refused += [f"~{key}" for key in keys & (old.keys() - new.keys())]
    for leaf, value in new.items():
        is_changed = value != default.get(leaf, ...) and any(is_within(leaf, key) for key in keys)
        if not (is_changed or leaf in keys) or value == old.get(leaf, ...):
            continue
        if CHANGEABLE.match(leaf):
            _set(values, leaf, value)
        else:
            refused.append(f"{leaf}={show(value)} (it was {show(old.get(leaf))})")
    if refused:
        raise UserError(
            f"resume={folder} continues the same experiment, which these would change: "
            f"{', '.join(sorted(refused))}; leave them out, or start another run"
        )
    has_refit = any((folder / "checkpoints" / f"{name}.ckpt").exists() for name in REFIT)
    if has_refit and old["trainer.max_epochs"] != values["trainer"]["max_epochs"]:
        raise UserError(
            f"resume={folder}: its refit has begun, for the number of epochs at the time; "
            "leave trainer.max_epochs out"
        )
    return validate(values | {"resume": str(folder)}, TrainConfig)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(_read_plain(path))
        drop_keys_of_other_sources(values["data"])
        return validate(values, TrainConfig).model_dump()
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
        *(yaml.YAMLError, UserError),
    ) as error:
        raise UserError(f"{path} is not the configuration of a run of train.py: {error}") from error


def _read_plain(path: Path) -> str:
    """Return a text in YAML that is small, shallow and says everything in full."""
    text = path.read_bytes()[: LARGEST_CONFIG + 1].decode()
    if len(text) > LARGEST_CONFIG:
        raise ValueError("it is too large")
    depth = 0
    for event in yaml.parse(text):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, of which a few lines can stand for any amount")
        if depth > DEEPEST_CONFIG:
            raise ValueError("it is nested too deeply")
    return text


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values[section] = values[section] or {}  # null if it was off
        values = values[section]
    values[name] = value
