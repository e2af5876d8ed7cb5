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
MOST_TARGETS = 6  # of a regression, each of which has a picture


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


def draw_scatter(predictions: Tensor, targets: Tensor, names: list[str], split: str) -> Figure:
    """Draw the predictions of a regression over the true numbers, both `[row, target]`."""
    shown = min(len(names), MOST_TARGETS)
    figure = Figure(figsize=(4.5 * shown, 4.5), layout="constrained")
    for number, axes in enumerate(figure.subplots(1, shown, squeeze=False)[0]):
        true, predicted = targets[:, number].numpy(), predictions[:, number].numpy()
        axes.scatter(true, predicted, s=12, alpha=0.5)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color="0.5", linewidth=1)  # where both are equal
        axes.set_xlabel(f"true {as_label(names[number])}")
        axes.set_ylabel(f"predicted {as_label(names[number])}")
    figure.suptitle(f"predictions, {split} split", fontsize="medium")
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
