"""A few lines for the log about the data that was read."""

import logging
from collections.abc import Sequence

import numpy as np

from attnlstm.config.data import DataConfig, TextConfig
from attnlstm.console import counted, shorten
from attnlstm.data.parts import LabelledParts
from attnlstm.data.rows import RowSource

logger = logging.getLogger(__name__)

WIDTH = 100  # of a line
NAME_CHARACTERS = 24
SHOWN_TARGETS = 5  # of a regression


def describe_rows(data: LabelledParts, config: DataConfig) -> list[str]:
    """Return lines about the sizes of the parts, the columns, the lengths and the classes."""
    kind = "texts" if isinstance(config, TextConfig) else "series"
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in data.parts.items())
    what = counted(len(data.label_names), "class", "classes")
    if data.task == "regression":
        what = f"regression of {list_within('', [_quote(name) for name in data.label_names])}"
    elif data.task == "multilabel":
        what += ", several per row"
    elif data.task == "ordinal":
        what += " in order"
    lines = [f"{config.name}: {sizes} {kind}, {what}"]
    first, part = next(iter(data.parts.items()))
    source = part.pieces[0][0]
    lines += describe_columns(source)
    for name, described in data.parts.items():
        if described.lengths is not None:
            lengths = _describe_lengths(described.lengths, described.num_channels)
            lines.append(f"{name}: {kind} of {lengths}")
    lines += describe_layout(source)
    others = {id(source): source for part in data.parts.values() for source, *_ in part.pieces}
    lines += [note for other in others.values() if other is not source for note in other.notes]
    return lines + _describe_targets(first, part.targets, data)


def describe_columns(source: RowSource) -> list[str]:
    """Return lines about the columns that a source reads."""
    lines = []
    if source.columns_used:
        used = [f"{role} {_quote(name)}" for role, name in source.columns_used.items()]
        lines.append(list_within(f"columns of {_name(source.name)}: ", used))
    if source.channel_names is not None:
        lines.append(list_within("channels: ", [_quote(name) for name in source.channel_names]))
    if source.read_as is not None:
        lines.append(f"{_name(source.name)}: {source.read_as}")
    return lines


def describe_layout(source: RowSource) -> list[str]:
    """Return lines about how the rows lie in a file, and what of it is not read."""
    lines = []
    if source.layout is not None:
        lines.append(f"{_name(source.name)} is read as {source.layout}")
    if source.left_out:
        items = [f"{_quote(name)} ({why})" for name, why in source.left_out.items()]
        lines.append(list_within(f"columns left out of {_name(source.name)}: ", items))
    return [*lines, *source.notes]


def warn_of_names(source: RowSource, trained_on: Sequence[str] | None) -> None:
    """Warn if channels can only be matched by their order, as the data or the model has no names.

    trained_on: the names of the channels that a model was trained on.
    """
    named = source.channel_names if trained_on is None else trained_on
    if (source.channel_names is None) != (trained_on is None) and named is not None:
        lacking = "the model" if trained_on is None else _name(source.name)
        logger.warning(
            "%s has no names of channels: they are taken in order as %s",
            lacking,
            list_within("", [_quote(name) for name in named]),
        )


def list_within(beginning: str, items: Sequence[str]) -> str:
    """Return a line with as many of the items as fit, and the number of the others."""
    line = beginning
    for number, item in enumerate(items):
        longer = line + ", " * (number > 0) + item
        left = len(items) - number
        note = f" and {left - 1:,} more" * (left > 1)
        if number > 0 and len(longer + note) > WIDTH:
            return f"{line} and {left:,} more"
        line = longer
    return line


def _describe_lengths(lengths: np.ndarray, num_channels: int) -> str:
    """Return for example "7 to 26 steps (median 15), 12 channels"."""
    unit = "step" if num_channels else "character"
    quantiles = np.quantile(lengths, [0, 0.5, 1])
    shortest, median, longest = map(round, quantiles.tolist())
    if shortest == longest:
        text = _count(longest, unit)
    else:
        text = f"{shortest:,} to {_count(longest, unit)} (median {median:,})"
    return f"{text}, {_count(num_channels, 'channel')}" if num_channels else text


def _describe_targets(part: str, targets: np.ndarray, data: LabelledParts) -> list[str]:
    """Return the number of rows of each class, or what numbers there are."""
    if data.task == "regression":
        return [
            f"{part} {_name(name)}: from {low:.4g} to {high:.4g}, mean {mean:.4g}"
            for name, low, mean, high in zip(
                data.label_names[:SHOWN_TARGETS],
                *(targets.min(axis=0), targets.mean(axis=0), targets.max(axis=0)),
                strict=False,
            )
        ]
    if data.task == "multilabel":
        counts = targets.sum(axis=0, dtype=np.int64)
        lines = _describe_classes(part, counts, data.label_names)
        none = int((~targets.any(axis=1)).sum())
        if none:
            lines.append(f"{none:,} of the {len(targets):,} {part} rows have none of the classes")
        return lines
    return _describe_classes(
        part, np.bincount(targets, minlength=len(data.label_names)), data.label_names
    )


def _describe_classes(part: str, counts: np.ndarray, label_names: Sequence[str]) -> list[str]:
    """Return the number of rows of each class, or of the largest and the smallest classes."""
    named = [f"{_name(name)}: {count:,}" for name, count in zip(label_names, counts, strict=True)]
    line = f"{part} rows of each class: {', '.join(named)}"
    if len(line) <= WIDTH:
        return [line]
    largest_first = [named[number] for number in np.argsort(-counts, kind="stable")]
    return [
        list_within(f"largest classes of {part}: ", largest_first),
        list_within("smallest: ", largest_first[::-1]),
    ]


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'s' * (number != 1)}"


def _name(text: str) -> str:
    """Return a name from a file, shortened and on one line."""
    return " ".join(shorten(text, NAME_CHARACTERS).split())


def _quote(name: str) -> str:
    return repr(shorten(name, NAME_CHARACTERS))
