"""The content of a checkpoint, its format version, and the migration of older formats.

Besides what Lightning needs to resume training, a checkpoint has `state_dict` (the weights),
`hyper_parameters` (the arguments of `ClassificationModule`, as plain containers), the fields of a
`Calibration` or None under `CALIBRATION_KEY`, and the version of its format under `FORMAT_KEY`. One
that was fitted on Python objects also has the type of their labels under `LABEL_TYPE_KEY`.

Evaluation, prediction and resumed training all read it with `read_checkpoint`. To change the
format, append a function to `MIGRATIONS` that turns the last version into the new one. A new key of
the configuration needs no migration if its default in `attnlstm.config.schema` is the previous
behavior.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import attnlstm.data.sources  # noqa: F401 - the sources register
from attnlstm.checkpoint.calibration import (
    CALIBRATION_KEY,
    EQUAL_WEIGHT,
    MAX_SCORES,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Calibration,
)
from attnlstm.checkpoint.classifier import build_configured
from attnlstm.checkpoint.file import GIVE_OTHER, read_file
from attnlstm.config.checks import validate
from attnlstm.config.data import Task, drop_keys_of_other_sources
from attnlstm.config.schema import TrainConfig
from attnlstm.config.section import BILLION
from attnlstm.data.encoders.encoding import Encoder, encoder_from_dict
from attnlstm.data.formats.lines import is_unicode
from attnlstm.errors import UserError

FORMAT_KEY = "attnlstm_format"

LABEL_TYPE_KEY = "label_type"

LABEL_TYPES: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": {"False": False, "True": True}.__getitem__,
}
"""From the name of a class to its label, by the type of the labels."""

ARGUMENTS = {"config", "label_names", "class_counts", "encoder", "trained_on"}
"""The names of a `ClassificationModule`'s arguments that are in a checkpoint."""

PREFIX = "classifier."
"""What the names of all weights of a `ClassificationModule` begin with."""


def _add_version(checkpoint: dict[str, Any]) -> None:
    """0 to 1: before there was a version, and before training on several parts."""
    arguments = checkpoint["hyper_parameters"]
    arguments.pop("input_size", None)  # follows from the encoder
    arguments.setdefault("trained_on", ["train"])
    if arguments["encoder"]["kind"] == "series":
        arguments["encoder"].setdefault("channel_names", None)


def _list_poolings(checkpoint: dict[str, Any]) -> None:
    """1 to 2: before there could be several poolings."""
    model = checkpoint["hyper_parameters"]["config"]["model"]
    pooling = model["pooling"]
    model["pooling"] = [pooling["name"]]
    model["scaled_attention"] = bool(pooling.get("scaled"))


def _add_calibration(checkpoint: dict[str, Any]) -> None:
    """2 to 3: before logits were divided by a temperature."""
    checkpoint[CALIBRATION_KEY] = None


def _add_expert_weight(checkpoint: dict[str, Any]) -> None:
    """3 to 4: before the LSTM and the second classifier could have different weights."""
    if checkpoint[CALIBRATION_KEY] is not None:
        checkpoint[CALIBRATION_KEY]["expert_weight"] = EQUAL_WEIGHT


def _drop_other_sources(checkpoint: dict[str, Any]) -> None:
    """4 to 5: before each source had its own keys."""
    drop_keys_of_other_sources(checkpoint["hyper_parameters"]["config"]["data"])


def _add_missing(checkpoint: dict[str, Any]) -> None:
    """5 to 6: before series could have missing values, and arrays another order of axes."""
    encoder = checkpoint["hyper_parameters"]["encoder"]
    if encoder["kind"] == "series":
        encoder |= {"missing": "stop", "masked_channels": [], "axes": None}


def _add_task(checkpoint: dict[str, Any]) -> None:
    """6 to 7: before there were other tasks than classification."""
    checkpoint["hyper_parameters"]["config"]["task"] = "classification"
    if checkpoint[CALIBRATION_KEY] is not None:
        checkpoint[CALIBRATION_KEY]["thresholds"] = None


