"""Stems against plain functional calls on unpadded series; padding changes nothing."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn import STEMS, ConvStem, InceptionStem, Stem, build_stem, register_stem
from attnlstm.nn.stem import (
    ConvBlock,
    MaskedBatchNorm,
    split_stride,
)

CHANNELS = 2
OPTIONS = {
    "conv": {"num_filters": 4},
    "inception": {"num_filters": 6, "bottleneck": 3, "kernel_sizes": [3, 5, 9]},
}
STRIDES = [1, 2, 4, 8, 64]


def make_stem(name: str, stride: int = 1, input_size: int = CHANNELS) -> Stem:
    """Return a stem in float64 in which no weight and no statistic has its default value."""
    torch.manual_seed(stride)
    stem = build_stem(name, input_size, stride=stride, **OPTIONS[name]).double()
    for module in stem.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return stem


def draw(lengths: list[int], padding: int = 0) -> Tensor:
    """Return series `[batch, time, channel]` with `padding` more steps than the longest has."""
    generator = torch.Generator().manual_seed(sum(lengths))
    shape = (len(lengths), max(lengths) + padding, CHANNELS)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def run_plainly(stem: Stem, series: list[Tensor]) -> list[Tensor]:
    """Compute the stem on unpadded series `[time, channel]`, with torch's functions alone.

    In training mode nn.BatchNorm1d updates the running statistics with the steps of all series.
    """
    features = [steps.T for steps in series]
    for block in stem.blocks:
        assert isinstance(block, ConvBlock)
        outputs = []
        for steps in features:
            if isinstance(block.bottleneck, nn.Conv1d):
                steps = block.bottleneck.weight[:, :, 0] @ steps
            convolved = [
                F.conv1d(steps[None], c.weight, stride=block.stride, padding=c.weight.size(2) // 2)
                for c in block.convolutions
            ]
            outputs.append(torch.cat(convolved, dim=1)[0])
        sizes = [steps.size(1) for steps in outputs]
        normed = block.norm.norm(torch.cat(outputs, dim=1).T)  # [steps of all, channel]
        features = [part.T.relu() for part in normed.split(sizes)]
    return [steps.T for steps in features]


BATCHES = st.tuples(
    st.sampled_from(sorted(OPTIONS)),
    st.sampled_from(STRIDES),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(0, 70),
)


@settings(deadline=None, max_examples=25)
@given(batch=BATCHES)
def test_other_series_and_padding_change_nothing(batch: tuple) -> None:
    name, stride, lengths, padding = batch
    stem, inputs = make_stem(name, stride).eval(), draw(lengths, padding)
    outputs, shortened = stem(inputs, lengths)
    assert shortened.tolist() == [-(-length // stride) for length in lengths]
    assert outputs.shape == (len(lengths), -(-inputs.size(1) // stride), stem.feature_size)
    alone = run_plainly(stem, [row[:length] for row, length in zip(inputs, lengths, strict=True)])
    for row, expected in zip(outputs, alone, strict=True):
        torch.testing.assert_close(row[: len(expected)], expected)
        assert (row[len(expected) :] == 0).all()


@settings(deadline=None, max_examples=25)
@given(batch=BATCHES)
def test_in_training_statistics_and_gradients_are_those_of_the_real_steps(batch: tuple) -> None:
    name, stride, lengths, padding = batch
    if sum(-(-length // stride) for length in lengths) < 2:
        return  # nn.BatchNorm1d rejects a single step; see below
    stem = make_stem(name, stride).train()
    plain = copy.deepcopy(stem)
    inputs = draw(lengths, padding).requires_grad_()
    series = [row[:length].detach() for row, length in zip(inputs, lengths, strict=True)]
    series = [row.requires_grad_() for row in series]
    outputs, _ = stem(inputs, lengths)
    expected = run_plainly(plain, series)
    factors = torch.randn_like(outputs)
    for row, alone in zip(outputs, expected, strict=True):
        torch.testing.assert_close(row[: len(alone)], alone)
        assert (row[len(alone) :] == 0).all()
    (outputs * factors).sum().backward()
    torch.stack(
        [(alone * row[: len(alone)]).sum() for alone, row in zip(expected, factors, strict=True)]
    ).sum().backward()
    for (key, ours), theirs in zip(
        stem.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, msg=key)  # including the running statistics
    for ours, theirs in zip(stem.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    for row, alone in zip(inputs.grad, series, strict=True):
        torch.testing.assert_close(row[: len(alone)], alone.grad)
        assert (row[len(alone) :] == 0).all()


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("garbage", [1e6, float("nan"), float("inf")])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_content_of_the_padding_does_not_matter(
    name: str, garbage: float, is_training: bool
) -> None:
    stem = make_stem(name, 2).train(is_training)
    inputs, lengths = draw([5, 9, 1], padding=3), torch.tensor([5, 9, 1])
    is_padding = torch.arange(12) >= lengths.unsqueeze(1)
    zeros = inputs.masked_fill(is_padding.unsqueeze(2), 0)
    expected, _ = stem(zeros, lengths)
    other = inputs.masked_fill(is_padding.unsqueeze(2), garbage).requires_grad_()
    outputs, _ = stem(other, lengths)
    assert torch.equal(outputs, expected)
    outputs.sum().backward()
    assert other.grad is not None
    assert other.grad.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in stem.buffers())


@pytest.mark.parametrize(("name", "stride"), list(itertools.product(OPTIONS, STRIDES)))
def test_without_lengths_every_step_is_real(name: str, stride: int) -> None:
    for is_training in (False, True):
        stem = make_stem(name, stride).train(is_training)
        inputs = draw([70, 70])
        outputs, none = stem(inputs)
        assert none is None
        torch.testing.assert_close(outputs, stem(inputs, [70, 70])[0])


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("lengths", [[1], [0], [1, 0], [0, 0], [3, 0, 1]], ids=str)
@pytest.mark.parametrize("stride", [1, 8])
def test_training_works_on_series_of_hardly_any_steps(
    name: str, lengths: list[int], stride: int
) -> None:
    """One step has no variance. nn.BatchNorm1d rejects it; here it is treated as in evaluation."""
    stem = make_stem(name, stride).train()
    inputs = draw([3] * len(lengths)).requires_grad_()
    trained, shortened = stem(inputs, lengths)
    assert shortened.tolist() == [-(-length // stride) for length in lengths]
    assert trained.isfinite().all()
    for row, length in zip(trained, shortened.tolist(), strict=True):
        assert (row[length:] == 0).all()
    if shortened.sum() < 2:
        torch.testing.assert_close(trained, make_stem(name, stride).eval()(inputs, lengths)[0])
        torch.testing.assert_close(stem.state_dict(), make_stem(name, stride).state_dict())
    trained.sum().backward()
    gradients = [inputs.grad, *(parameter.grad for parameter in stem.parameters())]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_training_works_on_one_step_without_lengths() -> None:
    norm = MaskedBatchNorm(3).train()
    inputs = torch.randn(1, 3, 1)
    torch.testing.assert_close(norm(inputs, None), copy.deepcopy(norm).eval()(inputs, None))


def test_the_inception_stem_is_its_composition() -> None:
    """All weights keep the names, and the numbers, of the first published version."""
    stem = make_stem("inception", 4).eval()
    state = stem.state_dict()
    features = draw([30]).transpose(1, 2)
    for block, stride in enumerate((2, 2, 1)):
        if block:  # the input of the first block has fewer channels than the bottleneck
            features = F.conv1d(features, state[f"blocks.{block}.bottleneck.weight"])
        wide = [
            F.conv1d(features, state[f"blocks.{block}.convolutions.{n}.weight"], None, stride, pad)
            for n, pad in enumerate((1, 2, 4))
        ]
        norm = {
            name: state[f"blocks.{block}.norm.norm.{name}"]
            for name in ("running_mean", "running_var", "weight", "bias")
        }
        features = F.batch_norm(torch.cat(wide, dim=1), **norm).relu()
    torch.testing.assert_close(stem(draw([30]))[0], features.transpose(1, 2))
    assert "blocks.0.bottleneck.weight" not in state
    assert stem.feature_size == 6


@pytest.mark.parametrize("stride", STRIDES)
def test_attention_is_spread_over_the_original_steps(stride: int) -> None:
    stem = make_stem("conv", stride)
    lengths, time = torch.tensor([1, 7, 64, 70, 0]), 75
    short = -(-lengths // stride)
    is_real = torch.arange(-(-time // stride)) < short.unsqueeze(1)
    attention = torch.rand(is_real.shape, dtype=torch.float64).masked_fill(~is_real, 0)
    attention /= attention.sum(1, keepdim=True).clamp(min=1e-9)
    spread = stem.spread(attention, lengths, time)
    assert spread.shape == (5, time)
    for row, length in enumerate(lengths.tolist()):
        assert (spread[row, length:] == 0).all()
        for step in range(int(short[row])):
            group = spread[row, step * stride : min((step + 1) * stride, length)]
            torch.testing.assert_close(group, group[:1].expand_as(group))  # shared evenly
            torch.testing.assert_close(group.sum(), attention[row, step])
    torch.testing.assert_close(spread.sum(1), torch.tensor([1, 1, 1, 1, 0]).double())
    if stride == 1:
        assert torch.equal(spread, attention)
    whole = torch.full((2, -(-time // stride)), 1.0)
    torch.testing.assert_close(
        stem.spread(whole, None, time).sum(1), torch.full((2,), float(whole.size(1)))
    )


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("stride", [0, -2, 3, 6, 12])
def test_strides_are_powers_of_2(name: str, stride: int) -> None:
    with pytest.raises(ValueError, match=f"stride should be a power of 2, got {stride}"):
        build_stem(name, 2, stride=stride)


def test_early_blocks_get_the_largest_strides() -> None:
    assert [split_stride(stride, 3) for stride in (1, 2, 4, 16, 64)] == [
        [1, 1, 1],
        [2, 1, 1],
        [2, 2, 1],
        [4, 2, 2],
        [4, 4, 4],
    ]


@pytest.mark.parametrize(
    "options",
    [{"kernel_sizes": [9, 4]}, {"kernel_sizes": []}, {"kernel_sizes": [1001]}, {"num_filters": 8}],
    ids=str,
)
def test_impossible_inception_stems_are_rejected(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        InceptionStem(2, **options)


@pytest.mark.parametrize("lengths", [[2], [6, 1, 1], [-1, 1, 1], [1.0, 2.0, 3.0]], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_wrong_lengths_are_rejected(name: str, lengths: list) -> None:
    with pytest.raises(ValueError, match="lengths"):
        make_stem(name)(draw([5, 5, 5]), lengths)


def test_a_stride_leaves_about_64_steps() -> None:
    for steps in range(1, 5000, 7):
        stride = ConvStem.choose_options(steps)["stride"]
        assert stride == 1 or 45 <= steps / stride <= 91  # a factor of sqrt(2) around 64
        assert steps / stride <= 91
        split_stride(stride, 3)  # a power of 2


def test_widths_are_odd_and_narrow_for_short_series() -> None:
    for steps in (1, 20, 47, 48, 1000):
        InceptionStem(1, **InceptionStem.choose_options(steps))
    assert max(InceptionStem.choose_options(20)["kernel_sizes"]) < 20


def test_a_registered_stem_is_built_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnlstm.nn.stem.STEMS", dict(STEMS))

    @register_stem("every_other")
    class EveryOther(Stem):
        def __init__(self, input_size: int, factor: float = 1.0) -> None:
            super().__init__()
            self.feature_size, self.stride, self.factor = input_size, 2, factor

        def shorten(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
            return self.factor * inputs[:, ::2], None if lengths is None else (lengths + 1) // 2

    stem = build_stem("every_other", 3, factor=2.0)
    outputs, lengths = stem(torch.ones(2, 5, 3), [5, 2])
    assert torch.equal(outputs, torch.full((2, 3, 3), 2.0))
    assert lengths is not None
    assert lengths.tolist() == [3, 1]
    with pytest.raises(ValueError, match="stem should be one of conv, inception, every_other"):
        build_stem("incepton", 3)


def test_the_names_are_those_of_the_classes() -> None:
    assert {"conv": ConvStem, "inception": InceptionStem} == STEMS
    assert isinstance(build_stem("conv", 3), ConvStem)
