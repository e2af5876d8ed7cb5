"""A training run: from a typed config to a run folder."""

import logging
import math
import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from lightning import Trainer

from attnlstm.checkpoint.calibration import decide
from attnlstm.checkpoint.classifier import describe_reading
from attnlstm.config.data import TextConfig
from attnlstm.config.schema import BudgetConfig, TrainConfig
from attnlstm.console import counted, print_metrics
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.parts import LabelledParts
from attnlstm.data.rows import RowSource
from attnlstm.data.sources.source import Source, open_sources
from attnlstm.data.splits import split_sources
from attnlstm.data.summary import describe_rows
from attnlstm.files import check_outputs, replacing
from attnlstm.nn.head import predict
from attnlstm.training import budget, comparison, preparation
from attnlstm.training.baseline import Predictions, Scores
from attnlstm.training.batch_limits import check_batches
from attnlstm.training.calibrate import calibrate_checkpoint, copy_calibration
from attnlstm.training.callbacks import RowCollector
from attnlstm.training.failures import explain_failures
from attnlstm.training.fit import fit, read_resume_point
from attnlstm.training.metrics import MAIN_METRIC
from attnlstm.training.metrics_file import write_metrics
from attnlstm.training.module import ClassificationModule
from attnlstm.training.newest_checkpoint import show_path
from attnlstm.training.preparation import EncodedDataset
from attnlstm.training.refit import explain_no_refit, refit, wants_refit
from attnlstm.training.resources import check_memory, check_processors
from attnlstm.training.threads import limit_threads
from attnlstm.training.trainer import (
    build_trainer,
    check_monitors,
    find_best_checkpoint,
    silence_known_warnings,
)

logger = logging.getLogger(__name__)

OUTPUTS = ("config.yaml", "metrics.csv", "metrics.json", "baseline.json")
"""Files of an earlier run in the folder that this one replaces."""


class TrainingResult(NamedTuple):
    """The result of a run, for notebooks and tests.

    Attributes:
        metrics: of the test split, such as "test/accuracy"; NaN where a metric does not exist, and
            empty without test rows.
        checkpoint: the best checkpoint, which was tested; None: the last weights were.
        module: the tested model.
        trainer: of the fit and the test.
        run_dir: the folder of the run.
    """

    metrics: dict[str, float]
    checkpoint: Path | None
    module: ClassificationModule
    trainer: Trainer
    run_dir: Path