MIGRATIONS: tuple[Callable[[dict[str, Any]], None], ...] = (
    _add_version,
    _list_poolings,
    _add_calibration,
    _add_expert_weight,
    _drop_other_sources,
    _add_missing,
    _add_task,
)
"""The function at index n turns a checkpoint of version n into one of version n + 1."""

FORMAT_VERSION = len(MIGRATIONS)


class CheckpointContent(NamedTuple):
    """The checked content of a checkpoint.

    arguments: the arguments of `ClassificationModule`, with the complete configuration.
    weights: the weights by their names in the classifier.
    calibration: None if the model is not calibrated.
    loaded: the whole migrated file, with what Lightning needs to resume training.
    classes: the labels of the classes, in the order of `label_names`; their names, unless the model
        was fitted on labels of another type.
    """

    config: TrainConfig
    encoder: Encoder
    label_names: list[str]
    arguments: dict[str, Any]
    weights: dict[str, Tensor]
    calibration: Calibration | None
    loaded: dict[str, Any]
    classes: list[Any]


def read_checkpoint(path: str | Path, key: str = "ckpt") -> CheckpointContent:
    """Read, migrate and check a checkpoint without executing anything in it.

    Args:
        path: a file that `train.py` has written.
        key: the configuration key that chose the file, for messages.

    Raises:
        UserError: there is no such file; it is damaged, comes from another program or from a newer
            version of this one; or its weights do not match its own configuration.
    """
    path = Path(path)
    loaded = read_file(path, key)
    try:
        _migrate(loaded)
        return _check(loaded, path.stat().st_size)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, UserError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{key}={path} is not a checkpoint that this program can use: {reason}; {GIVE_OTHER}"
        ) from error


def _migrate(loaded: dict[str, Any]) -> None:
    for name in ("state_dict", "hyper_parameters"):
        if not isinstance(loaded[name], dict):
            raise ValueError(f"its {name} is not a dictionary")
    version = loaded.get(FORMAT_KEY, 0)
    if type(version) is not int or version < 0:
        raise ValueError(f"its {FORMAT_KEY} is not a version")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"it has the format {version} of a newer version of attnlstm, and this one reads "
            f"formats up to {FORMAT_VERSION}: update attnlstm"
        )
    for migrate in MIGRATIONS[version:]:
        migrate(loaded)


def _check(loaded: dict[str, Any], file_size: int) -> CheckpointContent:
    arguments = dict(loaded["hyper_parameters"])
    for name in arguments.keys() - ARGUMENTS:
        raise ValueError(f"its hyper_parameters have an unknown {name!r}")
    names, counts = arguments["label_names"], arguments["class_counts"]
    if not _is_list_of(str, names) or not names or len(set(names)) < len(names):
        raise ValueError("its label_names are not a list of distinct names")
    if not all(map(is_unicode, names)):
        raise ValueError("its label_names are not UTF-8")
    if not _is_list_of(int, counts) or len(counts) != len(names):
        raise ValueError("its class_counts are not one integer for each class")
    if not 0 <= min(counts) <= max(counts) <= BILLION:
        raise ValueError(f"its class_counts are not from 0 to {BILLION:,}")
    if not _is_list_of(str, arguments["trained_on"]):
        raise ValueError("its trained_on is not a list of names")
    config = validate(arguments["config"], TrainConfig)
    if config.task == "auto":
        raise ValueError("its configuration does not say its task")
    arguments["config"] = config.model_dump()
    encoder = encoder_from_dict(arguments["encoder"])
    weights = {}
    for name, weight in loaded["state_dict"].items():
        if not isinstance(weight, Tensor) or not str(name).startswith(PREFIX):
            raise ValueError("its state_dict has an entry that is not a weight of a classifier")
        weights[name.removeprefix(PREFIX)] = weight
    _check_weights(
        weights, config.task, arguments["config"]["model"], encoder, len(names), file_size
    )
    calibration = _check_calibration(loaded[CALIBRATION_KEY], config.task, len(names))
    classes = [LABEL_TYPES[loaded.get(LABEL_TYPE_KEY, "str")](name) for name in names]
    if len(set(classes)) < len(names):
        raise ValueError("its label_names are not distinct labels of its label_type")
    return CheckpointContent(
        config, encoder, names, arguments, weights, calibration, loaded, classes
    )


