"""The native backend's numbers: exact for every size, saturated gates and long series."""

import pytest
import torch
from torch import Tensor, nn

from attnlstm.nn import LSTM

pytestmark = pytest.mark.slow


def results_and_gradients(lstm: nn.LSTM, inputs: Tensor, lengths: Tensor) -> list[Tensor]:
    inputs = inputs.clone().requires_grad_()
    output, (h_n, c_n) = lstm(inputs, lengths=lengths)
    loss = (output**2).sum() + (h_n**3).sum() + c_n.sum()
    return [output, h_n, c_n, *torch.autograd.grad(loss, [inputs, *lstm.parameters()])]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bidirectional": True, "num_layers": 2, "proj_size": 9},
        {"bidirectional": True, "dtype": torch.bfloat16},
    ],
)
# Few and many sequences, which the threads share; and so few that they share the hidden units.
@pytest.mark.parametrize(
    ("batch", "time", "hidden_size"), [(13, 300, 70), (70, 60, 70), (3, 40, 200)]
)
def test_results_are_the_same_bits_for_any_number_of_threads(
    options: dict, batch: int, time: int, hidden_size: int
) -> None:
    torch.manual_seed(0)
    lstm = LSTM(20, hidden_size, **options, backend="native")
    inputs = torch.randn(time, batch, 20, dtype=lstm.weight_ih_l0.dtype)
    lengths = torch.randint(1, time + 1, (batch,))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5, 5):
            torch.set_num_threads(count)
            results.append(results_and_gradients(lstm, inputs, lengths))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize("hidden_size", [1, 15, 16, 17, 64, 100])
@pytest.mark.parametrize("batch", [1, 5, 6, 7, 31])
def test_every_size_equals_float64(hidden_size: int, batch: int) -> None:
    """Sizes around those of vectors and blocks, and long enough for sums in several parts."""
    torch.manual_seed(0)
    lstm = LSTM(150, hidden_size, backend="native")
    reference = nn.LSTM(150, hidden_size).double()
    reference.load_state_dict(lstm.state_dict())
    inputs = torch.randn(40, batch, 150)
    output, (h_n, c_n) = lstm(inputs)
    expected, (expected_h_n, expected_c_n) = reference(inputs.double())
    for actual, wanted in ((output, expected), (h_n, expected_h_n), (c_n, expected_c_n)):
        torch.testing.assert_close(actual.double(), wanted, atol=2e-6, rtol=0)
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(
            lstm.get_parameter(name).grad.double(), parameter.grad, atol=2e-4, rtol=1e-5
        )


def test_an_infinite_input_affects_no_other_step() -> None:
    """The hidden size does not fill the last vector."""
    torch.manual_seed(0)
    inputs = torch.randn(3, 4, 5)
    inputs[1, 2, 3] = torch.inf
    lstm, reference = LSTM(5, 33, backend="native"), nn.LSTM(5, 33)
    reference.load_state_dict(lstm.state_dict())
    gradients = []
    for module in (lstm, reference):
        x = inputs.clone().requires_grad_()
        module(x)[0].sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, equal_nan=True)
    assert gradients[0].isfinite().all()


def test_no_gate_is_negative() -> None:
    """A gate slightly below 0 would flip the sign of a large cell state."""
    # With these values, rounding once brought a forget gate below 0.
    gates = torch.tensor(
        [
            [8.957993507385254, -15.725910186767578, -3.169633388519287, -13.586282730102539],
            [3.1928353309631348, -15.808550834655762, -7.364034175872803, -0.1519225686788559],
            [-9.621161460876465, -28.837574005126953, 19.949134826660156, -55.236270904541016],
        ]
    )
    lstm = LSTM(3, 1, bias=False, backend="native")
    lstm.weight_ih_l0.data = gates.T.contiguous()
    state = (torch.zeros(1, 3, 1), torch.full((1, 3, 1), 1e30))
    _, (_, c_n) = lstm(torch.eye(3).unsqueeze(0), state)
    assert c_n.min() >= -1


