"""Every backend computes the numbers that are printed in the documents."""

import pytest
import torch
from torch import Tensor, nn

from attnlstm.nn import LSTM
from attnlstm.nn.backends import BACKENDS

SIX_NUMBERS = [8.0, -3.0, 0.0, 1.0, 5.0, -2.0]


@pytest.fixture(params=["auto", *BACKENDS])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def seeded(*sizes: int, backend: str, dtype: torch.dtype = torch.float32) -> LSTM:
    torch.manual_seed(42)
    return LSTM(*sizes, backend=backend, dtype=dtype)


def check(actual: Tensor, printed: list) -> None:
    expected = torch.tensor(printed, dtype=actual.dtype)
    actual = actual.detach().reshape(expected.shape)
    if actual.is_complex():  # each part is rounded on its own
        actual, expected = torch.view_as_real(actual), torch.view_as_real(expected)
    torch.testing.assert_close(actual, expected, atol=5.1e-5, rtol=0)


def test_one_step_of_six_features_and_two_layers_on_top(backend: str) -> None:
    output, (_, c_n) = seeded(6, 3, backend=backend)(torch.tensor([SIX_NUMBERS]))
    check(output, [[-0.2443, 0.0840, 0.4837]])
    check(c_n, [[-0.2616, 0.0902, 0.5288]])

    on_output, (_, c_on_output) = seeded(3, 3, backend=backend)(output)
    check(on_output, [[0.0832, 0.0755, 0.0117]])
    check(c_on_output, [[0.1856, 0.1574, 0.0294]])

    on_cell, (_, c_on_cell) = seeded(3, 3, backend=backend)(c_n)
    check(on_cell, [[0.0803, 0.0776, 0.0118]])
    check(c_on_cell, [[0.1810, 0.1612, 0.0293]])


def test_two_steps_of_three_features(backend: str) -> None:
    output, _ = seeded(3, 3, backend=backend)(torch.tensor(SIX_NUMBERS).view(2, 3))
    check(output, [[-0.0367, 0.4198, -0.0198], [0.1306, -0.0044, -0.0685]])


def test_six_steps_of_one_feature(backend: str) -> None:
    output, (h_n, c_n) = seeded(1, 3, backend=backend)(torch.tensor(SIX_NUMBERS).view(6, 1))
    check(output[-1], [0.1539, 0.1300, -0.0973])
    check(h_n, [[0.1539, 0.1300, -0.0973]])
    check(c_n, [[0.2453, 0.2261, -0.2197]])


def test_two_steps_of_three_sequences(backend: str) -> None:
    output, _ = seeded(1, 3, backend=backend)(torch.tensor(SIX_NUMBERS).view(2, 3, 1))
    check(
        output[-1],
        [[-0.1315, 0.3354, 0.1798], [-0.0265, 0.6095, -0.0510], [0.2242, -0.0561, -0.1505]],
    )


@pytest.mark.filterwarnings("ignore:Complex modules")
def test_complex_numbers(backend: str) -> None:
    if backend == "native":
        pytest.skip("the native backend has no complex numbers")
    lstm = seeded(1, 3, backend=backend, dtype=torch.complex64)
    output, _ = lstm(torch.tensor(SIX_NUMBERS, dtype=torch.complex64).view(2, 3, 1))
    check(
        output[-1],
        [
            [-0.0046 - 0.0199j, -0.0496 - 0.0433j, 0.1316 - 0.2021j],
            [0.1221 + 0.0741j, 0.1806 + 0.7882j, -0.0890 - 0.0377j],
            [-0.2860 + 0.3574j, -0.0367 + 0.2503j, -0.3736 + 0.1591j],
        ],
    )


def test_every_parameter_one_half(backend: str) -> None:
    ours, theirs = LSTM(10, 20, backend=backend), nn.LSTM(10, 20)
    for lstm in (ours, theirs):
        for parameter in lstm.parameters():
            nn.init.constant_(parameter, 0.5)
    inputs, states = torch.ones(1, 1, 10), (torch.ones(1, 1, 20), torch.ones(1, 1, 20))
    actual_output, actual_state = ours(inputs, states)
    expected_output, expected_state = theirs(inputs, states)
    torch.testing.assert_close(actual_output, expected_output)
    torch.testing.assert_close(actual_state, expected_state)
