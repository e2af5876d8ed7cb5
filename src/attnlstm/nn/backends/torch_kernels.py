"""nn.LSTM's own kernels: oneDNN or ATen on the CPU, cuDNN on CUDA."""

from collections.abc import Sequence

import torch
from torch import _VF, Tensor

from attnlstm.nn.backends.base import Backend, BatchSizes, State, zero_state
from attnlstm.nn.cell import Cell, Weights


class TorchBackend(Backend):
    """Calls the operators that torch.nn.LSTM calls, for the whole stack at once."""

    name = "torch"

    def unsupported(self, cell: Cell, dtype: torch.dtype, device: torch.device) -> str | None:
        if cell.layer_norm:
            return "nn.LSTM's kernels have no layer_norm"
        if not cell.is_standard:
            return "nn.LSTM's kernels have no activations other than tanh and sigmoid"
        if torch.compiler.is_dynamo_compiling():
            return "torch.compile cannot differentiate nn.LSTM's kernels"
        return super().unsupported(cell, dtype, device)

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
        if training and variational_dropout > 0:  # unknown to the kernels: layer by layer
            return super().run(
                data,
                batch_sizes,
                state,
                weights,
                cell,
                dropout=dropout,
                variational_dropout=variational_dropout,
                training=training,
            )
        return _lstm(data, batch_sizes, state, weights, dropout, training)

    def layer(
        self,
        data: Tensor,
        batch_sizes: BatchSizes,
        state: State | None,
        weights: Sequence[Weights],
        cell: Cell,
    ) -> tuple[Tensor, State]:
        return _lstm(data, batch_sizes, state, [weights], dropout=0.0, training=True)


def _lstm(
    data: Tensor,
    batch_sizes: BatchSizes,
    state: State | None,
    weights: Sequence[Sequence[Weights]],
    dropout: float,
    training: bool,
) -> tuple[Tensor, State]:
    state = state or zero_state(data, batch_sizes.batch, weights)
    flat_weights = [
        w for layer in weights for direction in layer for w in direction if w is not None
    ]
    options = (
        flat_weights,
        weights[0][0].bias_ih is not None,
        len(weights),
        dropout,
        training,
        len(weights[0]) == 2,
    )
    if batch_sizes.is_full:  # the kernels are faster on a dense batch
        time, batch = batch_sizes.time, batch_sizes.batch
        output, h_n, c_n = _VF.lstm(data.view(time, batch, data.size(1)), state, *options, False)
        return output.reshape(time * batch, output.size(2)), (h_n, c_n)
    output, h_n, c_n = _VF.lstm(data, batch_sizes.tensor, state, *options)
    return output, (h_n, c_n)
