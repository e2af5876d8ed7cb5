"""From a command line to the typed config: Hydra composes, the schema validates."""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from attnlstm.cli.resume import resume_config
from attnlstm.config.checks import (
    Config,
    ConfigError,
    Settings,
    can_be_off,
    flatten,
    is_within,
    list_settings,
    show,
    similar,
    unknown_key,
    validate,
    wrong_value,
)
from attnlstm.config.data import DATA_CONFIGS
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError

VERSION_BASE = "1.3"
"""The version of Hydra whose defaults apply."""


def compose_config(
    config_dir: str | Path, config_name: str, schema: type[Config], overrides: Iterable[str] = ()
) -> Config:
    """Return the typed config for a command line with these overrides.

    Raises:
        UserError: something does not fit; the message names it and the nearest that does.
    """
    config_dir = Path(config_dir).absolute()
    with initialized(config_dir):
        arguments = [normalize(text, config_dir, schema) for text in overrides]
        config = to_typed(compose(config_name, schema, arguments), schema)
        return find_resumed(config, config_name, arguments) or config


def initialized(config_dir: Path) -> Any:
    """Return a context in which Hydra composes from this folder."""
    return hydra.initialize_config_dir(str(config_dir), version_base=VERSION_BASE)


def find_resumed(config: Any, config_name: str, overrides: Iterable[str]) -> Any:
    """Return the config of the run that is to be resumed, or None if there is none."""
    if not isinstance(config, TrainConfig) or config.resume is None:
        return None
    plain = to_typed(compose(config_name, TrainConfig, []), TrainConfig)
    return resume_config(config, plain, [override.key_or_group for override in _parse(overrides)])


def normalize(argument: str, config_dir: Path, schema: type[Config]) -> str:
    """Return a setting in a form in which Hydra accepts any key, with or without a +.

    Hydra itself refuses keys that no file of conf/ lists, although the schema knows them.
    """
    key, equals, value = argument.lstrip("+").partition("=")
    if not equals or key.startswith(("-", "~", "hydra")):
        return argument
    if (config_dir / key).is_dir() and not value.startswith("{"):  # the choice of a group
        if schema is TrainConfig and key == "data" and (Path(value).suffix or Path(value).exists()):
            raise UserError(
                f"data={value}: did you mean data=text_files data.train={value}, or "
                f"data=series_files data.train={value}? data is one of {', '.join(DATA_CONFIGS)}"
            )
        return f"{key}={value}"
    if key == "text":
        value = quote(value)
    elif re.search(r"[^\w.,/~-]", value) and value[:1] not in ("'", '"', "["):
        node = list_settings(schema).get(key, {})
        if any("verbatim" in option for option in [node, *node.get("anyOf", ())]):
            value = value.replace("'", r"\'")
            value = f"'{value}'"  # a path needs no quotes on top of the shell's
    return f"++{key}={value}"


def quote(text: str) -> str:
    """Quote a text so that Hydra and OmegaConf take quotes, braces and backslashes literally."""
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    text = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text)
    return f"'{text}'"


def _parse(overrides: Iterable[str]) -> list[Override]:
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    try:
        return parser.parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UserError(
            f"cannot read {error.override.lstrip('+')!r}: write key=value, or \"key='value'\" "
            "where the value has special characters"
        ) from error


def list_jobs(overrides: Iterable[str]) -> list[list[str]]:
    """Return the overrides of every job of a sweep."""
    parsed = _parse(overrides)
    for override in filter(Override.is_sweep_override, parsed):
        if not override.is_discrete_sweep():
            raise UserError(f"{_show(override)}: list the values, as in a,b,c or range(1,4)")
        if override.is_hydra_override():
            raise UserError(f"{_show(override)}: Hydra's own settings cannot be swept")
        if not list(override.sweep_string_iterator()):
            raise UserError(f"{_show(override)}: no value fits")
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return jobs


def compose(config_name: str, schema: type[Config], overrides: list[str]) -> DictConfig:
    """Return the config as Hydra composes it, with the node `hydra`.

    Raises:
        UserError: an override does not fit, or a file cannot be read.
    """
    settings = list_settings(schema)
    parsed = _parse(overrides)
    try:
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(config_name, [], RunMode.RUN)
        groups = defaults.overrides.known_choices
        for number, override in enumerate(parsed):
            _check_override(override, settings, groups)
            chosen = [other for other in parsed[number:] if other.key_or_group in groups]
            _check_is_on(override, config_name, [*parsed[:number], *chosen], settings)
        return hydra.compose(config_name, overrides, return_hydra_config=True)
    except UserError:
        raise
    except Exception as error:  # YAML, OmegaConf and Hydra each have their own kinds
        raise UserError(_explain(error)) from error


