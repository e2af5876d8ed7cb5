"""What all verbs share: from a command line to a checked config to a job.

Exit codes: 0 done; 2 a mistake of the user's, told in one line on standard error; 130 interrupted
from the keyboard; 143 terminated; 1 anything else, with its traceback.
"""

import functools
import itertools
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    OmegaConfBaseException,
)

from attnlstm.cli.conf_folder import CONF
from attnlstm.cli.help import render_help
from attnlstm.cli.resume import flatten, resume_config
from attnlstm.cli.run_folder import create_folder, explain_failed_write
from attnlstm.config.archive_names import check_archive_name
from attnlstm.config.checks import (
    Config,
    ConfigError,
    Settings,
    can_be_off,
    list_settings,
    nearest,
    show,
    unknown_key,
    validate,
    wrong_value,
)
from attnlstm.config.data import DATA_CONFIGS, ArchiveConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.console import print_means, printable, shorten
from attnlstm.errors import UserError

VERSION_BASE = "1.3"
"""The version of Hydra whose defaults are followed."""

LONGEST_MESSAGE = 5_000  # characters

Metrics = Mapping[str, float]

logger = logging.getLogger(__name__)
"""Writes to the run's log file only: see conf/hydra/job_logging/run_log.yaml."""


def entry_point(
    config_name: str, schema: type[Config]
) -> Callable[[Callable[[Config, Path], Metrics]], Callable[[], None]]:
    """Turn a function of a typed config and the run's folder into a command line program.

    The function returns the run's metrics; of a sweep's runs, a table of their mean is printed.

    Args:
        config_name: the file of conf/ to start from.
        schema: the model that validates the composed config.
    """

    def decorate(function: Callable[[Config, Path], Metrics]) -> Callable[[], None]:
        @functools.wraps(function)
        def main() -> None:
            # A full disk is told once, and not again by every line that cannot be logged.
            logging.raiseExceptions = False
            # Ends as an exception does; while a model is trained, `NewestCheckpoint` takes it.
            handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            try:
                arguments = _check_arguments(sys.argv[1:], config_name, schema)
                sys.argv[1:], resumed = arguments
                _run(function, config_name, schema, resumed)
            except UserError as error:
                _report(error)
                sys.exit(2)
            except KeyboardInterrupt:
                sys.exit(130)
            except SystemExit as stop:
                sys.exit(_exit_code(stop))
            finally:
                signal.signal(signal.SIGTERM, handler)

        return main

    return decorate


def _exit_code(stop: SystemExit) -> Any:
    """What Lightning means: it ends in order after Ctrl-C, with 1, and after SIGTERM, with 0."""
    if isinstance(stop.__context__, KeyboardInterrupt):
        return 130
    if type(stop).__name__ == "SIGTERMException":  # by name: importing Lightning takes seconds
        print("terminated: the newest checkpoint is kept", file=sys.stderr)
        return 143
    return stop.code


def compose_config(
    config_dir: str | Path, config_name: str, schema: type[Config], overrides: Iterable[str] = ()
) -> Config:
    """The typed config that a command line with these overrides would run with.

    Raises:
        UserError: something does not fit; the message names it and the nearest that does.
    """
    config_dir = Path(config_dir).absolute()
    with _initialized(config_dir):
        jobs = [[_normalize(text, config_dir, schema) for text in overrides]]
        config = _typed(_compose(config_name, schema, jobs)[0], schema)
        return _resumed(config, config_name, jobs[0]) or config


def _run(
    function: Callable[[Config, Path], Metrics],
    config_name: str,
    schema: type[Config],
    resumed: Config | None,
) -> None:
    """Let Hydra do what the command line asks for; of several jobs, all run even if one fails."""
    failed = False
    results: list[Metrics] = []
    bugs: list[Exception] = []
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise it prints its own errors and ends the program

    @functools.wraps(function)
    def job(composed: DictConfig) -> Metrics | None:
        nonlocal failed
        try:
            run_dir = Path(HydraConfig.get().runtime.output_dir)
            results.append(function(resumed or _typed(composed, schema), run_dir))
            return results[-1]
        except UserError as error:
            _report(error)
            logger.error("%s", error)
            failed = True
            return None
        except Exception as error:
            logger.exception("the run failed")
            bugs.append(error)
            raise

    start = hydra.main(str(CONF), config_name, VERSION_BASE)(job)
    try:
        start()
    except (OSError, ValueError) as error:
        told = None if error in bugs else explain_failed_write(error)
        if told is None:
            raise
        raise told from error
    if len(results) > 1:
        print_means(results)
    if failed:
        sys.exit(2)


def _report(error: UserError) -> None:
    message = shorten(" ".join(str(error).split()), LONGEST_MESSAGE)
    print("error:", printable(message), file=sys.stderr)


