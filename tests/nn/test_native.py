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


def test_training_can_be_traced_with_shapes_alone() -> None:
    with FakeTensorMode():
        output, _ = LSTM(3, 5, backend="native")(torch.randn(4, 2, 3))
        output.sum().backward()
    assert output.shape == (4, 2, 5)


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
