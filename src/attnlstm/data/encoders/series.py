"""Time series to steps, each channel normalized with the statistics of the training rows."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any, Self, get_args

import numpy as np
import torch
from torch import Tensor

from attnlstm.config.data import Axes, AxesNames, Missing
from attnlstm.data.missing import interpolate
from attnlstm.errors import UserError


class SeriesEncoder:
    """Normalizes series: (value - mean) / std, channel by channel.

    The statistics are float64, so that a channel with a large offset keeps its small changes. They
    are of the values that are not missing. Missing values are interpolated, or become 0 after the
    normalization; then each of `masked_channels` has another channel after all others, 1 where its
    value is missing and otherwise 0.
    """

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        channel_names: Sequence[str] | None = None,
        missing: Missing = "stop",
        masked_channels: Sequence[int] = (),
        axes: Axes | None = None,
    ) -> None:
        self.mean = mean  # [channel] float64
        self.std = std  # [channel] float64
        self.channel_names = None if channel_names is None else list(channel_names)
        self.missing = missing
        self.masked_channels = list(masked_channels)
        self.axes = axes  # of the arrays that the series come from, see `RowSource.axes`

    @classmethod
    def fit(
        cls,
        series: Iterable[np.ndarray],
        normalize: bool = True,
        channel_names: Sequence[str] | None = None,
        missing: Missing = "stop",
        axes: Axes | None = None,
    ) -> Self:
        """Return an encoder for `[time, channel]` series, which are read once.

        Mean and (population) standard deviation are over all steps of all series that are not
        missing. A constant channel gets the standard deviation 1. Without `normalize`, values stay
        as they are. With `missing` of "mask", the channels that lack a value are marked.

        Statistics of successive series are merged as in Chan, Golub and LeVeque (1983), which stays
        exact for large offsets.
        """
        # StandardScaler.partial_fit merges in another order: its statistics differ in the last
        # digit, so that the same data would no longer give the same checkpoint.
        count, mean, deviations = np.zeros(1, int), np.zeros(1), np.zeros(1)
        lowest, highest = np.full(1, np.inf), np.full(1, -np.inf)
        has_gaps = np.zeros(1, bool)
        for steps in series:
            steps = steps.astype(np.float64)  # [time, channel]
            is_missing = np.isnan(steps)
            if is_missing.any():
                has_gaps = has_gaps | is_missing.any(axis=0)
                steps = np.ma.masked_array(steps, is_missing)
            size = len(steps) - is_missing.sum(axis=0)  # [channel]
            own_mean = np.ma.filled(steps.mean(axis=0), 0.0)
            change, total = own_mean - mean, np.maximum(count + size, 1)
            deviations = deviations + np.ma.filled(((steps - own_mean) ** 2).sum(axis=0), 0.0)
            deviations += change**2 * count * size / total
            mean, count = mean + change * size / total, count + size
            lowest = np.minimum(lowest, np.ma.filled(steps.min(axis=0), np.inf))
            highest = np.maximum(highest, np.ma.filled(steps.max(axis=0), -np.inf))
        if not normalize:
            mean, std = np.zeros_like(mean), np.ones_like(mean)
        else:
            # The computed mean of a constant channel may be off by a rounding error.
            constant = lowest == highest
            mean = np.where(constant, lowest, mean)
            std = np.sqrt(deviations / np.maximum(count, 1))
            std = np.where(constant | (std == 0), 1.0, std)  # the squares of tiny changes are 0
        masked = np.flatnonzero(has_gaps).tolist() if missing == "mask" else []
        statistics = torch.from_numpy(mean), torch.from_numpy(std)
        return cls(*statistics, channel_names, missing, masked, axes)

    @property
    def num_channels(self) -> int:
        """The channels of the series."""
        return len(self.mean)

    @property
    def num_features(self) -> int:
        """The numbers of an encoded step."""
        return len(self.mean) + len(self.masked_channels)

    def encode(self, series: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return each of the `[time, channel]` series, normalized, as `[time, feature]` float32.

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
        if self.missing == "interpolate":
            series = [interpolate(steps) for steps in series]
        encoded = [((steps - mean) / std).astype(np.float32) for steps in series]
        return [self._mask(steps) for steps in encoded] if self.missing == "mask" else encoded

    def _mask(self, steps: np.ndarray) -> np.ndarray:
        """Replace missing values by 0, and append the channels that mark them."""
        is_missing = np.isnan(steps)
        marks = is_missing[:, self.masked_channels].astype(np.float32)
        return np.concatenate([np.where(is_missing, np.float32(0), steps), marks], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers for a checkpoint."""
        return {
            "kind": "series",
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "channel_names": self.channel_names,
            "missing": self.missing,
            "masked_channels": self.masked_channels,
            "axes": self.axes,
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
        missing, masked, axes = state["missing"], state["masked_channels"], state["axes"]
        if missing not in get_args(Missing) or axes not in (None, *get_args(AxesNames)):
            raise ValueError("its missing or axes are none of the known ones")
        if not (
            isinstance(masked, list)
            and all(type(channel) is int and 0 <= channel < len(mean) for channel in masked)
            and len(set(masked)) == len(masked)
        ):
            raise ValueError("its masked_channels are not numbers of channels")
        statistics = torch.tensor([mean, std], dtype=torch.float64)
        return cls(statistics[0], statistics[1], names, missing, masked, axes)
