"""The report on rows with several classes."""

from collections import Counter
from heapq import nlargest
from typing import Any, NamedTuple

from attnlstm.data.rows import as_tuple
from attnlstm.inference.predictor import Prediction
from attnlstm.inference.report.classes import Classes
from attnlstm.inference.report.report import FindSpans, Report
from attnlstm.inference.report.selection import Example, Selection, choose_halves

LISTED_CLASSES = 20  # of the classes that a row has or the model says
LISTED_OTHERS = 3


class ClassScores(NamedTuple):
    """The counts of one class, and its scores on the rows with a label; None: undefined."""

    num_predicted: int
    num_true: int
    num_both: int
    num_wrong: int
    precision: float | None
    recall: float | None
    f1: float | None


class MultilabelReport(Report):
    """Shows the most confident errors and the least confident other rows.

    A row is an error if its classes are not exactly the predicted ones. The distance of a class is
    1 - p if the row has it and p if not, where p is its probability; for a row without a label, the
    predicted classes count as true. The larger the largest distance, the more interesting the row.

    Half of the examples are errors and half are other rows, unless there are too few of one kind.
    In each half, the most interesting row of each kind comes first. Rows are of the same kind if
    the same class has the largest distance, and either all or none of them have this class.
    """

    template = "multilabel"

    def __init__(
        self, label_names: list[str], find_spans: FindSpans | None, max_examples: int
    ) -> None:
        super().__init__(find_spans, max_examples)
        self._classes = Classes(label_names)
        self._num_labelled = 0
        self._num_right = 0
        self._predicted: Counter[int] = Counter()  # rows by class, with and without a label
        self._predicted_of_labelled: Counter[int] = Counter()
        self._true: Counter[int] = Counter()
        self._both: Counter[int] = Counter()
        self._errors = Selection[Example](max_examples)
        self._others = Selection[Example](max_examples)

    def _add(self, prediction: Prediction) -> None:
        assert prediction.label is not None
        assert prediction.probabilities is not None
        probabilities = prediction.probabilities.tolist()
        num_classes = self._classes.num_known
        if len(probabilities) != num_classes:
            raise ValueError(f"{len(probabilities)} probabilities for {num_classes} classes")
        predicted = {self._classes.number(name) for name in as_tuple(prediction.label)}
        label = prediction.row.label
        true = None if label is None else {self._classes.number(name) for name in as_tuple(label)}
        expected = predicted if true is None else true
        distances = [1 - p if k in expected else p for k, p in enumerate(probabilities)]
        worst = max(range(num_classes), key=distances.__getitem__)
        is_error = expected != predicted
        example = Example((distances[worst], -self.num_rows), (worst, worst in expected))
        if (self._errors if is_error else self._others).add(example) is not example:
            example.card = self._draw_answer(prediction, probabilities, predicted, true)
        self._predicted.update(predicted)
        if true is not None:
            self._num_labelled += 1
            self._num_right += not is_error
            self._predicted_of_labelled.update(predicted)
            self._true.update(true)
            self._both.update(predicted & true)

    def _draw_answer(
        self,
        prediction: Prediction,
        probabilities: list[float],
        predicted: set[int],
        true: set[int] | None,
    ) -> str:
        num_classes = self._classes.num_known
        mentioned = predicted | (true or set())

        def find_rank(number: int) -> tuple[float, int]:
            """Labels unknown to the model, which have no probability, come first."""
            return (probabilities[number] if number < num_classes else 2.0, -number)

        listed = nlargest(LISTED_CLASSES, mentioned, key=find_rank)
        others = (number for number in range(num_classes) if number not in mentioned)
        listed += nlargest(LISTED_OTHERS, others, key=find_rank)
        return self._draw_card(
            prediction,
            names=self._classes.names,
            predicted=predicted,
            label=true,
            errors=set() if true is None else true ^ predicted,
            is_wrong=None if true is None else true != predicted,
            probabilities=[(k, probabilities[k] if k < num_classes else None) for k in listed],
            num_unlisted=max(0, len(mentioned) - LISTED_CLASSES),
        )

    def _choose_cards(self) -> list[str]:
        chosen = choose_halves(self._errors, self._others, self._max_examples)
        return [example.card for example in chosen]

    def _summarize(self) -> dict[str, Any]:
        """Return the counts and scores by class; F1 = 2 TP / (2 TP + FP + FN)."""
        classes = [self._score(number) for number in range(len(self._classes.names))]
        f1 = [scores.f1 for scores in classes[: self._classes.num_known]]
        num_mentioned = self._true.total() + self._predicted_of_labelled.total()
        return {
            "names": self._classes.names,
            "num_classes": self._classes.num_known,
            "num_labelled": self._num_labelled,
            "num_right": self._num_right,
            "micro_f1": _divide(2 * self._both.total(), num_mentioned) or 0.0,
            "macro_f1": sum(score or 0.0 for score in f1) / len(f1),
            "num_absent": f1.count(None),
            "classes": classes,
        }

    def _score(self, number: int) -> ClassScores:
        predicted, true = self._predicted_of_labelled[number], self._true[number]
        both = self._both[number]
        return ClassScores(
            self._predicted[number],
            true,
            both,
            predicted + true - 2 * both,
            _divide(both, predicted),
            _divide(both, true),
            _divide(2 * both, true + predicted),
        )


def _divide(count: int, total: int) -> float | None:
    return count / total if total else None
