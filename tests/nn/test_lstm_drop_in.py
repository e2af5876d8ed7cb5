"""What code written for nn.LSTM expects of the module."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_sequence

from attnlstm.nn import LSTM
from attnlstm.nn.backends import BACKENDS

pytestmark = pytest.mark.slow

CONSTRUCTIONS = [
    ((3, 4), {}),
    ((3, 4, 2), {"bidirectional": True, "dropout": 0.5}),
    ((3, 4, 2, False, True), {"proj_size": 2}),
    ((3, 4), {"dtype": torch.float64}),
    ((3, 4), {"device": "meta"}),
]


@pytest.mark.parametrize(("sizes", "options"), CONSTRUCTIONS)
def test_same_seed_same_parameters_same_repr(sizes: tuple, options: dict) -> None:
    torch.manual_seed(3)
    theirs = nn.LSTM(*sizes, **options)
    torch.manual_seed(3)
    ours = LSTM(*sizes, **options)
    assert repr(ours) == repr(theirs)
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (mine.shape, mine.dtype, mine.device) == (other.shape, other.dtype, other.device)
        assert mine.is_meta or torch.equal(mine, other)
    assert theirs.load_state_dict(ours.state_dict()) == ours.load_state_dict(theirs.state_dict())
    assert isinstance(ours, nn.LSTM)


def test_repr_shows_the_options_that_differ_from_their_defaults() -> None:
    lstm = LSTM(3, 4, batch_first=True, backend="fused", layer_norm=True, recurrent_dropout=0.1)
    assert repr(lstm) == (
        "LSTM(3, 4, batch_first=True, backend='fused', layer_norm=True, recurrent_dropout=0.1)"
    )


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_copies_and_pickles_and_moves(backend: str) -> None:
    lstm = LSTM(3, 4, 2, bidirectional=True, backend=backend)
    inputs = torch.randn(5, 2, 3)
    expected, _ = lstm(inputs)
    saved = io.BytesIO()
    torch.save(lstm.state_dict(), saved)
    saved.seek(0)
    loaded = LSTM(3, 4, 2, bidirectional=True, backend=backend)
    loaded.load_state_dict(torch.load(saved, weights_only=True))
    for same in (copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm)), loaded):
        torch.testing.assert_close(same(inputs)[0], expected)
        assert repr(same) == repr(lstm)
    assert lstm.double()(inputs.double())[0].dtype == torch.float64
    assert lstm.to("meta")(inputs.double().to("meta"))[0].shape == expected.shape


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_parametrizations_reach_the_recurrence(backend: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, backend=backend)
    parametrizations.weight_norm(lstm, "weight_hh_l0")
    with torch.no_grad():
        lstm.parametrizations.weight_hh_l0.original0.mul_(3)
    plain = nn.LSTM(3, 4)
    plain.load_state_dict(
        {name: getattr(lstm, name) for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0")}
        | {"weight_hh_l0": lstm.weight_hh_l0}
    )
    inputs = torch.randn(5, 2, 3)
    output, _ = lstm(inputs)
    torch.testing.assert_close(output, plain(inputs)[0])
    output.sum().backward()
    assert lstm.parametrizations.weight_hh_l0.original0.grad is not None


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_functional_call_and_frozen_weights(backend: str) -> None:
    torch.manual_seed(0)
    lstm, other = LSTM(3, 4, backend=backend), nn.LSTM(3, 4)
    inputs = torch.randn(5, 2, 3)
    weights = dict(other.named_parameters())
    output, _ = torch.func.functional_call(lstm, weights, (inputs,))
    torch.testing.assert_close(output, other(inputs)[0])

    lstm.weight_ih_l0.requires_grad_(False)
    lstm(inputs)[0].sum().backward()
    assert lstm.weight_ih_l0.grad is None
    assert lstm.weight_hh_l0.grad is not None


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_empty_batches(backend: str) -> None:
    lstm = LSTM(3, 4, 2, bidirectional=True, proj_size=2, backend=backend)
    output, (h_n, c_n) = lstm(torch.zeros(5, 0, 3))
    assert output.shape == (5, 0, 4)
    assert h_n.shape == (4, 0, 2)
    assert c_n.shape == (4, 0, 4)
    (output.sum() + h_n.sum()).backward()
    assert (lstm.weight_ih_l0.grad == 0).all()


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_unbatched_is_a_batch_of_one(backend: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, 2, batch_first=True, backend=backend)
    inputs, hx = torch.randn(5, 3), (torch.randn(2, 4), torch.randn(2, 4))
    output, (h_n, c_n) = lstm(inputs, hx)
    expected, (h_expected, c_expected) = lstm(
        inputs.unsqueeze(0), (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
    )
    torch.testing.assert_close(output, expected.squeeze(0))
    torch.testing.assert_close(h_n, h_expected.squeeze(1))
    torch.testing.assert_close(c_n, c_expected.squeeze(1))


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_packed_sequences_keep_their_order(backend: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, backend=backend)
    sequences = [torch.randn(n, 3) for n in (2, 5, 3)]
    packed = pack_sequence(sequences, enforce_sorted=False)
    output, (h_n, _) = lstm(packed)
    assert torch.equal(output.sorted_indices, packed.sorted_indices)
    for row, sequence in enumerate(sequences):
        torch.testing.assert_close(h_n[:, row], lstm(sequence)[1][0])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("3", 4), {}),
        ((3, 4.0), {}),
        ((0, 4), {}),
        ((3, 0), {}),
        ((3, 4, 0), {}),
        ((3, 4), {"bias": 1}),
        ((3, 4), {"batch_first": 1}),
        ((3, 4), {"dropout": 1.5}),
        ((3, 4), {"dropout": True}),
        ((3, 4), {"proj_size": -1}),
        ((3, 4), {"proj_size": 4}),
        ((3,), {}),
        ((3, 4), {"hidden": 3}),
    ],
)
def test_the_constructor_rejects_what_nn_lstm_rejects(arguments: tuple, options: dict) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        nn.LSTM(*arguments, **options)
    with pytest.raises(theirs.type):
        LSTM(*arguments, **options)


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize(
    ("input", "hx"),
    [
        (zeros(5, 2, 7), None),
        (zeros(0, 2, 3), None),
        (zeros(5, 2, 3, 1), None),
        (zeros(3), None),
        (zeros(5, 2, 3).double(), None),
        (zeros(5, 2, 3).long(), None),
        (zeros(5, 2, 3).to("meta"), None),
        (zeros(5, 2, 3), (zeros(1, 3, 4), zeros(1, 2, 4))),
        (zeros(5, 2, 3), (zeros(1, 2, 4), zeros(1, 2, 5))),
        (zeros(5, 2, 3), (zeros(2, 2, 4), zeros(2, 2, 4))),
        (zeros(5, 2, 3), (zeros(2, 4), zeros(2, 4))),
        (zeros(5, 3), (zeros(1, 1, 4), zeros(1, 1, 4))),
        (zeros(5, 2, 3), (zeros(1, 2, 4).double(), zeros(1, 2, 4).double())),
        (zeros(5, 2, 3), (zeros(1, 2, 4).to("meta"), zeros(1, 2, 4).to("meta"))),
    ],
)
def test_a_call_rejects_what_nn_lstm_rejects(backend: str, input: torch.Tensor, hx: tuple) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        nn.LSTM(3, 4)(input, hx)
    with pytest.raises(theirs.type) as ours:
        LSTM(3, 4, backend=backend)(input, hx)
    assert str(ours.value)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize(
    ("features", "hx"), [(7, None), (3, (zeros(1, 2, 4), zeros(1, 2, 4)))], ids=["input", "hx"]
)
def test_packed_sizes_are_checked_where_torch_does_not(
    backend: str, features: int, hx: tuple
) -> None:
    with pytest.raises(RuntimeError, match="Expected"):
        LSTM(3, 4, backend=backend)(pack_sequence([zeros(5, features)]), hx)


class Wrapper(nn.Module):
    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.lstm(inputs)[0]


def test_torchscript_compiles_it_as_nn_lstm() -> None:
    torch.manual_seed(0)
    model = Wrapper(LSTM(3, 4, 2, bidirectional=True, batch_first=True))
    inputs = torch.randn(2, 5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        scripted = torch.jit.script(model)
    torch.testing.assert_close(scripted(inputs), model(inputs))
    with pytest.raises(RuntimeError, match="without its cell options"):
        torch.jit.script(Wrapper(LSTM(3, 4, layer_norm=True)))


def test_dropout_warns_for_a_single_layer() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        LSTM(3, 4, dropout=0.5)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize(
    ("hx", "error"),
    [((zeros(1, 2, 4),) * 3, RuntimeError), (zeros(2, 1, 2, 4), TypeError)],
)
def test_a_state_is_a_pair(backend: str, hx: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        LSTM(3, 4, backend=backend)(zeros(5, 2, 3), hx)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("batch_sizes", [[2], [1, 2, 3]])
def test_inconsistent_packed_sequences_are_rejected(backend: str, batch_sizes: list[int]) -> None:
    packed = nn.utils.rnn.PackedSequence(zeros(6, 3), torch.tensor(batch_sizes))
    with pytest.raises(RuntimeError, match="batch_sizes"):
        LSTM(3, 4, backend=backend)(packed)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_the_default_device_is_not_used(backend: str) -> None:
    lstm, packed = LSTM(3, 4, backend=backend), pack_sequence([zeros(5, 3), zeros(2, 3)])
    inputs, lengths = zeros(5, 2, 3), torch.tensor([5, 2])
    with torch.device("meta"):
        assert lstm(packed)[0].data.is_cpu
        assert lstm(inputs, lengths=lengths)[0].is_cpu
        assert lstm(inputs, lengths=[5, 2])[0].is_cpu


def test_each_bias_has_a_gradient_of_its_own() -> None:
    lstm = LSTM(3, 4, backend="fused")
    biases = [lstm.bias_ih_l0, lstm.bias_hh_l0]
    first, second = torch.autograd.grad(lstm(torch.ones(5, 2, 3))[0].sum(), biases)
    torch.testing.assert_close(first, second)
    first.zero_()
    assert second.abs().sum() > 0


def test_a_parametrized_module_can_be_moved_and_copied() -> None:
    lstm = LSTM(3, 4)
    parametrizations.orthogonal(lstm, "weight_hh_l0")
    copied = copy.deepcopy(lstm.double())
    inputs = torch.randn(5, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(copied(inputs)[0], lstm(inputs)[0])


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_dropout_is_applied_in_training_without_gradients_too(backend: str) -> None:
    lstm = LSTM(3, 4, 2, dropout=0.5, backend=backend)
    inputs = torch.randn(5, 2, 3)
    with torch.no_grad():
        assert not torch.equal(lstm(inputs)[0], lstm(inputs)[0])
        lstm.eval()
        assert torch.equal(lstm(inputs)[0], lstm(inputs)[0])


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_vectorized_jacobians(backend: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, backend=backend, dtype=torch.float64)
    inputs = torch.randn(3, 2, 3, dtype=torch.float64)

    def total(inputs: torch.Tensor) -> torch.Tensor:
        return lstm(inputs)[0].sum(dim=(0, 2))

    expected = torch.autograd.functional.jacobian(total, inputs)
    actual = torch.autograd.functional.jacobian(total, inputs, vectorize=True)
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["auto", "fused"])
def test_torch_compile_trains(backend: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, backend=backend)
    compiled = torch.compile(lstm, backend="aot_eager")
    inputs = torch.randn(3, 2, 3)
    for lengths in (None, [3, 1]):
        output, _ = compiled(inputs, lengths=lengths)
        torch.testing.assert_close(output, lstm(inputs, lengths=lengths)[0])
        output.sum().backward()
    assert lstm.weight_hh_l0.grad is not None
