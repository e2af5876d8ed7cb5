"""Conversion of weights from and to the layouts of other LSTMs.

A function converts one layer and direction, between plain dictionaries of tensors. On our side a
dictionary is the part of a state_dict for this layer and direction, with nn.LSTM's names
(`weight_ih_l0`, `bias_hh_l1_reverse`). Dictionaries of several layers can be merged with `|`.

Layouts with one bias per gate have the sum of nn.LSTM's two. When they are read, one of `bias_ih`
and `bias_hh` is this sum and the other is 0, so that writing them again gives exactly the same
numbers. Layouts without biases are for `bias=False`.

Example:
    >>> keras = {"kernel": torch.randn(3, 16), "recurrent_kernel": torch.randn(4, 16)}
    >>> lstm = LSTM(3, 4, bias=False)
    >>> lstm.load_state_dict(from_keras(keras))
    <All keys matched successfully>
    >>> bool((to_keras(lstm.state_dict())["kernel"] == keras["kernel"]).all())
    True
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attnlstm.nn.cell import GATES


def from_gates(
    gates: Mapping[str, Tensor], layer: int = 0, reverse: bool = False
) -> dict[str, Tensor]:
    """Convert from one matrix per gate.

    Args:
        gates: `w_ii [hidden, input]`, `w_hi [hidden, hidden]`, optionally `b_ii` and `b_hi`
            `[hidden, 1]` or `[hidden]`, and the same for the gates f, g and o.
        layer: the number of the layer in the result's names.
        reverse: whether they are the weights of the reverse direction.

    Raises:
        ValueError: a weight is missing.
    """
    weights = {
        f"weight_{kind}h": torch.cat([_get(gates, f"w_{kind}{gate}") for gate in GATES])
        for kind in "ih"
    }
    if any(name.startswith("b_") for name in gates):
        weights |= {
            f"bias_{kind}h": torch.cat([_get(gates, f"b_{kind}{gate}").flatten() for gate in GATES])
            for kind in "ih"
        }
    return _with_suffix(weights, layer, reverse)


def to_gates(
    state_dict: Mapping[str, Tensor], layer: int = 0, reverse: bool = False
) -> dict[str, Tensor]:
    """Convert to one matrix per gate, with biases as columns `[hidden, 1]`; see `from_gates`.

    Raises:
        ValueError: the weights are missing, or have a projection or a layer norm.
    """
    weights = _without_layer_norm(_layer(state_dict, layer, reverse))
    gates = {}
    for kind in "ih":
        for gate, w in zip(GATES, weights[f"weight_{kind}h"].chunk(4), strict=True):
            gates[f"w_{kind}{gate}"] = w
        if f"bias_{kind}h" in weights:
            for gate, b in zip(GATES, weights[f"bias_{kind}h"].chunk(4), strict=True):
                gates[f"b_{kind}{gate}"] = b.unsqueeze(1)
    return gates


def from_linears(
    linears: Mapping[str, Tensor], layer: int = 0, reverse: bool = False
) -> dict[str, Tensor]:
    """Convert from the state_dict of eight nn.Linear: `Wii.weight`, `Wii.bias`, `Whi.weight`, ...

    Arguments and errors are as in `from_gates`.
    """
    gates = {}
    for name, tensor in linears.items():
        linear, _, kind = name.partition(".")
        gates[f"{'w' if kind == 'weight' else 'b'}_{linear.removeprefix('W')}"] = tensor
    return from_gates(gates, layer, reverse)


def to_linears(
    state_dict: Mapping[str, Tensor], layer: int = 0, reverse: bool = False
) -> dict[str, Tensor]:
    """Convert to the state_dict of eight nn.Linear; see `from_linears` and `to_gates`."""
    return {
        f"W{name[2:]}.{'weight' if name.startswith('w') else 'bias'}": (
            tensor if name.startswith("w") else tensor.squeeze(1)
        )
        for name, tensor in to_gates(state_dict, layer, reverse).items()
    }


def from_labml(
    cell: Mapping[str, Tensor], layer: int = 0, reverse: bool = False
) -> dict[str, Tensor]:
    """Convert from the state_dict of labml's annotated LSTMCell.

    Args:
        cell: `hidden_lin.weight`, `hidden_lin.bias`, `input_lin.weight`, with the gates stacked as
            i, f, g, o; with layer norm also `layer_norm.0.weight` to `layer_norm.3.bias`,
            `layer_norm_c.weight` and `layer_norm_c.bias`.
        layer: the number of the layer in the result's names.
        reverse: whether they are the weights of the reverse direction.

    Raises:
        ValueError: a weight is missing.
    """
    bias = _get(cell, "hidden_lin.bias")
    weights = {
        "weight_ih": _get(cell, "input_lin.weight"),
        "weight_hh": _get(cell, "hidden_lin.weight"),
        "bias_ih": torch.zeros_like(bias),
        "bias_hh": bias,
    }
    if any(name.startswith("layer_norm") for name in cell):
        for kind in ("weight", "bias"):
            weights[f"{kind}_ln"] = torch.stack(
                [_get(cell, f"{module}.{kind}") for module in LABML_LAYER_NORMS]
            )
    return _with_suffix(weights, layer, reverse)


def to_labml(
    state_dict: Mapping[str, Tensor], layer: int = 0, reverse: bool = False
) -> dict[str, Tensor]:
    """Convert to the state_dict of labml's LSTMCell; see `from_labml`.

    Raises:
        ValueError: the weights are missing, have a projection, or have no bias.
    """
    weights = _layer(state_dict, layer, reverse)
    if "bias_hh" not in weights:
        raise ValueError("labml's cell has a bias: this LSTM has none (bias=False)")
    cell = {
        "hidden_lin.weight": weights["weight_hh"],
        "hidden_lin.bias": _summed_bias(weights),
        "input_lin.weight": weights["weight_ih"],
    }
    for kind in ("weight", "bias"):
        if f"{kind}_ln" in weights:
            for module, row in zip(LABML_LAYER_NORMS, weights[f"{kind}_ln"], strict=True):
                cell[f"{module}.{kind}"] = row
    return cell


def from_keras(
    weights: Mapping[str, Any] | Sequence[Any], layer: int = 0, reverse: bool = False
) -> dict[str, Tensor]:
    """Convert from a Keras layer. Its gate order i, f, c, o is nn.LSTM's i, f, g, o.

    Args:
        weights: `kernel [input, 4 * units]`, `recurrent_kernel [units, 4 * units]` and optionally
            `bias [4 * units]`, or a list of them in this order, as `get_weights()` returns it.
        layer: the number of the layer in the result's names.
        reverse: whether they are the weights of the reverse direction.

    Raises:
        ValueError: a weight is missing.
    """
    if not isinstance(weights, Mapping):
        names = ("kernel", "recurrent_kernel", "bias")
        weights = dict(zip(names, weights, strict=False))
    ours = {
        "weight_ih": _get(weights, "kernel").T.contiguous(),
        "weight_hh": _get(weights, "recurrent_kernel").T.contiguous(),
    }
    if "bias" in weights:
        ours["bias_ih"] = _get(weights, "bias")
        ours["bias_hh"] = torch.zeros_like(ours["bias_ih"])
    return _with_suffix(ours, layer, reverse)


def to_keras(
    state_dict: Mapping[str, Tensor], layer: int = 0, reverse: bool = False
) -> dict[str, Tensor]:
    """Convert to Keras's kernel, recurrent_kernel and bias; see `from_keras` and `to_gates`."""
    weights = _without_layer_norm(_layer(state_dict, layer, reverse))
    keras = {
        "kernel": weights["weight_ih"].T.contiguous(),
        "recurrent_kernel": weights["weight_hh"].T.contiguous(),
    }
    if "bias_ih" in weights:
        keras["bias"] = _summed_bias(weights)
    return keras


