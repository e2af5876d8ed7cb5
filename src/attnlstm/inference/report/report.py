"""Predictions as one HTML page: the classes, their probabilities and the attention.

The page is self-contained: it needs no other file and no network, and JavaScript only for filters.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from heapq import heappop, heappush, nlargest
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from attnlstm.files import replacing, writing
from attnlstm.inference.predictor import Prediction
from attnlstm.inference.report.drawings import (
    CHANNELS,
    HEIGHT,
    WIDTH,
    cut,
    draw_series,
    draw_text,
    name_tag,
    percent,
    to_page_text,
)

NAMED_UNKNOWN_LABELS = 50  # labels unknown to the model; further ones are counted together
MATRIX_CLASSES = 100  # with more, the page lists the most frequent confusions instead
LISTED_CONFUSIONS = 100
LISTED_PROBABILITIES = 3


class Report:
    """Counts predictions as they stream by and keeps the most interesting ones for its page.

    An error is more interesting the more confident the model was, any other row the less confident.
    Half of the examples are errors and half are other rows, unless there are too few of one kind.
    Each half has the most interesting row of each pair of true and predicted class first, so that
    every filter of the page finds something, and then the most interesting of the remaining rows.
    Memory does not grow with the number of rows.

    Args:
        label_names: the classes, in the order of the probabilities.
        find_spans: returns the character ranges `[start, end)` of the tokens the model reads of a
            text; None for series.
        max_examples: the most examples on the page.
    """

    def __init__(
        self,
        label_names: list[str],
        find_spans: Callable[[str], list[tuple[int, int]]] | None = None,
        *,
        max_examples: int = 300,
    ) -> None:
        self.num_rows = 0
        self.num_bad = 0
        self._find_spans = find_spans
        self._max_examples = max_examples
        self._num_classes = len(label_names)
        self._names = list(label_names)  # followed by labels unknown to the model
        self._numbers = {name: number for number, name in enumerate(label_names)}
        self._counts: Counter[tuple[int | None, int]] = Counter()  # by true and predicted class
        self._errors = _Selection(max_examples)
        self._others = _Selection(max_examples)
        self._attention_is_missing = False

    def add(self, prediction: Prediction) -> None:
        """Count a prediction, and keep it while it is among the most interesting ones.

        Raises:
            ValueError: the number of probabilities is not that of the classes, or the number of
                attention weights is not that of the tokens or time steps.
        """
        if prediction.label is None or prediction.probabilities is None:
            self.num_bad += 1
            return
        row, probabilities = prediction.row, prediction.probabilities.tolist()
        if len(probabilities) != self._num_classes:
            raise ValueError(f"{len(probabilities)} probabilities for {self._num_classes} classes")
        number = self._numbers[prediction.label]
        true = None if row.label is None else self._number(row.label)
        confidence = probabilities[number]
        if true is None or true == number:
            selection, rank = self._others, (-confidence, 0.0, -self.num_rows)
        else:
            of_true = probabilities[true] if true < self._num_classes else 0.0
            selection, rank = self._errors, (confidence, -of_true, -self.num_rows)
        example = _Example(rank, (row.label, prediction.label))
        if selection.add(example):
            example.card = self._draw_card(prediction, probabilities, number, true)
            self._attention_is_missing |= prediction.attention is None
        self._counts[true, number] += 1
        self.num_rows += 1

    def write(self, path: str | Path, *, title: str, subtitle: str = "") -> None:
        """Write the page; an older page is replaced as a whole.

        Raises:
            UserError: the file cannot be written.
        """
        half = (self._max_examples + 1) // 2
        errors = self._errors.best(max(half, self._max_examples - len(self._others)))
        others = self._others.best(self._max_examples - len(errors))
        html = _render(
            "template.html",
            title=title,
            subtitle=subtitle,
            num_rows=self.num_rows,
            num_bad=self.num_bad,
            num_classes=self._num_classes,
            names=self._names,
            cards=[example.card for example in errors + others],
            attention_is_missing=self._attention_is_missing,
            shows_matrix=len(self._names) <= MATRIX_CLASSES,
            **self._summarize(),
        )
        with writing(f"report={path}"), replacing(Path(path)) as partial:
            partial.write_text(html, encoding="utf-8")

    def _number(self, label: str) -> int:
        """Return the number of a class; labels unknown to the model get the numbers after them."""
        if label in self._numbers:
            return self._numbers[label]
        last = self._num_classes + NAMED_UNKNOWN_LABELS
        number = min(len(self._names), last)
        if number < last:
            self._numbers[label] = number
            self._names.append(label)
        elif len(self._names) == last:
            self._names.append("(other labels)")
        return number

    def _draw_card(
        self, prediction: Prediction, probabilities: list[float], number: int, true: int | None
    ) -> str:
        listed = nlargest(
            LISTED_PROBABILITIES,
            range(self._num_classes),
            key=lambda other: (probabilities[other], other == number),
        )
        if true is not None and true < self._num_classes and true not in listed:
            listed.append(true)
        value = prediction.row.value
        attention = None if prediction.attention is None else prediction.attention.tolist()
        text = series = None
        if isinstance(value, str) and self._find_spans is not None:
            text = draw_text(value, self._find_spans(value), attention)
        elif isinstance(value, np.ndarray):
            series = draw_series(value, attention)
        return _render(
            "card.html",
            place=prediction.row.place,
            names=self._names,
            num_classes=self._num_classes,
            prediction=number,
            label=true,
            probabilities=[(other, probabilities[other]) for other in listed],
            text=text,
            series=series,
        )

    def _summarize(self) -> dict[str, Any]:
        """Return the counts by class and, if there are labels, how they agree with them."""
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
        f1 = [2 * right[k] / mentioned[k] for k in range(self._num_classes) if mentioned[k]]
        confusions = {pair: n for pair, n in labelled.items() if pair[0] != pair[1]}
        return {
            "num_labelled": true.total(),
            "num_right": right.total(),
            "macro_f1": sum(f1) / len(f1) if f1 else None,
            "num_predicted": predicted,
            "num_true": true,
            "counts": labelled,
            "confusions": nlargest(LISTED_CONFUSIONS, confusions.items(), key=lambda item: item[1]),
        }


@dataclass(order=True)
class _Example:
    """rank: larger is more interesting; its last item, minus the number of rows before, is unique.
    pair: the true and the predicted class.
    """

    rank: tuple[float, float, int]
    pair: tuple[str | None, str] = field(compare=False)
    card: str = field(compare=False, default="")


class _Selection:
    """The most interesting row of each pair, and the most interesting of the other rows."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._first: dict[tuple[str | None, str], _Example] = {}
        self._rest: list[_Example] = []  # a heap, the least interesting on top

    def __len__(self) -> int:
        return len(self._first) + len(self._rest)

    def add(self, example: _Example) -> bool:
        """Add a row, drop one if there are too many, and return whether the new one is kept."""
        first = self._first.setdefault(example.pair, example)
        if example is not first:
            self._first[example.pair] = max(example, first)
            heappush(self._rest, min(example, first))
        if len(self) <= self._room:
            return True
        dropped = heappop(self._rest) if self._rest else min(self._first.values())
        if self._first[dropped.pair] is dropped:
            del self._first[dropped.pair]
        return dropped is not example

    def best(self, number: int) -> list[_Example]:
        """Return at most `number` rows, the most interesting first."""
        first = nlargest(number, self._first.values())
        return sorted(first + nlargest(number - len(first), self._rest), reverse=True)


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("attnlstm.inference.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=to_page_text,
    )
    environment.globals |= {"CHANNELS": CHANNELS, "HEIGHT": HEIGHT, "WIDTH": WIDTH}
    environment.filters |= {
        "count": "{:,}".format,
        "cut": cut,
        "name_tag": name_tag,
        "percent": percent,
    }
    return environment
