"""The contract of a backend: one way to run the LSTM recurrence over a ragged batch.

Sequences come packed as in `torch.nn.utils.rnn.PackedSequence`: sorted by falling length and laid
out time-major, the `batch_sizes[t]` sequences that are at least t + 1 long side by side for each
step t. Work then grows with the number N of real steps and not with padding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.cell import ACTIVATIONS, GATES, Cell, Weights

State = tuple[Tensor, Tensor]


class BatchSizes:
    """The number of sequences at each time step of a packed batch, not growing.

    Args:
        time: number of time steps T.
        batch: number of sequences at the first one.
        tensor: [T], int64 on the CPU, as `PackedSequence` has it; None: all are of one length.
    """

    def __init__(self, time: int, batch: int, tensor: Tensor | None = None) -> None:
        self.time = time
        self.batch = batch
        self._tensor = tensor

    @classmethod
    def of_lengths(cls, lengths: Tensor) -> Self:
        """Of sequences of these lengths, [B], int64 on the CPU, at least 1 and not growing."""
        longest = int(lengths[0]) if len(lengths) else 0
        times = torch.arange(longest, device="cpu").unsqueeze(1)  # [T, 1]
        return cls(longest, len(lengths), (times < lengths).sum(1))

    @cached_property
    def numbers(self) -> list[int]:
        """The sizes as Python numbers."""
        return [self.batch] * self.time if self._tensor is None else self._tensor.tolist()

    @cached_property
    def lengths(self) -> Tensor:
        """The length of each sequence, [B], int64 on the CPU, not growing."""
        if self._tensor is None:
            return torch.full((self.batch,), self.time, dtype=torch.int64, device="cpu")
        ranks = torch.arange(self.batch, device="cpu")
        return (self._tensor.unsqueeze(1) > ranks).sum(0)

    @property
    def tensor(self) -> Tensor:
        """The sizes as `PackedSequence` has them."""
        if self._tensor is None:
            return torch.full((self.time,), self.batch, dtype=torch.int64, device="cpu")
        return self._tensor

    @property
    def is_full(self) -> bool:
        """Whether all sequences are of one length."""
        return self._tensor is None


class Backend(ABC):
    """Runs a stack of LSTM layers; subclasses say how one layer is run."""

    name: str

    def unsupported(self, cell: Cell, dtype: torch.dtype, device: torch.device) -> str | None:
        """The reason why this backend cannot run the request, or None when it can."""
        if dtype.is_complex:
            if cell.layer_norm:
                return "layer_norm is not defined for complex numbers"
            for activation in (cell.activation, cell.recurrent_activation):
                if not ACTIVATIONS[activation].supports_complex:
                    return f"{activation} is not defined for complex numbers"
        return None

    def run(
        self,
        data: Tensor,
        batch_sizes: BatchSizes,
        state: State | None,
        weights: Sequence[Sequence[Weights]],
        cell: Cell,
        *,
        dropout: float,
        variational_dropout: float,
        training: bool,
    ) -> tuple[Tensor, State]:
        """Run all layers and directions.

        Args:
            data: packed input [N, F].
            batch_sizes: number of sequences at each step.
            state: h_0 [L*D, B, P] and c_0 [L*D, B, H]; None: zeros.
            weights: the weights of each layer's directions, forward first.
            cell: the formulas.
            dropout: probability of zeroing an element of a layer's output, drawn anew at each step.
            variational_dropout: the same with one mask for all steps of a sequence.
            training: whether there is dropout at all.

        Returns:
            output [N, D*P] and the final states h_n [L*D, B, P] and c_n [L*D, B, H].
        """

        def layer(
            data: Tensor, state: State | None, layer_weights: Sequence[Weights]
        ) -> tuple[Tensor, State]:
            return self.layer(data, batch_sizes, state, layer_weights, cell)

        def drop(data: Tensor) -> Tensor:
            data = F.dropout(data, dropout, training)
            if training and variational_dropout > 0:
                data = drop_features_of_sequences(data, batch_sizes, variational_dropout)
            return data

        return run_layers(layer, data, state, weights, between=drop)

    def run_padded(
        self,
        input: Tensor,
        lengths: Tensor | None,
        state: State | None,
        weights: Sequence[Sequence[Weights]],
        cell: Cell,
        *,
        batch_first: bool,
        dropout: float,
        variational_dropout: float,
        training: bool,
    ) -> tuple[Tensor, State]:
        """Run all layers and directions on right-padded sequences.

        This packs the real steps, runs, and puts the results back in place.

        Args:
            input: [B, T, F] with `batch_first`, else [T, B, F].
            lengths: [B], int64 on the CPU, from 0 to T; None: all of them T.
            state, weights, cell, dropout, variational_dropout, training: as in `run`.
            batch_first: the layout.

        Returns:
            output [B, T, D*P] or [T, B, D*P], 0 on padding, and the final states as in `run`.
        """
        options: dict[str, Any] = {
            "dropout": dropout,
            "variational_dropout": variational_dropout,
            "training": training,
        }
        rows, columns, input_size = input.shape
        batch, time = (rows, columns) if batch_first else (columns, rows)
        if lengths is None:
            steps = (input.transpose(0, 1) if batch_first else input).reshape(-1, input_size)
            output, state = self.run(
                steps, BatchSizes(time, batch), state, weights, cell, **options
            )
            output = output.reshape(time, batch, output.size(1))
            return (output.transpose(0, 1) if batch_first else output), state
        lengths, order = lengths.sort(descending=True, stable=True)
        running = int(lengths.count_nonzero())  # empty sequences keep the state they were given
        sizes = BatchSizes.of_lengths(lengths[:running])
        times = torch.arange(sizes.time, device="cpu").unsqueeze(1)  # [T, 1]
        places = order * columns + times if batch_first else times * columns + order
        packed_places = places[times < lengths].to(input.device)
        order = order.to(input.device)
        if running < batch:
            state = state or zero_state(input, batch, weights)
        if state is not None:
            h_0, c_0 = (part.index_select(1, order) for part in state)
        if state is not None and running == 0:
            size = h_0.size(2) * len(weights[0])
            return input.new_zeros(rows, columns, size), (h_0, c_0)
        data, (h_n, c_n) = self.run(
            input.reshape(rows * columns, input_size).index_select(0, packed_places),
            sizes,
            None if state is None else (h_0[:, :running], c_0[:, :running]),
            weights,
            cell,
            **options,
        )
        output = data.new_zeros(rows * columns, data.size(1))
        output = output.index_copy_(0, packed_places, data).view(rows, columns, data.size(1))
        back = order.argsort()
        if running < batch:
            h_n, c_n = (
                torch.cat([ran, initial[:, running:].to(ran.dtype)], dim=1)
                for ran, initial in ((h_n, h_0), (c_n, c_0))
            )
        return output, (h_n.index_select(1, back), c_n.index_select(1, back))

    @abstractmethod
    def layer(
        self,
        data: Tensor,
        batch_sizes: BatchSizes,
        state: State | None,
        weights: Sequence[Weights],
        cell: Cell,
    ) -> tuple[Tensor, State]:
        """Run the directions of one layer; arguments and results as in `run` with L = 1."""


def zero_state(data: Tensor, batch: int, weights: Sequence[Sequence[Weights]]) -> State:
    """h_0 [L*D, B, P] and c_0 [L*D, B, H] of zeros, of the data's dtype and on its device."""
    rows, first = sum(map(len, weights)), weights[0][0]
    c_0 = data.new_zeros(rows, batch, first.weight_hh.size(0) // len(GATES))
    h_0 = c_0 if first.weight_hr is None else data.new_zeros(rows, batch, first.weight_hh.size(1))
    return h_0, c_0


class Layer(Protocol):
    """A function that runs the directions of one layer; see `Backend.layer`."""

    def __call__(
        self, data: Tensor, state: State | None, weights: Sequence[Weights], /
    ) -> tuple[Tensor, State]: ...


def run_layers(
    layer: Layer,
    data: Tensor,
    state: State | None,
    weights: Sequence[Sequence[Weights]],
    between: Callable[[Tensor], Tensor] = lambda data: data,
) -> tuple[Tensor, State]:
    """Run a stack of layers, each on what `between` makes of the output of the one before."""
    if len(weights) == 1:
        return layer(data, state, weights[0])
    directions = len(weights[0])
    states = []
    for number, layer_weights in enumerate(weights):
        rows = slice(number * directions, (number + 1) * directions)
        data, layer_state = layer(
            data if number == 0 else between(data),
            state and (state[0][rows], state[1][rows]),
            layer_weights,
        )
        states.append(layer_state)
    h_n, c_n = (torch.cat(parts) for parts in zip(*states, strict=True))
    return data, (h_n, c_n)


class Recurrence(Protocol):
    """A function that runs one direction of one layer."""

    def __call__(
        self,
        data: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        weights: Weights,
        cell: Cell,
        *,
        reverse: bool,
    ) -> tuple[Tensor, State]:
        """Run one direction of one layer.

        Args:
            data: packed input [N, F].
            batch_sizes: number of sequences at each step.
            state: h_0 [B, P] and c_0 [B, H].
            weights: the parameters.
            cell: the formulas.
            reverse: whether each sequence is read from its own last step to its first.

        Returns:
            output [N, P], at the places of the steps it was computed from, and the final states
            h_n [B, P] and c_n [B, H], each sequence's after the last step that it read.
        """


def run_directions(
    recurrence: Recurrence,
    data: Tensor,
    batch_sizes: BatchSizes,
    state: State | None,
    weights: Sequence[Weights],
    cell: Cell,
) -> tuple[Tensor, State]:
    """Run the directions of one layer one after the other; see `Backend.layer`."""
    state = state or zero_state(data, batch_sizes.batch, [weights])
    results = [
        recurrence(data, batch_sizes.numbers, (h_0, c_0), direction, cell, reverse=number == 1)
        for number, (direction, h_0, c_0) in enumerate(zip(weights, *state, strict=True))
    ]
    outputs, states = zip(*results, strict=True)
    h_n, c_n = (torch.stack(parts) for parts in zip(*states, strict=True))
    return torch.cat(outputs, dim=1), (h_n, c_n)


def time_steps(batch_sizes: Sequence[int], *, reverse: bool) -> list[slice]:
    """Where each time step lies in the packed layout, in the order in which it is read."""
    ends = accumulate(batch_sizes, initial=0)
    steps = [slice(start, stop) for start, stop in pairwise(ends)]
    return steps[::-1] if reverse else steps


def drop_features_of_sequences(data: Tensor, batch_sizes: BatchSizes, probability: float) -> Tensor:
    """Variational dropout (Gal and Ghahramani, 2016): the same mask at every step of a sequence.

    data [N, feature] is packed; the mask is drawn once for each sequence of the batch.
    """
    mask = F.dropout(data.new_ones(batch_sizes.batch, data.size(1)), probability)
    return data * torch.cat([mask[:size] for size in batch_sizes.numbers])
