"""The cell options against plain implementations written out here."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from attnlstm.nn import LSTM
from attnlstm.nn.backends import BACKENDS

OWN_BACKENDS = ["naive", "fused"]
ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "hard_sigmoid": lambda x: F.relu6(x + 3) / 6,
}


class LayerNormCell(nn.Module):
    """A layer-normalized LSTM cell like labml's annotated one."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_lin = nn.Linear(hidden_size, 4 * hidden_size)
        self.input_lin = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.layer_norm = nn.ModuleList([nn.LayerNorm(hidden_size) for _ in range(4)])
        self.layer_norm_c = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = (self.hidden_lin(h) + self.input_lin(x)).chunk(4, dim=-1)
        i, f, g, o = (norm(gate) for norm, gate in zip(self.layer_norm, gates, strict=True))
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * self.layer_norm_c(c).tanh(), c


def randomise(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)


@pytest.mark.parametrize("backend", ["auto", *OWN_BACKENDS])
def test_layer_norm_equals_the_written_out_cell(backend: str) -> None:
    torch.manual_seed(0)
    cells = [LayerNormCell(3, 4).double(), LayerNormCell(4, 4).double()]
    lstm = LSTM(3, 4, 2, layer_norm=True, backend=backend, dtype=torch.float64)
    state_dict = {}
    for layer, cell in enumerate(cells):
        randomise(cell)
        norms = [*cell.layer_norm, cell.layer_norm_c]
        state_dict |= {
            f"weight_ih_l{layer}": cell.input_lin.weight,
            f"weight_hh_l{layer}": cell.hidden_lin.weight,
            f"bias_ih_l{layer}": torch.zeros(16, dtype=torch.float64),
            f"bias_hh_l{layer}": cell.hidden_lin.bias,
            f"weight_ln_l{layer}": torch.stack([norm.weight for norm in norms]),
            f"bias_ln_l{layer}": torch.stack([norm.bias for norm in norms]),
        }
    lstm.load_state_dict(state_dict)
    inputs = torch.randn(5, 2, 3, dtype=torch.float64)

    states = [torch.zeros(2, 4, dtype=torch.float64) for _ in range(4)]
    expected = []
    for x in inputs:
        for layer, cell in enumerate(cells):
            states[2 * layer], states[2 * layer + 1] = x, _ = cell(
                x, states[2 * layer], states[2 * layer + 1]
            )
        expected.append(x)
    output, (h_n, c_n) = lstm(inputs)
    torch.testing.assert_close(output, torch.stack(expected), atol=1e-10, rtol=0)
    torch.testing.assert_close(h_n, torch.stack(states[0::2]), atol=1e-10, rtol=0)
    torch.testing.assert_close(c_n, torch.stack(states[1::2]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("backend", OWN_BACKENDS)
@pytest.mark.parametrize(
    ("activation", "recurrent"), list(itertools.product(ACTIVATIONS, ACTIVATIONS))
)
def test_activations(backend: str, activation: str, recurrent: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(
        3,
        4,
        activation=activation,
        recurrent_activation=recurrent,
        backend=backend,
        dtype=torch.float64,
    )
    inputs = torch.randn(5, 2, 3, dtype=torch.float64)
    act, rec = ACTIVATIONS[activation], ACTIVATIONS[recurrent]
    h = c = torch.zeros(2, 4, dtype=torch.float64)
    for x in inputs:
        z = F.linear(x, lstm.weight_ih_l0, lstm.bias_ih_l0)
        i, f, g, o = (z + F.linear(h, lstm.weight_hh_l0, lstm.bias_hh_l0)).chunk(4, dim=1)
        c = rec(f) * c + rec(i) * act(g)
        h = rec(o) * act(c)
    _, (h_n, c_n) = lstm(inputs)
    torch.testing.assert_close(h_n[0], h, atol=1e-10, rtol=0)
    torch.testing.assert_close(c_n[0], c, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"layer_norm": True},
        {"layer_norm": True, "bidirectional": True, "proj_size": 2, "bias": False},
        {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
        {"activation": "sigmoid", "recurrent_activation": "tanh", "layer_norm": True},
    ],
)
def test_fused_gradients_equal_naive_ones(options: dict) -> None:
    """Autograd differentiates naive, whose forward is tested above; fused has its own backward."""
    torch.manual_seed(0)
    naive = LSTM(3, 4, 2, **options, backend="naive", dtype=torch.float64)
    randomise(naive)
    fused = LSTM(3, 4, 2, **options, backend="fused", dtype=torch.float64)
    fused.load_state_dict(naive.state_dict())
    inputs = torch.randn(6, 3, 3, dtype=torch.float64, requires_grad=True)
    gradients = []
    for lstm in (naive, fused):
        output, (h_n, c_n) = lstm(inputs, lengths=[6, 2, 4])
        loss = (output**2).sum() + (h_n**3).sum() + (c_n**2).sum()
        gradients.append(torch.autograd.grad(loss, [inputs, *lstm.parameters()]))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("probability", [0.25, 0.5, 19661 / 2**16])
def test_recurrent_dropout_zeroes_hidden_weights_in_training_only(
    backend: str, probability: float
) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 15, recurrent_dropout=probability, backend=backend, dtype=torch.float64)
    plain = nn.LSTM(3, 15, dtype=torch.float64)
    plain.load_state_dict(lstm.state_dict())
    inputs = torch.randn(5, 2, 3, dtype=torch.float64)
    output, _ = lstm(inputs)
    (gradient,) = torch.autograd.grad(output.sum(), lstm.weight_hh_l0)
    is_kept = gradient != 0
    assert abs(is_kept.double().mean() - (1 - probability)) < 0.08  # 5 standard deviations
    with torch.no_grad():
        plain.weight_hh_l0.copy_(lstm.weight_hh_l0 * is_kept / (1 - probability))
    torch.testing.assert_close(output, plain(inputs)[0], atol=1e-10, rtol=0)

    plain.load_state_dict(lstm.state_dict())
    torch.testing.assert_close(lstm.eval()(inputs)[0], plain(inputs)[0], atol=1e-10, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [None, [2, 6, 4]])
def test_variational_dropout_is_one_mask_per_sequence(
    backend: str, lengths: list[int] | None
) -> None:
    """The second layer's outputs are positive exactly where the mask lets a feature pass."""
    torch.manual_seed(0)
    lstm = LSTM(3, 8, 2, variational_dropout=0.5, backend=backend, batch_first=True)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.zero_()
        lstm.bias_ih_l0.fill_(2.0)  # every output of the first layer is positive
        lstm.weight_ih_l1[16:24] = torch.eye(8)  # the candidate sees one feature each
    output, _ = lstm(torch.randn(3, 6, 3), lengths=lengths)
    passed = output > 0
    for row, length in enumerate(lengths or [6, 6, 6]):
        assert (passed[row, :length] == passed[row, 0]).all()
    assert 0 < passed[:, 0].float().mean() < 1
    assert (passed[0, 0] != passed[1, 0]).any()
    assert (lstm.eval()(torch.randn(3, 6, 3))[0] > 0).all()


def test_forget_bias_is_the_sum_of_the_forget_gates_biases() -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, 2, bidirectional=True, forget_bias=1.0)
    torch.manual_seed(0)
    plain = nn.LSTM(3, 4, 2, bidirectional=True)
    lstm_again = LSTM(3, 4, 2, bidirectional=True, forget_bias=1.0)
    lstm_again.reset_parameters()
    for module in (lstm, lstm_again):
        for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
            total = getattr(module, f"bias_ih_{suffix}") + getattr(module, f"bias_hh_{suffix}")
            assert (total[4:8] == 1).all()
    for name, parameter in plain.named_parameters():
        ours = getattr(lstm, name)
        if name.startswith("bias"):
            torch.testing.assert_close(ours[:4], parameter[:4])
            torch.testing.assert_close(ours[8:], parameter[8:])
        else:
            torch.testing.assert_close(ours, parameter)


