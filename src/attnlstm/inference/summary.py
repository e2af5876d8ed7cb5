"""What predictions add up to as they stream by."""

import logging
from collections import defaultdict
from dataclasses import dataclass, field

from attnlstm.config.data import Task
from attnlstm.console import counted
from attnlstm.data.checks import BadRows
from attnlstm.data.rows import as_tuple, to_numbers
from attnlstm.inference.predictor import Prediction

logger = logging.getLogger(__name__)


@dataclass
class Summary:
    """Counts of predictions.

    task: of the model.
    coverage: the requested coverage of prediction sets and intervals; None without.
    num_labelled: good rows with a label that can be compared; the counts after it refer to these.
    num_right: rows with the right class, or of several classes those found and right.
    num_named: of several classes, those that rows have and those that were found, together.
    num_covered: rows whose set contains the label; of a regression, the share of a row's numbers
        in their intervals counts.
    error: of a regression, the sum of the absolute errors.
    set_sizes: labels in the prediction sets of all good rows together.
    num_numberless: of a regression, good rows with a label that is not a number.
    bad: the rows that could not be predicted, by what is wrong with them.
    """

    task: Task
    coverage: float | None
    num_rows: int = 0
    num_labelled: int = 0
    num_right: int = 0
    num_named: int = 0
    num_covered: float = 0
    error: float = 0.0
    set_sizes: int = 0
    num_numberless: int = 0
    bad: dict[str, BadRows] = field(default_factory=lambda: defaultdict(BadRows))

    def add(self, prediction: Prediction) -> None:
        """Count a prediction."""
        self.num_rows += 1
        if prediction.error is not None:
            self.bad[prediction.error].add(prediction.row)
            return
        labels = prediction.prediction_set or []
        self.set_sizes += len(labels)
        true = prediction.row.label
        if true is None:
            return
        if prediction.numbers is not None:
            self._add_numbers(prediction)
            return
        self.num_labelled += 1
        self.num_covered += true in labels
        if isinstance(prediction.label, tuple):
            has, found = set(as_tuple(true)), set(prediction.label)
            self.num_right += len(has & found)
            self.num_named += len(has) + len(found)
        else:
            self.num_right += true == prediction.label

    def _add_numbers(self, prediction: Prediction) -> None:
        assert prediction.row.label is not None
        assert prediction.numbers is not None
        true = to_numbers(prediction.row.label, len(prediction.numbers))
        if true is None:
            self.num_numberless += 1
            return
        self.num_labelled += 1
        pairs = zip(true, prediction.numbers.tolist(), strict=True)
        self.error += sum(abs(a - b) for a, b in pairs) / len(true)
        if prediction.intervals is not None:
            inside = zip(true, prediction.intervals.tolist(), strict=True)
            self.num_covered += sum(low <= a <= high for a, (low, high) in inside) / len(true)

    def metrics(self) -> dict[str, float]:
        """Return what can be said of the rows with a label: a metric, and the coverage."""
        if not self.num_labelled:
            return {}
        if self.task == "regression":
            metrics = {"mae": self.error / self.num_labelled}
        elif self.task == "multilabel":
            metrics = {"micro_f1": 2 * self.num_right / self.num_named if self.num_named else 0.0}
        else:
            metrics = {"accuracy": self.num_right / self.num_labelled}
        if self.coverage is not None:
            metrics["coverage"] = self.num_covered / self.num_labelled
        return metrics

    def log(self) -> None:
        """Log the counts and the metrics."""
        for problem, bad_rows in self.bad.items():
            logger.warning("not predicted: %s, %s", problem, bad_rows)
        num_good = self.num_rows - sum(bad_rows.count for bad_rows in self.bad.values())
        metrics = self.metrics()
        logger.info("%d rows predicted", num_good)
        if self.num_numberless:
            rows = counted(self.num_numberless, "row")
            logger.warning("%s with a label that is not a number, and not compared", rows)
        for name, value in metrics.items():
            if name != "coverage":
                shown = f"{name.replace('_', ' ')} {value:.4g}"
                logger.info("%s on the %d that have a label", shown, self.num_labelled)
        if self.coverage is not None and num_good and self.task != "regression":
            logger.info("prediction sets have %.2f labels on average", self.set_sizes / num_good)
        if "coverage" in metrics:
            logger.info(
                "prediction %s; %g was asked for",
                f"intervals contain {metrics['coverage']:.4f} of their numbers"
                if self.task == "regression"
                else f"sets have the label of {metrics['coverage']:.4f} of these",
                self.coverage,
            )