@pytest.mark.parametrize("hidden_size", [1, 15, 16, 17, 70])
@pytest.mark.parametrize("batch", [1, 15, 17, 33])
def test_bfloat16_of_every_size_equals_float64_within_rounding(
    hidden_size: int, batch: int
) -> None:
    """Sizes around those of the matrix unit's tiles, and sums over an odd number of elements."""
    torch.manual_seed(0)
    lstm = LSTM(37, hidden_size, bidirectional=True, backend="native", dtype=torch.bfloat16)
    reference = LSTM(37, hidden_size, bidirectional=True, backend="naive", dtype=torch.float64)
    reference.load_state_dict(lstm.state_dict())
    inputs = torch.randn(35, batch, 37).bfloat16()
    lengths = torch.randint(1, 36, (batch,))
    for actual, expected in zip(
        results_and_gradients(lstm, inputs, lengths),
        results_and_gradients(reference, inputs.double(), lengths),
        strict=True,
    ):
        assert actual.dtype == torch.bfloat16
        assert (actual.double() - expected).norm() <= 0.02 * expected.norm()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0, 1e6])
def test_activations_and_gradients_are_exact_from_tiny_to_saturated(scale: float) -> None:
    torch.manual_seed(0)
    lstm = LSTM(4, 8, backend="native")
    reference = nn.LSTM(4, 8).double()
    reference.load_state_dict(lstm.state_dict())
    # One row in ten is of ordinary size, so that something has a gradient at every scale.
    inputs = torch.randn(6, 30, 4)
    inputs[:, 3:] *= scale
    output, expected = lstm(inputs)[0], reference(inputs.double())[0]
    torch.testing.assert_close(output.double(), expected, atol=5e-6, rtol=1e-5)
    output.square().sum().backward()
    expected.square().sum().backward()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(
            lstm.get_parameter(name).grad.double(), parameter.grad, atol=2e-4, rtol=1e-5
        )


def activate(name: str, inputs: Tensor) -> Tensor:
    """Return sigmoid or tanh of inputs [N], as the forget gate or the candidate of an LSTM."""
    lstm = LSTM(1, 1, backend="native").to(inputs.dtype).requires_grad_(requires_grad=False)
    for parameter in lstm.parameters():
        parameter.zero_()
    gate, shut, open_ = (1, 0, None) if name == "sigmoid" else (2, 1, 0)
    lstm.weight_ih_l0[gate] = 1
    lstm.bias_ih_l0[shut] = -1000
    if open_ is not None:
        lstm.bias_ih_l0[open_] = 1000
    ones = torch.ones(1, len(inputs), 1, dtype=inputs.dtype)
    _, (_, c_n) = lstm(inputs.view(1, -1, 1), (ones, ones))
    return c_n.flatten()


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_are_accurate_to_the_last_digits_everywhere(
    name: str, dtype: torch.dtype
) -> None:
    sizes = torch.logspace(-20, 1.93, 5000, dtype=torch.float64).to(dtype)
    inputs = torch.cat([-sizes, sizes, torch.linspace(-87, 87, 20_000, dtype=dtype)])
    found = activate(name, inputs).double()
    expected = getattr(torch, name)(inputs.double())
    # A processor without fused multiply-add loses a few more digits.
    units = 8 if torch.backends.cpu.get_cpu_capability() != "DEFAULT" else 80
    assert ((found - expected).abs() <= units * torch.finfo(dtype).eps * expected.abs()).all()


def test_saturated_activations_are_exact() -> None:
    inputs = torch.tensor([18.0, 88.0, 1e6, 1e30])
    for name in ("sigmoid", "tanh"):
        for signed in (inputs, -inputs):
            expected = getattr(torch, name)(signed.double()).float()
            torch.testing.assert_close(activate(name, signed), expected, rtol=1e-6, atol=1e-37)
            is_whole = expected.abs() == 1
            assert torch.equal(activate(name, signed)[is_whole], expected[is_whole])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_open_forget_gate_keeps_the_cell_state(dtype: torch.dtype) -> None:
    lstm = LSTM(1, 3, backend="native", dtype=dtype).requires_grad_(requires_grad=False)
    for parameter in lstm.parameters():
        parameter.zero_()
    lstm.bias_ih_l0[3:6] = 40
    ones = torch.ones(1, 1, 3, dtype=dtype)
    _, (_, c_n) = lstm(torch.zeros(100_000, 1, 1, dtype=dtype), (ones, ones))
    assert torch.equal(c_n, ones)


def test_non_finite_inputs_show_in_the_output() -> None:
    lstm = LSTM(3, 4, backend="native")
    inputs = torch.ones(5, 2, 3)
    inputs[2, 1, 0] = float("nan")
    output, _ = lstm(inputs)
    assert output[:2].isfinite().all()
    assert output[:, 0].isfinite().all()
    assert output[2:, 1].isnan().all()
    inputs[2, 1, 0] = float("inf")
    output, _ = lstm(inputs)
    assert not output[2:, 1].isnan().any()
