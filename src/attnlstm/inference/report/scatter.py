"""Pictures of a regression: predicted over true numbers."""

import math
from random import Random
from typing import Any

import numpy as np

POINTS = 1_000  # rows in a picture
SIDE = 400  # of the picture, in the units of its points
MARGIN = 16  # on each side, so that points at the ends are whole
TICKS = 5  # at most this many and one per axis
SMALLEST, LARGEST = 1e-300, 8e307  # differences in between neither vanish nor overflow


class Sample:
    """A random sample of rows of any number: all of the first `POINTS`, then each with equal odds.

    It is Vitter's reservoir (1985, algorithm R), with a fixed seed.

    num_rows: how many rows it is a sample of.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self._random = Random(0)
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, true: np.ndarray, predicted: np.ndarray) -> None:
        """Add the numbers of a row, both `[target]`."""
        self.num_rows += 1
        if len(self._rows) < POINTS:
            self._rows.append((true, predicted))
        elif (place := self._random.randrange(self.num_rows)) < POINTS:
            self._rows[place] = (true, predicted)

    def __len__(self) -> int:
        return len(self._rows)

    def numbers(self, target: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a target's true and predicted numbers, both `[row]`."""
        true, predicted = np.array(self._rows)[:, :, target].T
        return true, predicted


def draw_scatter(true: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Return a picture of numbers `[row]`; both axes have the same range.

    points: the pixels of each row, from the left and from the top, between 0 and `SIDE`. Rows
        that are not finite have none.
    ticks: the pixels of round numbers, from the left or from the bottom, and the numbers.
    """
    numbers = np.stack([true, predicted], axis=1)
    numbers = numbers[np.isfinite(numbers).all(axis=1)].clip(-LARGEST, LARGEST)
    if not len(numbers):
        return {"points": [], "ticks": []}
    low, high = float(numbers.min()), float(numbers.max())
    if high - low < SMALLEST:
        margin = abs(low) / 2 if abs(low) > SMALLEST else 1.0
        low, high = low - margin, high + margin

    def to_pixels(values: np.ndarray) -> Any:
        shares = (values - low) / (high - low)
        return np.rint(MARGIN + shares * (SIDE - 2 * MARGIN)).astype(int).tolist()

    ticks = find_ticks(low, high)
    names = [f"{tick:.10g}" for tick in ticks]
    return {
        "points": [(x, SIDE - y) for x, y in to_pixels(numbers)],
        "ticks": list(zip(to_pixels(np.array(ticks)), names, strict=True)),
    }


def find_ticks(low: float, high: float) -> list[float]:
    """Return evenly spaced multiples of 1, 2 or 5 times a power of ten from `low` to `high`."""
    width = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(width))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= width)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
