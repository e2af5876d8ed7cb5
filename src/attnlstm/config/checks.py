"""Plain dictionaries to typed configs and back, with one line of complaint for what does not fit.

Dictionaries come from conf/, from the command line and out of checkpoint files, possibly from
strangers: nothing in them is imported, called or silently dropped.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from difflib import SequenceMatcher
from enum import Enum
from itertools import islice
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from attnlstm.config.schema import (
    DATA_OPTIONS,
    LOWER_IS_BETTER,
    TEXT_SOURCES,
    DataConfig,
    StemName,
    TrainConfig,
    Validation,
)
from attnlstm.errors import UserError

Config = TypeVar("Config")


class Setting(NamedTuple):
    """What a key may hold: a type hint, and the limits of its dataclass field's metadata."""

    hint: Any
    limits: Mapping[str, Any]


def list_settings(schema: type, prefix: str = "") -> dict[str, Setting]:
    """Every full key of a dataclass, the sections' own keys too, and `prefix` for the whole."""
    settings = {prefix: Setting(schema, {})}
    hints = get_type_hints(schema)
    for field in fields(schema):
        key = _join(prefix, field.name)
        hint = field.metadata.get("hint", hints[field.name])
        section = _section(hint)
        settings |= list_settings(section, key) if section else {}
        settings[key] = Setting(hint, field.metadata)
        for name in field.metadata.get("keys", ()):
            settings[_join(key, name)] = Setting(Any, {})
    return settings


def config_from_dict(values: dict[str, Any], schema: type[Config]) -> Config:
    """The typed config of plain values; a key that is left out has the schema's default.

    Raises:
        UserError: a key, a type, a choice or a number does not fit; it names the full key.
    """
    config: Config = read_setting("", values, list_settings(schema))
    if isinstance(config, TrainConfig):
        _check_combinations(config)
    return config


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config, or a section of one, as plain containers; Enums become their names."""
    plain: dict[str, Any] = _plain(asdict(config))
    return plain


def read_setting(key: str, value: Any, settings: Mapping[str, Setting]) -> Any:
    """The value of `key` converted to its type: a section to its dataclass, a name to its Enum.

    Raises:
        UserError: the value does not fit, or a section has an unknown key.
    """
    hint, limits = settings[key]
    section = _section(hint)
    if section and isinstance(value, dict):
        names = {field.name for field in fields(section)}
        for name in value:
            if name not in names:
                raise unknown_key(_join(key, name), settings)
        return section(
            **{name: read_setting(_join(key, name), item, settings) for name, item in value.items()}
        )
    converted = _convert(value, hint)
    if not matches(converted, hint):
        raise _wrong_value(key, value, hint)
    _check_limits(key, converted, limits)
    return converted


def unknown_key(key: str, known: Iterable[str]) -> UserError:
    """The complaint about a key that does not exist, with the nearest that does."""
    known = list(known)
    meant = nearest(key, known)
    parent, _, name = key.rpartition(".")
    siblings = [other for other in known if other.rpartition(".")[0] == parent]
    if siblings and SequenceMatcher(None, name, meant.rpartition(".")[2]).ratio() < 0.6:
        meant = nearest(key, siblings)  # nothing is similar: stay in the section that was named
    elif not siblings and parent in known:
        meant = parent  # which has a value, and no keys
    return UserError(f"unknown key {key}: did you mean {meant}?")


def nearest(name: str, known: Iterable[str]) -> str:
    """The most similar name; the part after the last dot or slash counts as much as the whole.

    Of names from a file, which may be many and long, it looks at so many only that nobody waits.
    """

    def similarity(candidate: str) -> float:
        whole = name[:100].lower(), candidate[:100].lower()
        ends = tuple(re.split("[./]", text)[-1] for text in whole)
        return sum(SequenceMatcher(None, a, b).ratio() for a, b in (whole, ends))

    return max(islice(filter(None, known), 2000), key=similarity, default="")


def matches(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; an int passes for a float, a list for a tuple."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(matches(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is dict:
        return isinstance(value, dict)
    if origin is tuple:
        return (
            isinstance(value, list | tuple)
            and len(value) == len(arguments)
            and all(map(matches, value, arguments))
        )
    if isinstance(origin, type) and issubclass(origin, Iterable):  # list, Sequence
        return isinstance(value, list) and all(matches(item, arguments[0]) for item in value)
    if not isinstance(hint, type):
        return False  # a Callable, which no YAML can hold
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, hint) or (hint is float and isinstance(value, int))


def describe(hint: Any) -> str:
    """A type in the words of an error message."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        # Some of torch's arguments may also be a Tensor, which nobody can write down.
        options = [option for option in map(describe, arguments) if option != "Tensor"]
        return " or ".join(options)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if get_origin(hint) is tuple:
        return f"[{', '.join(map(describe, arguments))}]"
    if get_origin(hint) is list:
        return f"a list of {describe(arguments[0]).removeprefix('one of ')}"
    if get_origin(hint) is not None:
        return str(hint).replace("typing.", "").replace("collections.abc.", "")
    if is_dataclass(hint):
        return "a section with keys of its own"
    if issubclass(hint, Enum):
        return "one of " + ", ".join(hint.__members__)
    return {bool: "bool (true or false)", NoneType: "null"}.get(hint, hint.__name__)


