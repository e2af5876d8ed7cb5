"""LSTMs of other libraries, if these are installed.

Each has the sizes of a given nn.LSTM and takes `[time, batch, input]`, as nn.LSTM does.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Call = Callable[[Tensor], Tensor]


class Peer(NamedTuple):
    """An LSTM of another library and the packages that it needs."""

    packages: tuple[str, ...]
    build: Callable[[nn.LSTM, Tensor], Call]  # takes an nn.LSTM and lengths [batch]
    trains: bool  # False if it supports inference only

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [package for package in self.packages if find_spec(package) is None]


def build_keras(lstm: nn.LSTM, lengths: Tensor) -> Call:
    """Build keras.layers.LSTM on Keras's torch backend, with a mask and random weights."""
    os.environ["KERAS_BACKEND"] = "torch"  # read when Keras is imported
    from keras import layers

    dtype = str(lstm.weight_ih_l0.dtype).removeprefix("torch.")
    stack = []
    for _ in range(lstm.num_layers):
        layer = layers.LSTM(lstm.hidden_size, return_sequences=True, dtype=dtype)
        stack.append(layers.Bidirectional(layer, dtype=dtype) if lstm.bidirectional else layer)

    def call(inputs: Tensor) -> Tensor:
        outputs = inputs.transpose(0, 1)  # [batch, time, input]
        mask = torch.arange(outputs.size(1)) < lengths.unsqueeze(1)
        for layer in stack:
            outputs = layer(outputs, mask=mask)
        return outputs

    return call


def build_onnxruntime(lstm: nn.LSTM, lengths: Tensor) -> Call:
    """Build the LSTM operator of ONNX with sequence_lens and the weights of the nn.LSTM."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        export(lstm), options, providers=["CPUExecutionProvider"]
    )
    sequence_lens = lengths.numpy().astype(np.int32)

    def call(inputs: Tensor) -> Tensor:
        found = session.run(None, {"inputs": inputs.numpy(), "lengths": sequence_lens})
        return torch.from_numpy(found[0])

    return call


def export(lstm: nn.LSTM) -> bytes:
    """Export an ONNX model that takes `inputs` [time, batch, input] and `lengths` [batch]."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], [numpy_helper.from_array(np.array([0, 0, -1]), "shape")]
    last = "inputs"
    for number in range(lstm.num_layers):
        suffixes = [f"l{number}", f"l{number}_reverse"][: 2 if lstm.bidirectional else 1]
        weights = {
            "W": [in_onnx_order(lstm, f"weight_ih_{suffix}") for suffix in suffixes],
            "R": [in_onnx_order(lstm, f"weight_hh_{suffix}") for suffix in suffixes],
            "B": [
                np.concatenate([in_onnx_order(lstm, f"bias_{x}_{suffix}") for x in ("ih", "hh")])
                for suffix in suffixes
            ],
        }
        names = [f"{name}{number}" for name in weights]
        for name, values in zip(names, weights.values(), strict=True):
            constants.append(numpy_helper.from_array(np.stack(values), name))
        direction = "bidirectional" if lstm.bidirectional else "forward"
        outputs, swapped, joined = (f"{name}{number}" for name in ("outputs", "swapped", "joined"))
        nodes += [
            helper.make_node(
                "LSTM",
                [last, *names, "lengths"],
                [outputs],  # [time, direction, batch, hidden]
                hidden_size=lstm.hidden_size,
                direction=direction,
            ),
            helper.make_node("Transpose", [outputs], [swapped], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [swapped, "shape"], [joined]),
        ]
        last = joined
    graph = helper.make_graph(
        nodes,
        "lstm",
        [
            helper.make_tensor_value_info(
                "inputs", TensorProto.FLOAT, ["time", "batch", lstm.input_size]
            ),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
        ],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        constants,
    )
    # Versions that current releases of onnxruntime read; onnx may write newer ones by default.
    opset = helper.make_opsetid("", 17)
    content: bytes = helper.make_model(
        graph, ir_version=9, opset_imports=[opset]
    ).SerializeToString()
    return content


def in_onnx_order(lstm: nn.LSTM, name: str) -> np.ndarray:
    """Reorder the gates of a weight or bias from i, f, g, o (nn.LSTM) to i, o, f, c (ONNX)."""
    i, f, g, o = getattr(lstm, name).detach().numpy().reshape(4, lstm.hidden_size, -1)
    joined = np.concatenate([i, o, f, g])
    return joined.squeeze(1) if name.startswith("bias") else joined


PEERS = {
    "keras": Peer(("keras",), build_keras, trains=True),
    "onnxruntime": Peer(("onnxruntime", "onnx"), build_onnxruntime, trains=False),
}