def train(
    config: TrainConfig,
    run_dir: str | Path,
    sources: Mapping[str, RowSource] | None = None,
    carves_test: bool = True,
) -> TrainingResult:
    """Fit and validate a model, calibrate it, refit it if that is wanted, and test it once.

    Writes into `run_dir`: config.yaml (resolved), metrics.csv, tensorboard/, figures/,
    checkpoints/, refit/, metrics.json (of the test split) and baseline.json. The tested model is
    best.ckpt: the refit, otherwise the epoch that validated best.

    With `config.resume`, or as a job that SLURM has requeued, the run in `run_dir` resumes from its
    newest checkpoint, or starts again if there is none yet.

    Args:
        config: the typed config.
        run_dir: the folder of the run.
        sources: the rows of "train" and other parts; None: those that `config.data` names.
        carves_test: whether test rows are split off "train" if they have no source. Without any,
            nothing is tested.

    Raises:
        UserError: something about the data or the configuration that the user can fix, or
            `run_dir` cannot be written to; it names the newest checkpoint.
    """
    silence_known_warnings()
    run_dir = Path(run_dir)
    newest = run_dir / "checkpoints" / "last.ckpt"
    is_requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0" and newest.exists()
    resumes = config.resume is not None or is_requeued
    config = config.model_copy(update={"resume": None, "overwrite": False})
    check_processors("num_threads", config.num_threads)
    check_processors("data.num_workers", config.data.num_workers)
    if not resumes and sources is None:
        outputs = {f"the file {run_dir / name}": run_dir / name for name in OUTPUTS}
        assert isinstance(config.data, Source)
        check_outputs(outputs, config.data.list_inputs())
    write_config(config, run_dir)
    limit_threads(config.num_threads)
    resume_point = read_resume_point(newest) if resumes else None
    # Refuse an impossible trainer or LSTM before any data is loaded.
    trainer = build_trainer(config, run_dir, resume_point)
    check_memory(config, trainer.strategy.root_device)

    dataset = load_dataset(config, sources, carves_test)
    config = config.for_task(dataset.task)
    encoded = preparation.encode(config, dataset)
    config = budget.settle(config, budget.measure(encoded))
    check_memory(
        config,
        trainer.strategy.root_device,
        encoded.encoder,
        len(dataset.label_names),
        budget.measure(encoded).longest,
    )
    datamodule = preparation.build_datamodule(config, encoded)
    config = plan_length(config, encoded, datamodule, trainer)
    write_config(config, run_dir)
    module = preparation.build_module(config, encoded)
    preparation.initialize(config, module, encoded)
    trainer = build_trainer(config, run_dir, resume_point)
    started = time.monotonic()
    with explain_failures(run_dir):
        if not run_dir.exists():  # writing would create it again, without config.yaml
            raise FileNotFoundError(run_dir)
        if not resumes:
            remove_earlier_run(run_dir)
        fit(trainer, module, datamodule, resume_point)
        duration, epochs = time.monotonic() - started, counted(trainer.current_epoch, "epoch")
        logger.info("%s in %.0f s", epochs, duration)
        best = find_best_checkpoint(trainer)
        calibrated = calibrate_checkpoint(config, run_dir, module, datamodule, best)
        if wants_refit(config, dataset):
            module, datamodule = refit(config, run_dir, dataset, best, trainer, resumes)
            copy_calibration(trainer, best, calibrated)
        if "test" not in dataset.parts:
            return TrainingResult({}, best, module, trainer, run_dir)
        result, predictions = test(trainer, module, datamodule, best, run_dir)
        if trainer.is_global_zero:
            write_metrics(run_dir / "metrics.json", result.metrics)
    if trainer.is_global_zero:
        validation = None if calibrated is None else calibrated.score
        report(config, run_dir, dataset, result, predictions, validation)
    return result


