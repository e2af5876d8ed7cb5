"""Stems: what reads a series before the LSTM does, and hands it fewer, richer steps.

An LSTM on raw samples has to carry a short shape over hundreds of steps. A stem finds the shapes
by convolution and shortens the series, so that the LSTM has their order left to learn, as in
DeepConvLSTM (Ordonez and Roggen, 2016). Every stem takes `[batch, time, feature]` and the lengths
`[batch]`, and returns `[batch, ceil(time / stride), feature_size]` and `ceil(lengths / stride)`.

Padding never changes an answer: it is zero before every convolution, as what lies beyond the end
of an unpadded series is, and batch statistics are of real steps alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.arguments import check_lengths

STEMS: dict[str, type["Stem"]] = {}
"""The names by which conf/model/stem chooses; see `register_stem`."""


def register_stem(name: str) -> Callable[[type["Stem"]], type["Stem"]]:
    """Have `build_stem` find a class by `name`."""

    def register(cls: type["Stem"]) -> type["Stem"]:
        STEMS[name] = cls
        return cls

    return register


class Stem(nn.Module, ABC):
    """Maps the lengths and masks the padding; a subclass says what is computed.

    Attributes:
        feature_size: of the steps that it returns.
        stride: original steps that one returned step stands for.
    """

    feature_size: int
    stride: int

    def forward(
        self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Shorten `[batch, time, feature]` to `[batch, ceil(time / stride), feature_size]`.

        Returns:
            the steps, 0 on padding, and their lengths `[batch]`; None where none were given.

        Raises:
            ValueError: lengths are not one integer from 0 to time for each sequence.
        """
        batch, time, _ = inputs.shape
        if lengths is not None:
            lengths = check_lengths(lengths, batch, time).to(inputs.device)
        return self.shorten(inputs, lengths)

    @abstractmethod
    def shorten(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What `forward` does, with checked lengths."""

    def spread(
        self, attention: Tensor, lengths: Tensor | Sequence[int] | None, time: int
    ) -> Tensor:
        """Attention `[batch, time']` on this stem's steps, handed back on the original ones.

        The weight of a step is shared evenly by the original steps that it stands for, so that
        the weights of a sequence still sum to 1.

        Returns:
            `[batch, time]`, 0 on padding.
        """
        if self.stride == 1:
            return attention
        batch = attention.size(0)
        lengths = check_lengths([time] * batch if lengths is None else lengths, batch, time)
        steps = torch.arange(time, device=attention.device)  # [time]
        ends = lengths.to(attention.device).unsqueeze(1)  # [batch, 1]
        first = steps // self.stride * self.stride  # the first step of each one's group
        sharing = (torch.minimum(first + self.stride, ends) - first).clamp(min=1)  # [batch, time]
        spread = attention.repeat_interleave(self.stride, dim=1)[:, :time] / sharing
        return spread.masked_fill(steps >= ends, 0)


class MaskedBatchNorm(nn.Module):
    """nn.BatchNorm1d of `[batch, channel, time]` whose statistics are of real steps alone."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_channels)

    def forward(self, inputs: Tensor, is_real: Tensor | None) -> Tensor:
        """Normalise the real steps, `is_real` `[batch, time]` (None: all); the others become 0."""
        if is_real is None:
            return self._normalise(inputs)
        if not self.training:
            return self._normalise(inputs).masked_fill(~is_real.unsqueeze(1), 0)
        steps = inputs.transpose(1, 2)  # [batch, time, channel]
        outputs = torch.zeros_like(steps)
        outputs[is_real] = self._normalise(steps[is_real])
        return outputs.transpose(1, 2)

    def _normalise(self, values: Tensor) -> Tensor:
        """nn.BatchNorm1d; one value per channel has no variance, and gets running statistics."""
        norm = self.norm
        if self.training and values.numel() <= norm.num_features:
            return F.batch_norm(
                values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        normed: Tensor = norm(values)
        return normed


class ConvBlock(nn.Module):
    """Convolutions of several widths side by side, masked batch norm, ReLU.

    Args:
        input_size: channels that come in.
        num_filters: of each width.
        kernel_sizes: the widths, odd numbers.
        stride: of all of them.
        bottleneck: channels to which a pointwise convolution reduces the input first, where that
            has more (Ismail Fawaz et al., 2020); None: it does not.
    """

    def __init__(
        self,
        input_size: int,
        num_filters: int,
        kernel_sizes: Sequence[int],
        stride: int,
        bottleneck: int | None = None,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.feature_size = num_filters * len(kernel_sizes)
        self.bottleneck: nn.Module = nn.Identity()
        if bottleneck is not None and bottleneck < input_size:
            self.bottleneck = nn.Conv1d(input_size, bottleneck, 1, bias=False)
            input_size = bottleneck
        self.convolutions = nn.ModuleList(
            nn.Conv1d(input_size, num_filters, size, stride, size // 2, bias=False)
            for size in kernel_sizes
        )
        self.norm = MaskedBatchNorm(self.feature_size)

    def forward(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`[batch, channel, time]`, 0 on padding, to `ceil(time / stride)` steps of that kind."""
        reduced = self.bottleneck(inputs)
        outputs = torch.cat([convolution(reduced) for convolution in self.convolutions], dim=1)
        is_real = None
        if lengths is not None:
            lengths = (lengths + self.stride - 1) // self.stride
            is_real = torch.arange(outputs.size(2), device=outputs.device) < lengths.unsqueeze(1)
            if not torch.compiler.is_exporting() and bool(is_real.all()):
                is_real = None
        return self.norm(outputs, is_real).relu(), lengths


class BlockStem(Stem):
    """Blocks of convolutions, each over the last one's features, which share the stride.

    Args:
        blocks: in their order.
    """

    def __init__(self, blocks: Sequence[ConvBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.feature_size = blocks[-1].feature_size
        self.stride = math.prod(block.stride for block in blocks)

    def shorten(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        features = inputs.transpose(1, 2)  # [batch, channel, time]
        if lengths is not None:
            steps = torch.arange(inputs.size(1), device=inputs.device)
            is_padding = steps >= lengths.unsqueeze(1)
            features = features.masked_fill(is_padding.unsqueeze(1), 0)
        for block in self.blocks:
            features, lengths = block(features, lengths)
        return features.transpose(1, 2), lengths


@register_stem("conv")
class ConvStem(BlockStem):
    """Three convolutions of widths 7, 5 and 3, those of the fully convolutional network.

    The widths and their order are of FCN (Wang, Yan and Oates, 2017); the strides are ours.

    Args:
        input_size: features of a step.
        stride: original steps for each step that is left, a power of 2.
        num_filters: features of a step that is left.
    """

    def __init__(self, input_size: int, stride: int = 1, num_filters: int = 64) -> None:
        sizes = [input_size, num_filters, num_filters]
        super().__init__(
            [
                ConvBlock(size, num_filters, [width], part)
                for size, width, part in zip(sizes, (7, 5, 3), split_stride(stride, 3), strict=True)
            ]
        )


@register_stem("inception")
class InceptionStem(BlockStem):
    """Three blocks of convolutions of several widths side by side.

    The blocks are those of InceptionTime (Ismail Fawaz et al., 2020) without its max pooling and
    its shortcuts; the strides are ours.

    Args:
        input_size: features of a step.
        stride: original steps for each step that is left, a power of 2.
        num_filters: features of a step that is left, the same number from each width.
        bottleneck: features to which each block but the first reduces its input.
        kernel_sizes: the widths, odd numbers.
    """

    def __init__(
        self,
        input_size: int,
        stride: int = 1,
        num_filters: int = 96,
        bottleneck: int = 32,
        kernel_sizes: Sequence[int] = (9, 19, 39),
    ) -> None:
        if not kernel_sizes or any(
            width % 2 == 0 or not 0 < width < 1000 for width in kernel_sizes
        ):
            raise ValueError(
                f"kernel_sizes should be odd numbers up to 999, got {list(kernel_sizes)}"
            )
        if num_filters % len(kernel_sizes):
            raise ValueError(
                f"num_filters should be a multiple of the {len(kernel_sizes)} kernel_sizes, got "
                f"{num_filters}"
            )
        sizes = [input_size, num_filters, num_filters]
        super().__init__(
            [
                ConvBlock(size, num_filters // len(kernel_sizes), kernel_sizes, part, bottleneck)
                for size, part in zip(sizes, split_stride(stride, 3), strict=True)
            ]
        )


def split_stride(stride: int, num_blocks: int) -> list[int]:
    """A power of 2 as the product of a stride for each block, the first ones' the largest.

    Early strides save the most work: all later blocks read shorter sequences.

    Raises:
        ValueError: `stride` is not a power of 2.
    """
    if stride < 1 or stride & (stride - 1):
        raise ValueError(f"stride should be a power of 2, got {stride}")
    exponent = stride.bit_length() - 1
    share, rest = divmod(exponent, num_blocks)
    return [2 ** (share + (block < rest)) for block in range(num_blocks)]


def choose_stride(num_steps: float, steps_left: int = 64) -> int:
    """The power of 2 that leaves about `steps_left` of a series of `num_steps`."""
    if num_steps <= steps_left:
        return 1
    return int(2 ** round(math.log2(num_steps / steps_left)))


def choose_kernel_sizes(num_steps: float) -> list[int]:
    """Widths for series of `num_steps`: wide ones would cover short series as a whole."""
    return [9, 19, 39] if num_steps >= 48 else [3, 5, 9]


def build_stem(name: str, input_size: int, **options: Any) -> Stem:
    """The stem called `name`, for steps of `input_size` features.

    Raises:
        ValueError: there is no such stem, or an option does not fit.
    """
    if name not in STEMS:
        raise ValueError(f"stem should be one of {', '.join(STEMS)}, got: {name!r}")
    return STEMS[name](input_size, **options)
