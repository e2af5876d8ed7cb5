"""Pictures of what the model gets wrong and of where it looks."""

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from attnlstm.printing import printable, shorten

NAME_CHARACTERS = 30


def draw_confusion_matrix(confusion: MulticlassConfusionMatrix, label_names: list[str]) -> Figure:
    """The counts of true (rows) against predicted (columns) classes."""
    size = min(20.0, 3 + 0.5 * len(label_names))
    figure = Figure(figsize=(size, size), layout="constrained")
    confusion.plot(ax=figure.subplots(), labels=[as_label(name) for name in label_names])
    return figure


def as_label(name: str) -> str:
    """A name from a file on one line of a figure, where a dollar sign begins no formula."""
    return printable(" ".join(shorten(name, NAME_CHARACTERS).split())).replace("$", r"\$")


def draw_attention(sequences: list[tuple[str, Tensor]]) -> Figure:
    """A strip per sequence: its title, and its attention `[time]` over its own steps.

    Strips are as wide as their sequences are long, so that steps line up; each is shaded from 0 to
    its own largest weight.
    """
    longest = max(len(attention) for _, attention in sequences)
    height = 0.45 * len(sequences) + 0.8
    figure = Figure(figsize=(min(16.0, 4 + longest / 12), height), layout="constrained")
    rows = figure.subplots(len(sequences), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, attention) in zip(rows, sequences, strict=True):
        strip = attention.float().cpu().unsqueeze(0).numpy()
        axes.imshow(strip, aspect="auto", cmap="Blues", vmin=0, extent=(0, len(attention), 0, 1))
        axes.set_yticks([])
        axes.set_facecolor("0.93")  # beyond the sequence's end
        axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize="small")
    rows[0].set_xlim(0, longest)
    rows[-1].set_xticks(range(0, longest + 1, max(1, math.ceil(longest / 12))))
    rows[-1].set_xlabel("time step")
    figure.suptitle("attention, each sequence shaded up to its largest weight", fontsize="medium")
    return figure


def render(figure: Figure) -> np.ndarray:
    """The figure's pixels, `[height, width, 4]`: red, green, blue and alpha, from 0 to 255."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
