"""From a command line to the typed config: Hydra composes, the schema validates."""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

import attnlstm.data.sources  # noqa: F401 - the sources register
from attnlstm.cli.resume import flatten, resume_config
from attnlstm.config.checks import (
    Config,
    ConfigError,
    Settings,
    can_be_off,
    check_choice,
    list_settings,
    nearest,
    show,
    unknown_key,
    validate,
    wrong_value,
)
from attnlstm.config.data import SOURCES
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError

VERSION_BASE = "1.3"
"""The version of Hydra whose defaults are followed."""


def compose_config(
    config_dir: str | Path, config_name: str, schema: type[Config], overrides: Iterable[str] = ()
) -> Config:
    """The typed config that a command line with these overrides would run with.

    Raises:
        UserError: something does not fit; the message names it and the nearest that does.
    """
    config_dir = Path(config_dir).absolute()
    with initialized(config_dir):
        jobs = [[normalize(text, config_dir, schema) for text in overrides]]
        config = to_typed(compose(config_name, schema, jobs)[0], schema)
        return find_resumed(config, config_name, jobs[0]) or config


def find_resumed(config: Any, config_name: str, overrides: list[str]) -> Any:
    """The config of the run that is to be resumed; None without one."""
    if not isinstance(config, TrainConfig) or config.resume is None:
        return None
    plain = to_typed(compose(config_name, TrainConfig, [[]])[0], TrainConfig)
    return resume_config(config, plain, [override.key_or_group for override in _parse(overrides)])


def normalize(argument: str, config_dir: Path, schema: type[Config]) -> str:
    """A setting as Hydra adds or changes it, whether it has a + or not.

    Left to itself, Hydra refuses a key that no file of conf/ lists; the schema knows better.
    """
    key, equals, value = argument.lstrip("+").partition("=")
    if not equals or key.startswith(("-", "~", "hydra")):
        return argument
    if (config_dir / key).is_dir() and not value.startswith("{"):  # the choice of a group
        if schema is TrainConfig and key == "data" and (Path(value).suffix or Path(value).exists()):
            raise UserError(
                f"data={value}: did you mean data=text_files data.train={value}, or "
                f"data=series_files data.train={value}? data is one of {', '.join(SOURCES)}"
            )
        return f"{key}={value}"
    if key == "text":
        return f"++{key}={quote(value)}"
    if re.search(r"[^\w.,/~-]", value) and value[:1] not in ("'", '"', "["):
        node = list_settings(schema).get(key, {})
        if any("verbatim" in option for option in [node, *node.get("anyOf", ())]):
            value = value.replace("'", r"\'")
            return f"++{key}='{value}'"  # a path needs no quotes on top of the shell's
    return f"++{key}={value}"


def quote(text: str) -> str:
    """A text to the letter, whatever Hydra and OmegaConf make of quotes, braces and backslashes."""
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    text = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text)
    return f"'{text}'"


def initialized(config_dir: Path) -> Any:
    """A context in which Hydra composes from this folder."""
    return hydra.initialize_config_dir(str(config_dir), version_base=VERSION_BASE)


def _parse(overrides: Iterable[str]) -> list[Override]:
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    try:
        return parser.parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UserError(
            f"cannot read {error.override.lstrip('+')!r}: write key=value, or \"key='value'\" "
            "where the value has special characters"
        ) from error


def list_jobs(overrides: list[str]) -> Iterator[list[str]]:
    """The overrides of every job of a sweep."""
    choices = []
    for override in _parse(overrides):
        if not override.is_sweep_override():
            choices.append([str(override.input_line)])
        elif not override.is_discrete_sweep():
            raise UserError(f"{override.input_line}: list the values, as in a,b,c or range(1,4)")
        elif override.is_hydra_override():
            raise UserError(f"{override.input_line}: Hydra's own settings cannot be swept")
        else:
            values = list(override.sweep_string_iterator())
            if not values:
                raise UserError(f"{override.input_line}: no value fits")
            choices.append([f"{override.get_key_element()}={value}" for value in values])
    yield from map(list, itertools.product(*choices))


