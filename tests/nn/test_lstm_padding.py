"""Padding, batch order and the other sequences never change a result."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from attnlstm.nn import LSTM
from attnlstm.nn.backends import BACKENDS


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@given(
    lengths=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    extra=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25, deadline=None)
def test_each_sequence_has_the_same_result_alone(
    backend: str, lengths: list[int], extra: int, seed: int
) -> None:
    torch.manual_seed(seed)
    lstm = LSTM(3, 4, 2, batch_first=True, bidirectional=True, dtype=torch.float64, backend=backend)
    time = max(max(lengths) + extra, 1)
    inputs = torch.randn(len(lengths), time, 3, dtype=torch.float64)
    inputs[torch.arange(time) >= torch.tensor(lengths).unsqueeze(1)] = float("nan")
    h_0 = torch.randn(4, len(lengths), 4, dtype=torch.float64)
    c_0 = torch.randn(4, len(lengths), 4, dtype=torch.float64)
    output, (h_n, c_n) = lstm(inputs, (h_0, c_0), lengths=lengths)
    assert output.shape == (len(lengths), time, 8)
    for row, length in enumerate(lengths):
        assert (output[row, length:] == 0).all()
        if length == 0:
            torch.testing.assert_close(h_n[:, row], h_0[:, row])
            torch.testing.assert_close(c_n[:, row], c_0[:, row])
            continue
        alone, (h_alone, c_alone) = lstm(inputs[row, :length], (h_0[:, row], c_0[:, row]))
        torch.testing.assert_close(output[row, :length], alone, atol=1e-10, rtol=0)
        torch.testing.assert_close(h_n[:, row], h_alone, atol=1e-10, rtol=0)
        torch.testing.assert_close(c_n[:, row], c_alone, atol=1e-10, rtol=0)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_padding_gets_no_gradient(backend: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, bidirectional=True, backend=backend)
    inputs = torch.randn(5, 2, 3, requires_grad=True)
    output, (h_n, c_n) = lstm(inputs, lengths=torch.tensor([2, 5]))
    (output.sum() + h_n.sum() + c_n.sum()).backward()
    assert inputs.grad is not None
    assert (inputs.grad[2:, 0] == 0).all()
    assert (inputs.grad[:2, 0] != 0).any()


@pytest.mark.parametrize(
    "lengths", [[5, 2, 4], (5, 2, 4), torch.tensor([5, 2, 4], dtype=torch.int32)]
)
def test_lengths_may_be_any_integers(lengths: object) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, batch_first=True)
    sequences = [torch.randn(n, 3) for n in (5, 2, 4)]
    output, _ = lstm(pad_sequence(sequences, batch_first=True), lengths=lengths)
    torch.testing.assert_close(output[1, :2], lstm(sequences[1])[0])


def test_an_empty_batch_with_lengths() -> None:
    output, (h_n, c_n) = LSTM(3, 4, batch_first=True)(torch.zeros(0, 5, 3), lengths=[])
    assert output.shape == (0, 5, 4)
    assert h_n.shape == c_n.shape == (1, 0, 4)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([6, 1], "from 0 to the 5 steps of the input, got 1 to 6"),
        ([-1, 5], "got -1 to 5"),
        ([1, 2, 3], r"Expected lengths size \(2,\), got \(3,\)"),
        ([1.5, 2.0], "lengths should be integers"),
        ([True, False], "lengths should be integers"),
    ],
)
def test_wrong_lengths_are_rejected(lengths: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSTM(3, 4)(torch.zeros(5, 2, 3), lengths=lengths)


def test_lengths_belong_to_a_padded_batch() -> None:
    lstm = LSTM(3, 4)
    with pytest.raises(ValueError, match="3-D"):
        lstm(torch.zeros(5, 3), lengths=[5])
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(5, 3)])
    with pytest.raises(ValueError, match="PackedSequence holds its own lengths"):
        lstm(packed, lengths=[5])
