"""From a sequence to one vector: attention and plainer poolings, all blind to padding.

Every pooling takes the LSTM's outputs `[batch, time, feature]`, its final hidden state h_n
`[layers * directions, batch, hidden]` and the lengths `[batch]` (None: no padding), and returns the
context `[batch, feature]` and the attention weights `[batch, time]`, or None where there are none.
A sequence of length 0 gives a context of zeros.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from attnlstm.nn.arguments import check_lengths

POOLINGS: dict[str, type["Pooling"]] = {}
"""The names by which the configuration chooses; see `register_pooling`."""


def register_pooling(name: str) -> Callable[[type["Pooling"]], type["Pooling"]]:
    """Have `build_pooling` find a class by `name`."""

    def register(cls: type["Pooling"]) -> type["Pooling"]:
        POOLINGS[name] = cls
        return cls

    return register


class Pooling(nn.Module, ABC):
    """Masks the padding; a subclass says how the real steps are pooled."""

    def forward(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Pool `[batch, time, feature]` to `[batch, feature]`; see the module's docstring.

        Raises:
            ValueError: lengths are not one integer from 0 to time for each sequence.
        """
        batch, time, _ = outputs.shape
        lengths = check_lengths([time] * batch if lengths is None else lengths, batch, time)
        has_padding = torch.compiler.is_exporting() or bool((lengths < time).any())
        lengths = lengths.to(outputs.device)
        is_real = torch.arange(time, device=outputs.device) < lengths.unsqueeze(1)
        if has_padding:
            # Whatever stands on padding, NaN too, must not reach a sum: 0 * NaN is NaN.
            outputs = outputs.masked_fill(~is_real.unsqueeze(2), 0)
        return self.pool(outputs, h_n, lengths, is_real)

    @abstractmethod
    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Pool outputs that are 0 where `is_real` `[batch, time]` is False."""

    def context_size(self, feature_size: int) -> int:
        """The size of the context of outputs of `feature_size`."""
        return feature_size

    @classmethod
    def build(cls, feature_size: int, scaled_attention: bool) -> "Pooling":
        """A pooling of outputs of `feature_size`; a subclass passes on what it needs."""
        return cls()


@register_pooling("hn_query")
class HnQueryAttention(Pooling):
    """Dot-product attention with the final hidden state as the query (Luong et al., 2015).

        weights = softmax over time of (outputs . h_n)
        context = weighted sum of outputs

    h_n is the last layer's, both directions concatenated when there are two. With `scaled`, the
    scores are divided by sqrt(feature) (Vaswani et al., 2017).
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
    """Attention with one learned query for all sequences (Zhou et al., 2016).

        weights = softmax over time of (tanh(outputs) . w)
        context = weighted sum of outputs

    w starts at zero, which is mean pooling.
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
    """The final hidden state of the last layer, both directions concatenated when there are two."""

    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        state = last_layer_state(h_n, outputs.size(2))
        return state.masked_fill((lengths == 0).unsqueeze(1), 0), None


@register_pooling("mean")
class MeanPooling(Pooling):
    """The mean over the real steps."""

    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return outputs.sum(1) / lengths.clamp(min=1).unsqueeze(1).to(outputs.dtype), None


@register_pooling("max")
class MaxPooling(Pooling):
    """The maximum of each feature over the real steps."""

    def pool(
        self, outputs: Tensor, h_n: Tensor, lengths: Tensor, is_real: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        lowest = torch.finfo(outputs.dtype).min
        highest = outputs.masked_fill(~is_real.unsqueeze(2), lowest).amax(1)
        return highest.masked_fill((lengths == 0).unsqueeze(1), 0), None


class SideBySide(Pooling):
    """Several poolings of the same outputs, their contexts one after the other.

    The context is `[batch, poolings * feature]`, the attention that of the first pooling that has
    one.
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
    """The last layer's final state `[batch, feature]`, its directions concatenated."""
    directions = feature_size // h_n.size(2)
    return torch.cat(list(h_n[-directions:]), dim=1)


def dot(outputs: Tensor, query: Tensor) -> Tensor:
    """Dot products `[batch, time]` of the outputs with a query `[feature]` or `[batch, feature]`.

    They are in float32 at least: half precision, also autocast's, would overflow or blur them.
    """
    dtype = torch.promote_types(outputs.dtype, torch.float32)
    with torch.autocast(outputs.device.type, enabled=False):
        return (outputs.to(dtype) @ query.to(dtype).unsqueeze(-1)).squeeze(-1)


def attend(outputs: Tensor, scores: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of the scores `[batch, time]` over the real steps, and the weighted sum of outputs.

    The softmax is in the scores' dtype. Weights on padding are exactly 0.
    """
    # Not -inf: a sequence without real steps would get NaN weights, and NaN gradients with them.
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~is_real, lowest).softmax(dim=1).masked_fill(~is_real, 0)
    context = torch.bmm(weights.to(outputs.dtype).unsqueeze(1), outputs).squeeze(1)
    return context, weights


def build_pooling(
    names: str | Sequence[str], feature_size: int, scaled_attention: bool = False
) -> Pooling:
    """The pooling of one name, or several side by side, for outputs of `feature_size`.

    Args:
        names: one or more of `POOLINGS`, each once.
        feature_size: of the outputs.
        scaled_attention: of "hn_query", see `HnQueryAttention`.

    Raises:
        ValueError: there is no such pooling, or none at all, or one twice.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"pooling should be one or more different names, got: {names}")
    for name in names:
        if name not in POOLINGS:
            raise ValueError(f"pooling should be one of {', '.join(POOLINGS)}, got: {name!r}")
    poolings = [POOLINGS[name].build(feature_size, scaled_attention) for name in names]
    return poolings[0] if len(poolings) == 1 else SideBySide(poolings)
