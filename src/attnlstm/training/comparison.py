"""A run's result beside the baseline and the majority class: what is said, written and printed."""

import csv
import json
import logging
import time
from pathlib import Path

import lightning
import numpy as np
from lightning.pytorch.callbacks import ModelCheckpoint

from attnlstm.console import print_table
from attnlstm.data.splits import LabelledParts
from attnlstm.files import replacing
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
"""What to try where the model falls short."""

TABLE_COLUMNS = ("model", "validation", "test")

SIGNIFICANCE = 0.05
"""Below this probability a difference counts as more than chance."""


def compare_with_baseline(
    rows: LabelledParts,
    model: Scores,
    predictions: np.ndarray,
    is_text: bool,
    seed: int,
    run_dir: Path,
    folds: np.ndarray | None = None,
) -> None:
    """Measure the baseline, write baseline.json, print the closing table, and warn if need be.

    A baseline that cannot be fitted is a warning: the run has its result without it.

    Args:
        rows: "train", "test" and perhaps "validation", as `measure_baseline`.
        model: of the run.
        predictions: the model's class numbers for the test rows `[row]`, `NOT_PREDICTED` for rows
            that it has not seen.
        is_text: whether the rows are texts; otherwise they are series.
        seed: of the run.
        run_dir: where baseline.json goes.
        folds: the fold of each training row `[row]`, where validation is out of fold.
    """
    majority = measure_majority(rows, folds)
    baseline = fit_or_warn(rows, is_text, seed, folds)
    others = [majority] if baseline is None else [baseline.scores, majority]
    plain = {
        scores.name: {"val/accuracy": scores.validation, "test/accuracy": scores.test}
        for scores in others
    }
    with replacing(run_dir / "baseline.json") as partial:
        partial.write_text(json.dumps(plain, indent=2) + "\n")
    table = [
        [scores.name, *("-" if value is None else f"{value:.4f}" for value in scores[1:])]
        for scores in (model, *others)
    ]
    print_table("accuracy, beside a baseline on the same rows", TABLE_COLUMNS, table)
    targets = rows.parts["test"].targets
    if warning := describe_shortfall(predictions, targets, baseline, majority, is_text):
        logger.warning("%s", warning)


def fit_or_warn(
    rows: LabelledParts, is_text: bool, seed: int, folds: np.ndarray | None = None
) -> Baseline | None:
    """`measure_baseline`, and one line about it; None if it fails."""
    started = time.monotonic()
    if not is_text:
        logger.info("fitting the baseline; the first time, numba compiles it for half a minute")
    try:
        baseline = measure_baseline(rows, is_text, seed, folds)
    except Exception as error:  # whatever it is, the run has its result
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.warning("no baseline, as it cannot be fitted: %s", reason)
        logger.debug("the baseline's error", exc_info=True)
        return None
    seconds = time.monotonic() - started
    told = "; ".join([f"{baseline.scores.name} in {seconds:.0f} s", *baseline.notes])
    logger.info("baseline: %s", told)
    return baseline


def describe_shortfall(
    predictions: np.ndarray,
    targets: np.ndarray,
    baseline: Baseline | None,
    majority: Scores,
    is_text: bool,
) -> str | None:
    """What is wrong with a model's result, and what to try; None if nothing is.

    It should be above the majority class, and not below the baseline by more than chance, which
    is McNemar's exact test on the rows that only one of the two gets right.

    Args:
        predictions: the model's class numbers `[row]`, `NOT_PREDICTED` for rows it has not seen.
        targets: the true class numbers, [row].
        baseline: with test predictions; None if it could not be fitted.
        majority: on the same rows.
        is_text: decides what to try.
    """
    if not (predictions != NOT_PREDICTED).any():
        return None
    reached, told = accuracy(predictions, targets), []
    if majority.test is not None and reached <= majority.test and reached < 1:
        told.append(f"not above the majority class ({reached:.4f} against {majority.test:.4f})")
    if baseline is not None and baseline.test_predictions is not None:
        both = (predictions != NOT_PREDICTED) & (baseline.test_predictions != NOT_PREDICTED)
        ours = (predictions == targets)[both]
        theirs = (baseline.test_predictions == targets)[both]
        if ours.sum() < theirs.sum() and probability_of_chance(ours, theirs) < SIGNIFICANCE:
            told.append(
                f"below {baseline.scores.name} ({ours.mean():.4f} against {theirs.mean():.4f} on "
                f"{len(ours):,} test rows, more than chance)"
            )
    if not told:
        return None
    hints = HINTS["texts" if is_text else "series"]
    return f"the test accuracy is {' and '.join(told)}: try {hints}"


def probability_of_chance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The p value of McNemar's exact test, of which of two is right on each row, [row] bool."""
    from scipy.stats import binomtest

    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if only_ours + only_theirs == 0:
        return 1.0
    return float(binomtest(only_ours, only_ours + only_theirs).pvalue)


def read_validation_accuracy(trainer: lightning.Trainer, run_dir: Path) -> float | None:
    """The validation accuracy, from metrics.csv, of the best checkpoint of a run that has ended.

    Without a best checkpoint it is the newest; None where there was no validation.
    """
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        validations = [row for row in csv.DictReader(file) if row.get("val/accuracy")]
    if not validations:
        return None
    found = validations[-1]
    callback = trainer.checkpoint_callback
    if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None:
        monitor, score = str(callback.monitor), float(callback.best_model_score)
        best = [row for row in validations if row.get(monitor) and float(row[monitor]) == score]
        found = best[0] if best else found
    return float(found["val/accuracy"])
