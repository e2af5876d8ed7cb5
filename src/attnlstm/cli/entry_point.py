"""What all verbs share: from a command line to a checked config to a job.

Exit codes: 0 success; 2 a mistake of the user's, explained in one line on standard error;
130 interrupted from the keyboard; 143 terminated; 1 anything else, with its traceback.
"""

import functools
import io
import logging
import os
import re
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attnlstm.cli import CONF
from attnlstm.cli.arguments import normalize, quote
from attnlstm.cli.composition import (
    VERSION_BASE,
    compose_jobs,
    initialized,
    list_jobs,
    to_typed,
)
from attnlstm.cli.help import render_help
from attnlstm.cli.run_folder import RunFolder, claim_folder
from attnlstm.config.checks import Config, list_settings
from attnlstm.config.schema import TrainConfig
from attnlstm.console import print_means, printable, printing, shorten
from attnlstm.data.sources.source import Source
from attnlstm.errors import UserError

LONGEST_MESSAGE = 5_000  # characters

Metrics = Mapping[str, float]
Job = Callable[[Config, Path], Metrics]

logger = logging.getLogger(__name__)
"""Writes to the run's log file only: see conf/hydra/job_logging/run_log.yaml."""


def entry_point(
    config_name: str, schema: type[Config]
) -> Callable[[Job[Config]], Callable[[], None]]:
    """Turn a function of a typed config and the run's folder into a command line program.

    The function returns the run's metrics; a sweep prints a table of their means.

    Args:
        config_name: the file of conf/ to start from.
        schema: the model that validates the composed config.
    """

    def decorate(function: Job[Config]) -> Callable[[], None]:
        @functools.wraps(function)
        def main() -> None:
            # One message about a full disk is enough; logging would repeat it for every line.
            logging.raiseExceptions = False
            # Ends as an exception does; during training, `NewestCheckpoint` handles the signal.
            handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            try:
                if isinstance(sys.stdout, io.TextIOWrapper):  # of any locale
                    sys.stdout.reconfigure(errors="backslashreplace")
                _start(function, config_name, schema)
                with printing():
                    pass  # of what the log has written
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
    """Return our exit code where Lightning ends with 1 after Ctrl-C, and with 0 after SIGTERM."""
    if isinstance(stop.__context__, KeyboardInterrupt):
        return 130
    if type(stop).__name__ == "SIGTERMException":  # by name: importing Lightning takes seconds
        print("terminated: the newest checkpoint is kept", file=sys.stderr)
        return 143
    return stop.code


def _report(error: UserError) -> None:
    message = shorten(" ".join(str(error).split()), LONGEST_MESSAGE)
    print("error:", printable(message), file=sys.stderr)


def _start(function: Job[Config], config_name: str, schema: type[Config]) -> None:
    """Check every job of the command line, then let Hydra do what it asks for."""
    arguments = [normalize(text, CONF, schema) for text in sys.argv[1:]]
    options = _parse_options(arguments)
    overrides, config_name = options.overrides, options.config_name or config_name
    flags = [text for text in arguments if text not in overrides]
    is_sweep = options.multirun or "hydra.mode=MULTIRUN" in overrides
    shows_help = options.help or options.help_all
    only_shows = bool(shows_help or options.cfg or options.info)
    config = folder = None
    if not (options.hydra_help or options.shell_completion):
        searched = []
        if options.config_dir:
            searched = [f"hydra.searchpath=['file://{Path(options.config_dir).absolute()}']"]
        with initialized(CONF / (options.config_path or "")):
            jobs = list_jobs([*overrides, *searched]) if is_sweep else [[*overrides, *searched]]
            checked = compose_jobs(config_name, schema, jobs, only_shows)
            composed, config = checked[0]
            if shows_help:
                print(render_help(composed, list_settings(schema), options.help_all))
                return
        if not only_shows:
            for _, checked_config in checked:
                check_beyond_types(checked_config)
            overrides, folder = _add_folder(overrides, composed, config, is_sweep)
    sys.argv[1:] = [*overrides, *flags]
    _run(function, config_name, schema, None if is_sweep else config, folder)


