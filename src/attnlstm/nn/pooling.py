"""Poolings turn a sequence into one vector, by attention or more simply.

    outputs    [batch, time, feature]                   the LSTM's outputs
    h_n        [layers * directions, batch, hidden]     its final hidden state
    lengths    [batch], or None without padding

    context    [batch, feature]
    attention  [batch, time], which sums to 1, or None if the pooling has no attention

Padding is never read, and its attention is exactly 0. A sequence of length 0 gets a context of
zeros.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from attnlstm.nn.arguments import check_lengths

POOLINGS: dict[str, type["Pooling"]] = {}
"""The classes by the names that the configuration uses; see `register_pooling`."""


def register_pooling(name: str) -> Callable[[type["Pooling"]], type["Pooling"]]:
    """Register a class under the name by which `build_pooling` finds it."""

    def register(cls: type["Pooling"]) -> type["Pooling"]:
        POOLINGS[name] = cls
        return cls

    return register


class Pooling(nn.Module, ABC):
    """The base class of poolings. It masks the padding; a subclass pools the real steps.

    Example:
        >>> class Sum(Pooling):
        ...     def pool(self, outputs, h_n, lengths, is_real):
        ...         return outputs.sum(dim=1), None
        >>> context, attention = Sum()(torch.ones(2, 5, 3), torch.ones(1, 2, 3), lengths=[5, 2])
        >>> context
        tensor([[5., 5., 5.],
                [2., 2., 2.]])
    """

    def forward(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Pool outputs `[batch, time, feature]`.

        Args:
            outputs: the LSTM's outputs.
            h_n: its final hidden state, `[layers * directions, batch, hidden]`.
            lengths: `[batch]`, the number of real steps of each sequence; None: no padding.

        Returns:
            the context `[batch, feature]`, and the attention `[batch, time]` or None.

        Raises:
            ValueError: lengths are not one integer from 0 to time for each sequence.
        """
        batch, time, _ = outputs.shape
        lengths = check_lengths([time] * batch if lengths is None else lengths, batch, time)
        has_padding = torch.compiler.is_exporting() or bool((lengths < time).any())
        lengths = lengths.to(outputs.device)
        is_real = torch.arange(time, device=outputs.device) < lengths.unsqueeze(1)
        if has_padding:
            # The padding may hold anything, even NaN, which no sum may read: 0 * NaN is NaN.
            outputs = outputs.masked_fill(~is_real.unsqueeze(2), 0)
        return self.pool(outputs, h_n, lengths, is_real)

    @abstractmethod
    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Pool outputs that are 0 where `is_real` `[batch, time]` is False; see `forward`."""

    def context_size(self, feature_size: int) -> int:
        """Return the size of the context for outputs of `feature_size`."""
        return feature_size

    @classmethod
    def build(cls, feature_size: int, scaled_attention: bool) -> "Pooling":
        """Return a pooling for outputs of `feature_size`; a subclass passes on what it needs."""
        return cls()


@register_pooling("hn_query")
class HnQueryAttention(Pooling):
    """Dot-product attention with the final hidden state as the query (Luong et al., 2015).

        query   = h_n of the last layer, directions concatenated     [batch, feature]
        scores  = outputs · query                                    [batch, time]
        weights = softmax of the scores over time                    [batch, time]
        context = Σ_t weights_t outputs_t                            [batch, feature]

    Args:
        scaled: whether the scores are divided by sqrt(feature) (Vaswani et al., 2017).

    Example:
        >>> lstm = LSTM(3, 4, batch_first=True, bidirectional=True)
        >>> outputs, (h_n, _) = lstm(torch.randn(2, 5, 3), lengths=[5, 2])
        >>> context, attention = HnQueryAttention()(outputs, h_n, lengths=[5, 2])
        >>> context.shape, attention.shape
        (torch.Size([2, 8]), torch.Size([2, 5]))
    """

    def __init__(self, scaled: bool = False) -> None:
        super().__init__()
        self.scaled = scaled

    @classmethod
    def build(cls, feature_size: int, scaled_attention: bool) -> "HnQueryAttention":
        return cls(scaled_attention)

    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        query = last_layer_state(h_n, outputs.size(2))
        scores = dot(outputs, query)  # [batch, time]
        if self.scaled:
            scores = scores / outputs.size(2) ** 0.5
        return attend(outputs, scores, is_real)

    def extra_repr(self) -> str:
        return f"scaled={self.scaled}"


@register_pooling("learned_query")
class LearnedQueryAttention(Pooling):
    """Attention with one learned query w `[feature]` for all sequences (Zhou et al., 2016).

        scores  = tanh(outputs) · w                  [batch, time]
        weights = softmax of the scores over time    [batch, time]
        context = Σ_t weights_t outputs_t            [batch, feature]

    w is 0 at first, which makes it mean pooling.

    Args:
        feature_size: of the outputs.

    Example:
        >>> context, attention = LearnedQueryAttention(3)(torch.ones(1, 4, 3), torch.ones(1, 1, 3))
        >>> attention.tolist()
        [[0.25, 0.25, 0.25, 0.25]]
    """

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(feature_size))

    @classmethod
    def build(cls, feature_size: int, scaled_attention: bool) -> "LearnedQueryAttention":
        return cls(feature_size)

    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return attend(outputs, dot(outputs.tanh(), self.w), is_real)


@register_pooling("last_state")
class LastState(Pooling):
    """The final hidden state of the last layer, with its directions concatenated.

    Example:
        >>> h_n = torch.randn(4, 2, 3)  # two layers, two directions
        >>> context, _ = LastState()(torch.randn(2, 5, 6), h_n)
        >>> bool((context == torch.cat([h_n[2], h_n[3]], dim=1)).all())
        True
    """

    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        state = last_layer_state(h_n, outputs.size(2))
        return state.masked_fill((lengths == 0).unsqueeze(1), 0), None


@register_pooling("mean")
class MeanPooling(Pooling):
    """The mean over the real steps.

    Example:
        >>> outputs = torch.tensor([[[1.0], [3.0], [8.0]]])
        >>> MeanPooling()(outputs, torch.zeros(1, 1, 1), lengths=[2])[0]
        tensor([[2.]])
    """

    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return outputs.sum(1) / lengths.clamp(min=1).unsqueeze(1).to(outputs.dtype), None


@register_pooling("max")
class MaxPooling(Pooling):
    """The maximum of each feature over the real steps.

    Example:
        >>> outputs = torch.tensor([[[1.0], [3.0], [8.0]]])
        >>> MaxPooling()(outputs, torch.zeros(1, 1, 1), lengths=[2])[0]
        tensor([[3.]])
    """

    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        lowest = torch.finfo(outputs.dtype).min
        highest = outputs.masked_fill(~is_real.unsqueeze(2), lowest).amax(1)
        return highest.masked_fill((lengths == 0).unsqueeze(1), 0), None


class SideBySide(Pooling):
    """Several poolings of the same outputs, with their contexts concatenated.

    The context is `[batch, poolings * feature]`. The attention is that of the first pooling that
    has one.

    Args:
        poolings: in the order of their contexts.

    Example:
        >>> pooling = SideBySide([HnQueryAttention(), MaxPooling()])
        >>> context, attention = pooling(torch.randn(2, 5, 4), torch.randn(1, 2, 4))
        >>> context.shape, attention.shape
        (torch.Size([2, 8]), torch.Size([2, 5]))
    """

    def __init__(self, poolings: Sequence[Pooling]) -> None:
        super().__init__()
        self.poolings = nn.ModuleList(poolings)

    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        contexts, attentions = [], []
        for pooling in self.poolings:
            assert isinstance(pooling, Pooling)
            context, attention = pooling.pool(outputs, h_n, lengths, is_real)
            contexts.append(context)
            attentions.append(attention)
        first = next((weights for weights in attentions if weights is not None), None)
        return torch.cat(contexts, dim=1), first

    def context_size(self, feature_size: int) -> int:
        return feature_size * len(self.poolings)


def last_layer_state(h_n: Tensor, feature_size: int) -> Tensor:
    """Return the last layer's final state `[batch, feature]`, with its directions concatenated."""
    directions = feature_size // h_n.size(2)
    return torch.cat(list(h_n[-directions:]), dim=1)


