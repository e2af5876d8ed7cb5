"""Texts and series as the report's page shows them: shaded by attention, and cut where long."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from attnlstm.console import without_controls

READ_CHARACTERS = 5_000  # shown of what the model has read of a text
UNREAD_CHARACTERS = 300  # shown of what it has not
NAME_CHARACTERS = 60
TITLE_CHARACTERS = 300
POINTS_PER_CHANNEL = 400
POINTS = 2_400  # of all channels of a series together
CHANNELS = 32  # of a series that are drawn
SHADES = 200  # of a series; with more time steps, neighbours share one
FAINTEST = 0.005  # of the largest weight: what has less would not be seen
LISTED_WEIGHTS = 3


def printable(value: Any) -> Any:
    """A string without what a page cannot hold, each character replaced by one; others as is.

    Control characters become their pictures (NUL becomes ␀), half surrogate pairs become �, and
    line ends become those of HTML.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return without_controls(value.replace("\r\n", " \n").replace("\r", "\n"))


def cut(text: str, length: int = NAME_CHARACTERS) -> str:
    """The text if it is short, or else its beginning, and how long it is."""
    if len(text) <= length:
        return text
    return f"{text[:length]}… ({len(text):,} characters)"


def name_tag(name: str) -> Markup:
    """A class or a token in running text; what direction it is written in stays inside."""
    shown = cut(name)
    title = Markup(' title="{}"').format(printable(cut(name, TITLE_CHARACTERS)))
    return Markup("<bdi{}>{}</bdi>").format(title if shown != name else "", printable(shown))


def percent(share: float) -> str:
    """Such as "97.3 %"; only what is exactly 0 or 1 is called so."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


class DrawnText(NamedTuple):
    """html: the part that the model read, tokens shaded, without what is over-long.

    unread: the beginning of the part that it has not read; num_unread: all of its characters.
    num_hidden, hidden_weight: characters that it has read but that are not shown, their attention.
    strongest: the tokens with the largest weights, and these.
    """

    html: Markup
    unread: str
    num_unread: int
    num_hidden: int
    hidden_weight: float
    strongest: list[tuple[str, float]]


def draw_text(
    text: str, spans: Sequence[tuple[int, int]] | None, attention: Sequence[float] | None
) -> DrawnText:
    """Without spans all of it counts as read; without attention nothing is shaded."""
    text = printable(text)
    weights = attention if attention is not None else [0.0] * len(spans or ())
    tokens = _join_overlapping(spans or (), weights)
    largest = max((weight for _, _, weight in tokens), default=0.0)
    end_of_read = len(text) if spans is None else max((end for _, end, _ in tokens), default=0)
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
    return DrawnText(
        html=Markup("".join(pieces)),
        unread=text[end_of_read : end_of_read + UNREAD_CHARACTERS],
        num_unread=len(text) - end_of_read,
        num_hidden=end_of_read - shown,
        hidden_weight=sum(weight for _, end, weight in tokens if end > shown),
        strongest=[(text[start:end], weight) for start, end, weight in strongest],
    )


def _join_overlapping(
    spans: Sequence[tuple[int, int]], weights: Sequence[float]
) -> list[tuple[int, int, float]]:
    """In the text's order. Tokens share characters where one character was read as several."""
    tokens: list[tuple[int, int, float]] = []
    for (start, end), weight in sorted(zip(spans, weights, strict=True)):
        if tokens and start < tokens[-1][1]:
            first, last, joined = tokens.pop()
            start, end, weight = first, max(last, end), joined + weight
        tokens.append((start, end, weight))
    return tokens


class DrawnSeries(NamedTuple):
    """Lines and shades in drawing units: time over 0 to `WIDTH`, values over `HEIGHT` to 0.

    lines: for each drawn channel its points, as SVG writes them.
    shades: for each shaded time step (or several neighbours, `steps_per_shade`) its rectangle.
    low, high: the value range of the channels that are drawn.
    strongest: the first and last step of the shades with the largest weights, and these.
    """

    num_steps: int
    num_channels: int
    lines: list[str]
    low: str
    high: str
    shades: Markup | None
    steps_per_shade: int
    strongest: list[tuple[str, float]]


WIDTH, HEIGHT = 1000, 300


def draw_series(series: np.ndarray, attention: Sequence[float] | None) -> DrawnSeries:
    """Of long series, the smallest and largest values of neighbouring steps are drawn.

    series: `[time, channel]`; attention: `[time]`.
    """
    num_steps, num_channels = series.shape
    drawn = series[:, :CHANNELS].astype(np.float64)
    low, high = drawn.min(), drawn.max()
    height = (high - drawn) / (high - low) if high > low else np.full_like(drawn, 0.5)
    points = min(POINTS_PER_CHANNEL, POINTS // drawn.shape[1])
    lines = []
    for channel in height.T:
        steps = _extreme_steps(channel, points)
        # A step is as wide as its shade; its value is drawn in its middle.
        x = np.rint((steps + 0.5) / num_steps * WIDTH).astype(int).tolist()
        y = np.rint(10 + channel[steps] * (HEIGHT - 20)).astype(int).tolist()
        lines.append(" ".join(f"{a},{b}" for a, b in zip(x, y, strict=True)))
    if attention is not None and len(attention) != num_steps:
        raise ValueError(f"{len(attention)} attention weights for {num_steps} time steps")
    shades, steps_per_shade, strongest = _draw_shades(attention)
    return DrawnSeries(
        num_steps=num_steps,
        num_channels=num_channels,
        lines=lines,
        low=f"{low:.4g}",
        high=f"{high:.4g}",
        shades=shades,
        steps_per_shade=steps_per_shade,
        strongest=strongest,
    )


def _extreme_steps(values: np.ndarray, points: int) -> np.ndarray:
    """The steps of the smallest and the largest value of each of `points / 2` parts, in order."""
    if len(values) <= points:
        # a line of one point would not be seen
        return np.arange(len(values)) if len(values) > 1 else np.array([0, 0])
    edges = np.linspace(0, len(values), points // 2 + 1).astype(int)
    steps = [
        start + extreme(values[start:end])
        for start, end in pairwise(edges)
        for extreme in (np.argmin, np.argmax)
    ]
    return np.unique(steps)


def _draw_shades(
    attention: Sequence[float] | None,
) -> tuple[Markup | None, int, list[tuple[str, float]]]:
    if attention is None:
        return None, 1, []
    width = -(-len(attention) // SHADES)
    starts = np.arange(0, len(attention), width)
    weights = np.add.reduceat(np.asarray(attention), starts)
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
