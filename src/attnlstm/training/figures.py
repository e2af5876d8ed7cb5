"""Figures of what the model gets wrong and what it attends to."""

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchmetrics.classification import MulticlassConfusionMatrix

from attnlstm.console import printable, shorten

NAME_CHARACTERS = 30


def draw_confusion_matrix(
    confusion: MulticlassConfusionMatrix, label_names: list[str], split: str
) -> Figure:
    """Draw the counts of true (rows) and predicted (columns) classes of a split, such as "test"."""
    size = min(20.0, 3 + 0.5 * len(label_names))
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    confusion.plot(ax=axes, labels=[as_label(name) for name in label_names])
    axes.set_title(f"confusion matrix, {split} split", fontsize="medium")
    return figure


def as_label(name: str) -> str:
    """Return a name from a file as one line of a figure, in which no dollar starts a formula."""
    return printable(" ".join(shorten(name, NAME_CHARACTERS).split())).replace("$", r"\$")


def draw_attention(sequences: list[tuple[str, Tensor]], split: str) -> Figure:
    """Draw one strip per sequence of a split: its title and its attention `[time]`.

    All strips share the time axis; each is shaded from 0 to its own largest weight.
    """
    titles, attentions = zip(*sequences, strict=True)
    strips = pad_sequence([row.float().cpu() for row in attentions], True, math.nan)
    strips /= strips.nan_to_num().amax(1, keepdim=True)
    count, longest = strips.shape
    height = 0.45 * count + 1.0
    figure = Figure(figsize=(min(16.0, 4 + longest / 12), height), layout="constrained")
    axes = figure.subplots()  # one for all strips: laying out one for each takes most of a second
    axes.imshow(
        strips.numpy(), aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=(0, longest, count, 0)
    )
    axes.set_facecolor("0.93")  # beyond a sequence's end
    axes.hlines(range(1, count), 0, longest, color="white", linewidth=8)
    axes.set_yticks(np.arange(count) + 0.5, labels=titles, fontsize="small")
    axes.tick_params(left=False)
    axes.set_xticks(range(0, longest + 1, max(1, math.ceil(longest / 12))))
    axes.set_xlabel("time step")
    title = f"attention, {split} split\neach sequence shaded up to its largest weight"
    figure.suptitle(title, fontsize="medium")
    return figure


def render(figure: Figure) -> np.ndarray:
    """Return the pixels of a figure, `[height, width, 4]`: RGBA, from 0 to 255."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
