"""nn.LSTM's own kernels: oneDNN or ATen on the CPU, cuDNN on CUDA."""

import torch
from torch import _VF, Tensor

from attnlstm.nn.backends.base import Backend, Directions, Stack, State, zero_state
from attnlstm.nn.backends.packed import BatchSizes
from attnlstm.nn.cell import Cell


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
        self, data: Tensor, sizes: BatchSizes, state: State | None, stack: Stack
    ) -> tuple[Tensor, State]:
        # The kernels have no variational dropout: it is applied between calls for single layers.
        if stack.training and stack.variational_dropout > 0:
            return super().run(data, sizes, state, stack)
        return _lstm(data, sizes, state, stack)

    def layer(
        self, data: Tensor, sizes: BatchSizes, state: State | None, weights: Directions, cell: Cell
    ) -> tuple[Tensor, State]:
        return _lstm(data, sizes, state, Stack([weights], cell))


def _lstm(
    data: Tensor, sizes: BatchSizes, state: State | None, stack: Stack
) -> tuple[Tensor, State]:
    weights = stack.weights
    state = state or zero_state(data, sizes.batch, weights)
    flat_weights = [
        w for layer in weights for direction in layer for w in direction if w is not None
    ]
    options = (
        flat_weights,
        weights[0][0].bias_ih is not None,
        len(weights),
        stack.dropout,
        stack.training,
        len(weights[0]) == 2,
    )
    if sizes.is_full:  # the kernels are faster on a dense batch
        time, batch = sizes.time, sizes.batch
        output, h_n, c_n = _VF.lstm(data.view(time, batch, data.size(1)), state, *options, False)
        return output.reshape(time * batch, output.size(2)), (h_n, c_n)
    output, h_n, c_n = _VF.lstm(data, sizes.tensor, state, *options)
    return output, (h_n, c_n)
