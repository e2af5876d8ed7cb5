"""Converted weights against the cells that they come from, written out here."""

import pytest
import torch
from torch import Tensor, nn

from attnlstm.nn import LSTM, interop
from attnlstm.nn.backends import BACKENDS

INPUT, HIDDEN, TIME = 3, 4, 5

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture
def inputs() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(TIME, 1, INPUT, dtype=torch.float64)


def load(state_dict: dict, backend: str, **options: bool) -> LSTM:
    lstm = LSTM(INPUT, HIDDEN, **options, backend=backend, dtype=torch.float64)
    lstm.load_state_dict(state_dict)
    return lstm


def random_weights(*shapes: tuple[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes}


def assert_same_weights(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


def test_gates(backend: str, inputs: Tensor) -> None:
    gates = {}
    for gate in "ifgo":
        gates |= random_weights(
            (f"w_i{gate}", (HIDDEN, INPUT)),
            (f"w_h{gate}", (HIDDEN, HIDDEN)),
            (f"b_i{gate}", (HIDDEN, 1)),
            (f"b_h{gate}", (HIDDEN, 1)),
        )
    h = c = torch.zeros(HIDDEN, 1, dtype=torch.float64)
    for x in inputs.transpose(1, 2):  # columns [input, 1]
        z = {
            gate: gates[f"w_i{gate}"] @ x
            + gates[f"b_i{gate}"]
            + gates[f"w_h{gate}"] @ h
            + gates[f"b_h{gate}"]
            for gate in "ifgo"
        }
        c = z["f"].sigmoid() * c + z["i"].sigmoid() * z["g"].tanh()
        h = z["o"].sigmoid() * c.tanh()
    _, (h_n, c_n) = load(interop.from_gates(gates), backend)(inputs)
    torch.testing.assert_close(h_n.flatten(), h.flatten(), atol=1e-10, rtol=0)
    torch.testing.assert_close(c_n.flatten(), c.flatten(), atol=1e-10, rtol=0)
    assert_same_weights(interop.to_gates(interop.from_gates(gates)), gates)


def test_linears(backend: str, inputs: Tensor) -> None:
    linears = nn.ModuleDict(
        {f"Wi{gate}": nn.Linear(INPUT, HIDDEN) for gate in "ifgo"}
        | {f"Wh{gate}": nn.Linear(HIDDEN, HIDDEN) for gate in "ifgo"}
    ).double()
    h = c = torch.zeros(1, HIDDEN, dtype=torch.float64)
    for x in inputs:
        i, f, g, o = (linears[f"Wi{gate}"](x) + linears[f"Wh{gate}"](h) for gate in "ifgo")
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    state_dict = interop.from_linears(linears.state_dict())
    torch.testing.assert_close(load(state_dict, backend)(inputs)[1][0][0], h, atol=1e-10, rtol=0)
    assert_same_weights(interop.to_linears(state_dict), dict(linears.state_dict()))
    linears.load_state_dict(interop.to_linears(state_dict))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_labml(backend: str, inputs: Tensor, layer_norm: bool) -> None:
    if layer_norm and backend in ("torch", "native"):
        pytest.skip(f"the {backend} backend has no layer norm")
    cell = random_weights(
        ("hidden_lin.weight", (4 * HIDDEN, HIDDEN)),
        ("hidden_lin.bias", (4 * HIDDEN,)),
        ("input_lin.weight", (4 * HIDDEN, INPUT)),
    )
    norms = [nn.LayerNorm(HIDDEN).double() if layer_norm else nn.Identity() for _ in range(5)]
    if layer_norm:
        for number, norm in enumerate(norms):
            name = "layer_norm_c" if number == 4 else f"layer_norm.{number}"
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            cell |= {f"{name}.weight": norm.weight.data, f"{name}.bias": norm.bias.data}
    h = c = torch.zeros(1, HIDDEN, dtype=torch.float64)
    for x in inputs:
        gates = h @ cell["hidden_lin.weight"].T + cell["hidden_lin.bias"]
        gates = gates + x @ cell["input_lin.weight"].T
        i, f, g, o = (norm(z) for norm, z in zip(norms, gates.chunk(4, dim=1), strict=False))
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * norms[4](c).tanh()
    state_dict = interop.from_labml(cell)
    lstm = load(state_dict, backend, layer_norm=layer_norm)
    torch.testing.assert_close(lstm(inputs)[1][0][0], h, atol=1e-10, rtol=0)
    assert_same_weights(interop.to_labml(state_dict), cell)


@pytest.mark.parametrize("use_bias", [True, False])
def test_keras(backend: str, inputs: Tensor, use_bias: bool) -> None:
    keras = random_weights(
        ("kernel", (INPUT, 4 * HIDDEN)),
        ("recurrent_kernel", (HIDDEN, 4 * HIDDEN)),
        ("bias", (4 * HIDDEN,)),
    )
    bias = keras["bias"] if use_bias else keras.pop("bias") * 0
    h = c = torch.zeros(1, HIDDEN, dtype=torch.float64)
    for x in inputs:
        z = x @ keras["kernel"] + h @ keras["recurrent_kernel"] + bias
        i, f, candidate, o = z.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * candidate.tanh()
        h = o.sigmoid() * c.tanh()
    state_dict = interop.from_keras({name: w.numpy() for name, w in keras.items()})
    lstm = load(state_dict, backend, bias=use_bias)
    torch.testing.assert_close(lstm(inputs)[1][0][0], h, atol=1e-10, rtol=0)
    assert_same_weights(interop.to_keras(state_dict), keras)


def test_layers_and_directions(backend: str, inputs: Tensor) -> None:
    torch.manual_seed(1)
    lstm = nn.LSTM(INPUT, HIDDEN, 2, bidirectional=True, dtype=torch.float64)
    nn.init.zeros_(lstm.bias_hh_l0)
    converted = {}
    for layer in (0, 1):
        for reverse in (False, True):
            gates = interop.to_gates(lstm.state_dict(), layer, reverse)
            converted |= interop.from_gates(gates, layer, reverse)
    assert_same_weights(converted, dict(lstm.state_dict()))


def test_weights_that_a_layout_cannot_hold_are_rejected(backend: str) -> None:
    normed = LSTM(INPUT, HIDDEN, layer_norm=True).state_dict()
    for convert in (interop.to_gates, interop.to_linears, interop.to_keras):
        with pytest.raises(ValueError, match="no layer norm"):
            convert(normed)
    with pytest.raises(ValueError, match="labml's cell has a bias"):
        interop.to_labml(LSTM(INPUT, HIDDEN, bias=False).state_dict())


def test_the_list_of_keras_get_weights_is_accepted(backend: str) -> None:
    arrays = [torch.randn(3, 16).numpy(), torch.randn(4, 16).numpy(), torch.randn(16).numpy()]
    names = ["kernel", "recurrent_kernel", "bias"]
    assert_same_weights(
        interop.from_keras(arrays), interop.from_keras(dict(zip(names, arrays, strict=True)))
    )


def test_the_error_names_what_is_missing(backend: str) -> None:
    with pytest.raises(ValueError, match="no recurrent_kernel among the weights"):
        interop.from_keras({"kernel": torch.zeros(3, 16)})
    with pytest.raises(ValueError, match="no weight_ih_l1 in the state_dict"):
        interop.to_keras(nn.LSTM(3, 4).state_dict(), layer=1)
    with pytest.raises(ValueError, match="no projection"):
        interop.to_gates(nn.LSTM(3, 4, proj_size=2).state_dict())
