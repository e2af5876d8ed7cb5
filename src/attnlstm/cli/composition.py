"""From a command line to the typed config: Hydra composes, the schema validates."""

import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

import attnlstm.data.sources  # noqa: F401 - the sources register
from attnlstm.cli.arguments import normalize
from attnlstm.cli.resume import resume_config
from attnlstm.config import checks
from attnlstm.config.checks import Config, Settings
from attnlstm.config.model import ModelConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError
from attnlstm.locks import ForkSafeLock

VERSION_BASE = "1.3"
"""The version of Hydra whose defaults apply."""

_composing = ForkSafeLock()


def compose_config(
    config_dir: str | Path, config_name: str, schema: type[Config], overrides: Iterable[str] = ()
) -> Config:
    """Return the typed config for a command line with these overrides.

    Raises:
        UserError: something does not fit; the message names it and the nearest that does.
    """
    config_dir = Path(config_dir).absolute()
    arguments = [normalize(text, config_dir, schema) for text in overrides]
    with initialized(config_dir):
        ((_, config),) = compose_jobs(config_name, schema, [arguments])
    return config


@contextmanager
def initialized(config_dir: Path) -> Iterator[None]:
    """Let Hydra compose from this folder; other threads wait.

    Hydra has one state in a process. Afterwards it is as before, within a Hydra program too.
    """
    with _composing.held():
        version, runtime = VersionBase.instance(), JobRuntime.instance()
        outer, base, name = GlobalHydra.instance().hydra, version.getbase(), runtime.get("name")
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_dir(str(config_dir), version_base=VERSION_BASE):
                yield
        finally:
            GlobalHydra.instance().hydra = outer
            version.version_base = base
            runtime.set("name", name)


def compose_jobs(
    config_name: str, schema: type[Config], jobs: Iterable[list[str]], only_shows: bool = False
) -> list[tuple[DictConfig, Config]]:
    """Return each job's config as Hydra composes it, with the node `hydra`, and in typed form.

    The typed form of a run that is resumed is the config of that run. With `only_shows`, required
    keys may be missing, and no run is looked up.

    Raises:
        UserError: something does not fit; the message names it and the nearest that does.
    """
    composed_jobs = []
    with _one_line_errors():
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(config_name, [], RunMode.RUN)
    for overrides in jobs:
        parsed = _parse(overrides)
        with _one_line_errors():
            _check_overrides(parsed, config_name, schema, defaults.overrides.known_choices)
            composed = hydra.compose(config_name, overrides, return_hydra_config=True)
        config: Any = to_typed(composed, schema, may_lack=only_shows)
        if isinstance(config, TrainConfig):
            with _named_files(composed, schema):
                _check_parts(composed, config.model)
        if isinstance(config, TrainConfig) and config.resume is not None and not only_shows:
            plain = to_typed(hydra.compose(config_name, return_hydra_config=True), TrainConfig)
            config = resume_config(config, plain, [override.key_or_group for override in parsed])
        composed_jobs.append((composed, config))
    return composed_jobs


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
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # slow to import

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


def _check_overrides(
    overrides: list[Override], config_name: str, schema: type[Config], groups: Iterable[str]
) -> None:
    settings = checks.list_settings(schema)
    for number, override in enumerate(overrides):
        _check_override(override, settings, groups)
        chosen = [other for other in overrides[number:] if other.key_or_group in groups]
        earlier = [str(other.input_line) for other in [*overrides[:number], *chosen]]
        for section in _parents(override.key_or_group):
            if checks.can_be_off(settings.get(section, {})):
                _check_is_on(section, hydra.compose(config_name, earlier), override)


def _check_override(override: Override, settings: Settings, groups: Iterable[str]) -> None:
    key, value, text = override.key_or_group, override.value(), _show(override)
    is_open = any("keys" in settings.get(parent, {}) for parent in _parents(key))
    is_hydras = key.startswith("hydra")
    if not (is_open or is_hydras or key in settings or key in groups):
        raise checks.unknown_key(key, [*settings, *groups])
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
        raise checks.wrong_value(key, value, settings[key])  # a group of another verb


def _check_is_on(section: str, composed: DictConfig, override: Override) -> None:
    """Refuse a key of a section that is null, which Hydra would silently turn on."""
    if OmegaConf.select(composed, section) is None:
        name, value = override.key_or_group.removeprefix(f"{section}."), override.value()
        raise UserError(
            f"{_show(override)}: the section is null, that is off; turn it on first, as in "
            f"{section}={{{name}: {checks.show(value)}}}"
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
    for key, value in checks.flatten(OmegaConf.to_container(own)).items():
        if value == "???" and not may_lack:
            raise UserError(f"{key} must be given: add {key}=...")
        if value == "???":
            OmegaConf.update(own, key, "...")  # other keys may refer to it
    with _one_line_errors():  # about interpolations that lead nowhere
        values = OmegaConf.to_container(own, resolve=True)
    with _named_files(composed, schema):
        return checks.validate(values, schema)


def _check_parts(composed: DictConfig, model: ModelConfig) -> None:
    """Check the names of the parts of a model, each of which has a file in its group."""
    for key, group, names in (
        ("model.pooling", "model/pooling", model.pooling),
        ("model.stem.name", "model/stem", model.stem.name),
    ):
        checks.check_choice(key, names, _list_files(composed, group))


@contextmanager
def _named_files(composed: DictConfig, schema: type[Config]) -> Iterator[None]:
    """Add to errors about a key which file has set it."""
    try:
        yield
    except checks.ConfigError as error:
        group, choices = error.key, composed.hydra.runtime.choices
        if isinstance(choices.get(group), str) and group not in schema.model_fields:
            raise UserError(
                f"{group}/{choices[group]}.yaml must begin with the line '# @package _global_'; "
                f"without it, its keys go below {group}"
            ) from error
        file = _find_file(error.key, composed)
        raise UserError(f"In '{file}': {error}" if file else str(error)) from error


def _list_files(composed: DictConfig, group: str) -> list[str]:
    """Return the names of the files of a group, in conf/ and in the user's own folder."""
    folders = [Path(source.path, group) for source in composed.hydra.runtime.config_sources]
    return sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))


def _find_file(key: str, composed: DictConfig) -> str | None:
    """Return the choice whose file sets a key; None if the command line does, or no file."""
    given = [override.lstrip("+").partition("=")[0] for override in composed.hydra.overrides.task]
    if any(checks.is_within(key, name) for name in given):
        return None
    line = re.compile(rf"\b{re.escape(key.rpartition('.')[2])}\s*:")
    for group, choice in composed.hydra.runtime.choices.items():  # the last one to apply is first
        for source in composed.hydra.runtime.config_sources:
            path = Path(source.path, group, f"{choice}.yaml")
            if path.is_file() and line.search(path.read_text("utf-8")):
                return f"{group}/{choice}"
    return None


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # YAML, OmegaConf and Hydra each have their own kinds
        raise UserError(_explain(error)) from error


def _explain(error: Exception) -> str:
    """Return one line about an error while composing, possibly in a yaml file of the user's."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        meant = checks.similar(choice, error.options)
        hint = f"did you mean {meant}? " if meant else ""
        return f"{group}={choice}: {hint}It must be one of {', '.join(error.options)}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    if cause is None or not cause.full_key:
        return str(error).partition("Config search path")[0]
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        section = cause.full_key.rpartition(".")[0]
        names = [section, *(f"{section}.{key}" for key in cause.parent_node or ())]
        return str(checks.unknown_key(cause.full_key, names))
    return f"{cause.full_key}: {str(cause.msg).splitlines()[0]}"
