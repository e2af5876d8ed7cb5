"""Time series to tensors: every channel z-normalised with the training part's statistics."""

from typing import Any, Self

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor

from attnlstm.data.batches import EncodedSplit
from attnlstm.errors import UserError


def flatten_series(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `series` column without its nesting, read once as Arrow columns and not row by row.

    Returns the values, one after the other (float32, a null is NaN), the number of values of each
    step [total_time], and the number of steps of each row [row].
    """
    rows = dataset.with_format("arrow")["series"][:]
    lengths = pc.fill_null(pc.list_value_length(rows), 0).to_numpy()
    steps = pc.list_flatten(rows)
    widths = pc.fill_null(pc.list_value_length(steps), 0).to_numpy()
    values = pc.list_flatten(steps).to_numpy().astype(np.float32, copy=False)
    return values, widths, lengths


def class_numbers(dataset: Dataset) -> np.ndarray:
    """The `label` column, [row] int64; -1 where a row has none."""
    return pc.fill_null(dataset.with_format("arrow")["label"][:], -1).to_numpy()


class SeriesEncoder:
    """Turns rows of numbers into `EncodedSplit`s: (value - mean) / std, channel by channel.

    The statistics are float64, so that a channel with a large offset keeps its small changes.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean = mean  # [channel] float64
        self.std = std  # [channel] float64

    @classmethod
    def fit(cls, train: Dataset, normalize: bool = True) -> Self:
        """The encoder of `train`'s channels; without `normalize` it leaves values as they are.

        Mean and (population) standard deviation are over all real steps of all rows. A channel
        that never changes gets the standard deviation 1.
        """
        values, widths, _ = flatten_series(train)
        num_channels = int(widths[0])
        if not normalize:
            ones = torch.ones(num_channels, dtype=torch.float64)
            return cls(torch.zeros_like(ones), ones)
        steps = values.reshape(-1, num_channels).astype(np.float64)  # [total_time, channel]
        # std == 0 would miss a constant channel whose mean is off by a rounding error
        constant = steps.min(axis=0) == steps.max(axis=0)
        mean = np.where(constant, steps[0], steps.mean(axis=0))
        std = np.where(constant, 1.0, steps.std(axis=0))
        return cls(torch.from_numpy(mean), torch.from_numpy(std))

    @property
    def num_channels(self) -> int:
        return len(self.mean)

    def encode(self, dataset: Dataset) -> EncodedSplit:
        """Every row of `dataset`, in order.

        Raises:
            UserError: the series do not have the channels that the encoder was fitted on.
        """
        values, widths, lengths = flatten_series(dataset)
        if (widths != self.num_channels).any():
            found = int(widths[widths != self.num_channels][0])
            raise UserError(
                f"the data has {found} channels, the model was trained on {self.num_channels}: "
                "choose data with the same channels"
            )
        steps = values.reshape(-1, self.num_channels)  # [total_time, channel]
        normalised = ((steps - self.mean.numpy()) / self.std.numpy()).astype(np.float32)
        return EncodedSplit(
            steps=torch.from_numpy(normalised),
            offsets=torch.from_numpy(np.cumsum(lengths, dtype=np.int64) - lengths),
            lengths=torch.from_numpy(lengths.astype(np.int64)),
            targets=torch.tensor(class_numbers(dataset)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for a checkpoint; `from_dict` gives the same encoder back."""
        return {"kind": "series", "mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """The encoder that `to_dict` was called on."""
        return cls(
            torch.tensor(state["mean"], dtype=torch.float64),
            torch.tensor(state["std"], dtype=torch.float64),
        )