def _check_override(override: Override, settings: Settings, groups: Iterable[str]) -> None:
    key, value, text = override.key_or_group, override.value(), _show(override)
    is_open = any("keys" in settings.get(parent, {}) for parent in _parents(key))
    is_hydras = key.startswith("hydra")
    if not (is_open or is_hydras or key in settings or key in groups):
        raise unknown_key(key, [*settings, *groups])
    if is_hydras and (override.is_add() or override.is_force_add()):  # Hydra would add any key
        OmegaConf.update(OmegaConf.create({"hydra": HydraConf}), key, value)
    if override.is_sweep_override():
        raise UserError(f"{text}: several values are a list, as in [a,b], or a sweep, with -m")
    if override.is_delete():
        if not is_open:
            raise UserError(f"{text}: a setting cannot be removed, only changed")
    elif key in groups and not isinstance(value, str | list | dict):
        raise UserError(f"{text}: give the name of a choice, or leave {key} out")
    elif not (is_hydras or key in groups or override.is_force_add()):
        raise wrong_value(key, value, settings[key])  # a group of another verb


def _check_is_on(
    override: Override, config_name: str, earlier: Iterable[Override], settings: Settings
) -> None:
    """Refuse a key of a section that is null, which Hydra would silently turn on."""
    for section in _parents(override.key_or_group):
        if not can_be_off(settings.get(section, {})):
            continue
        composed = hydra.compose(config_name, [str(other.input_line) for other in earlier])
        if OmegaConf.select(composed, section) is None:
            name = override.key_or_group.removeprefix(f"{section}.")
            raise UserError(
                f"{_show(override)}: the section is null, that is off; turn it on first, as in "
                f"{section}={{{name}: {show(override.value())}}}"
            )


def _show(override: Override) -> str:
    return str(override.input_line).lstrip("+")


def _parents(key: str) -> list[str]:
    return list(itertools.accumulate(key.split(".")[:-1], "{}.{}".format))


def without_hydra(composed: DictConfig) -> DictConfig:
    """Return the composed config without the node `hydra`."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def to_typed(composed: DictConfig, schema: type[Config], may_lack: bool = False) -> Config:
    """Return the typed form of a config that Hydra composed.

    Raises:
        UserError: a value does not fit or, unless `may_lack`, a required key is missing.
    """
    own = without_hydra(composed)
    missing = [key for key, value in flatten(OmegaConf.to_container(own)).items() if value == "???"]
    if missing and not may_lack:
        raise UserError(f"{missing[0]} must be given: add {missing[0]}=...")
    for key in missing:
        OmegaConf.update(own, key, "...")  # other keys may refer to it
    try:
        values = OmegaConf.to_container(own, resolve=True)
    except OmegaConfBaseException as error:  # an interpolation that leads nowhere
        raise UserError(_explain(error)) from error
    try:
        return validate(values, schema)
    except ConfigError as error:
        group, choices = error.key, composed.hydra.runtime.choices
        if isinstance(choices.get(group), str) and group not in schema.model_fields:
            raise UserError(
                f"{group}/{choices[group]}.yaml must begin with the line '# @package _global_': "
                f"without it, its keys lie below {group}"
            ) from error
        file = _find_file(error.key, composed)
        raise UserError(f"In '{file}': {error}" if file else str(error)) from error


def _find_file(key: str, composed: DictConfig) -> str | None:
    """Return the choice whose file sets a key; None if the command line does, or no file."""
    given = [override.lstrip("+").partition("=")[0] for override in composed.hydra.overrides.task]
    if any(is_within(key, name) for name in given):
        return None
    line = re.compile(rf"\b{re.escape(key.rpartition('.')[2])}\s*:")
    for group, choice in composed.hydra.runtime.choices.items():  # the last one to apply is first
        for source in composed.hydra.runtime.config_sources:
            path = Path(source.path, group, f"{choice}.yaml")
            if path.is_file() and line.search(path.read_text()):
                return f"{group}/{choice}"
    return None


def _explain(error: Exception) -> str:
    """Return one line about an error while composing, possibly in a yaml file of the user's."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        meant, listed = similar(choice, error.options), ", ".join(error.options)
        return (
            f"{group}={choice}: "
            + (f"did you mean {meant}? " * bool(meant))
            + (f"It must be one of {listed}")
        )
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    if cause is None or not cause.full_key:
        return str(error).partition("Config search path")[0]
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        section = cause.full_key.rpartition(".")[0]
        names = [f"{section}.{key}" for key in cause.parent_node or ()]
        return str(unknown_key(cause.full_key, names))
    return f"{cause.full_key}: {str(cause.msg).splitlines()[0]}"
