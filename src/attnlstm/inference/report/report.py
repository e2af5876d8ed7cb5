"""Predictions as one HTML page: what they say, and the attention.

The page is self-contained: it needs no other file and no network, and JavaScript only for filters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

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
from attnlstm.inference.report.scatter import SIDE

FindSpans = Callable[[str], list[tuple[int, int]]]


class Report(ABC):
    """Counts predictions as they stream by and keeps some of them as examples for its page.

    Memory does not grow with the number of rows.

    Attributes:
        template: the name that the templates of the page and of an example begin with.

    Args:
        find_spans: returns the character ranges `[start, end)` of the tokens the model reads of a
            text; None for series.
        max_examples: the most examples on the page.
    """

    template: ClassVar[str]

    def __init__(self, find_spans: FindSpans | None, max_examples: int) -> None:
        self.num_rows = 0
        self.num_bad = 0
        self._find_spans = find_spans
        self._max_examples = max_examples
        self._attention_is_missing = False

    def add(self, prediction: Prediction) -> None:
        """Count a prediction, and keep it while it is among the most interesting ones.

        Raises:
            ValueError: the number of probabilities is not that of the classes, or the number of
                attention weights is not that of the tokens or time steps.
        """
        if prediction.error is not None:
            self.num_bad += 1
            return
        self._add(prediction)
        self.num_rows += 1

    def write(self, path: str | Path, *, title: str, subtitle: str = "") -> None:
        """Write the page; an older page is replaced as a whole.

        Raises:
            UserError: the file cannot be written.
        """
        html = _render(
            f"{self.template}.html",
            title=title,
            subtitle=subtitle,
            num_rows=self.num_rows,
            num_bad=self.num_bad,
            cards=self._choose_cards(),
            attention_is_missing=self._attention_is_missing,
            **self._summarize(),
        )
        with writing(f"report={path}"), replacing(Path(path)) as partial:
            partial.write_text(html, encoding="utf-8")

    @abstractmethod
    def _add(self, prediction: Prediction) -> None:
        """Count the prediction for a good row, of which there were `num_rows` before."""

    @abstractmethod
    def _choose_cards(self) -> list[str]:
        """Return the examples in the order of the page."""

    @abstractmethod
    def _summarize(self) -> dict[str, Any]:
        """Return the counts and scores for the template of the page."""

    def _draw_card(self, prediction: Prediction, **answer: Any) -> str:
        """Return a row as the page shows it: its text or series, and what its template says."""
        value = prediction.row.value
        attention = None if prediction.attention is None else prediction.attention.tolist()
        text = series = None
        if isinstance(value, str) and self._find_spans is not None:
            text = draw_text(value, self._find_spans(value), attention)
        elif isinstance(value, np.ndarray):
            series = draw_series(value, attention)
        self._attention_is_missing |= attention is None
        return _render(
            f"{self.template}_card.html",
            place=prediction.row.place,
            text=text,
            series=series,
            **answer,
        )


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("attnlstm.inference.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=to_page_text,
    )
    environment.globals |= {
        "CHANNELS": CHANNELS,
        "HEIGHT": HEIGHT,
        "SIDE": SIDE,
        "WIDTH": WIDTH,
    }
    environment.filters |= {
        "count": "{:,}".format,
        "cut": cut,
        "name_tag": name_tag,
        "percent": percent,
    }
    return environment