def _check_arguments(
    arguments: list[str], config_name: str, schema: type[Config]
) -> tuple[list[str], Config | None]:
    """Check every job of a command line.

    Returns the arguments for Hydra, with a folder for the run, and the config of a resumed run.
    """
    shows_all = "--help=all" in arguments
    arguments = [
        "--help" if text == "--help=all" else _normalize(text, CONF, schema) for text in arguments
    ]
    options = get_args_parser().parse_args(arguments)
    if options.experimental_rerun:
        raise UserError("--experimental-rerun reads a pickle, which could run anything: leave it")
    if options.hydra_help or options.shell_completion:
        return arguments, None
    overrides, config_name = list(options.overrides), options.config_name or config_name
    if options.config_dir:
        if not Path(options.config_dir).is_dir():
            raise UserError(f"--config-dir={options.config_dir} is not a folder: check the path")
        overrides.append(f"hydra.searchpath=['file://{Path(options.config_dir).absolute()}']")
    is_sweep = options.multirun or "hydra.mode=MULTIRUN" in overrides
    folders = [CONF / (options.config_path or ""), *map(Path, filter(None, [options.config_dir]))]
    with _initialized(folders[0]):
        jobs = list(_sweep(overrides)) if is_sweep else [overrides]
        composed = _compose(config_name, schema, jobs)
        only_shows = bool(options.help or options.cfg or options.info)
        configs = [_typed(job, schema, may_lack=only_shows) for job in composed]
        if options.help:
            print(render_help(composed[0], list_settings(schema), folders, shows_all))
            sys.exit()
        if only_shows:
            return arguments, None
        resumed = _resumed(configs[0], config_name, overrides)
    for config in configs:
        _check_beyond_types(config)
    key = "hydra.sweep.dir" if is_sweep else "hydra.run.dir"
    has_folder = any(text.startswith(f"{key}=") for text in overrides)
    first = arguments.index(options.overrides[0]) if options.overrides else len(arguments)
    if resumed is not None:
        resume = str(resumed.resume)
        is_own = not has_folder or Path(OmegaConf.select(composed[0], key)) == Path(resume)
        if is_sweep or not is_own:
            raise UserError("resume goes on with one run, in its own folder")
        # Hydra's record of how the configuration was put together stays that of the run's start.
        added = [f"{key}={_quote(resume)}", "hydra.output_subdir=null"]
        # The other processes of ddp get this command line, and "last" may by then be another run.
        named = f"++resume={_quote(resume)}"
        arguments = [named if text.startswith("++resume=") else text for text in arguments]
    else:
        folder = "" if has_folder else create_folder(OmegaConf.select(composed[0], key))
        added = [] if has_folder else [f"{key}={_quote(folder)}"]
    return [*arguments[:first], *added, *arguments[first:]], resumed


def _resumed(config: Any, config_name: str, overrides: list[str]) -> Any:
    """The config of the run that is to be resumed; None without one."""
    if not isinstance(config, TrainConfig) or config.resume is None:
        return None
    plain = _typed(_compose(config_name, TrainConfig, [[]])[0], TrainConfig)
    return resume_config(config, plain, [override.key_or_group for override in _parse(overrides)])


def _normalize(argument: str, config_dir: Path, schema: type[Config]) -> str:
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
                f"data=series_files data.train={value}? data is one of {', '.join(DATA_CONFIGS)}"
            )
        return f"{key}={value}"
    if key == "text":
        return f"++{key}={_quote(value)}"
    if re.search(r"[^\w.,/~-]", value) and value[:1] not in ("'", '"', "["):
        node = list_settings(schema).get(key, {})
        if any("verbatim" in option for option in [node, *node.get("anyOf", ())]):
            value = value.replace("'", r"\'")
            return f"++{key}='{value}'"  # a path needs no quotes on top of the shell's
    return f"++{key}={value}"


def _quote(text: str) -> str:
    """A text to the letter, whatever Hydra and OmegaConf make of quotes, braces and backslashes."""
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    text = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text)
    return f"'{text}'"


def _initialized(config_dir: Path) -> Any:
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


def _sweep(overrides: list[str]) -> Iterator[list[str]]:
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


def _compose(config_name: str, schema: type[Config], jobs: Iterable[list[str]]) -> list[DictConfig]:
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


def _typed(composed: DictConfig, schema: type[Config], may_lack: bool = False) -> Config:
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
        return validate(values, schema)
    except ConfigError as error:
        file = _find_file(error.key, composed)
        raise UserError(f"In '{file}': {error}" if file else str(error)) from error


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


def _check_beyond_types(config: Any) -> None:
    if isinstance(config, TrainConfig):
        if isinstance(config.data, ArchiveConfig):
            check_archive_name(config.data.name)
        # Not at the top: torch takes two seconds to import, and --help should not wait for it.
        from attnlstm.training.optimization import check_optimization

        check_optimization(config.optimizer, config.scheduler)
