"""The native backend: what torch and users expect of a custom operator."""

import os
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.export import Dim

from attnlstm.nn import LSTM
from attnlstm.nn.backends import BACKENDS, HAS_BFLOAT16, native
from attnlstm.nn.backends.native import multiplies_bfloat16

pytestmark = pytest.mark.slow


def operator_arguments(
    dtype: torch.dtype, directions: int, projects: bool, layout: str = "packed"
) -> list:
    """Return arguments for three ragged sequences, in which all tensors require gradients."""
    torch.manual_seed(0)
    input_size, hidden_size, proj_size = 3, 5, 2 if projects else 5
    sizes = {"packed": (7,), "time first": (4, 3), "batch first": (3, 4)}[layout]
    lengths = torch.tensor([3, 2, 2] if layout == "packed" else [2, 3, 2])

    def tensor(*sizes: int) -> Tensor:
        return torch.randn(*sizes, dtype=dtype, requires_grad=True)

    return [
        tensor(*sizes, input_size),
        lengths,
        tensor(directions, 3, proj_size),
        tensor(directions, 3, hidden_size),
        [
            tensor(*shape)
            for _ in range(directions)
            for shape in (
                (4 * hidden_size, input_size),
                (4 * hidden_size, proj_size),
                *([(4 * hidden_size,)] * 2),
                *([(proj_size, hidden_size)] if projects else []),
            )
        ],
        directions,
        layout == "batch first",
        7,
        False,
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("projects", [False, True])
@pytest.mark.parametrize("layout", ["packed", "time first", "batch first"])
@pytest.mark.parametrize("has_state", [True, False])
def test_the_operator_passes_opcheck(
    directions: int, projects: bool, layout: str, has_state: bool
) -> None:
    BACKENDS["native"].load()
    arguments = operator_arguments(torch.float64, directions, projects, layout)
    if not has_state:
        arguments[2:4] = [None, None]
    torch.library.opcheck(torch.ops.attnlstm.lstm_layer.default, arguments)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layout", ["packed", "time first", "batch first"])
def test_the_operator_passes_opcheck_in_bfloat16(directions: int, layout: str) -> None:
    if BACKENDS["native"].load() is not None or not multiplies_bfloat16():
        pytest.skip("this processor has no unit that multiplies bfloat16")
    arguments = operator_arguments(torch.bfloat16, directions, False, layout)
    torch.library.opcheck(torch.ops.attnlstm.lstm_layer.default, arguments)


@pytest.mark.parametrize(
    ("layout", "bad"),
    [
        ("packed", [3, 3, 3]),
        ("packed", [2, 3, 2]),
        ("packed", [5, 2]),
        ("time first", [5, 3, 2]),
        ("batch first", [5, 3, 2]),
        ("batch first", [-1, 3, 2]),
        ("batch first", [1, 3, 3, 3]),
    ],
)
def test_the_operator_rejects_lengths_that_do_not_fit(layout: str, bad: list[int]) -> None:
    BACKENDS["native"].load()
    arguments = operator_arguments(torch.float32, 1, False, layout)
    arguments[1] = torch.tensor(bad)
    with pytest.raises(
        RuntimeError, match=r"lengths|Expected h_0 size \[1, 2, 5\], got \[1, 3, 5\]"
    ):
        torch.ops.attnlstm.lstm_layer(*arguments)


@pytest.mark.parametrize(
    ("name", "weight", "message"),
    [
        ("weight_ih_l0", torch.ones(20, 2), "weight_ih size [20, 3], got [20, 2]"),
        ("weight_ih_l0", torch.ones(60), "weight_ih size [20, 3], got [60]"),
        ("weight_hh_l0", torch.ones(20, 3), "weight_hh size [20, 2], got [20, 3]"),
        ("weight_hh_l0", torch.ones(40, 2), "weight_ih size [40, 3], got [20, 3]"),
        ("weight_hh_l0", torch.ones(0, 2), "weight_hh to be a matrix with rows, got [0, 2]"),
        ("bias_ih_l0", torch.ones(5), "bias_ih size [20], got [5]"),
        ("bias_hh_l0", torch.ones(1, 20), "bias_hh size [20], got [1, 20]"),
        ("bias_hh_l0_reverse", torch.ones(5), "bias_hh_reverse size [20], got [5]"),
        ("weight_hr_l0", torch.ones(2, 4), "weight_hr size [2, 5], got [2, 4]"),
        ("weight_hr_l0", torch.ones(10), "weight_hr to be a matrix with rows, got [10]"),
        ("weight_ih_l1", torch.ones(20, 3), "weight_ih size [20, 4], got [20, 3]"),
        ("bias_ih_l0", torch.ones(20, dtype=torch.float64), "bias_ih dtype float, got double"),
        ("bias_ih_l0", torch.ones(20, device="meta"), "bias_ih on cpu, got meta"),
    ],
)
def test_a_replaced_weight_that_does_not_fit_is_an_error(
    name: str, weight: Tensor, message: str
) -> None:
    """The kernels would otherwise read out of bounds."""
    lstm = LSTM(3, 5, 2, proj_size=2, bidirectional=True, backend="native")
    with pytest.raises(RuntimeError, match=re.escape(f"Expected {message}")):
        torch.func.functional_call(lstm, {name: weight}, torch.ones(4, 1, 3))


def test_weights_of_two_dtypes_are_an_error_in_bfloat16_too() -> None:
    """Where the kernels compute bfloat16 in float32, they would otherwise cast any weight."""
    lstm, inputs = LSTM(3, 5, backend="native", dtype=torch.bfloat16), torch.ones(4, 1, 3)
    with pytest.raises(RuntimeError, match=r"Expected .*, got .*float"):
        torch.func.functional_call(lstm, {"bias_ih_l0": torch.ones(20)}, inputs.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_need_not_be_contiguous(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    lstm, inputs = LSTM(3, 5, backend="native", dtype=dtype), torch.randn(4, 1, 3, dtype=dtype)
    transposed = {name: w.T.clone().T for name, w in lstm.named_parameters() if w.dim() == 2}
    found, _ = torch.func.functional_call(lstm, transposed, inputs)
    assert torch.equal(found, lstm(inputs)[0])


@pytest.mark.parametrize("operator", ["lstm_layer_backward", "lstm_layer_backward_"])
@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "d_output"),
        (1, "d_h_n"),
        (2, "d_c_n"),
        (5, "h_0"),
        (6, "c_0"),
        (10, "output"),
        (11, "gates"),
        (12, "cells"),
    ],
)
def test_the_backward_checks_what_it_reads(operator: str, number: int, name: str) -> None:
    BACKENDS["native"].load()
    *inputs, steps, overwrites = operator_arguments(torch.float32, 2, True)
    with torch.no_grad():
        output, h_n, c_n, gates, cells = torch.ops.attnlstm.lstm_layer(*inputs, steps, overwrites)
        arguments = [output, h_n, c_n, *inputs, output, gates, cells, True]
        getattr(torch.ops.attnlstm, operator)(*arguments)
        arguments[number] = arguments[number][..., :-1]
        with pytest.raises(RuntimeError, match=f"Expected {name} size"):
            getattr(torch.ops.attnlstm, operator)(*arguments)