def dot(outputs: Tensor, query: Tensor) -> Tensor:
    """Return the dot products `[batch, time]` with a query `[feature]` or `[batch, feature]`.

    They are at least float32. In half precision, also under autocast, they would overflow or lose
    their differences.
    """
    dtype = torch.promote_types(outputs.dtype, torch.float32)
    with torch.autocast(outputs.device.type, enabled=False):
        return (outputs.to(dtype) @ query.to(dtype).unsqueeze(-1)).squeeze(-1)


def attend(outputs: Tensor, scores: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of the outputs, and the weights.

    The weights are the softmax of the scores `[batch, time]` over the real steps, in the scores'
    dtype. They are exactly 0 on padding.
    """
    # With -inf, a sequence without real steps would get weights and gradients of NaN.
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~is_real, lowest).softmax(dim=1).masked_fill(~is_real, 0)
    context = torch.bmm(weights.to(outputs.dtype).unsqueeze(1), outputs).squeeze(1)
    return context, weights


def build_pooling(
    names: str | Sequence[str], feature_size: int, scaled_attention: bool = False
) -> Pooling:
    """Return the pooling with this name, or several of them side by side.

    Args:
        names: one or more of "hn_query", "learned_query", "last_state", "mean", "max" and the
            names that were registered, each at most once.
        feature_size: of the outputs.
        scaled_attention: whether "hn_query" is scaled; see `HnQueryAttention`.

    Raises:
        ValueError: there is no such pooling, none is named, or one is named twice.

    Example:
        >>> build_pooling(["hn_query", "max"], feature_size=8).context_size(8)
        16
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"pooling should be one or more different names, got: {names}")
    for name in names:
        if name not in POOLINGS:
            raise ValueError(f"pooling should be one of {', '.join(POOLINGS)}, got: {name!r}")
    poolings = [POOLINGS[name].build(feature_size, scaled_attention) for name in names]
    return poolings[0] if len(poolings) == 1 else SideBySide(poolings)
