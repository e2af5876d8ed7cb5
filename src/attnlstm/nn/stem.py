"""Stems read a series before the LSTM does, and pass on fewer steps with richer features.

An LSTM on raw samples has to remember a short shape over hundreds of steps. A stem detects shapes
by convolution and shortens the series, so that the LSTM only has to learn their order, as in
DeepConvLSTM (Ordonez and Roggen, 2016):

    inputs   [batch, time, feature]       ->  steps    [batch, ceil(time / stride), feature_size]
    lengths  [batch]                      ->  lengths  ceil(lengths / stride)

Padding never changes a result. It is 0 before every convolution, like everything beyond the end of
an unpadded series, and batch statistics are those of the real steps alone.
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
"""The classes by the names that the configuration uses; see `register_stem`."""


def register_stem(name: str) -> Callable[[type["Stem"]], type["Stem"]]:
    """Register a class under the name by which `build_stem` finds it."""

    def register(cls: type["Stem"]) -> type["Stem"]:
        STEMS[name] = cls
        return cls

    return register


class Stem(nn.Module, ABC):
    """The base class of stems. It checks the lengths; a subclass computes the steps.

    Attributes:
        feature_size: number of features of a returned step.
        stride: number of original steps that one returned step stands for.

    Example:
        >>> class EveryOther(Stem):
        ...     def __init__(self, input_size):
        ...         super().__init__()
        ...         self.feature_size, self.stride = input_size, 2
        ...     def shorten(self, inputs, lengths):
        ...         return inputs[:, ::2], None if lengths is None else (lengths + 1) // 2
        >>> steps, lengths = EveryOther(3)(torch.ones(2, 5, 3), [5, 2])
        >>> steps.shape, lengths.tolist()
        (torch.Size([2, 3, 3]), [3, 1])
    """

    feature_size: int
    stride: int

    def forward(
        self, inputs: Tensor, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Shorten `[batch, time, feature]` to `[batch, ceil(time / stride), feature_size]`.

        Args:
            inputs: the series.
            lengths: `[batch]`, the number of real steps of each series; None: no padding.

        Returns:
            the steps, 0 on padding, and their lengths `[batch]`, or None if none were given.

        Raises:
            ValueError: lengths are not one integer from 0 to time for each sequence.
        """
        batch, time, _ = inputs.shape
        if lengths is not None:
            lengths = check_lengths(lengths, batch, time).to(inputs.device)
        return self.shorten(inputs, lengths)

    @classmethod
    def choose_options(cls, num_steps: float) -> dict[str, Any]:
        """Return the constructor's arguments that suit series of `num_steps`, if there are any."""
        return {}

    @abstractmethod
    def shorten(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Do what `forward` does, with checked lengths."""

    def spread(
        self, attention: Tensor, lengths: Tensor | Sequence[int] | None, time: int
    ) -> Tensor:
        """Spread attention `[batch, time']` on this stem's steps over the original steps.

        The weight of a step is shared evenly by the original steps that it stands for, so that
        the weights of a sequence still sum to 1.

        Args:
            attention: on the steps that this stem returned.
            lengths: `[batch]`, the number of original steps of each sequence; None: all are `time`.
            time: number of original steps.

        Returns:
            the attention `[batch, time]`, 0 on padding.
        """
        if self.stride == 1:
            return attention
        batch = attention.size(0)
        lengths = check_lengths([time] * batch if lengths is None else lengths, batch, time)
        steps = torch.arange(time, device=attention.device)  # [time]
        ends = lengths.to(attention.device).unsqueeze(1)  # [batch, 1]
        first = steps // self.stride * self.stride  # the first step that shares the same weight
        sharing = (torch.minimum(first + self.stride, ends) - first).clamp(min=1)  # [batch, time]
        spread = attention.repeat_interleave(self.stride, dim=1)[:, :time] / sharing
        return spread.masked_fill(steps >= ends, 0)


class MaskedBatchNorm(nn.Module):
    """nn.BatchNorm1d on `[batch, channel, time]`, with the statistics of the real steps alone."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_channels)

    def forward(self, inputs: Tensor, is_real: Tensor | None) -> Tensor:
        """Normalize the real steps, and set the others to 0.

        Args:
            inputs: `[batch, channel, time]`.
            is_real: `[batch, time]`; None: all steps are real.
        """
        if is_real is None:
            return self._normalize(inputs)
        if not self.training:
            return self._normalize(inputs).masked_fill(~is_real.unsqueeze(1), 0)
        steps = inputs.transpose(1, 2)  # [batch, time, channel]
        outputs = torch.zeros_like(steps)
        outputs[is_real] = self._normalize(steps[is_real])
        return outputs.transpose(1, 2)

    def _normalize(self, values: Tensor) -> Tensor:
        """Apply nn.BatchNorm1d; a single value per channel is normalized by running statistics."""
        norm = self.norm
        if self.training and values.numel() <= norm.num_features:
            return F.batch_norm(
                values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        normed: Tensor = norm(values)
        return normed


class ConvBlock(nn.Module):
    """Convolutions of several widths side by side, then masked batch norm and ReLU.

    Args:
        input_size: number of input channels.
        num_filters: number of filters of each width.
        kernel_sizes: the widths, odd numbers.
        stride: of all convolutions.
        bottleneck: number of channels to which a pointwise convolution first reduces an input with
            more channels (Ismail Fawaz et al., 2020); None: there is no such convolution.
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
        """Turn `[batch, channel, time]` into `[batch, feature_size, ceil(time / stride)]`.

        Both are 0 on padding. The lengths `[batch]` are those before and after.
        """
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
    """A stem of several blocks of convolutions, each reading the features of the one before.

    Args:
        blocks: in this order; their strides multiply.
    """

    def __init__(self, blocks: Sequence[ConvBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.feature_size = blocks[-1].feature_size
        self.stride = math.prod(block.stride for block in blocks)

    @classmethod
    def choose_options(cls, num_steps: float) -> dict[str, Any]:
        """Return the stride, a power of 2, that leaves about 64 steps."""
        if num_steps <= 64:
            return {"stride": 1}
        return {"stride": int(2 ** round(math.log2(num_steps / 64)))}

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
    """Three convolutions of widths 7, 5 and 3, as in FCN (Wang, Yan and Oates, 2017).

    The strides are ours.

    Args:
        input_size: number of features of an original step.
        stride: number of original steps for each returned step, a power of 2.
        num_filters: number of features of a returned step.

    Example:
        >>> stem = ConvStem(input_size=3, stride=4)
        >>> steps, lengths = stem(torch.randn(2, 50, 3), lengths=[50, 9])
        >>> steps.shape, lengths.tolist()
        (torch.Size([2, 13, 64]), [13, 3])
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
    """Three blocks of convolutions of several widths, as in InceptionTime.

    InceptionTime (Ismail Fawaz et al., 2020) also has max pooling and shortcuts; the strides are
    ours.

    Args:
        input_size: number of features of an original step.
        stride: number of original steps for each returned step, a power of 2.
        num_filters: number of features of a returned step, divided equally among the widths.
        bottleneck: number of features to which a block first reduces a larger input.
        kernel_sizes: the widths, odd numbers.

    Raises:
        ValueError: the sizes do not fit.

    Example:
        >>> stem = InceptionStem(input_size=3, stride=2)
        >>> steps, _ = stem(torch.randn(2, 50, 3))
        >>> steps.shape
        torch.Size([2, 25, 96])
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

    @classmethod
    def choose_options(cls, num_steps: float) -> dict[str, Any]:
        """Return the stride and the widths; wide filters would cover all of a short series."""
        widths = [9, 19, 39] if num_steps >= 48 else [3, 5, 9]
        return super().choose_options(num_steps) | {"kernel_sizes": widths}


def split_stride(stride: int, num_blocks: int) -> list[int]:
    """Split a power of 2 into one stride for each block, in descending order.

    Early strides save the most work, because all later blocks read shorter sequences.

    Raises:
        ValueError: `stride` is not a power of 2.
    """
    if stride < 1 or stride & (stride - 1):
        raise ValueError(f"stride should be a power of 2, got {stride}")
    exponent = stride.bit_length() - 1
    share, rest = divmod(exponent, num_blocks)
    return [2 ** (share + (block < rest)) for block in range(num_blocks)]


def build_stem(name: str, input_size: int, **options: Any) -> Stem:
    """Return the stem called `name`.

    Args:
        name: "conv", "inception", or a name that was registered.
        input_size: number of features of an original step.
        options: further arguments of the class.

    Raises:
        ValueError: there is no such stem, or an option does not fit.

    Example:
        >>> build_stem("conv", 3, stride=8).stride
        8
    """
    if name not in STEMS:
        raise ValueError(f"stem should be one of {', '.join(STEMS)}, got: {name!r}")
    return STEMS[name](input_size, **options)
