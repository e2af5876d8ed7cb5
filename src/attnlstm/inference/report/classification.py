"""The report on rows with one class each."""

from collections import Counter
from heapq import nlargest
from typing import Any

from attnlstm.data.rows import as_tuple
from attnlstm.inference.predictor import Prediction
from attnlstm.inference.report.classes import Classes
from attnlstm.inference.report.report import FindSpans, Report
from attnlstm.inference.report.selection import Example, Selection, choose_halves

MATRIX_CLASSES = 100  # with more, the page lists the most frequent confusions instead
LISTED_CONFUSIONS = 100
LISTED_PROBABILITIES = 3


class ClassificationReport(Report):
    """Shows the most confident errors and the least confident other rows.

    Half of the examples are errors and half are other rows, unless there are too few of one kind.
    Each half has the most interesting row of each pair of true and predicted class first, so that
    every filter of the page finds something, and then the most interesting of the remaining rows.
    """

    template = "classification"

    def __init__(
        self, label_names: list[str], find_spans: FindSpans | None, max_examples: int
    ) -> None:
        super().__init__(find_spans, max_examples)
        self._classes = Classes(label_names)
        self._counts: Counter[tuple[int | None, int]] = Counter()  # by true and predicted class
        self._errors = Selection[Example](max_examples)
        self._others = Selection[Example](max_examples)

    def _add(self, prediction: Prediction) -> None:
        assert isinstance(prediction.label, str)
        assert prediction.probabilities is not None
        row, probabilities = prediction.row, prediction.probabilities.tolist()
        num_classes = self._classes.num_known
        if len(probabilities) != num_classes:
            raise ValueError(f"{len(probabilities)} probabilities for {num_classes} classes")
        number = self._classes.number(prediction.label)
        true = None if row.label is None else self._classes.number(", ".join(as_tuple(row.label)))
        confidence = probabilities[number]
        if true is None or true == number:
            selection, rank = self._others, (-confidence, 0.0, -self.num_rows)
        else:
            of_true = probabilities[true] if true < num_classes else 0.0
            selection, rank = self._errors, (confidence, -of_true, -self.num_rows)
        example = Example(rank, (row.label, prediction.label))
        if selection.add(example) is not example:
            listed = nlargest(
                LISTED_PROBABILITIES,
                range(num_classes),
                key=lambda other: (probabilities[other], other == number),
            )
            if true is not None and true < num_classes and true not in listed:
                listed.append(true)
            example.card = self._draw_card(
                prediction,
                names=self._classes.names,
                num_classes=num_classes,
                predicted=number,
                label=true,
                is_wrong=None if true is None else true != number,
                probabilities=[(other, probabilities[other]) for other in listed],
            )
        self._counts[true, number] += 1

    def _choose_cards(self) -> list[str]:
        chosen = choose_halves(self._errors, self._others, self._max_examples)
        return [example.card for example in chosen]

    def _summarize(self) -> dict[str, Any]:
        """Return the counts by class and, if there are labels, how they agree with them."""
        num_classes = self._classes.num_known
        labelled = {pair: n for pair, n in self._counts.items() if pair[0] is not None}
        true: Counter[int | None] = Counter()
        predicted: Counter[int] = Counter()
        mentioned: Counter[int | None] = Counter()  # as label or as prediction of a labelled row
        for (label, prediction), count in self._counts.items():
            predicted[prediction] += count
            if label is not None:
                true[label] += count
                mentioned[label] += count
                mentioned[prediction] += count
        right = Counter({label: n for (label, other), n in labelled.items() if label == other})
        # F1 = 2 TP / (2 TP + FP + FN), for the model's classes that occur
        f1 = [2 * right[k] / mentioned[k] for k in range(num_classes) if mentioned[k]]
        confusions = {pair: n for pair, n in labelled.items() if pair[0] != pair[1]}
        return {
            "names": self._classes.names,
            "num_classes": num_classes,
            "num_labelled": true.total(),
            "num_right": right.total(),
            "macro_f1": sum(f1) / len(f1) if f1 else None,
            "num_predicted": predicted,
            "num_true": true,
            "counts": labelled,
            "confusions": nlargest(LISTED_CONFUSIONS, confusions.items(), key=lambda item: item[1]),
            "shows_matrix": len(self._classes.names) <= MATRIX_CLASSES,
        }
