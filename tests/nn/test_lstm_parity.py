"""Outputs, states and every gradient against nn.LSTM, over a grid of its options."""

import itertools
import zlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attnlstm.nn import LSTM
from attnlstm.nn.backends import BACKENDS

TIME, BATCH, INPUT, HIDDEN = 6, 4, 3, 5
LENGTHS = torch.tensor([3, 6, 1, 4])
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]


def weighted_sum(tensors: list[Tensor]) -> Tensor:
    """Return a loss in which every element of every result has a different weight."""
    return sum(  # type: ignore[return-value]
        (t * torch.linspace(-1, 2, t.numel(), dtype=t.dtype).view(t.shape)).sum() for t in tensors
    )


def results_and_gradients(
    lstm: nn.LSTM, inputs: Tensor, hx: tuple[Tensor, Tensor], layout: str
) -> list[Tensor]:
    inputs = inputs.clone().requires_grad_()
    hx = (hx[0].clone().requires_grad_(), hx[1].clone().requires_grad_())
    if layout == "full":
        output, state = lstm(inputs, hx)
    elif layout == "lengths" and isinstance(lstm, LSTM):
        output, state = lstm(inputs, hx, lengths=LENGTHS)
    else:
        packed = pack_padded_sequence(inputs, LENGTHS, lstm.batch_first, enforce_sorted=False)
        output, state = lstm(packed, hx)
        output, _ = pad_packed_sequence(output, lstm.batch_first, total_length=TIME)
    results = [output, *state]
    gradients = torch.autograd.grad(weighted_sum(results), [inputs, *hx, *lstm.parameters()])
    return [*results, *gradients]


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", ["full", "packed", "lengths"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_equals_torch(backend: str, dtype: torch.dtype, layout: str, num_layers: int) -> None:
    for bidirectional, proj_size, bias, batch_first in itertools.product(
        (False, True), (0, 2), (False, True), (False, True)
    ):
        options = {
            "num_layers": num_layers,
            "bias": bias,
            "batch_first": batch_first,
            "bidirectional": bidirectional,
            "proj_size": proj_size,
            "dtype": dtype,
        }
        torch.manual_seed(zlib.crc32(repr(options).encode()))
        theirs = nn.LSTM(INPUT, HIDDEN, **options)
        ours = LSTM(INPUT, HIDDEN, **options, backend=backend)
        ours.load_state_dict(theirs.state_dict())
        shape = (BATCH, TIME) if batch_first else (TIME, BATCH)
        inputs = torch.randn(*shape, INPUT, dtype=dtype)
        rows = num_layers * (2 if bidirectional else 1)
        hx = (
            torch.randn(rows, BATCH, proj_size or HIDDEN, dtype=dtype),
            torch.randn(rows, BATCH, HIDDEN, dtype=dtype),
        )
        torch.testing.assert_close(
            results_and_gradients(ours, inputs, hx, layout),
            results_and_gradients(theirs, inputs, hx, layout),
            atol=TOLERANCE[dtype],
            rtol=TOLERANCE[dtype],
            msg=lambda difference, options=options: f"{options}: {difference}",
        )


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "native"])
def test_complex_gradients_equal_torch(backend: str) -> None:
    torch.manual_seed(0)
    theirs = nn.LSTM(INPUT, HIDDEN, 2, bidirectional=True, proj_size=2, dtype=torch.complex128)
    ours = LSTM(
        INPUT, HIDDEN, 2, bidirectional=True, proj_size=2, dtype=torch.complex128, backend=backend
    )
    ours.load_state_dict(theirs.state_dict())
    inputs = torch.randn(TIME, BATCH, INPUT, dtype=torch.complex128)
    packed = pack_padded_sequence(inputs, LENGTHS, enforce_sorted=False)

    def gradients(lstm: nn.LSTM) -> list[Tensor]:
        output, state = lstm(packed)
        loss = weighted_sum([output.data, *state]).abs()
        return [output.data, *torch.autograd.grad(loss, list(lstm.parameters()))]

    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ragged", [False, True])
def test_bfloat16_equals_float32_within_rounding(backend: str, ragged: bool) -> None:
    torch.manual_seed(0)
    lstm = LSTM(INPUT, 16, 2, bidirectional=True, backend=backend)
    inputs = torch.randn(TIME, BATCH, INPUT)
    lengths = LENGTHS if ragged else None
    expected, _ = lstm(inputs, lengths=lengths)
    actual, (h_n, c_n) = lstm.bfloat16()(inputs.bfloat16(), lengths=lengths)
    assert {actual.dtype, h_n.dtype, c_n.dtype} == {torch.bfloat16}
    torch.testing.assert_close(actual.float(), expected, atol=0.03, rtol=0)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("ragged", [False, True])
def test_autocast_computes_in_bfloat16_and_trains(backend: str, ragged: bool) -> None:
    torch.manual_seed(0)
    lstm = LSTM(INPUT, 16, backend=backend)
    inputs = torch.randn(TIME, BATCH, INPUT)
    lengths = LENGTHS if ragged else None
    expected, _ = lstm(inputs, lengths=lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual, _ = lstm(inputs, lengths=lengths)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), expected, atol=0.03, rtol=0)
    actual.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in lstm.parameters())


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_between_layers_equals_torchs_with_the_same_seed(backend: str) -> None:
    torch.manual_seed(0)
    theirs = nn.LSTM(INPUT, HIDDEN, 3, dropout=0.4, bidirectional=True, dtype=torch.float64)
    ours = LSTM(
        INPUT, HIDDEN, 3, dropout=0.4, bidirectional=True, dtype=torch.float64, backend=backend
    )
    ours.load_state_dict(theirs.state_dict())
    packed = pack_padded_sequence(
        torch.randn(TIME, BATCH, INPUT, dtype=torch.float64), LENGTHS, enforce_sorted=False
    )
    torch.manual_seed(1)
    expected = theirs(packed)[0].data
    torch.manual_seed(1)
    torch.testing.assert_close(ours(packed)[0].data, expected, atol=1e-10, rtol=0)
    theirs.eval()
    ours.eval()
    torch.testing.assert_close(ours(packed)[0].data, theirs(packed)[0].data, atol=1e-10, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "proj_size": 2}])
def test_gradcheck_and_gradgradcheck(backend: str, options: dict) -> None:
    torch.manual_seed(0)
    lstm = LSTM(2, 3, **options, backend=backend, dtype=torch.float64)
    names = [name for name, _ in lstm.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in lstm.parameters()]
    inputs = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)

    def run(inputs: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        weights = dict(zip(names, parameters, strict=True))
        output, state = torch.func.functional_call(
            lstm, weights, (inputs,), {"lengths": torch.tensor([3, 2])}
        )
        return output, *state

    assert torch.autograd.gradcheck(run, (inputs, *parameters), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (inputs, *parameters), fast_mode=True)
