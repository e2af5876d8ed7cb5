"""What all verbs share: from a command line to a checked config to a job.

Exit codes: 0 done; 2 a mistake of the user's, told in one line on standard error; 130 interrupted
from the keyboard; 143 terminated; 1 anything else, with its traceback.
"""

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attnlstm.cli.composition import (
    VERSION_BASE,
    compose,
    find_resumed,
    initialized,
    list_jobs,
    normalize,
    quote,
    to_typed,
)
from attnlstm.cli.conf_folder import CONF
from attnlstm.cli.help import render_help
from attnlstm.cli.run_folder import create_folder, explain_failed_write
from attnlstm.config.checks import Config, list_settings
from attnlstm.config.schema import TrainConfig
from attnlstm.console import print_means, printable, shorten
from attnlstm.data.sources.source import Source
from attnlstm.errors import UserError

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
            results.append(function(resumed or to_typed(composed, schema), run_dir))
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
        "--help" if text == "--help=all" else normalize(text, CONF, schema) for text in arguments
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
    with initialized(folders[0]):
        jobs = list(list_jobs(overrides)) if is_sweep else [overrides]
        composed = compose(config_name, schema, jobs)
        only_shows = bool(options.help or options.cfg or options.info)
        configs = [to_typed(job, schema, may_lack=only_shows) for job in composed]
        if options.help:
            print(render_help(composed[0], list_settings(schema), folders, shows_all))
            sys.exit()
        if only_shows:
            return arguments, None
        resumed = find_resumed(configs[0], config_name, overrides)
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
        added = [f"{key}={quote(resume)}", "hydra.output_subdir=null"]
        # The other processes of ddp get this command line, and "last" may by then be another run.
        named = f"++resume={quote(resume)}"
        arguments = [named if text.startswith("++resume=") else text for text in arguments]
    else:
        folder = "" if has_folder else create_folder(OmegaConf.select(composed[0], key))
        added = [] if has_folder else [f"{key}={quote(folder)}"]
    return [*arguments[:first], *added, *arguments[first:]], resumed


def _check_beyond_types(config: Any) -> None:
    if isinstance(config, TrainConfig):
        assert isinstance(config.data, Source)
        config.data.check()
        # Not at the top: torch takes two seconds to import, and --help should not wait for it.
        from attnlstm.training.optimization import check_optimization

        check_optimization(config.optimizer, config.scheduler)
