"""A run's main metric in comparison with the baseline and with a constant answer."""

import csv
import json
import logging
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from attnlstm.config.data import Task
from attnlstm.console import print_table
from attnlstm.data.parts import LabelledParts
from attnlstm.files import reading, replacing
from attnlstm.training.baseline import (
    Baseline,
    Predictions,
    Scores,
    count_errors,
    measure_baseline,
    measure_majority,
    score,
)
from attnlstm.training.metrics import MAIN_METRIC

logger = logging.getLogger(__name__)

HINTS = {
    "texts": (
        "more of each text (data.max_length), a longer training (budget.steps), pretrained "
        "vectors (model.embedding.vectors=glove-6b-50d), other tokens (data.tokenizer.kind=bpe), "
        "or more training rows"
    ),
    "series": (
        "a longer training (budget.steps), another stem (model/stem=conv or none, or "
        "model.stem.stride=1), or other noise on the training series (data.noise)"
    ),
}
"""What to try if the model falls short."""

SIGNIFICANCE = 0.05
"""Below this probability a difference counts as more than chance."""


class Comparison(NamedTuple):
    """The scores of a model, of the baseline if it could be fitted, and of a constant answer."""

    model: Scores
    others: list[Scores]
    shortfall: str | None
    """see `describe_shortfall`"""


def compare(
    dataset: LabelledParts, model: Scores, predictions: Predictions, is_text: bool, seed: int
) -> Comparison:
    """Measure the baseline and the constant answer, and compare them with a model.

    `predictions` are the model's for the test rows.
    """
    majority, baseline = measure_majority(dataset), fit_or_warn(dataset, is_text, seed)
    others = [majority] if baseline is None else [baseline.scores, majority]
    targets = dataset.parts["test"].targets
    shortfall = describe_shortfall(predictions, targets, dataset.task, baseline, majority, is_text)
    return Comparison(model, others, shortfall)


def write(path: Path, comparison: Comparison, metric: str) -> None:
    """Write the scores of the baseline and of the constant answer as JSON."""
    scores = {
        name: {f"val/{metric}": validation, f"test/{metric}": test}
        for name, validation, test in comparison.others
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(scores, indent=2) + "\n")


def show(comparison: Comparison, metric: str) -> None:
    """Print a table of the scores, and log a warning if the model falls short."""
    rows = [
        [name, *("-" if value is None else f"{value:.4f}" for value in values)]
        for name, *values in (comparison.model, *comparison.others)
    ]
    title = f"{_name(metric)}, compared with a baseline on the same rows"
    print_table(title, ["model", "validation", "test"], rows)
    if comparison.shortfall is not None:
        logger.warning("%s", comparison.shortfall)


def fit_or_warn(dataset: LabelledParts, is_text: bool, seed: int) -> Baseline | None:
    """Measure the baseline and log a line about it; if it fails, log a warning and return None."""
    started = time.monotonic()
    if not is_text:
        logger.info("fitting the baseline; the first time, numba compiles it for half a minute")
    try:
        baseline = measure_baseline(dataset, is_text, seed)
    except Exception as error:  # whatever it is, the run has its result
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.warning("no baseline, as it cannot be fitted: %s", reason)
        logger.debug("the baseline's error", exc_info=True)
        return None
    seconds = time.monotonic() - started
    parts = [f"{baseline.scores.name} in {seconds:.0f} s", *baseline.notes]
    logger.info("baseline: %s", "; ".join(parts))
    return baseline


def describe_shortfall(
    predictions: Predictions,
    targets: np.ndarray,
    task: Task,
    baseline: Baseline | None,
    majority: Scores,
    is_text: bool,
) -> str | None:
    """Describe where a model falls short, and what to try; None if it does not.

    It should be above the constant answer, and not below the baseline by more than chance, as
    measured by the exact sign test on the rows on which one errs more than the other. If a row is
    either right or wrong, this is McNemar's test. `targets` are those of the test rows.
    """
    if not predictions.is_known.any():
        return None
    reached, reasons = score(predictions, targets, task), []
    if majority.test is not None and reached <= majority.test and reached < 1:
        reasons.append(f"not above the {majority.name} ({reached:.4f} against {majority.test:.4f})")
    if baseline is not None and (theirs := baseline.test_predictions) is not None:
        both = predictions.is_known & theirs.is_known
        pair = [
            Predictions(each.values[both], np.ones(both.sum(), bool))
            for each in (predictions, theirs)
        ]
        scores = [score(each, targets[both], task) for each in pair]
        errors = [count_errors(each, targets[both], task) for each in pair]
        if scores[0] < scores[1] and sign_test_p_value(*errors) < SIGNIFICANCE:
            reasons.append(
                f"below {baseline.scores.name} ({scores[0]:.4f} against {scores[1]:.4f} on "
                f"{both.sum():,} test rows, more than chance)"
            )
    if not reasons:
        return None
    hints = HINTS["texts" if is_text else "series"]
    return f"the test {_name(MAIN_METRIC[task])} is {' and '.join(reasons)}: try {hints}"


def sign_test_p_value(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the p-value of the exact sign test of two models' errors on the same rows, `[row]`."""
    from scipy.stats import binomtest

    we_win, they_win = int((ours < theirs).sum()), int((theirs < ours).sum())
    return float(binomtest(we_win, we_win + they_win).pvalue) if we_win + they_win else 1.0


def _name(metric: str) -> str:
    return metric.replace("_", " ")


def read_validation_score(trainer: Trainer, run_dir: Path, metric: str) -> float | None:
    """Read the validation metric of the best checkpoint of a finished run from metrics.csv.

    Without a best checkpoint it is the last one; None if there was no validation.
    """
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return None
    with reading(path, csv.Error, UnicodeDecodeError), path.open(newline="") as file:
        validations = [row for row in csv.DictReader(file) if row.get(f"val/{metric}")]
    callback, best = trainer.checkpoint_callback, []
    if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None:
        monitor, score = str(callback.monitor), float(callback.best_model_score)
        best = [row for row in validations if row.get(monitor) and float(row[monitor]) == score]
    found = [*best[:1], *validations[-1:]]
    return float(found[0][f"val/{metric}"]) if found else None
