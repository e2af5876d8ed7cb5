"""Finds channels and steps that give away the label, so that a model has nothing to learn."""

from collections.abc import Sequence

import numpy as np

from attnlstm.console import enumerate_names

FEWEST_ROWS = 20
"""With fewer rows, a value may match a label by chance."""

VALUES_PER_LABEL = 4
"""A channel or step with more values per label is a measurement and not a code of the label."""

ROWS_PER_VALUE = 4

MOST_STEPS = 2048
"""Longer series are checked by channel only, not step by step."""


class LabelLeaks:
    """Finds values that determine the label, while the rows are read.

    Checks channels that are constant in each series, and single steps of a channel: in a wide
    table, the number of the class may be in a column next to the steps.
    """

    def __init__(self) -> None:
        self._num_rows = 0
        self._labels: set[str] = set()
        self._channels: _Codes | None = None
        self._steps: _Codes | None = None

    def add(self, series: np.ndarray, label: str) -> None:
        """Record a series `[time, channel]`."""
        self._num_rows += 1
        self._labels.add(label)
        if self._channels is None or self._steps is None:
            self._channels = _Codes(series.shape[1])
            self._steps = _Codes(series.size if series.size <= MOST_STEPS else 0)
        if self._channels.left:
            self._channels.keep((series == series[0]).all(axis=0))
            self._channels.add(series[0], label, len(self._labels))
        if series.size != self._steps.size:
            self._steps.left.clear()
        self._steps.add(series.reshape(-1), label, len(self._labels))

    def describe(self, channel_names: Sequence[str] | None) -> str | None:
        """Return a sentence about what determines the label, or None if nothing does."""
        if self._num_rows < FEWEST_ROWS or len(self._labels) < 2:
            return None
        if self._channels is None or self._steps is None:
            return None
        most = self._num_rows // ROWS_PER_VALUE
        if channels := self._channels.find(most):
            if channel_names is not None:
                names = enumerate_names([channel_names[place] for place in channels])
            else:
                names = ", ".join(map(str, channels))
            plural = "s" * (len(channels) > 1)
            return (
                f"channel{plural} {names} determine{'s' * (not plural)} the label: each value comes"
                " with one label only. If it is a code of the label, remove the column, or name "
                "the other channels with data.channel_columns"
            )
        if steps := self._steps.find(most):
            num_channels = self._channels.size
            return (
                f"step {steps[0] // num_channels} of channel {steps[0] % num_channels} determines "
                "the label: each value comes with one label only. If it is a code of the label, "
                "remove it from the series"
            )
        return None


class _Codes:
    """Places (channels or steps) whose values may be codes of the label.

    left: the places where no value has appeared with two labels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = set(range(size))
        self._label_of: list[dict[float, str]] = [{} for _ in range(size)]

    def keep(self, chosen: np.ndarray) -> None:
        """Keep only the chosen places, `[place]` bool."""
        self.left = {place for place in self.left if chosen[place]}

    def add(self, values: np.ndarray, label: str, num_labels: int) -> None:
        """Record the values of a row, `[place]`; there are `num_labels` labels so far."""
        for place in list(self.left):
            labels = self._label_of[place]
            is_same = labels.setdefault(float(values[place]), label) == label
            if not is_same or len(labels) > VALUES_PER_LABEL * num_labels:
                self.left.discard(place)

    def find(self, most_values: int) -> list[int]:
        """Return the places left that have at most this many values."""
        return sorted(place for place in self.left if len(self._label_of[place]) <= most_values)
