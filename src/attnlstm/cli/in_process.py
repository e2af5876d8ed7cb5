"""The command `attnlstm train` within a Python program."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from attnlstm.cli import CONF
from attnlstm.cli.arguments import normalize
from attnlstm.cli.composition import compose_jobs, initialized, without_hydra
from attnlstm.cli.entry_point import check_beyond_types
from attnlstm.cli.run_folder import RunFolder, claim_folder
from attnlstm.config.schema import TrainConfig
from attnlstm.console import PrintableFormatter
from attnlstm.errors import UserError
from attnlstm.training import run
from attnlstm.training.process import undisturbed_process


class Job(NamedTuple):
    """A checked configuration.

    overrides: from which it was composed.
    composed: as Hydra composed it, with the node `hydra`.
    folder: of the run, which need not exist yet.
    """

    config: TrainConfig
    overrides: list[str]
    composed: DictConfig
    folder: Path


def train(*overrides: str) -> run.TrainingResult:
    """Train and test a classifier, as the command `attnlstm train` does, and return the run.

        attnlstm.train("data=text_files", "data.train=train.csv")

    The run folder has the same files, and the same lines are logged and printed.

    Args:
        overrides: what follows `attnlstm train` on a command line, without flags.

    Raises:
        UserError: what the command reports in one line.
        KeyboardInterrupt: Ctrl-C; the run can be resumed.
    """
    with undisturbed_process():
        job = compose_job(overrides)
        with logged(job) as run_dir, interruptible():
            return run.train(job.config, run_dir)


def compose_job(overrides: Iterable[str]) -> Job:
    """Compose and check the configuration of a command line.

    Raises:
        UserError: something does not fit.
    """
    overrides = list(overrides)
    arguments = [normalize(text, CONF, TrainConfig) for text in overrides]
    with initialized(CONF):
        ((composed, config),) = compose_jobs("train", TrainConfig, [arguments])
    check_beyond_types(config)
    folder = config.resume or str(OmegaConf.select(composed, "hydra.run.dir"))
    return Job(config, overrides, composed, Path(folder))


@contextmanager
def logged(job: Job) -> Iterator[Path]:
    """Yield the run folder, which is created as on the command line and gets a train.log.

    A start that fails leaves no folder. The lines of the log also go to standard output, unless the
    program has set up logging itself.

    Raises:
        UserError: the folder is in use, or cannot be created.
    """
    claimed = RunFolder(str(job.folder), outermost=None)
    if job.config.resume is None:
        has_name = any(text.startswith("hydra.run.dir=") for text in job.overrides)
        claimed = claim_folder("hydra.run.dir", claimed.path, has_name, job.config.overwrite)
        _record(job, Path(claimed.path) / ".hydra")
    folder = Path(claimed.path)
    logger = logging.getLogger("attnlstm")
    file = logging.FileHandler(folder / "train.log", encoding="utf-8")
    file.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers: list[logging.Handler] = [file]
    if not logger.hasHandlers():
        console = logging.StreamHandler(sys.stdout)
        console.setFormatter(PrintableFormatter("%(message)s"))
        handlers.append(console)
    level = logger.level
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield folder
    except UserError:
        claimed.remove_failed_start()
        raise
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
        file.close()


def _record(job: Job, folder: Path) -> None:
    """Write how the configuration was composed, as Hydra does."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(without_hydra(job.composed), folder / "config.yaml")
    OmegaConf.save(OmegaConf.masked_copy(job.composed, ["hydra"]), folder / "hydra.yaml")
    OmegaConf.save(OmegaConf.create(job.overrides), folder / "overrides.yaml")


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where Lightning ends the program after Ctrl-C."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise
