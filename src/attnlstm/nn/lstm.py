"""A multi-layer LSTM with the whole interface of torch.nn.LSTM, several backends and cell options.

A call goes through three steps:

    forward      checks the input, and sorts out its form: padded, packed or a single sequence
    `_run`       collects the weights and the formulas, and chooses a backend
    backend      runs the recurrence (`attnlstm.nn.backends`)

Padding is never read and never changes a result: each sequence's final state is its state after its
own last step.
"""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from attnlstm.nn.arguments import (
    autocast_dtype,
    check_devices,
    check_finite,
    check_lengths,
    check_packed,
    check_probability,
    check_state,
    check_state_dtypes,
)
from attnlstm.nn.backends import choose_backend, find_backend
from attnlstm.nn.backends.base import Stack, State
from attnlstm.nn.backends.packed import BatchSizes
from attnlstm.nn.cell import ACTIVATIONS, GATES, Cell, Weights, drop_weights

OPTIONS = (
    "backend",
    "layer_norm",
    "activation",
    "recurrent_activation",
    "recurrent_dropout",
    "variational_dropout",
    "forget_bias",
)
"""The arguments that nn.LSTM does not have."""


TorchLSTM = nn.LSTM  # kept in case someone replaces torch.nn.LSTM by our LSTM


class LSTM(TorchLSTM):
    """torch.nn.LSTM with a choice of backends, ragged batches and cell options.

    It is a drop-in replacement: parameters, initial weights, results and errors are nn.LSTM's, and
    `isinstance(lstm, nn.LSTM)` holds. The arguments up to `dtype` are nn.LSTM's too; the others are
    keyword-only.

    Args:
        input_size: number of features of the input.
        hidden_size: number of features of the cell state.
        num_layers: number of stacked layers.
        bias: whether the gates have biases.
        batch_first: whether input and output are `[batch, time, feature]`.
        dropout: probability of zeroing an element between layers, drawn anew at each step.
        bidirectional: whether each layer also reads the sequences backwards.
        proj_size: if positive, the size to which the hidden state is projected.
        backend: "naive", "fused", "torch", "native", or "auto" for the fastest one that supports
            the request.
        layer_norm: whether each gate's pre-activation, and the cell state before the output
            activation, are layer-normalized (Ba et al., 2016; as in labml's annotated LSTM).
        activation: activation of the cell candidate, and of the cell state before the output gate:
            "tanh", "sigmoid", "relu" or "hard_sigmoid".
        recurrent_activation: activation of the input, forget and output gates; the same choices.
        recurrent_dropout: probability of zeroing an element of the hidden-to-hidden weights, drawn
            once per call (DropConnect; Merity et al., 2018).
        variational_dropout: probability of zeroing a feature between layers, drawn once per
            sequence (Gal and Ghahramani, 2016).
        forget_bias: initial sum of the forget gate's two biases (Jozefowicz et al., 2015, recommend
            1); None: as nn.LSTM.

    Raises:
        ValueError, TypeError: as nn.LSTM, and for a backend that does not support the options.

    Example:
        >>> lstm = LSTM(3, 4, batch_first=True, bidirectional=True)
        >>> inputs = torch.randn(2, 5, 3)  # [batch, time, feature]
        >>> output, (h_n, c_n) = lstm(inputs, lengths=[5, 2])
        >>> output.shape, h_n.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 2, 4]))
        >>> bool((output[1, 2:] == 0).all())  # padding
        True
    """

    # nn.LSTM's constructor calls methods that read these before they are set, and older pickles
    # lack them.
    backend: str = "auto"
    layer_norm: bool = False
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    recurrent_dropout: float = 0.0
    variational_dropout: float = 0.0
    forget_bias: float | None = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "auto",
        layer_norm: bool = False,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        recurrent_dropout: float = 0.0,
        variational_dropout: float = 0.0,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )
        for name, choice in (
            ("activation", activation),
            ("recurrent_activation", recurrent_activation),
        ):
            if not isinstance(choice, str) or choice not in ACTIVATIONS:
                choices = ", ".join(ACTIVATIONS)
                raise ValueError(f"{name} should be one of {choices}, got: {choice!r}")
        check_probability("recurrent_dropout", recurrent_dropout)
        check_probability("variational_dropout", variational_dropout)
        if variational_dropout > 0 and num_layers == 1:
            warnings.warn(
                "variational_dropout drops features between layers, so a non-zero one expects "
                "num_layers greater than 1",
                stacklevel=2,
            )
        if not isinstance(layer_norm, bool):
            raise TypeError(f"layer_norm should be of type bool, got: {type(layer_norm).__name__}")
        if forget_bias is not None:
            check_finite("forget_bias", forget_bias)
            if not bias:
                raise ValueError("forget_bias needs bias=True")
        self.backend = backend
        self.layer_norm = layer_norm
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        self.recurrent_dropout = float(recurrent_dropout)
        self.variational_dropout = float(variational_dropout)
        self.forget_bias = forget_bias
        if layer_norm:
            for weight_hh in [name for name in self._parameters if "weight_hh" in name]:
                for field in ("weight_ln", "bias_ln"):
                    values = torch.empty(len(GATES) + 1, hidden_size, device=device, dtype=dtype)
                    name = weight_hh.replace("weight_hh", field)
                    self.register_parameter(name, nn.Parameter(values))
        self._reset_options()
        weight = self._weights()[0][0].weight_ih
        # "auto" finds a backend, at the latest the naive one, when it is called.
        name = "naive" if backend == "auto" else backend
        find_backend(name, self._cell(), weight.dtype, weight.device)

    def _init_flat_weights(self) -> None:
        super()._init_flat_weights()
        # Only their dtypes are read. A parametrized weight is not a leaf and would break deepcopy.
        self._flat_weights = [
            w if w is None or w.is_leaf else w.detach() for w in self._flat_weights
        ]

    def reset_parameters(self) -> None:
        """Draw the weights as nn.LSTM does, and reset the parameters of the cell options."""
        super().reset_parameters()
        self._reset_options()

    @torch.no_grad()
    def _reset_options(self) -> None:
        for weights in chain.from_iterable(self._weights()):
            if weights.weight_ln is not None and weights.bias_ln is not None:
                weights.weight_ln.fill_(1)
                weights.bias_ln.fill_(0)
            b_ih, b_hh = weights.bias_ih, weights.bias_hh
            if self.forget_bias is not None and b_ih is not None and b_hh is not None:
                forget_gate = slice(self.hidden_size, 2 * self.hidden_size)
                b_ih[forget_gate] = self.forget_bias
                b_hh[forget_gate] = 0

    def forward(  # type: ignore[override]
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run the LSTM, as nn.LSTM does.

        Args:
            input: `[time, batch, feature]`, `[batch, time, feature]` with `batch_first`,
                `[time, feature]` for a single sequence, or a PackedSequence.
            hx: h_0 `[layers * directions, batch, proj_size or hidden_size]` and c_0
                `[layers * directions, batch, hidden_size]`, without `batch` for a single sequence;
                None: zeros.
            lengths: `[batch]`, the number of real steps of each sequence, from 0 to `time`, in any
                order. The other steps are right padding, which is not read. None: no padding.

        Returns:
            output, in the input's layout and 0 on padding, and (h_n, c_n), shaped as hx: the state
            after each sequence's own last step, or in the reverse direction after its first.

        Raises:
            ValueError, RuntimeError: sizes, dtypes, devices or lengths do not fit.
        """
        if hx is not None:
            check_state(hx)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence holds its own lengths: leave lengths out")
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
        if input.dim() == 2:
            if lengths is not None:
                raise ValueError("lengths needs a batch: a 3-D input")
            return self._forward_unbatched(input, hx)
        if hx is not None and (hx[0].dim() != 3 or hx[1].dim() != 3):
            raise RuntimeError(
                "For batched 3-D input, hx and cx should also be 3-D but got "
                f"({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
            )
        return self._forward_batched(input, hx, lengths)

    def _forward_unbatched(self, input: Tensor, hx: State | None) -> tuple[Tensor, State]:
        if hx is not None:
            if hx[0].dim() != 2 or hx[1].dim() != 2:
                raise RuntimeError(
                    "For unbatched 2-D input, hx and cx should also be 2-D but got "
                    f"({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
                )
            hx = (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
        batch_dim = 0 if self.batch_first else 1
        output, (h_n, c_n) = self._forward_batched(input.unsqueeze(batch_dim), hx, None)
        return output.squeeze(batch_dim), (h_n.squeeze(1), c_n.squeeze(1))

    def _forward_packed(
        self, input: PackedSequence, hx: State | None
    ) -> tuple[PackedSequence, State]:
        data, batch_sizes, sorted_indices, unsorted_indices = input
        # Reading a weight by name would compute, and perhaps update, a parametrization again.
        check_packed(data, batch_sizes, self._flat_weights[0].dtype)  # type: ignore[union-attr]
        if hx is None:
            self.check_input(data, batch_sizes)
        else:
            hx = self.permute_hidden(hx, sorted_indices)
            self.check_forward_args(data, hx, batch_sizes)
        first, last = int(batch_sizes[0]), int(batch_sizes[-1])
        sizes = BatchSizes(batch_sizes.numel(), first, None if first == last else batch_sizes)
        output, state = self._run(data, hx, sizes, first)
        packed = PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices)
        return packed, self.permute_hidden(state, unsorted_indices)

    def _forward_batched(
        self, input: Tensor, hx: State | None, lengths: Tensor | Sequence[int] | None
    ) -> tuple[Tensor, State]:
        if hx is None:
            self.check_input(input, None)
        else:
            self.check_forward_args(input, hx, None)
        batch, time = input.shape[:2] if self.batch_first else (input.size(1), input.size(0))
        if time == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if lengths is not None:
            lengths = check_lengths(lengths, batch, time)
            if not torch.compiler.is_exporting() and set(lengths.tolist()) <= {time}:
                lengths = None
        return self._run(input, hx, lengths, batch)

    def _run(
        self, data: Tensor, hx: State | None, sizes: BatchSizes | Tensor | None, batch: int
    ) -> tuple[Tensor, State]:
        """Choose a backend and run it on a batch.

        The weights are read by name in each call, so that parametrizations, `functional_call` and
        replaced weights take effect.

        Args:
            data: packed or padded input.
            hx: initial state; None: zeros.
            sizes: the sizes of a packed batch, or the lengths of a padded one; None: no padding.
            batch: number of sequences.
        """
        weights = self._weights()
        check_devices(data, weights[0][0].weight_ih, hx)
        cast_dtype = autocast_dtype(data)
        if cast_dtype is not None:
            data = data.to(cast_dtype)
            hx = hx and (hx[0].to(cast_dtype), hx[1].to(cast_dtype))
            weights = [[w.to(cast_dtype) for w in layer] for layer in weights]
        if hx is not None:
            check_state_dtypes(data, hx)
        if self.training and self.recurrent_dropout > 0:
            p = self.recurrent_dropout
            weights = [
                [w._replace(weight_hh=drop_weights(w.weight_hh, p)) for w in layer]
                for layer in weights
            ]
        cell = self._cell()
        stack = Stack(weights, cell, self.dropout, self.variational_dropout, self.training)
        ragged = not sizes.is_full if isinstance(sizes, BatchSizes) else sizes is not None
        if self.backend == "auto":
            backend = choose_backend(
                cell,
                data.dtype,
                data.device,
                batch=batch,
                hidden_size=self.hidden_size,
                ragged=ragged,
            )
        else:
            backend = find_backend(self.backend, cell, data.dtype, data.device)
        with (
            nullcontext() if cast_dtype is None else torch.autocast(data.device.type, enabled=False)
        ):
            if isinstance(sizes, BatchSizes):
                return backend.run(data, sizes, hx, stack)
            return backend.run_padded(data, sizes, hx, stack, batch_first=self.batch_first)

    def _weights(self) -> list[list[Weights]]:
        """Return the weights of each layer's directions, forward first."""
        is_there = (True, True, self.bias, self.bias, self.proj_size, *[self.layer_norm] * 2)
        fields = list(zip(Weights._fields, is_there, strict=True))
        parameters = self._parameters  # faster than nn.Module's attributes
        weights = []
        for number in range(self.num_layers):
            layer = []
            for direction in ("", "_reverse")[: 1 + self.bidirectional]:
                found: list[Tensor | None] = []
                for field, there in fields:
                    name = f"{field}_l{number}{direction}"
                    if there and name in parameters:
                        found.append(parameters[name])
                    else:
                        found.append(getattr(self, name) if there else None)
                layer.append(Weights._make(found))
            weights.append(layer)
        return weights

    def _cell(self) -> Cell:
        return Cell(self.activation, self.recurrent_activation, self.layer_norm)

    @property
    def feature_size(self) -> int:
        """The size of the output's last dimension."""
        return (self.proj_size or self.hidden_size) * (2 if self.bidirectional else 1)

    def extra_repr(self) -> str:
        """Return nn.LSTM's description, and the options that differ from their defaults."""
        options = (
            f", {name}={getattr(self, name)!r}"
            for name in OPTIONS
            if getattr(self, name) != getattr(LSTM, name)
        )
        return super().extra_repr() + "".join(options)

    def __prepare_scriptable__(self) -> TorchLSTM:
        """Return an nn.LSTM with the same weights, which torch.jit.script compiles instead."""
        if not self._cell().is_standard or self.recurrent_dropout or self.variational_dropout:
            raise RuntimeError("torch.jit.script supports this LSTM only without its cell options")
        script = TorchLSTM(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.bias,
            self.batch_first,
            self.dropout,
            self.bidirectional,
            self.proj_size,
            device="meta",
        )
        for name, parameter in self.named_parameters():
            setattr(script, name, parameter)
        return script.train(self.training)