LABML_LAYER_NORMS = (*(f"layer_norm.{row}" for row in range(len(GATES))), "layer_norm_c")
"""labml's layer norms in the order of the rows of our weight_ln and bias_ln."""


def _suffix(layer: int, reverse: bool) -> str:
    return f"_l{layer}{'_reverse' if reverse else ''}"


def _with_suffix(weights: dict[str, Tensor], layer: int, reverse: bool) -> dict[str, Tensor]:
    return {name + _suffix(layer, reverse): tensor for name, tensor in weights.items()}


def _layer(state_dict: Mapping[str, Tensor], layer: int, reverse: bool) -> dict[str, Tensor]:
    """Copy the weights of one layer and direction, without the suffix of their names."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ln", "bias_ln")
    suffix = _suffix(layer, reverse)
    if f"weight_hr{suffix}" in state_dict:
        raise ValueError(f"weight_hr{suffix}: these layouts have no projection (proj_size)")
    if f"weight_ih{suffix}" not in state_dict:
        raise ValueError(
            f"no weight_ih{suffix} in the state_dict, which has: {', '.join(state_dict)}"
        )
    return {  # copies, so that changing them does not change the model
        name: state_dict[name + suffix].detach().clone()
        for name in names
        if name + suffix in state_dict
    }


def _without_layer_norm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    if "weight_ln" in weights:
        raise ValueError("weight_ln: this layout has no layer norm, but to_labml's has one")
    return weights


def _summed_bias(weights: Mapping[str, Tensor]) -> Tensor:
    return weights["bias_ih"] + weights["bias_hh"]


def _get(weights: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise ValueError(f"no {name} among the weights, which are: {', '.join(weights)}")
    return torch.as_tensor(weights[name])