def compose(config_name: str, schema: type[Config], jobs: Iterable[list[str]]) -> list[DictConfig]:
    """Each job's config as Hydra composes it, with the node `hydra`."""
    settings = list_settings(schema)
    composed = []
    try:
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(config_name, [], RunMode.RUN)
        groups = defaults.overrides.known_choices
        for overrides in jobs:
            parsed = _parse(overrides)
            for number, override in enumerate(parsed):
                _check_override(override, settings, groups)
                others = [other for other in parsed[number:] if other.key_or_group in groups]
                _check_is_on(override, config_name, [*parsed[:number], *others], settings)
            composed.append(hydra.compose(config_name, overrides, return_hydra_config=True))
    except UserError:
        raise
    except Exception as error:  # YAML, OmegaConf and Hydra each have their own kinds
        raise UserError(_explain(error)) from error
    return composed


def _check_override(override: Override, settings: Settings, groups: Iterable[str]) -> None:
    key, value, text = override.key_or_group, override.value(), _show(override)
    is_open = any("keys" in settings.get(parent, {}) for parent in _parents(key))
    is_hydras = key.startswith("hydra")
    if not (is_open or is_hydras or key in settings or key in groups):
        raise unknown_key(key, [*settings, *groups])
    if is_hydras and (override.is_add() or override.is_force_add()):  # which add what is unknown
        OmegaConf.update(OmegaConf.create({"hydra": HydraConf}), key, value)
    if override.is_sweep_override():
        raise UserError(f"{text}: several values are a list, as in [a,b], or a sweep, with -m")
    if override.is_delete():
        if not is_open:
            raise UserError(f"{text}: a setting cannot be removed, only changed")
    elif key in groups and not isinstance(value, str | list | dict):
        raise UserError(f"{text}: give the name of a choice, or leave {key} out")
    elif not (is_hydras or key in groups or override.is_force_add()):
        raise wrong_value(key, value, settings[key])  # the choice of another program's group


def _check_is_on(
    override: Override, config_name: str, earlier: Iterable[Override], settings: Settings
) -> None:
    """Refuse a key of a section that is null, which Hydra would turn on without a word."""
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


def to_typed(composed: DictConfig, schema: type[Config], may_lack: bool = False) -> Config:
    """The typed config of what Hydra composed.

    Raises:
        UserError: a value does not fit or, unless `may_lack`, a key that must be given is not.
    """
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
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
        config = validate(values, schema)
        if isinstance(config, TrainConfig) and "hydra" in composed:  # a job gets what was checked
            model = config.model
            check_choice("model.pooling", model.pooling, _list_files(composed, "model/pooling"))
            check_choice("model.stem.name", model.stem.name, _list_files(composed, "model/stem"))
        return config
    except ConfigError as error:
        file = _find_file(error.key, composed)
        raise UserError(f"In '{file}': {error}" if file else str(error)) from error


def _list_files(composed: DictConfig, group: str) -> list[str]:
    """The files of a group in conf/ and in the user's own folder: one for each part of its kind."""
    folders = [Path(source.path, group) for source in composed.hydra.runtime.config_sources]
    return sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))


def _find_file(key: str, composed: DictConfig) -> str | None:
    """The choice whose file sets a key, unless the command line does."""
    given = [override.lstrip("+").partition("=")[0] for override in composed.hydra.overrides.task]
    if any(f"{key}.".startswith(f"{name}.") for name in given):
        return None
    line = re.compile(rf"\b{re.escape(key.rpartition('.')[2])}\s*:")
    for group, choice in composed.hydra.runtime.choices.items():  # what has the last say first
        for source in composed.hydra.runtime.config_sources:
            path = Path(source.path, group, f"{choice}.yaml")
            if path.is_file() and line.search(path.read_text()):
                return f"{group}/{choice}"
    return None


def _explain(error: Exception) -> str:
    """One line about an error while composing, which may lie in a yaml file of the user's."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        meant, listed = nearest(choice, error.options), ", ".join(error.options)
        return f"{group}={choice}: did you mean {meant}? It must be one of {listed}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    if cause is None or not cause.full_key:
        return str(error).partition("Config search path")[0]
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        parent = cause.full_key.rpartition(".")[0]
        return str(
            unknown_key(cause.full_key, [f"{parent}.{key}" for key in cause.parent_node or ()])
        )
    return f"{cause.full_key}: {str(cause.msg).splitlines()[0]}"