def test_layer_norm_starts_as_the_identity_gain() -> None:
    lstm = LSTM(3, 4, layer_norm=True)
    lstm.reset_parameters()
    assert (lstm.weight_ln_l0 == 1).all()
    assert (lstm.bias_ln_l0 == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "fusd"}, "auto, naive, fused, torch, native, got: 'fusd'"),
        (
            {"backend": "torch", "layer_norm": True},
            "nn.LSTM's kernels have no layer_norm; use backend='naive' or 'fused'",
        ),
        ({"backend": "torch", "activation": "relu"}, "no activations other than tanh and sigmoid"),
        ({"activation": "gelu"}, "tanh, sigmoid, relu, hard_sigmoid, got: 'gelu'"),
        ({"recurrent_activation": None}, "recurrent_activation should be one of"),
        ({"recurrent_dropout": 1.5}, r"recurrent_dropout should be a number in range \[0, 1\]"),
        ({"variational_dropout": True}, r"variational_dropout should be a number"),
        ({"forget_bias": 1.0, "bias": False}, "forget_bias needs bias=True"),
        ({"layer_norm": True, "dtype": torch.complex64}, "not defined for complex numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:Complex modules")
def test_options_that_do_not_fit_are_rejected(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSTM(3, 4, **options)


def test_the_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        LSTM(3, 4, 1, True, False, 0.0, False, 0, None, None, "fused")  # type: ignore[misc]