def test_a_retained_graph_gives_the_same_gradients_twice() -> None:
    """Without retain_graph, the backward overwrites what the forward kept."""
    torch.manual_seed(0)
    lstm = LSTM(3, 20, backend="native", bidirectional=True)
    output, _ = lstm(torch.randn(9, 4, 3), lengths=[9, 2, 5, 0])
    loss = (output**3).sum()
    first = torch.autograd.grad(loss, list(lstm.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(lstm.parameters()))
    assert all(map(torch.equal, first, second))


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


def test_training_can_be_traced_with_shapes_alone() -> None:
    with FakeTensorMode():
        output, _ = LSTM(3, 5, backend="native")(torch.randn(4, 2, 3))
        output.sum().backward()
    assert output.shape == (4, 2, 5)


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


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to read memory from")
def test_calls_leave_no_memory_behind() -> None:
    lstm = LSTM(3, 20, bidirectional=True, backend="native")
    inputs = torch.ones(5, 2, 3)

    def call(times: int) -> int:
        for _ in range(times):
            lstm(inputs)[0].sum().backward()
        pages = int(
            Path("/proc/self/statm").read_text().split()[1]
        )  # the current size, not the peak
        return pages * os.sysconf("SC_PAGE_SIZE")

    before = call(500)
    assert call(5_000) - before < 2**22  # the smallest of its tensors would take more


def test_memory_is_kept_for_one_call_at_a_time() -> None:
    """Two forwards whose memory is large enough to be kept do not share it."""
    torch.manual_seed(0)
    lstm = LSTM(2, 160, backend="native")
    reference = nn.LSTM(2, 160)
    reference.load_state_dict(lstm.state_dict())
    for releases in (False, False, True):  # nothing is kept at first, then two blocks are
        gradients = []
        for module in (lstm, reference):
            batches = torch.randn(2, 60, 40, 2, generator=torch.Generator().manual_seed(1))
            first, second = (module(batch)[0].square().sum() for batch in batches)
            if releases:
                native.release_memory()
            for loss in (second, first):
                gradients.append(torch.autograd.grad(loss, module.parameters()))
        torch.testing.assert_close(gradients[:2], gradients[2:], atol=1e-3, rtol=1e-4)


def test_kept_memory_is_reused_after_hooks_have_seen_it() -> None:
    lstm = LSTM(2, 160, backend="native")
    places = set()

    def look(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.nbytes() > 2**22:  # the gates
            places.add(storage.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        for _ in range(5):
            lstm(torch.ones(60, 40, 2))[0].sum().backward()
    assert len(places) == 1


class Exported(nn.Module):
    """Takes the lengths by position, as modules are exported."""

    def __init__(self, lstm: LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return self.lstm(inputs, lengths=lengths)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_exported_lstm_takes_any_batch_time_and_lengths(batch_first: bool) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 5, 2, batch_first=batch_first, bidirectional=True, backend="native").eval()
    batch, time = Dim("batch"), Dim("time")
    shapes = {"inputs": (batch, time, None) if batch_first else (time, batch, None)}

    def inputs(batch: int, time: int) -> Tensor:
        return torch.randn(*((batch, time) if batch_first else (time, batch)), 3)

    full = torch.export.export(Exported(lstm), (inputs(4, 6),), dynamic_shapes=shapes)
    ragged = torch.export.export(
        Exported(lstm),
        (inputs(4, 6), torch.tensor([6, 2, 3, 1])),
        dynamic_shapes=shapes | {"lengths": (batch,)},
    )
    others, lengths = inputs(5, 9), torch.tensor([9, 0, 3, 8, 1])
    torch.testing.assert_close(full.module()(others), lstm(others))
    torch.testing.assert_close(ragged.module()(others, lengths), lstm(others, lengths=lengths))


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_is_native_for_full_batches(dtype: torch.dtype, trains: bool) -> None:
    """This includes bfloat16 on processors without it, where nn.LSTM's kernels are slowest."""
    if dtype == torch.bfloat16 and HAS_BFLOAT16 and not multiplies_bfloat16():
        pytest.skip("this processor has instructions for bfloat16, but no matrix unit")
    torch.manual_seed(0)
    inputs = torch.randn(20, 8, 16, dtype=dtype)
    lstm = LSTM(16, 32, dtype=dtype)
    outputs = {}
    for backend in ("auto", "native", "torch"):
        lstm.backend = backend
        with torch.set_grad_enabled(trains):
            outputs[backend] = lstm(inputs)[0]
    assert torch.equal(outputs["auto"], outputs["native"])
    assert not torch.equal(outputs["auto"], outputs["torch"])