def _is_list_of(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _check_calibration(fields: Any, task: Task, num_classes: int) -> Calibration | None:
    if fields is None:
        return None
    calibration = Calibration(**fields)
    temperature, expert_weight, scores, thresholds = calibration
    if type(temperature) is not float or not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
        limits = f"{MIN_TEMPERATURE} to {MAX_TEMPERATURE:g}"
        raise ValueError(f"its temperature is not a number from {limits}")
    if type(expert_weight) is not float or not 0 <= expert_weight <= 1:
        raise ValueError("its expert_weight is not a number from 0 to 1")
    columns = (num_classes,) if task == "regression" else ()
    if not _is_float64(scores) or scores.shape[1:] != columns or len(scores) > MAX_SCORES:
        raise ValueError("its scores are not a plain tensor of torch.float64")
    if (len(scores) == 0) != (task == "multilabel"):
        raise ValueError(f"it has {len(scores)} scores, and its task is {task}")
    most, end = (torch.inf, "") if task == "regression" else (1, " to 1")
    if not ((scores >= 0) & (scores <= most)).all() or not (scores.diff(dim=0) >= 0).all():
        raise ValueError(f"its scores are not ascending numbers from 0{end}")
    if (thresholds is None) != (task != "multilabel"):
        raise ValueError(f"its thresholds do not belong to its task, {task}")
    if thresholds is not None:
        if not _is_float64(thresholds) or thresholds.shape != (num_classes,):
            raise ValueError("its thresholds are not one number of torch.float64 for each class")
        if not ((thresholds > 0) & (thresholds < 1)).all():
            raise ValueError("its thresholds are not between 0 and 1")
    return calibration


def _is_float64(values: Any) -> bool:
    return isinstance(values, Tensor) and values.dtype == torch.float64 and values.dim() > 0


def _check_weights(
    weights: Mapping[str, Tensor],
    task: Task,
    model: dict[str, Any],
    encoder: Encoder,
    num_classes: int,
    file_size: int,
) -> None:
    """Compare the weights with the configured classifier, without allocating memory for it."""
    if max(model["ensemble_size"], model["lstm"]["num_layers"]) > len(weights):
        raise ValueError("it has fewer weights than its configuration has layers")
    with torch.device("meta"):
        expected = build_configured(model, encoder, num_classes, task).state_dict()
    for name in expected.keys() ^ weights.keys():
        has = "lacks" if name in expected else "has, beyond its own configuration,"
        raise ValueError(f"it {has} the weight {name}")
    for name, tensor in expected.items():
        weight = weights[name]
        if name.endswith("frozen_vectors"):  # their number depends on the data
            tensor = tensor.new_empty(len(weight) if weight.dim() else 0, *tensor.shape[1:])
            rows = weights[name.removesuffix("vectors") + "rows"]
            if rows.numel() and not -1 <= int(rows.min()) <= int(rows.max()) < len(tensor):
                raise ValueError(f"{name} lacks vectors")
        if weight.shape != tensor.shape:
            raise ValueError(
                f"the weight {name} has the shape {list(weight.shape)}, but by its own "
                f"configuration {list(tensor.shape)}"
            )
        same_kind = weight.is_floating_point() == tensor.is_floating_point()
        if not same_kind or not weight.is_contiguous():
            raise ValueError(f"the weight {name} is not a plain tensor of {tensor.dtype}")
        if not weight.isfinite().all():
            raise ValueError(f"the weight {name} has values that are NaN or infinite")
    if math.fsum(weight.nbytes for weight in weights.values()) > file_size:
        raise ValueError("its weights share memory")
