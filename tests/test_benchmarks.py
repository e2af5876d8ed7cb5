"""The command lines of the benchmarks, on cases too small for meaningful measurements."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
VARIANTS = {"nn.LSTM padded", "nn.LSTM packed", "fused"}
LSTM = ["--shapes", "5,3,2,4", "--lengths", "full", "uniform", "--backends", "fused"]


@pytest.fixture(scope="module")
def run_benchmark() -> Iterator[Callable]:
    """Run `python -m benchmarks.NAME ARGUMENTS` in this process."""

    def run(name: str, *arguments: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(ROOT))
            patch.setattr(sys, "argv", [name, *map(str, arguments)])
            importlib.import_module(f"benchmarks.{name}").main()

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def lstm_results(run_benchmark: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmarks") / "lstm.json"
    run_benchmark("lstm", *LSTM, "--seconds", 0.01, "--threads", 1, "--output", path)
    return path


def test_lstm_measures_every_variant_and_nn_lstm(lstm_results: Path) -> None:
    content = json.loads(lstm_results.read_text())
    assert {"processor", "torch", "threads", "dtype", "peak_gflops"} <= content["machine"].keys()
    assert len(content["cases"]) == 2 * 2 * 2  # lengths, layers, directions
    for case in content["cases"]:
        for mode in ("training", "inference"):
            assert case[mode].keys() == VARIANTS
            assert all(found["milliseconds"] > 0 for found in case[mode].values())
            assert all(0 < found["share_of_peak"] < 1 for found in case[mode].values())
            assert case[mode]["nn.LSTM padded"]["times_padded"] == 1
            assert case[mode]["nn.LSTM packed"]["times_packed"] == 1
        memory = {name: found["memory"] for name, found in case["training"].items()}
        assert memory["nn.LSTM padded"] == 1
        # at least the gradient of the input: 5 * 3 steps of 2 numbers of 4 bytes
        assert min(found["peak_bytes"] for found in case["training"].values()) >= 5 * 3 * 2 * 4


def test_lstm_figure_is_a_small_svg(
    run_benchmark: Callable, lstm_results: Path, tmp_path: Path
) -> None:
    run_benchmark("lstm_figure", lstm_results, tmp_path / "speed.svg")
    drawn = (tmp_path / "speed.svg").read_text()
    for text in ("full batches", "ragged batches", "5, 3, 2, 4", "fused, against nn.LSTM packed"):
        assert text in drawn
    assert len(drawn) < 60_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "labml"], "unknown library labml, choose from keras,onnxruntime"),
        (["--peers", "onnxruntime", "--dtype", "float64"], "onnxruntime"),
    ],
)
def test_lstm_rejects_an_unusable_peer(
    run_benchmark: Callable,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_benchmark("lstm", *arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_lstm_names_the_missing_packages_of_a_peer(
    run_benchmark: Callable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if "onnx" in name else find_spec(name)
    )
    monkeypatch.delitem(sys.modules, "benchmarks.lstm", raising=False)
    monkeypatch.delitem(sys.modules, "benchmarks.peers", raising=False)
    with pytest.raises(SystemExit) as stop:
        run_benchmark("lstm", "--peers", "onnxruntime")
    assert stop.value.code == 2
    assert "pip install onnxruntime onnx" in capsys.readouterr().err


def test_onnxruntime_computes_the_same_as_nn_lstm(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.peers import build_onnxruntime

    lstm = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    inputs, lengths = torch.randn(6, 2, 3), torch.tensor([6, 4])
    with torch.no_grad():
        found = build_onnxruntime(lstm, lengths)(inputs)
        for row, length in enumerate(lengths):
            torch.testing.assert_close(found[:length, row], lstm(inputs[:length, row])[0])


def test_training_splits_the_steps_of_both_loops(
    run_benchmark: Callable, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "training.json"
    options = ["--sets", "BasicMotions", "--backends", "fused", "--epochs", 3, "--threads", 1]
    run_benchmark("training", *options, "--output", path)
    (result,) = json.loads(path.read_text())["results"]
    assert result["name"] == "BasicMotions, fused"
    assert result["threads"] == 1
    assert result["times_plain"] > 0
    for loop in (result["ours"], result["plain"]):
        assert loop["step"].keys() == {"data", "forward", "backward", "optimizer", "framework"}
        assert all(milliseconds > 0 for milliseconds in loop["step"].values())
        assert 2 * sum(loop["step"].values()) < loop["epoch"]  # 32 series in batches of 16
        assert len(loop["accuracies"]) == 1
    printed = capsys.readouterr().out
    assert "framework" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_busy_compares_each_run_with_the_same_run_alone(
    run_benchmark: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import busy

    commands = []

    def run(command: list[str]) -> busy.Usage:
        commands.append(command)
        number = len(commands)  # each run takes longer than the one before
        return busy.Usage(0, 2.0 * number, 3.0 * number, peak_bytes=0, output="")

    monkeypatch.setattr(busy, "run", run)
    monkeypatch.setattr(busy, "count_processors", lambda: 2)
    run_benchmark("busy", "data.noise=0.1", "--runs", "series", "--threads", 2)
    assert all({"num_threads=2", "data.noise=0.1"} < set(command) for command in commands)
    rows = [line.strip("│ ").split("│") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) > 1]
    assert ["series, 2", "alone", "3.0 s", "2.0 s"] in cells
    assert ["1 busy", "x 2.00", "x 2.00", "x 1.50"] in cells
    assert ["2 busy", "x 3.00", "x 3.00", "x 2.00"] in cells


def test_training_needs_more_epochs_than_the_warm_up(run_benchmark: Callable) -> None:
    with pytest.raises(SystemExit) as stop:
        run_benchmark("training", "--epochs", 2)
    assert stop.value.code == 2