def write_config(config: TrainConfig, run_dir: Path) -> None:
    """Write config.yaml, from which a stopped run resumes."""
    with explain_failures(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        with replacing(run_dir / "config.yaml") as partial:
            partial.write_text(yaml.safe_dump(config.model_dump(), sort_keys=False))


def load_dataset(
    config: TrainConfig,
    sources: Mapping[str, RowSource] | None = None,
    carves_test: bool = True,
) -> LabelledParts:
    """Open the data set of a configuration, and check and split its rows; see `train`.

    Raises:
        UserError: something about the data, or about what is monitored, that the user can fix.
    """
    dataset = split_sources(
        open_sources(config.data) if sources is None else sources,
        config.data,
        config.seed,
        validation=budget.choose_validation(config),
        num_folds=config.num_folds,
        carves_test=carves_test,
        task=config.task,
    )
    for line in dataset.warnings:
        logger.warning("%s", line)
    for line in describe_rows(dataset, config.data):
        logger.info("%s", line)
    validation = dataset.parts["validation" if dataset.folds is None else "train"]
    check_monitors(config, dataset.task, validation.targets)
    return dataset


def plan_length(
    config: TrainConfig, encoded: EncodedDataset, datamodule: SequenceDataModule, trainer: Trainer
) -> TrainConfig:
    """Settle the epochs of a run if they are left to the data, and log how long it will take."""
    most = config.model.max_steps
    if most is not None and (num_longer := int((encoded.splits["train"].lengths > most).sum())):
        logger.info("%s", describe_reading(config, num_longer))
    sampler = datamodule.sampler("train", shuffle=True)
    padding = 100 * sampler.padding_share()
    logger.info("%s, %.1f %% padding", counted(len(sampler), "batch", "batches"), padding)
    module, device = preparation.build_module(config, encoded), trainer.strategy.root_device
    seconds = budget.time_step(module, datamodule, device)
    batches = math.ceil(len(sampler) / trainer.world_size)  # of one process
    if config.trainer.max_epochs is None and config.trainer.max_steps == -1:
        costs: dict[str, Any] = {}
        if config.budget.minutes is not None:
            costs["validation_seconds"] = budget.time_validation(module, datamodule, device)
            costs["refits"] = explain_no_refit(config, encoded.dataset) is None
        config = budget.settle_length(config, budget.measure(encoded), batches, seconds, **costs)
    elif config.budget != BudgetConfig():
        logger.warning("budget is not used: trainer.max_epochs or max_steps limits the training")
    counts = {"train": batches, "validation": 0}
    for part in encoded.splits.keys() - {"train"}:
        held_out = datamodule.sampler(part, shuffle=False)
        counts[part] = math.ceil(len(held_out) / trainer.world_size)
    check_batches(config, counts)
    if (line := budget.describe_length(config, batches, seconds)) is not None:
        logger.info("%s", line)
    return config


def remove_earlier_run(run_dir: Path) -> None:
    """Remove the files of an earlier run that a resumed run would take for its own."""
    for name in ("last", "refit", "validated"):
        (run_dir / "checkpoints" / f"{name}.ckpt").unlink(missing_ok=True)
    (run_dir / "baseline.json").unlink(missing_ok=True)
    for path in run_dir.glob("hpc_ckpt_*.ckpt"):  # Lightning's, of a job that was requeued
        path.unlink()


def test(
    trainer: Trainer,
    module: ClassificationModule,
    datamodule: SequenceDataModule,
    best: Path | None,
    run_dir: Path,
) -> tuple[TrainingResult, Predictions]:
    """Test the best checkpoint, or the last weights if there is none.

    Returns:
        The result, and the predictions.
    """
    collector = RowCollector()
    trainer.callbacks.append(collector)  # type: ignore[attr-defined]
    trainer.test(module, datamodule, ckpt_path=best, weights_only=True, verbose=False)
    targets = datamodule.splits["test"].targets
    values, is_known = torch.zeros_like(targets), torch.zeros(len(targets), dtype=torch.bool)
    if len(collector.rows):  # not with trainer.limit_test_batches=0
        predicted = predict(collector.logits, module.task)
        answers = decide(predicted, module.task, module.thresholds)
        values[collector.rows], is_known[collector.rows] = answers.to(values.dtype), True
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    metrics = {name: value for name, value in metrics.items() if name.startswith("test/")}
    predictions = Predictions(values.numpy(), is_known.numpy())
    return TrainingResult(metrics, best, module, trainer, run_dir), predictions


def report(
    config: TrainConfig,
    run_dir: Path,
    dataset: LabelledParts,
    result: TrainingResult,
    predictions: Predictions,
    validation_score: float | None,
) -> None:
    """Print the metrics, compare them with the baseline, and log the best checkpoint."""
    print_metrics(f"{config.data.name}, test split", result.metrics)
    if config.baseline == "auto" and not config.trainer.fast_dev_run:
        metric = MAIN_METRIC[dataset.task]
        if validation_score is None:  # without a calibration
            validation_score = comparison.read_validation_score(result.trainer, run_dir, metric)
        scores = Scores("attnlstm", validation_score, result.metrics[f"test/{metric}"])
        is_text = isinstance(config.data, TextConfig)
        compared = comparison.compare(dataset, scores, predictions, is_text, config.seed)
        with explain_failures(run_dir):
            comparison.write(run_dir / "baseline.json", compared, metric)
        comparison.show(compared, metric)
    if result.checkpoint is None:
        logger.info("no best checkpoint was written: these are the last weights' metrics")
        return
    shown = show_path(result.checkpoint)
    logger.info("best checkpoint: %s", shown)
    logger.info("evaluate it with: attnlstm evaluate %s", shlex.quote(f"ckpt={shown}"))
