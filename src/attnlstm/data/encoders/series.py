"""Time series to steps, each channel normalized with the statistics of the training rows."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from attnlstm.errors import UserError


class SeriesEncoder:
    """Normalizes series: (value - mean) / std, channel by channel.

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
        """Return an encoder for `[time, channel]` series, which are read once.

        Mean and (population) standard deviation are over all steps of all series. A constant
        channel gets the standard deviation 1. Without `normalize`, values stay as they are.

        Statistics of successive series are merged as in Chan, Golub and LeVeque (1983), which stays
        exact for large offsets.
        """
        # StandardScaler.partial_fit merges in another order: its statistics differ in the last
        # digit, so that the same data would no longer give the same checkpoint.
        count, mean, deviations = 0, np.zeros(1), np.zeros(1)
        lowest, highest = np.full(1, np.inf), np.full(1, -np.inf)
        for steps in series:
            steps = steps.astype(np.float64)  # [time, channel]
            own_mean = steps.mean(axis=0)
            change, total = own_mean - mean, count + len(steps)
            deviations = deviations + ((steps - own_mean) ** 2).sum(axis=0)
            deviations += change**2 * count * len(steps) / total
            mean, count = mean + change * len(steps) / total, total
            lowest = np.minimum(lowest, steps.min(axis=0))
            highest = np.maximum(highest, steps.max(axis=0))
        if not normalize:
            mean, std = np.zeros_like(mean), np.ones_like(mean)
        else:
            # The computed mean of a constant channel may be off by a rounding error.
            constant = lowest == highest
            mean = np.where(constant, lowest, mean)
            std = np.sqrt(deviations / count)
            std = np.where(constant | (std == 0), 1.0, std)  # the squares of tiny changes are 0
        return cls(torch.from_numpy(mean), torch.from_numpy(std), channel_names)

    @property
    def num_channels(self) -> int:
        return len(self.mean)

    def encode(self, series: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return each of the `[time, channel]` series, normalized, as float32.

        Raises:
            UserError: the series have other channels than the encoder was fitted on.
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
        """Return plain lists and numbers for a checkpoint."""
        return {
            "kind": "series",
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "channel_names": self.channel_names,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the encoder that `to_dict` was called on.

        Raises:
            ValueError: `to_dict` returns no such state, as from a manipulated file.
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
        statistics = torch.tensor([mean, std], dtype=torch.float64)
        return cls(statistics[0], statistics[1], names)
