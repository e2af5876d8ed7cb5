"""A run's accuracy in comparison with the baseline and the majority class."""

import csv
import json
import logging
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from attnlstm.console import print_table
from attnlstm.data.splits import LabelledParts
from attnlstm.files import reading, replacing
from attnlstm.training.baseline import (
    NOT_PREDICTED,
    Baseline,
    Scores,
    accuracy,
    measure_baseline,
    measure_majority,
)

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
    """The scores of a model, of the baseline if it could be fitted, and of the majority class."""

    model: Scores
    others: list[Scores]
    shortfall: str | None
    """see `describe_shortfall`"""


def compare(
    dataset: LabelledParts, model: Scores, predictions: np.ndarray, is_text: bool, seed: int
) -> Comparison:
    """Measure the baseline and the majority class, and compare them with a model.

    Args:
        predictions: the model's class numbers for the test rows, `[row]`; `NOT_PREDICTED` for rows
            that were not evaluated.
    """
    majority, baseline = measure_majority(dataset), fit_or_warn(dataset, is_text, seed)
    others = [majority] if baseline is None else [baseline.scores, majority]
    targets = dataset.parts["test"].targets
    shortfall = describe_shortfall(predictions, targets, baseline, majority, is_text)
    return Comparison(model, others, shortfall)


def write(path: Path, comparison: Comparison) -> None:
    """Write the scores of the baseline and of the majority class as JSON."""
    scores = {
        name: {"val/accuracy": validation, "test/accuracy": test}
        for name, validation, test in comparison.others
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(scores, indent=2) + "\n")


def show(comparison: Comparison) -> None:
    """Print a table of the scores, and log a warning if the model falls short."""
    rows = [
        [name, *("-" if value is None else f"{value:.4f}" for value in values)]
        for name, *values in (comparison.model, *comparison.others)
    ]
    title = "accuracy, compared with a baseline on the same rows"
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
    predictions: np.ndarray,
    targets: np.ndarray,
    baseline: Baseline | None,
    majority: Scores,
    is_text: bool,
) -> str | None:
    """Describe where a model falls short, and what to try; None if it does not.

    It should be above the majority class, and not below the baseline by more than chance, as
    measured by McNemar's exact test. `predictions` and `targets` are class numbers, `[row]`.
    """
    if not (predictions != NOT_PREDICTED).any():
        return None
    reached, reasons = accuracy(predictions, targets), []
    if majority.test is not None and reached <= majority.test and reached < 1:
        reasons.append(f"not above the majority class ({reached:.4f} against {majority.test:.4f})")
    if baseline is not None and baseline.test_predictions is not None:
        both = (predictions != NOT_PREDICTED) & (baseline.test_predictions != NOT_PREDICTED)
        ours = (predictions == targets)[both]
        theirs = (baseline.test_predictions == targets)[both]
        if ours.sum() < theirs.sum() and mcnemar_p_value(ours, theirs) < SIGNIFICANCE:
            reasons.append(
                f"below {baseline.scores.name} ({ours.mean():.4f} against {theirs.mean():.4f} on "
                f"{len(ours):,} test rows, more than chance)"
            )
    if not reasons:
        return None
    hints = HINTS["texts" if is_text else "series"]
    return f"the test accuracy is {' and '.join(reasons)}: try {hints}"


def mcnemar_p_value(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the p-value of McNemar's exact test; bool `[row]`: which rows each gets right."""
    from scipy.stats import binomtest

    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return float(binomtest(only_ours, only_ours + only_theirs).pvalue)


def read_validation_accuracy(trainer: Trainer, run_dir: Path) -> float | None:
    """Read the validation accuracy of the best checkpoint of a finished run from metrics.csv.

    Without a best checkpoint it is the last one; None if there was no validation.
    """
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return None
    with reading(path, csv.Error, UnicodeDecodeError), path.open(newline="") as file:
        validations = [row for row in csv.DictReader(file) if row.get("val/accuracy")]
    callback, best = trainer.checkpoint_callback, []
    if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None:
        monitor, score = str(callback.monitor), float(callback.best_model_score)
        best = [row for row in validations if row.get(monitor) and float(row[monitor]) == score]
    found = [*best[:1], *validations[-1:]]
    return float(found[0]["val/accuracy"]) if found else None