def show(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _check_limits(key: str, value: Any, limits: Mapping[str, Any]) -> None:
    choices = limits.get("choices")
    if choices and value is not None and value not in choices:
        meant = nearest(show(value), map(show, choices))
        listed = ", ".join(map(show, choices))
        raise UserError(f"{key}={show(value)}: did you mean {meant}? It must be one of {listed}")
    if isinstance(value, str) and "pattern" in limits:
        pattern, meaning = limits["pattern"]
        if not re.fullmatch(pattern, value):
            raise UserError(f"{key}={value}: expected {meaning}")
    if isinstance(value, int | float) and limits.get("interval"):
        is_fraction = isinstance(value, float) and limits.get("fractions")
        interval = limits["fractions" if is_fraction else "interval"]
        low, high = map(float, interval[1:-1].split(","))
        above = low <= value if interval[0] == "[" else low < value
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):
            raise UserError(f"{key}={show(value)} is out of range: it must lie in {interval}")


def _check_combinations(config: TrainConfig) -> None:
    watching = {
        "callbacks.checkpoint": config.callbacks.checkpoint,
        "callbacks.early_stopping": config.callbacks.early_stopping,
    }
    for key, callback in watching.items():
        better = "min" if callback and callback.monitor.endswith(LOWER_IS_BETTER) else "max"
        if callback and callback.mode.value != better:
            raise UserError(
                f"{key}.monitor={callback.monitor} is best at its {better}imum: "
                f"set {key}.mode={better}"
            )
    check_data_options(config.data)
    if config.model.embedding.vectors and config.data.source.value not in TEXT_SOURCES:
        raise UserError("model.embedding.vectors are for texts: choose data=text_files")
    lstm = config.model.lstm
    if lstm.proj_size >= lstm.hidden_size:
        raise UserError(
            f"model.lstm.proj_size={lstm.proj_size} must be smaller than "
            f"model.lstm.hidden_size={lstm.hidden_size}"
        )
    if lstm.forget_bias is not None and not lstm.bias:
        raise UserError("model.lstm.forget_bias needs model.lstm.bias=true")
    size = config.model.ensemble_size
    if config.validation is Validation.folds and size not in (1, config.num_folds):
        raise UserError(
            f"model.ensemble_size={size} and validation=folds, which trains num_folds models: set "
            "num_folds instead, or choose validation=holdout"
        )
    for key in ("pooling", "skip_pooling"):
        names = getattr(config.model, key)
        if isinstance(names, list) and len(set(names)) < len(names):
            raise UserError(f"model.{key}=[{','.join(names)}] names one twice: leave it out")
    if config.model.pooling == []:
        raise UserError("model.pooling=[] pools nothing: name one, such as [hn_query]")
    if config.model.ngrams is not None and config.data.source.value not in TEXT_SOURCES:
        raise UserError("model.ngrams are of texts: set model.ngrams=null")
    if config.model.random_convolutions is not None and config.data.source.value in TEXT_SOURCES:
        raise UserError("model.random_convolutions are of series: set it to null")
    if config.model.stem.name is not StemName.none and config.data.source.value in TEXT_SOURCES:
        raise UserError(f"model/stem={config.model.stem.name} is for series: choose none")


def check_data_options(config: DataConfig) -> None:
    """Raise a UserError if an option is given that means nothing to the source."""
    source = config.source.value
    for name, sources in DATA_OPTIONS.items():
        value = getattr(config, name)
        if value and source not in sources:
            choose = " or ".join(f"data={choice}" for choice in sources)
            raise UserError(
                f"data.{name}={show(value)} means nothing to data={source}: choose {choose}, "
                f"or leave data.{name} out"
            )


def _wrong_value(key: str, value: Any, hint: Any) -> UserError:
    choices = [name for option in _options(hint) for name in _members(option)]
    meant = f"; did you mean {nearest(show(value), choices)}?" if choices else ""
    return UserError(f"{key}={show(value)}: expected {describe(hint)}{meant}")


def _convert(value: Any, hint: Any) -> Any:
    """The value in the type that its hint asks for, or as it is where it does not fit."""
    options = _options(hint)
    for option in options:
        if isinstance(value, str) and value in _members(option):
            return option[value]
    for option in options:
        if isinstance(value, list) and get_origin(option) is list and _members(*get_args(option)):
            return [_convert(item, *get_args(option)) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and int not in options:
        if float in options:
            return float(value)
        if str in options:
            return str(value)
    return value


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _members(hint: Any) -> list[str]:
    return list(hint.__members__) if isinstance(hint, type) and issubclass(hint, Enum) else []


def _section(hint: Any) -> Any:
    """The dataclass in a hint, which may be optional."""
    return next((option for option in _options(hint) if is_dataclass(option)), None)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def _join(prefix: str, name: Any) -> str:
    return f"{prefix}.{name}" if prefix else str(name)
