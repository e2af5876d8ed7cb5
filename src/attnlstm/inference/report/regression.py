"""The report on the numbers of a regression."""

from dataclasses import dataclass, field
from math import isfinite
from random import Random
from typing import Any

import numpy as np

from attnlstm.data.rows import to_numbers
from attnlstm.inference.predictor import Prediction
from attnlstm.inference.report.regression_scores import RegressionScores
from attnlstm.inference.report.report import FindSpans, Report
from attnlstm.inference.report.scatter import Sample, draw_scatter
from attnlstm.inference.report.selection import Example, Selection

LISTED_TARGETS = 5  # in an example
DRAWN_TARGETS = 6  # with a scatter plot each
RANGES = 2  # of predictions per standard deviation
MOST_DEVIATIONS = 5  # from the mean; predictions beyond are in the same range


@dataclass(order=True)
class NumbersExample(Example):
    """A row that the page may show.

    target: the one whose prediction is furthest from its mean.
    deviation: how far, in standard deviations.
    """

    target: int = field(compare=False, default=0)
    deviation: float = field(compare=False, default=0.0)


class RegressionReport(Report):
    """Shows the rows with the largest errors, and others spread over the range of predictions.

    Errors and predictions are compared in standard deviations of the target in training. Half of
    the examples are the rows with the largest errors, with at least one for each target that has
    the largest error of a row. The others are random rows, at first one for each range of
    predictions; a row counts for its prediction that is furthest from the mean.

    Args:
        label_names: the names of the targets.
        find_spans: see `Report`.
        max_examples: see `Report`.
        mean: of the targets in training, `[target]`.
        std: their standard deviation, `[target]`.
    """

    template = "regression"

    def __init__(
        self,
        label_names: list[str],
        find_spans: FindSpans | None,
        max_examples: int,
        mean: np.ndarray,
        std: np.ndarray,
    ) -> None:
        super().__init__(find_spans, max_examples)
        self._names = label_names
        self._mean = mean
        self._std = np.where(std > 0, std, 1.0)
        self._scores = RegressionScores(len(label_names))
        self._sample = Sample()
        self._num_numberless = 0
        self._num_inside: float | None = None  # numbers in their intervals, in rows; None without
        self._largest = Selection[NumbersExample]((max_examples + 1) // 2)
        self._others = Selection[NumbersExample](max_examples)
        self._random = Random(0)

    @np.errstate(over="ignore", invalid="ignore")  # a huge number has an infinite error
    def _add(self, prediction: Prediction) -> None:
        numbers, intervals = prediction.numbers, prediction.intervals
        assert numbers is not None
        if len(numbers) != len(self._names):
            raise ValueError(f"{len(numbers)} numbers for {len(self._names)} targets")
        label = prediction.row.label
        found = None if label is None else to_numbers(label, len(numbers))
        true = None if found is None else np.array(found)
        is_inside = None
        if true is not None and intervals is not None:
            is_inside = (intervals[:, 0] <= true) & (true <= intervals[:, 1])
        deviations = np.nan_to_num((numbers - self._mean) / self._std)
        target = int(np.abs(deviations).argmax())
        example = NumbersExample((0.0, -self.num_rows), None, "", target, float(deviations[target]))
        dropped: NumbersExample | None = example
        errors = None
        if true is not None:
            errors = np.nan_to_num(np.abs(numbers - true) / self._std, nan=np.inf)
            example.rank, example.kind = (float(errors.max()), -self.num_rows), int(errors.argmax())
            dropped = self._largest.add(example)
        if dropped is not None:  # not one of the largest errors, at least no longer
            limited = max(-MOST_DEVIATIONS, min(dropped.deviation, MOST_DEVIATIONS))
            dropped.rank = (self._random.random(), dropped.rank[-1])
            dropped.kind = (dropped.target, round(RANGES * limited))
            dropped = self._others.add(dropped)
        if dropped is not example:
            example.card = self._draw_numbers(prediction, true, errors, is_inside)
        self._scores.add(numbers, true)
        if true is not None:
            self._sample.add(true[:DRAWN_TARGETS], numbers[:DRAWN_TARGETS])
        if is_inside is not None:
            self._num_inside = (self._num_inside or 0) + float(is_inside.mean())
        self._num_numberless += label is not None and true is None

    def _draw_numbers(
        self,
        prediction: Prediction,
        true: np.ndarray | None,
        errors: np.ndarray | None,
        is_inside: np.ndarray | None,
    ) -> str:
        numbers, intervals = prediction.numbers, prediction.intervals
        assert numbers is not None
        order = np.arange(len(numbers)) if errors is None else (-errors).argsort(kind="stable")
        listed = []
        for target in order[:LISTED_TARGETS].tolist():
            entry: dict[str, Any] = {"name": self._names[target]}
            entry["predicted"] = show(numbers[target])
            if true is not None:
                entry["true"] = show(true[target])
                entry["error"] = f"{numbers[target] - true[target]:+.4g}"
            if intervals is not None:
                low, high = intervals[target].tolist()
                entry["interval"] = f"{show(low)} to {show(high)}" if isfinite(low) else "unbounded"
            if is_inside is not None:
                entry["is_inside"] = bool(is_inside[target])
            listed.append(entry)
        worst = None if errors is None else int(errors.argmax())
        error = 0.0 if true is None or worst is None else numbers[worst] - true[worst]
        return self._draw_card(
            prediction,
            is_wrong=None if is_inside is None else not is_inside.all(),
            listed=listed,
            num_targets=len(numbers),
            worst=worst,
            side="high" if error > 0 else "low" if error < 0 else None,
        )

    def _choose_cards(self) -> list[str]:
        largest = self._largest.best(self._max_examples)
        others = self._others.best(self._max_examples - len(largest))
        others.sort(key=lambda example: (example.target, example.deviation))
        return [example.card for example in largest + others]

    def _summarize(self) -> dict[str, Any]:
        """Return the counts, and the ranges, scores and scatter plots of the targets."""
        num_labelled, metrics = self._scores.num_labelled, self._scores.compute()
        targets = []
        for place, name in enumerate(self._names):
            ranges = {"predicted": self._scores.predicted, "true": self._scores.true}
            targets.append(
                {
                    "name": name,
                    **{key: [show(end) for end in ends[:, place]] for key, ends in ranges.items()},
                    **{key: f"{values[place]:.4g}" for key, values in metrics.items()},
                }
            )
        drawn = targets[:DRAWN_TARGETS] if num_labelled else []
        return {
            "num_labelled": num_labelled,
            "num_numberless": self._num_numberless,
            "num_inside": self._num_inside,
            "targets": targets,
            "scatters": [
                target | draw_scatter(*self._sample.numbers(place))
                for place, target in enumerate(drawn)
            ],
            "num_drawn": len(self._sample),
        }


def show(number: float) -> str:
    """Format a number with the digits that predictions have."""
    return f"{number:.7g}"
