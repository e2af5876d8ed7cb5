"""Predictions as one HTML page: what was predicted, how surely, and by attending to what.

The page needs nothing else: no other file and no network, and JavaScript for its filters only.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush, nlargest
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined

from attnlstm.errors import UserError
from attnlstm.files import replacing
from attnlstm.inference.report.drawings import (
    CHANNELS,
    HEIGHT,
    WIDTH,
    cut,
    draw_series,
    draw_text,
    name_tag,
    percent,
    printable,
)

NAMED_UNKNOWN_LABELS = 50  # of labels that the model does not know; more are counted together
MATRIX_CLASSES = 100  # with more, the page lists the most frequent confusions instead
LISTED_CONFUSIONS = 100
LISTED_PROBABILITIES = 3


@dataclass(frozen=True)
class Example:
    """A row and what the model says of it.

    place: where it is, such as "row 3 (line 5)".
    prediction: the class name.
    probabilities: `[class]`, in the order of the report's label names.
    label: the true class, which the model may not know; None where it is not given.
    text, spans: a text, and the character ranges `[start, end)` of the tokens that the model read.
    series: finite values `[time, channel]`.
    attention: a weight for each token or time step; None if the pooling has no attention.
    """

    place: str
    prediction: str
    probabilities: list[float]
    label: str | None = None
    text: str | None = None
    spans: list[tuple[int, int]] | None = None
    series: np.ndarray | None = None
    attention: list[float] | None = None


class Report:
    """Counts predictions as they stream by, and keeps the most interesting ones for its page.

    An error is the more interesting the surer the model was, any other row the less sure it was.
    Half of the room is for errors and half for other rows, unless one of them needs less. Within
    each half, first comes the most interesting row of each pair of true and predicted class, so
    that every filter of the page finds something, and then the most interesting rows of all.
    Memory does not grow with the number of rows.
    """

    def __init__(self, label_names: list[str], *, max_examples: int = 300) -> None:
        self.num_rows = 0
        self.num_bad = 0
        self._max_examples = max_examples
        self._num_classes = len(label_names)
        self._names = list(label_names)  # and then labels that the model does not know
        self._numbers = {name: number for number, name in enumerate(label_names)}
        self._counts: Counter[tuple[int | None, int]] = Counter()  # by true and predicted class
        self._errors = _Selection(max_examples)
        self._others = _Selection(max_examples)
        self._attention_is_missing = False

    def wants(self, prediction: str, probabilities: list[float], label: str | None) -> bool:
        """Whether the next row would be kept: if not, `add` needs no text, series or attention."""
        return self._selection(prediction, label).wants(
            self._interest(prediction, probabilities, label), (label, prediction)
        )

    def add(self, example: Example) -> None:
        """Count a row, and keep it while it is among the most interesting ones.

        Raises:
            ValueError: the probabilities are not as many as the classes, or the attention weights
                not as many as the spans or time steps.
        """
        if len(example.probabilities) != self._num_classes:
            raise ValueError(
                f"{len(example.probabilities)} probabilities for {self._num_classes} classes"
            )
        prediction, label = example.prediction, example.label
        interest = self._interest(prediction, example.probabilities, label)
        number = None if label is None else self._number(label)
        selection = self._selection(prediction, label)
        if selection.wants(interest, (label, prediction)):
            card = self._draw_card(example, number)
            selection.add(_Kept(interest, (label, prediction), card))
            self._attention_is_missing |= example.attention is None
        self._counts[number, self._numbers[prediction]] += 1
        self.num_rows += 1

    def count_bad(self, number: int) -> None:
        """Count rows that could not be read."""
        self.num_bad += number

    def write(self, path: str | Path, *, title: str, subtitle: str = "") -> None:
        """Write the page; whoever looks meanwhile finds the old file or the new one.

        Raises:
            UserError: the file cannot be written.
        """
        path = Path(path)
        half = (self._max_examples + 1) // 2
        errors = self._errors.best(max(half, self._max_examples - len(self._others)))
        others = self._others.best(self._max_examples - len(errors))
        page = _environment().get_template("template.html")
        html = page.render(
            title=title,
            subtitle=subtitle,
            num_rows=self.num_rows,
            num_bad=self.num_bad,
            names=self._names,
            cards=[kept.card for kept in errors + others],
            attention_is_missing=self._attention_is_missing,
            **self._summarize(),
        )
        try:
            with replacing(path) as partial:
                partial.write_text(html, encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"report={path} cannot be written ({error.strerror}): give a file, in a folder "
                "that exists and that you may write to"
            ) from error

    def _selection(self, prediction: str, label: str | None) -> "_Selection":
        return self._others if label is None or label == prediction else self._errors

    def _interest(self, prediction: str, probabilities: list[float], label: str | None) -> "_Rank":
        confidence = probabilities[self._numbers[prediction]]
        if label is None or label == prediction:
            return -confidence, 0.0, -self.num_rows
        number = self._numbers.get(label, self._num_classes)
        of_label = probabilities[number] if number < self._num_classes else 0.0
        return confidence, -of_label, -self.num_rows

    def _number(self, label: str) -> int:
        """Of a class, or of a label that the model does not know, which gets its own at first."""
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

    def _draw_card(self, example: Example, label: int | None) -> str:
        prediction = self._numbers[example.prediction]
        probabilities = example.probabilities
        listed = nlargest(
            LISTED_PROBABILITIES,
            range(self._num_classes),
            key=lambda number: (probabilities[number], number == prediction),
        )
        if label is not None and label < self._num_classes and label not in listed:
            listed.append(label)
        attention = example.attention
        content: dict[str, Any] = {"text": None, "series": None}
        if example.text is not None:
            content["text"] = draw_text(example.text, example.spans, attention)
        if example.series is not None:
            content["series"] = draw_series(example.series, attention)
        return (
            _environment()
            .get_template("card.html")
            .render(
                place=example.place,
                names=self._names,
                num_classes=self._num_classes,
                prediction=prediction,
                label=label,
                probabilities=[(number, probabilities[number]) for number in listed],
                **content,
            )
        )

    def _summarize(self) -> dict[str, Any]:
        """The counts by class, and how far they agree with the labels where there are any."""
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
        # F1 = 2 TP / (2 TP + FP + FN), of the model's classes that occur
        f1 = [2 * right[k] / mentioned[k] for k in range(self._num_classes) if mentioned[k]]
        confusions = {pair: n for pair, n in labelled.items() if pair[0] != pair[1]}
        return {
            "num_classes": self._num_classes,
            "num_labelled": true.total(),
            "num_right": right.total(),
            "macro_f1": sum(f1) / len(f1) if f1 else None,
            "num_predicted": predicted,
            "num_true": true,
            "counts": labelled,
            "shows_matrix": len(self._names) <= MATRIX_CLASSES,
            "confusions": nlargest(LISTED_CONFUSIONS, confusions.items(), key=lambda item: item[1]),
        }


_Rank = tuple[float, float, int]
"""Larger is more interesting; the last number, minus the number of the row, makes it unique."""

_Pair = tuple[str | None, str]
"""The true and the predicted class."""


class _Kept(NamedTuple):
    interest: _Rank
    pair: _Pair
    card: str


class _Selection:
    """The most interesting row of each pair, and of the others the most interesting ones."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._first: dict[_Pair, _Kept] = {}
        self._rest: list[_Kept] = []  # a heap, the least interesting on top

    def __len__(self) -> int:
        return len(self._first) + len(self._rest)

    def wants(self, interest: _Rank, pair: _Pair) -> bool:
        if len(self) < self._room:
            return True
        if pair in self._first:
            return interest > self._first[pair].interest or (
                bool(self._rest) and interest > self._rest[0].interest
            )
        return bool(self._rest) or any(interest > kept.interest for kept in self._first.values())

    def add(self, kept: _Kept) -> None:
        """Take the row in, and let the one go that has no room any more."""
        first = self._first.setdefault(kept.pair, kept)
        if kept is not first:
            self._first[kept.pair] = max(kept, first)
            heappush(self._rest, min(kept, first))
        if len(self) > self._room:
            if self._rest:
                heappop(self._rest)
            else:
                del self._first[min(self._first.values()).pair]

    def best(self, number: int) -> list[_Kept]:
        """At most `number` rows, the most interesting first."""
        first = nlargest(number, self._first.values())
        return sorted(first + nlargest(number - len(first), self._rest), reverse=True)


@cache
def _environment() -> Environment:
    folder = resources.files("attnlstm.inference.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable,
    )
    environment.globals |= {"CHANNELS": CHANNELS, "HEIGHT": HEIGHT, "WIDTH": WIDTH}
    environment.filters |= {
        "count": "{:,}".format,
        "cut": cut,
        "name_tag": name_tag,
        "percent": percent,
    }
    return environment
