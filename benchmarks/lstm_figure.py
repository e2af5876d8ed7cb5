"""Draw the training steps measured by benchmarks.lstm, as a figure for the README.

    python -m benchmarks.lstm --output lstm.json
    python -m benchmarks.lstm_figure lstm.json speed.svg

There is one panel for full and one for ragged batches, with a row per shape. Each marker is the
speedup of a variant over nn.LSTM on the padded or on the packed batch, as the geometric mean over
the numbers of layers and directions and the distributions of lengths.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.lstm import PACKED, PADDED

BASELINES = {"times_padded": PADDED, "times_packed": PACKED}
FILLS = {"times_padded": "full", "times_packed": "none"}  # fill styles of the markers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("results", type=Path, help="the JSON file of benchmarks.lstm")
    parser.add_argument("figure", type=Path, help="the SVG file to write")
    options = parser.parse_args()
    cases = json.loads(options.results.read_text(encoding="utf-8"))["cases"]
    # A fixed salt gives the same bytes for the same results; text kept as text halves the size.
    with matplotlib.rc_context({"svg.hashsalt": "attnlstm", "svg.fonttype": "none"}):
        draw(cases).savefig(options.figure, format="svg", metadata={"Date": None})


def draw(cases: Sequence[dict]) -> Figure:
    """Draw the figure, on white so that it is readable on dark pages, too."""
    panels = {
        "full batches": [case for case in cases if case["case"]["lengths"] == "full"],
        "ragged batches": [case for case in cases if case["case"]["lengths"] != "full"],
    }
    panels = {title: chosen for title, chosen in panels.items() if chosen}
    variants = [name for name in cases[0]["training"] if name not in BASELINES.values()]
    shapes = list(dict.fromkeys(map(shape_of, cases)))
    height = 1.5 + 0.16 * len(shapes) * (1 + len(variants))
    figure = Figure(figsize=(9, height), layout="constrained", facecolor="white")
    rows = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, chosen) in zip(rows, panels.items(), strict=True):
        draw_panel(axes, chosen, shapes, variants)
        axes.set_title(title)
    rows[0].set_yticks(range(len(shapes)), [", ".join(map(str, shape)) for shape in shapes])
    rows[0].set_ylabel("time, batch, input, hidden")
    rows[0].invert_yaxis()
    figure.supxlabel("a training step: times as fast as nn.LSTM", fontsize="medium")
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(variants))
    return figure


def draw_panel(
    axes: Axes,
    cases: Sequence[dict],
    shapes: Sequence[tuple[int, ...]],
    variants: Sequence[str],
) -> None:
    """Draw the markers of every variant and baseline, grouped by shape."""
    for number, name in enumerate(variants):
        shift = 0.8 * ((number + 0.5) / len(variants) - 0.5)
        for ratio, baseline in BASELINES.items():
            speeds = {
                row: geometric_mean(case["training"][name][ratio] for case in of_shape)
                for row, shape in enumerate(shapes)
                if (of_shape := [case for case in cases if shape_of(case) == shape])
            }
            axes.plot(
                speeds.values(),
                [row + shift for row in speeds],
                color=f"C{number}",
                marker="o",
                fillstyle=FILLS[ratio],
                linestyle="none",
                label=f"{name}, against {baseline}",
            )
    axes.axvline(1, color="0.4", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color="0.9")
    axes.hlines([row + 0.5 for row in range(len(shapes) - 1)], *axes.get_xlim(), color="0.9")
    axes.margins(x=0)
    axes.set_axisbelow(True)


def shape_of(case: dict) -> tuple[int, ...]:
    sizes = case["case"]
    return tuple(sizes[name] for name in ("time", "batch", "input_size", "hidden_size"))


if __name__ == "__main__":
    main()
