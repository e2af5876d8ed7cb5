"""Time series to steps: every channel z-normalised with the training part's statistics."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from attnlstm.errors import UserError


class SeriesEncoder:
    """Normalises series: (value - mean) / std, channel by channel.

    The statistics are float64, so that a channel with a large offset keeps its small changes.
    """

    def __init__(
        self, mean: Tensor, std: Tensor, channel_names: Sequence[str] | None = None
    ) -> None:
        self.mean = mean  # [channel] float64
        self.std = std  # [channel] float64
        self.channel_names = None if channel_names is None else list(channel_names)

    @classmethod
    def fit(
        cls,
        series: Iterable[np.ndarray],
        normalize: bool = True,
        channel_names: Sequence[str] | None = None,
    ) -> Self:
        """The encoder of the channels of `[time, channel]` series, gone through once.

        Mean and (population) standard deviation are over all steps of all series. A channel that
        never changes gets the standard deviation 1. Without `normalize`, values stay as they are.

        The means and sums of squared deviations of the parts seen so far are merged as in Chan,
        Golub and LeVeque (1983), which loses no digits to large offsets.
        """
        count = 0
        mean = deviations = lowest = highest = np.zeros(0)
        for steps in series:
            steps = steps.astype(np.float64)  # [time, channel]
            if not count:
                mean, deviations = np.zeros_like(steps[0]), np.zeros_like(steps[0])
                lowest, highest = steps[0], steps[0]
            own_mean = steps.mean(axis=0)
            change, total = own_mean - mean, count + len(steps)
            deviations = deviations + ((steps - own_mean) ** 2).sum(axis=0)
            deviations += change**2 * count * len(steps) / total
            mean, count = mean + change * len(steps) / total, total
            lowest = np.minimum(lowest, steps.min(axis=0))
            highest = np.maximum(highest, steps.max(axis=0))
        if not normalize:
            zeros = torch.zeros(len(mean), dtype=torch.float64)
            return cls(zeros, torch.ones_like(zeros), channel_names)
        # a standard deviation of 0 would miss a constant channel whose mean is off by a rounding
        constant = lowest == highest
        mean = np.where(constant, lowest, mean)
        std = np.sqrt(deviations / max(count, 1))
        std = np.where(constant | (std == 0), 1.0, std)  # 0: changes whose squares are too small
        return cls(torch.from_numpy(mean), torch.from_numpy(std), channel_names)

    @property
    def num_channels(self) -> int:
        return len(self.mean)

    def encode(self, series: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each of the `[time, channel]` series, normalised, float32.

        Raises:
            UserError: the series do not have the channels that the encoder was fitted on.
        """
        for steps in series:
            if steps.shape[1] != self.num_channels:
                raise UserError(
                    f"the data has {steps.shape[1]} channels, the model was trained on "
                    f"{self.num_channels}: choose data with the same channels"
                )
        mean, std = self.mean.numpy(), self.std.numpy()
        return [((steps - mean) / std).astype(np.float32) for steps in series]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for a checkpoint; `from_dict` gives the same encoder back."""
        return {
            "kind": "series",
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "channel_names": self.channel_names,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """The encoder that `to_dict` was called on.

        Raises:
            ValueError: the state is none of `to_dict`, as in a file that was tampered with.
        """
        mean, std, names = state["mean"], state["std"], state["channel_names"]
        numbers = [*mean, *std]
        if (
            not (isinstance(mean, list) and isinstance(std, list) and mean)
            or len(mean) != len(std)
            or not all(isinstance(number, float) and isfinite(number) for number in numbers)
            or min(std) <= 0
        ):
            raise ValueError("its mean and std are not a number for each channel")
        if names is not None and not (
            isinstance(names, list)
            and len(names) == len(mean)
            and all(isinstance(name, str) for name in names)
        ):
            raise ValueError("its channel_names are not a name for each channel")
        return cls(
            torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64), names
        )
