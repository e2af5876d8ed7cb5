"""The contract of a backend: one way to run the LSTM recurrence over a ragged batch.

Sequences come packed as in `torch.nn.utils.rnn.PackedSequence`: sorted by falling length and laid
out time-major, the `batch_sizes[t]` sequences that are at least t + 1 long side by side for each
step t. Work then grows with the number N of real steps and not with padding.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn.cell import ACTIVATIONS, Cell, Weights

State = tuple[Tensor, Tensor]


class BatchSizes:
    """The number of sequences at each time step of a packed batch, not growing.

    Args:
        time: number of time steps T.
        batch: number of sequences at the first one.
        tensor: [T], int64 on the CPU, as `PackedSequence` has it; None: all are of one length.

    With the native backend, torch.export may leave all three open.
    """

    def __init__(self, time: int, batch: int, tensor: Tensor | None = None) -> None:
        self.time = time
        self.batch = batch
        self._tensor = tensor

    @cached_property
    def numbers(self) -> list[int]:
        """The sizes as Python numbers."""
        return [self.batch] * self.time if self._tensor is None else self._tensor.tolist()

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
        state: State,
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
            state: h_0 [L*D, B, P] and c_0 [L*D, B, H].
            weights: the weights of each layer's directions, forward first.
            cell: the formulas.
            dropout: probability of zeroing an element of a layer's output, drawn anew at each step.
            variational_dropout: the same with one mask for all steps of a sequence.
            training: whether there is dropout at all.

        Returns:
            output [N, D*P] and the final states h_n [L*D, B, P] and c_n [L*D, B, H].
        """
        directions = len(weights[0])
        states = []
        for layer, layer_weights in enumerate(weights):
            if layer > 0:
                data = F.dropout(data, dropout, training)
                if training and variational_dropout > 0:
                    data = drop_features_of_sequences(data, batch_sizes, variational_dropout)
            rows = slice(layer * directions, (layer + 1) * directions)
            data, layer_state = self.layer(
                data, batch_sizes, (state[0][rows], state[1][rows]), layer_weights, cell
            )
            states.append(layer_state)
        h_n, c_n = (torch.cat(parts) for parts in zip(*states, strict=True))
        return data, (h_n, c_n)

    @abstractmethod
    def layer(
        self,
        data: Tensor,
        batch_sizes: BatchSizes,
        state: State,
        weights: Sequence[Weights],
        cell: Cell,
    ) -> tuple[Tensor, State]:
        """Run the directions of one layer; arguments and results as in `run` with L = 1."""


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
    state: State,
    weights: Sequence[Weights],
    cell: Cell,
) -> tuple[Tensor, State]:
    """Run the directions of one layer one after the other; see `Backend.layer`."""
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
