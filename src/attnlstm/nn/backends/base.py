"""The contract of a backend: one way to run the LSTM recurrence over a ragged batch.

    run_padded     packs the real steps, calls `run`, and puts the results back in place
      run          runs the layers one after the other, with dropout in between
        layer      runs the directions of one layer

Every backend implements `layer`, and may override the other two where it has something faster.
All of them share one set of parameters, named and shaped as nn.LSTM's, and compute the same
function. Shape letters are explained in `attnlstm.nn.cell`, the packed layout in
`attnlstm.nn.backends.packed`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.backends.packed import BatchSizes, ReadingOrder, drop_features_of_sequences
from attnlstm.nn.cell import ACTIVATIONS, GATES, Cell, Weights

State = tuple[Tensor, Tensor]

Directions = Sequence[Weights]
"""The weights of a layer's directions, forward first."""


class Stack(NamedTuple):
    """What a backend runs on a batch: the weights of all layers, the formulas, and dropout.

    weights: of each layer.
    cell: the formulas.
    dropout: probability of zeroing an element of a layer's output, drawn anew at each step.
    variational_dropout: the same, drawn once for all steps of a sequence.
    training: whether dropout is applied.
    """

    weights: Sequence[Directions]
    cell: Cell
    dropout: float = 0.0
    variational_dropout: float = 0.0
    training: bool = True

    @property
    def drops(self) -> bool:
        """Whether anything is dropped between layers."""
        is_deep = len(self.weights) > 1
        return is_deep and self.training and (self.dropout > 0 or self.variational_dropout > 0)


class Backend(ABC):
    """Runs a stack of LSTM layers; a subclass says how one layer is run."""

    name: str

    def unsupported(self, cell: Cell, dtype: torch.dtype, device: torch.device) -> str | None:
        """Return the reason why this backend cannot run the request, or None if it can."""
        if dtype.is_complex:
            if cell.layer_norm:
                return "layer_norm is not defined for complex numbers"
            for activation in (cell.activation, cell.recurrent_activation):
                if not ACTIVATIONS[activation].supports_complex:
                    return f"{activation} is not defined for complex numbers"
        return None

    def run(
        self, data: Tensor, sizes: BatchSizes, state: State | None, stack: Stack
    ) -> tuple[Tensor, State]:
        """Run all layers and directions.

        Args:
            data: packed input [N, F].
            sizes: number of sequences at each step.
            state: h_0 [L*D, B, P] and c_0 [L*D, B, H]; None: zeros.
            stack: what to run.

        Returns:
            output [N, D*P] and the final states h_n [L*D, B, P] and c_n [L*D, B, H].
        """

        def layer(data: Tensor, state: State | None, weights: Directions) -> tuple[Tensor, State]:
            return self.layer(data, sizes, state, weights, stack.cell)

        def drop(data: Tensor) -> Tensor:
            data = F.dropout(data, stack.dropout, stack.training)
            if stack.training and stack.variational_dropout > 0:
                data = drop_features_of_sequences(data, sizes, stack.variational_dropout)
            return data

        return run_layers(layer, data, state, stack.weights, between=drop)

    def run_padded(
        self,
        input: Tensor,
        lengths: Tensor | None,
        state: State | None,
        stack: Stack,
        *,
        batch_first: bool,
    ) -> tuple[Tensor, State]:
        """Run all layers and directions on right-padded sequences.

        Args:
            input: [B, T, F] with `batch_first`, else [T, B, F].
            lengths: [B], int64 on the CPU, from 0 to T; None: all are T.
            state: as in `run`; an empty sequence keeps the state that it is given.
            stack: what to run.
            batch_first: the layout.

        Returns:
            output [B, T, D*P] or [T, B, D*P], 0 on padding, and the final states as in `run`.
        """
        rows, columns, input_size = input.shape
        batch, time = (rows, columns) if batch_first else (columns, rows)
        if lengths is None:
            steps = (input.transpose(0, 1) if batch_first else input).reshape(-1, input_size)
            output, state = self.run(steps, BatchSizes(time, batch), state, stack)
            output = output.reshape(time, batch, output.size(1))
            return (output.transpose(0, 1) if batch_first else output), state
        lengths, order = lengths.sort(descending=True, stable=True)
        running = int(lengths.count_nonzero())  # the sequences that are not empty
        sizes = BatchSizes.of_lengths(lengths[:running])
        times = torch.arange(sizes.time, device="cpu").unsqueeze(1)  # [T, 1]
        places = order * columns + times if batch_first else times * columns + order
        packed_places = places[times < lengths].to(input.device)
        order = order.to(input.device)
        if running < batch:
            state = state or zero_state(input, batch, stack.weights)
        if state is not None:
            h_0, c_0 = (part.index_select(1, order) for part in state)
        if state is not None and running == 0:
            size = h_0.size(2) * len(stack.weights[0])
            return input.new_zeros(rows, columns, size), (h_0, c_0)
        data, (h_n, c_n) = self.run(
            input.reshape(rows * columns, input_size).index_select(0, packed_places),
            sizes,
            None if state is None else (h_0[:, :running], c_0[:, :running]),
            stack,
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
        self, data: Tensor, sizes: BatchSizes, state: State | None, weights: Directions, cell: Cell
    ) -> tuple[Tensor, State]:
        """Run the directions of one layer; arguments and results are as in `run` with L = 1."""


class DirectionalBackend(Backend):
    """Runs the directions of a layer one after the other; a subclass says how one is run."""

    def layer(
        self, data: Tensor, sizes: BatchSizes, state: State | None, weights: Directions, cell: Cell
    ) -> tuple[Tensor, State]:
        state = state or zero_state(data, sizes.batch, [weights])
        results = [
            self.direction(
                data,
                ReadingOrder(sizes.numbers, reverse=number == 1),
                (h_0, c_0),
                direction_weights,
                cell,
            )
            for number, (direction_weights, h_0, c_0) in enumerate(
                zip(weights, *state, strict=True)
            )
        ]
        outputs, states = zip(*results, strict=True)
        h_n, c_n = (torch.stack(parts) for parts in zip(*states, strict=True))
        return torch.cat(outputs, dim=1), (h_n, c_n)

    @abstractmethod
    def direction(
        self, data: Tensor, order: ReadingOrder, state: State, weights: Weights, cell: Cell
    ) -> tuple[Tensor, State]:
        """Run one direction of one layer.

        Args:
            data: packed input [N, F].
            order: the order in which the steps are read.
            state: h_0 [B, P] and c_0 [B, H].
            weights: the parameters.
            cell: the formulas.

        Returns:
            output [N, P] in the packed layout, and the final states h_n [B, P] and c_n [B, H],
            each sequence's after the last step that is read.
        """


def zero_state(data: Tensor, batch: int, weights: Sequence[Directions]) -> State:
    """Return h_0 [L*D, B, P] and c_0 [L*D, B, H] of zeros, with the data's dtype and device."""
    rows, first = sum(map(len, weights)), weights[0][0]
    c_0 = data.new_zeros(rows, batch, first.weight_hh.size(0) // len(GATES))
    h_0 = c_0 if first.weight_hr is None else data.new_zeros(rows, batch, first.weight_hh.size(1))
    return h_0, c_0


def run_layers(
    layer: Callable[[Tensor, State | None, Directions], tuple[Tensor, State]],
    data: Tensor,
    state: State | None,
    weights: Sequence[Directions],
    between: Callable[[Tensor], Tensor] = lambda data: data,
) -> tuple[Tensor, State]:
    """Run a stack of layers, applying `between` to what one layer passes to the next."""
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