def _parse_options(arguments: list[str]) -> Namespace:
    """Parse the command line as Hydra does; mistakes are UserErrors instead of a usage text."""

    def refuse(message: str) -> NoReturn:
        raise UserError(message)

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.add_argument("--help=all", action="store_true", dest="help_all")
    options = parser.parse_intermixed_args(arguments)
    if options.experimental_rerun:
        raise UserError("--experimental-rerun reads a pickle, which could run anything: leave it")
    if options.config_dir and not Path(options.config_dir).is_dir():
        raise UserError(f"--config-dir={options.config_dir} is not a folder: check the path")
    return options


def check_beyond_types(config: Any) -> None:
    """Raise a UserError for what the schema cannot tell to be wrong."""
    if isinstance(config, TrainConfig):
        assert isinstance(config.data, Source)
        config.data.check()
        # Not at the top: torch takes two seconds to import, and --help should not wait for it.
        from attnlstm.training.optimization import check_optimization

        check_optimization(config.optimizer, config.scheduler)


def _add_folder(
    overrides: list[str], composed: DictConfig, config: Any, is_sweep: bool
) -> tuple[list[str], RunFolder | None]:
    """Return the overrides with the run's folder, and the folder unless it is resumed."""
    key = "hydra.sweep.dir" if is_sweep else "hydra.run.dir"
    has_folder = any(text.startswith(f"{key}=") for text in overrides)
    folder, resume = OmegaConf.select(composed, key), getattr(config, "resume", None)
    if resume is None:
        claimed = claim_folder(key, folder, has_folder, getattr(config, "overwrite", False))
        if not has_folder:
            overrides = [f"{key}={quote(claimed.path)}", *overrides]
        return overrides, None if is_sweep else claimed
    if is_sweep or (has_folder and Path(folder) != Path(resume)):
        raise UserError("resume continues one run, in its own folder")
    # The other processes of ddp get this command line, and "last" may by then be another run.
    named = f"++resume={quote(resume)}"
    overrides = [named if text.startswith("++resume=") else text for text in overrides]
    # Hydra's record of how the configuration was composed stays that of the run's start.
    return [f"{key}={quote(resume)}", "hydra.output_subdir=null", *overrides], None


def _run(
    function: Job[Config],
    config_name: str,
    schema: type[Config],
    config: Config | None,
    folder: RunFolder | None,
) -> None:
    """Let Hydra run one job with this config, or all jobs of a sweep even if one fails.

    The folder of a job that fails at once is removed.
    """
    results: list[Metrics] = []
    errors: list[Exception] = []
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise it prints its own errors and ends the program

    @functools.wraps(function)
    def job(composed: DictConfig) -> Metrics | None:
        run_dir = Path(HydraConfig.get().runtime.output_dir)
        for record in run_dir.glob(".hydra/overrides.yaml"):  # without the ++ of `normalize`
            text = re.sub(r"^(- ['\"]?)\+\+", r"\1", record.read_text("utf-8"), flags=re.M)
            record.write_text(text, "utf-8")
        try:
            results.append(function(config or to_typed(composed, schema), run_dir))
            return results[-1]
        except UserError as error:
            _report(error)
            logger.error("%s", error)
            errors.append(error)
            return None
        except Exception as error:
            logger.exception("the run failed")
            errors.append(error)
            raise

    try:
        hydra.main(str(CONF), config_name, VERSION_BASE)(job)()
    except (OSError, ValueError) as error:
        cause = error.__cause__ or error  # logging wraps the system's error about the log file
        if error in errors or not isinstance(cause, OSError):
            raise
        if folder is not None:
            folder.remove_failed_start()
        place = cause.filename or "the run's folder"
        raise UserError(
            f"cannot write to {place}: {cause.strerror}; choose another folder"
        ) from error
    if len(results) > 1:
        print_means(results)
    if errors:
        if folder is not None:
            folder.remove_failed_start()
        sys.exit(2)
