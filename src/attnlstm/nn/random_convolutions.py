"""A linear classifier of fixed convolutions, which learns from few series what a network cannot.

    series [batch, time, channel]  ->  outputs of fixed filters [batch, filter, time]
      ->  the share of steps above each threshold [batch, num_features]  ->  logits [batch, class]

Nothing is trained by gradients: the thresholds come from some training series, and the weights from
a ridge regression (`attnlstm.nn.ridge`).
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.arguments import check_lengths
from attnlstm.nn.expert import Expert
from attnlstm.nn.head import Task
from attnlstm.nn.ridge import fit_ridge

WIDTH = 9
FILTERS = len(list(combinations(range(WIDTH), 3)))  # 84
WIDEST = 4096
NUMBERS_AT_ONCE = 2**24  # the number of filter outputs that are in memory at a time
SLOPE = 0.1
"""The width of the ramp from "below" to "above" a threshold, in standard deviations of a filter."""


class RandomConvolutionClassifier(Expert):
    """Ridge regression on how often fixed filters are above thresholds.

    The filters are MiniRocket's (Dempster, Schmidt and Webb, 2021): all 84 with three weights of 2
    and six of -1, at several dilations. Each filter reads a random choice of channels. A feature is
    the share of steps at which a filter's output is above a threshold, which is a quantile of its
    outputs for training series. An output close to the threshold counts in part, so that rounding
    changes features only a little.

    Args:
        input_size: number of features of a step.
        num_classes: number of classes, or of the numbers to predict.
        dilations: distances between the steps that a filter reads.
        num_thresholds: number of thresholds for each filter and dilation.
        task: what is to be predicted; see `attnlstm.nn.head`.

    Raises:
        ValueError: there are no dilations, or a number is out of range.

    Example:
        >>> series = [np.random.randn(50, 3) for _ in range(20)]  # [time, channel]
        >>> targets = torch.arange(20) % 5
        >>> classifier = RandomConvolutionClassifier(3, 5, dilations=[1, 2, 4], num_thresholds=2)
        >>> classifier.fit_filters(series)
        >>> inputs = torch.from_numpy(np.stack(series)).float()
        >>> classifier.fit_classifier(classifier.features(inputs), targets)
        >>> classifier(inputs).shape
        torch.Size([20, 5])
    """

    is_trained = False
    kernels: Tensor
    thresholds: Tensor
    slopes: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        input_size: int,
        num_classes: int,
        dilations: Sequence[int],
        num_thresholds: int,
        task: Task = "classification",
    ) -> None:
        super().__init__()
        if not dilations or not 1 <= min(dilations) <= max(dilations) <= WIDEST:
            raise ValueError(f"dilations should be from 1 to {WIDEST}, got {list(dilations)}")
        if num_thresholds < 1:
            raise ValueError(f"num_thresholds should be at least 1, got {num_thresholds}")
        self.task = task
        self.dilations = list(dilations)
        self.num_thresholds = num_thresholds
        count = len(self.dilations)
        self.num_features = count * FILTERS * num_thresholds
        self.register_buffer("kernels", torch.zeros(count, FILTERS, input_size, WIDTH))
        self.register_buffer("thresholds", torch.zeros(count, FILTERS, num_thresholds))
        self.register_buffer("slopes", torch.ones(count, FILTERS))  # 1 / (SLOPE * deviation)
        self.register_buffer("weight", torch.zeros(self.num_features, num_classes))
        self.register_buffer("bias", torch.zeros(num_classes))

    @torch.no_grad()
    def fit_filters(self, series: Iterable[np.ndarray], seed: int = 0) -> None:
        """Choose each filter's channels at random, and its thresholds from training series.

        Args:
            series: each is `[time, feature]`, of any length; a hundred are enough.
            seed: determines the channels.
        """
        generator = torch.Generator().manual_seed(seed)
        input_size = self.kernels.size(2)
        for number in range(len(self.dilations)):
            for row, twos in enumerate(combinations(range(WIDTH), 3)):
                most = torch.rand((), generator=generator) * np.log2(min(input_size, WIDTH) + 1)
                chosen = torch.randperm(input_size, generator=generator)[: max(1, int(2**most))]
                self.kernels[number, row] = 0
                self.kernels[number, row, chosen] = -1.0
                for place in twos:
                    self.kernels[number, row, chosen, place] = 2.0
        outputs: list[list[Tensor]] = [[] for _ in self.dilations]
        for steps in series:
            inputs = torch.from_numpy(np.array(steps.T, np.float32)).unsqueeze(0)
            for number in range(len(self.dilations)):
                outputs[number].append(self._filter(inputs, number).squeeze(0))
        # Low-discrepancy quantiles as in MiniRocket, so that no two filters have the same ones.
        golden = (5**0.5 - 1) / 2
        places = torch.arange(1, FILTERS * self.num_thresholds + 1) * golden % 1
        places = places.reshape(FILTERS, self.num_thresholds).sort(dim=1).values
        for number, parts in enumerate(outputs):
            ordered = torch.cat(parts, dim=1).sort(dim=1).values  # [filter, step]
            index = (places * ordered.size(1)).long().clamp(max=ordered.size(1) - 1)
            self.thresholds[number] = ordered.gather(1, index)
            deviation = ordered.std(dim=1, correction=0)
            self.slopes[number] = 1 / (SLOPE * deviation).clamp(min=1e-6)

    def fit_classifier(self, features: Tensor, targets: Tensor) -> None:
        """Fit the weights to features `[row, num_features]` and targets, see `fit_ridge`."""
        fitted = fit_ridge(features, targets, len(self.bias), self.task)
        self.weight.copy_(fitted.weight)
        self.bias.copy_(fitted.bias)

    @torch.no_grad()
    def features(self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Return the features `[batch, num_features]` of series `[batch, time, feature]`.

        Args:
            inputs: the series.
            lengths: `[batch]`, the number of real steps of each series; None: no padding.

        Raises:
            ValueError: lengths are not one integer from 0 to time for each series.
        """
        batch, time, _ = inputs.shape
        lengths = check_lengths([time] * batch if lengths is None else lengths, batch, time)
        lengths = lengths.to(inputs.device)
        rows_at_once = max(1, NUMBERS_AT_ONCE // (FILTERS * time))
        with torch.autocast(inputs.device.type, enabled=False):  # half precision is too coarse
            parts = [
                self._features(inputs[start : start + rows_at_once], lengths[start:][:rows_at_once])
                for start in range(0, batch, rows_at_once)
            ]
        return torch.cat(parts) if parts else inputs.new_zeros(0, self.num_features)

    def _features(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(inputs.size(1), device=inputs.device)
        is_real = (steps < lengths.unsqueeze(1)).unsqueeze(1)  # [batch, 1, time]
        channels = inputs.transpose(1, 2).to(self.kernels.dtype).masked_fill(~is_real, 0)
        shares = []
        for number, thresholds in enumerate(self.thresholds):
            outputs = self._filter(channels, number) * self.slopes[number].unsqueeze(1)
            scaled = thresholds * self.slopes[number].unsqueeze(1)  # [filter, threshold]
            for place in range(self.num_thresholds):
                above = (outputs - scaled[:, place : place + 1] + 0.5).clamp_(0, 1)
                shares.append((above * is_real).sum(dim=2) / lengths.clamp(min=1).unsqueeze(1))
        return torch.cat(shares, dim=1)

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits `[batch, class]` of features `[batch, num_features]`."""
        return features @ self.weight + self.bias

    def has_features_of(self, other: Expert) -> bool:
        if not isinstance(other, RandomConvolutionClassifier) or self.dilations != other.dilations:
            return False
        names = ("kernels", "thresholds", "slopes")
        return all(torch.equal(getattr(self, name), getattr(other, name)) for name in names)

    def _filter(self, channels: Tensor, number: int) -> Tensor:
        """Return the outputs `[batch, filter, time]` of all filters at the dilation `number`."""
        dilation = self.dilations[number]
        padding = dilation * (WIDTH // 2)
        return F.conv1d(channels, self.kernels[number], padding=padding, dilation=dilation)

    def extra_repr(self) -> str:
        return f"{self.kernels.size(2)}, {len(self.bias)}, dilations={self.dilations}"


def choose_dilations(longest: int) -> list[int]:
    """Return powers of 2 with which a filter fits into a series of `longest` steps, at least 1."""
    return [2**power for power in range(12) if power == 0 or (WIDTH - 1) * 2**power < longest]
