"""Texts and series on the report's page: shaded by attention, and cut if they are long."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from attnlstm.console import without_controls
from attnlstm.data.missing import interpolate

READ_CHARACTERS = 5_000  # shown of the part of a text that the model has read
UNREAD_CHARACTERS = 300  # shown of the part that it has not read
NAME_CHARACTERS = 60
TITLE_CHARACTERS = 300
POINTS_PER_CHANNEL = 400
POINTS = 2_400  # of all channels of a series together
CHANNELS = 32  # drawn of a series
SHADES = 200  # drawn of a series; if it has more time steps, neighbors share one
FAINTEST = 0.005  # of the largest weight: a smaller one would be invisible
LISTED_WEIGHTS = 3
WIDTH, HEIGHT = 1000, 300  # of the drawing of a series


def to_page_text(value: Any) -> Any:
    """Replace each character of a string that a page cannot hold by another one.

    Control characters become their pictures (NUL becomes ␀), half surrogate pairs become �, and
    line ends become line feeds. Values of other types stay the same.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return without_controls(value.replace("\r\n", " \n").replace("\r", "\n"))


def cut(text: str, length: int = NAME_CHARACTERS) -> str:
    """Return a short text unchanged; of a longer one, the beginning and its length."""
    if len(text) <= length:
        return text
    return f"{text[:length]}… ({len(text):,} characters)"


def name_tag(name: str) -> Markup:
    """Mark up the name of a class or token, isolating its writing direction."""
    shown = cut(name)
    title = Markup(' title="{}"').format(to_page_text(cut(name, TITLE_CHARACTERS)))
    return Markup("<bdi{}>{}</bdi>").format(title if shown != name else "", to_page_text(shown))


def percent(share: float) -> str:
    """Format a share, such as "97.3 %"; it is not rounded to 0 or 100 %."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def draw_text(
    text: str, spans: Sequence[tuple[int, int]], attention: Sequence[float] | None
) -> dict[str, Any]:
    """Return what the page shows of a text whose tokens have these spans and this attention.

    html: the beginning of the part that the model has read, with shaded tokens.
    unread, num_unread: the beginning of the part it has not read, and the length of that part.
    num_hidden, hidden_weight: the number of characters read but not shown, and their attention.
    strongest: the tokens with the largest weights, and these weights.
    """
    text = to_page_text(text)
    tokens = _join_overlapping(spans, [0.0] * len(spans) if attention is None else attention)
    largest = max((weight for _, _, weight in tokens), default=0.0)
    end_of_read = max((end for _, end, _ in tokens), default=0)
    if not text[end_of_read:].strip():
        end_of_read = len(text)
    shown = min(end_of_read, READ_CHARACTERS)

    pieces, position = [], 0
    for start, end, weight in tokens:
        if weight < FAINTEST * largest or not weight or end > shown:
            continue
        token = Markup('<span class="token" {}>{}</span>')
        pieces.append(escape(text[position:start]))
        pieces.append(token.format(_shade(weight, largest), text[start:end]))
        position = end
    pieces.append(escape(text[position:shown]))
    strongest = sorted(tokens, key=lambda token: -token[2])[:LISTED_WEIGHTS] if largest else []
    return {
        "html": Markup("".join(pieces)),
        "unread": text[end_of_read : end_of_read + UNREAD_CHARACTERS],
        "num_unread": len(text) - end_of_read,
        "num_hidden": end_of_read - shown,
        "hidden_weight": sum(weight for _, end, weight in tokens if end > shown),
        "strongest": [(text[start:end], weight) for start, end, weight in strongest],
    }


def _join_overlapping(
    spans: Sequence[tuple[int, int]], weights: Sequence[float]
) -> list[tuple[int, int, float]]:
    """Join tokens that share a character, as several tokens can stand for one; in text order."""
    tokens: list[tuple[int, int, float]] = []
    for (start, end), weight in sorted(zip(spans, weights, strict=True)):
        if tokens and start < tokens[-1][1]:
            first, last, joined = tokens.pop()
            start, end, weight = first, max(last, end), joined + weight
        tokens.append((start, end, weight))
    return tokens


def draw_series(series: np.ndarray, attention: Sequence[float] | None) -> dict[str, Any]:
    """Return what the page shows of a series `[time, channel]` and its attention `[time]`.

    lines: the points of each drawn channel: time from 0 to `WIDTH`, values from `HEIGHT` down to 0.
        Of long series they are the smallest and largest values of neighboring steps.
    low, high: the range of the drawn channels' values.
    shades, steps_per_shade: a rectangle for each shade, in time steps, and the number of
        neighboring steps that share one; None and 1 without attention.
    strongest: the names of the steps with the largest weights, and these weights.
    """
    num_steps, num_channels = series.shape
    if attention is not None and len(attention) != num_steps:
        raise ValueError(f"{len(attention)} attention weights for {num_steps} time steps")
    drawn = np.nan_to_num(interpolate(series[:, :CHANNELS].astype(np.float64)))
    low, high = drawn.min(), drawn.max()
    height = (high - drawn) / (high - low) if high > low else np.full_like(drawn, 0.5)
    points = min(POINTS_PER_CHANNEL, POINTS // drawn.shape[1])
    lines = []
    for channel in height.T:
        steps = _extreme_steps(channel, points)
        # A step is as wide as its shade; its value is drawn in the middle.
        x = np.rint((steps + 0.5) / num_steps * WIDTH).astype(int).tolist()
        y = np.rint(10 + channel[steps] * (HEIGHT - 20)).astype(int).tolist()
        lines.append(" ".join(f"{a},{b}" for a, b in zip(x, y, strict=True)))
    shades = (None, 1, []) if attention is None else _draw_shades(np.asarray(attention))
    return {
        "num_steps": num_steps,
        "num_channels": num_channels,
        "lines": lines,
        "low": f"{low:.4g}",
        "high": f"{high:.4g}",
        **dict(zip(("shades", "steps_per_shade", "strongest"), shades, strict=True)),
    }


def _extreme_steps(values: np.ndarray, points: int) -> np.ndarray:
    """Return the steps of the smallest and the largest value of each of `points / 2` parts."""
    if len(values) <= points:
        # a line with a single point would be invisible
        return np.arange(len(values)) if len(values) > 1 else np.array([0, 0])
    edges = np.linspace(0, len(values), points // 2 + 1).astype(int)
    steps = [
        start + extreme(values[start:end])
        for start, end in pairwise(edges)
        for extreme in (np.argmin, np.argmax)
    ]
    return np.unique(steps)


def _draw_shades(attention: np.ndarray) -> tuple[Markup, int, list[tuple[str, float]]]:
    width = -(-len(attention) // SHADES)
    starts = np.arange(0, len(attention), width)
    weights = np.add.reduceat(attention, starts)
    largest = weights.max().item()
    names, rectangles = [], []
    for start, weight in zip(starts.tolist(), weights.tolist(), strict=True):
        end = min(start + width, len(attention))
        names.append(f"step {start}" if width == 1 else f"steps {start} to {end - 1}")
        if weight and weight >= FAINTEST * largest:
            rectangles.append(
                f'<rect x="{start}" width="{end - start}" height="1" {_shade(weight, largest)}/>'
            )
    strongest = [(names[i], weights[i]) for i in np.argsort(-weights, kind="stable")]
    return Markup("".join(rectangles)), width, strongest[:LISTED_WEIGHTS]


def _shade(weight: float, largest: float) -> Markup:
    return Markup(f'style="--w:{weight / largest:.2f}" data-weight="{weight:.3g}"')
