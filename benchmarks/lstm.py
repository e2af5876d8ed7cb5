"""Compare training steps and inference of every backend with torch.nn.LSTM, in one run.

    python -m benchmarks.lstm
    python -m benchmarks.lstm --shapes 100,64,128,128 --lengths full uniform --layers 1 --threads 1
    python -m benchmarks.lstm --dtype bfloat16 --backends native torch
    python -m benchmarks.lstm --peers keras,onnxruntime --output lstm.json

For each case there are two tables, one for a training step (forward and backward pass, with
gradients of the weights and the input) and one for inference, with a row per variant:

- the median time in milliseconds and its spread, the interquartile range relative to the median;
- the speedup over nn.LSTM on the padded and on the packed batch;
- the fraction of the machine's peak, which a loop over registers reaches (benchmarks.peak);
- for a training step, the peak memory of torch's allocator, relative to nn.LSTM on the padded
  batch. Scratch memory from elsewhere, such as that of oneDNN for nn.LSTM, is not included.

The variants take turns, in a new random order each round, so that disturbances affect all of them.

Lengths are full; uniform, from 10% to 100% of the time steps; or distributed like those of the
bundled JapaneseVowels recordings (vowels) or BBC News articles (news), scaled so that the longest
recording, or the longest 5% of the articles, fill the time steps.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, product
from pathlib import Path
from statistics import geometric_mean, median, quantiles
from typing import NamedTuple

# Set before torch is imported: otherwise its profiler, which counts the memory, logs every use.
os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from attnlstm.console import print_table
from attnlstm.data.sources.archive import ArchiveRows
from attnlstm.data.sources.bbc_news import BBCNews
from attnlstm.nn import LSTM
from attnlstm.nn.backends import native
from attnlstm.training.threads import count_processors
from benchmarks.machine import describe_machine
from benchmarks.peak import measure_peak
from benchmarks.peers import PEERS

SHAPES = [
    "29,32,12,64",
    "100,32,64,64",
    "100,64,128,128",
    "200,64,128,256",
    "100,64,256,512",
    "400,8,128,128",
]
PADDED, PACKED = "nn.LSTM padded", "nn.LSTM packed"
MIN_SAMPLES, MAX_SAMPLES = 3, 30


class Case(NamedTuple):
    """The sizes of one batch and of the LSTM that reads it."""

    time: int
    batch: int
    input_size: int
    hidden_size: int
    num_layers: int
    directions: int
    lengths: str

    def __str__(self) -> str:
        sizes = f"{self.time}, {self.batch}, {self.input_size}, {self.hidden_size}"
        return f"({sizes}), {self.num_layers} x {self.directions}, {self.lengths}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="time,batch,input,hidden")
    lengths = ["full", "uniform", "vowels", "news"]
    parser.add_argument("--lengths", nargs="+", default=lengths, choices=lengths)
    parser.add_argument("--layers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--directions", nargs="+", type=int, default=[1, 2], choices=[1, 2])
    parser.add_argument("--backends", nargs="+", default=["fused", "torch", "native"])
    peers = ",".join(PEERS)
    parser.add_argument("--peers", default="", help=f"other libraries, any of {peers}")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16"])
    parser.add_argument("--threads", type=int, default=count_processors())
    parser.add_argument("--seconds", type=float, default=4.0, help="per case")
    parser.add_argument("--output", type=Path, help="JSON file for all measurements")
    options = parser.parse_args()
    options.peers = [name for name in options.peers.split(",") if name]
    for name in options.peers:
        if name not in PEERS:
            parser.error(f"--peers: unknown library {name}, choose from {peers}")
        if missing := PEERS[name].missing():
            parser.error(f"--peers {name} needs: pip install {' '.join(missing)}")
        if not PEERS[name].trains and options.dtype != "float32":
            parser.error(f"--peers {name} is for float32 only")
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    cases = [
        Case(*map(int, shape.split(",")), num_layers, directions, lengths)
        for num_layers, directions, lengths, shape in product(
            options.layers, options.directions, options.lengths, options.shapes
        )
    ]
    peak = measure_peak(dtype, options.threads)
    results = [
        measure(case, options.backends, options.peers, dtype, options.seconds, peak)
        for case in track(cases, "measuring")
    ]
    for result in results:
        print_case(result)
    print_summary(results)
    if options.output is not None:
        run_with = {"threads": options.threads, "dtype": options.dtype, "peak_gflops": peak}
        machine = describe_machine() | run_with
        content = json.dumps({"machine": machine, "cases": results}, indent=1)
        options.output.write_text(content + "\n", encoding="utf-8")


def measure(
    case: Case,
    backends: Sequence[str],
    peers: Sequence[str],
    dtype: torch.dtype,
    seconds: float,
    peak: float,
) -> dict:
    """Measure every variant of one case in rounds, so that the variants take turns."""
    torch.manual_seed(0)
    random.seed(0)
    variants, inputs, steps = build(case, backends, peers, dtype)
    # Operations of the real steps in the forward pass; a training step has 3 times as many.
    sizes = [case.input_size] + [case.directions * case.hidden_size] * (case.num_layers - 1)
    operations = sum(
        2 * steps * case.directions * 4 * case.hidden_size * (size + case.hidden_size)
        for size in sizes
    )
    result: dict = {"case": case._asdict(), "name": str(case), "steps": steps}
    for mode in ("training", "inference"):
        samples: dict[str, list[float]] = {
            name: []
            for name in variants
            if mode == "inference" or name not in PEERS or PEERS[name].trains
        }
        deadline = time.perf_counter() + seconds / 2
        for number in range(1 + MAX_SAMPLES):
            if number > MIN_SAMPLES and time.perf_counter() > deadline:
                break
            # A new order each round, because the previous variant leaves the caches cold or warm.
            for name in random.sample(list(samples), len(samples)):
                elapsed = run(variants[name], inputs, mode == "training")
                if number > 0:  # the first round warms up
                    samples[name].append(elapsed)
        padded, packed = median(samples[PADDED]), median(samples[PACKED])
        work = operations * (3 if mode == "training" else 1)
        result[mode] = {
            name: {
                "milliseconds": 1e3 * median(values),
                "spread": spread(values),
                "times_padded": padded / median(values),
                "times_packed": packed / median(values),
                "share_of_peak": work / median(values) / 1e9 / peak,
            }
            for name, values in samples.items()
        }
    for name, found in result["training"].items():
        found["peak_bytes"] = measure_memory(variants[name], inputs)
        found["memory"] = found["peak_bytes"] / result["training"][PADDED]["peak_bytes"]
    return result


def spread(samples: Sequence[float]) -> float:
    """Return the interquartile range of the samples, relative to their median."""
    lower, middle, upper = quantiles(samples)
    return (upper - lower) / middle


def build(
    case: Case, backends: Sequence[str], peers: Sequence[str], dtype: torch.dtype
) -> tuple[dict[str, Callable[[Tensor], Tensor]], Tensor, int]:
    """Return the variants by name, their input, and the number of real steps in it."""
    lengths = sample_lengths(case)
    sizes = (case.input_size, case.hidden_size, case.num_layers)
    bidirectional = case.directions == 2
    theirs = nn.LSTM(*sizes, bidirectional=bidirectional).to(dtype)

    def packed(inputs: Tensor) -> Tensor:
        return theirs(pack_padded_sequence(inputs, lengths, enforce_sorted=False))[0].data

    variants: dict[str, Callable[[Tensor], Tensor]] = {
        PADDED: lambda inputs: theirs(inputs)[0],
        PACKED: packed,
    }
    for name in backends:
        ours = LSTM(*sizes, bidirectional=bidirectional, backend=name).to(dtype)
        ours.load_state_dict(theirs.state_dict())
        variants[name] = lambda inputs, ours=ours: ours(inputs, lengths=lengths)[0]
    for name in peers:
        variants[name] = PEERS[name].build(theirs, lengths)
    inputs = torch.randn(case.time, case.batch, case.input_size, dtype=dtype)
    return variants, inputs, int(lengths.sum())


def sample_lengths(case: Case) -> Tensor:
    """Return lengths `[batch]`: shuffled, evenly spaced quantiles, the longest one full."""
    if case.lengths == "full":
        shares = torch.ones(case.batch)
    elif case.lengths == "uniform":
        shares = torch.linspace(0.1, 1, case.batch)
    else:
        places = torch.linspace(0, 1, case.batch)
        values = vowel_lengths() if case.lengths == "vowels" else news_lengths()
        shares = values.quantile(places)
    lengths = (shares * case.time).round().long().clamp(1, case.time)
    lengths[-1] = case.time
    return lengths[torch.randperm(case.batch)]


def vowel_lengths() -> Tensor:
    """Return the lengths of the JapaneseVowels recordings, relative to the longest."""
    lengths = torch.tensor(
        [float(len(row.value)) for row in ArchiveRows("JapaneseVowels", "train")]
    )
    return lengths / lengths.max()


def news_lengths() -> Tensor:
    """Return the lengths of the BBC News articles in words, relative to their 95th percentile."""
    lengths = torch.tensor([float(len(str(row.value).split())) for row in BBCNews("train")])
    return (lengths / lengths.quantile(0.95)).clamp(max=1)


def run(call: Callable[[Tensor], Tensor], inputs: Tensor, trains: bool) -> float:
    """Return the seconds of one call, including the backward pass if `trains`."""
    inputs = inputs.detach().requires_grad_(trains)
    started = time.perf_counter()
    with torch.set_grad_enabled(trains):
        output = call(inputs)
        if trains:
            output.backward(torch.ones_like(output))
    return time.perf_counter() - started


def measure_memory(call: Callable[[Tensor], Tensor], inputs: Tensor) -> int:
    """Return the peak memory of a training step in torch's allocator, in bytes."""
    native.release_memory()  # otherwise memory that it kept would not be counted
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        run(call, inputs, trains=True)
    events = profiler.kineto_results.events()  # in chronological order; freed memory is negative
    return max(accumulate(event.nbytes() for event in events if event.name() == "[memory]"))


def print_case(result: dict) -> None:
    for mode in ("training", "inference"):
        rows = [
            [
                name,
                f"{found['milliseconds']:.2f}",
                f"{found['spread']:.0%}",
                f"{found['times_padded']:.2f}",
                f"{found['times_packed']:.2f}",
                f"{found['share_of_peak']:.0%}",
                *([f"{found['memory']:.0%}"] if mode == "training" else []),
            ]
            for name, found in result[mode].items()
        ]
        columns = ["variant", "ms", "spread", "x padded", "x packed", "of peak", "memory"]
        print_table(f"{result['name']}, {mode}", columns[: len(rows[0])], rows)


def print_summary(results: Sequence[dict]) -> None:
    """Print geometric means over the cases, for full and for ragged batches, and the worst case."""
    rows = []
    for is_full, mode in product((True, False), ("training", "inference")):
        chosen = [r[mode] for r in results if (r["case"]["lengths"] == "full") == is_full]
        for name in chosen[0] if chosen else ():
            if name not in (PADDED, PACKED):
                padded = [r[name]["times_padded"] for r in chosen]
                packed = [r[name]["times_packed"] for r in chosen]
                better = [min(pair) for pair in zip(padded, packed, strict=True)]
                rows.append(
                    [
                        f"{'full' if is_full else 'ragged'}, {mode}: {name}",
                        f"{geometric_mean(padded):.2f}",
                        f"{geometric_mean(packed):.2f}",
                        f"{geometric_mean(better):.2f}",
                        f"{min(better):.2f}",
                    ]
                )
    columns = ["backend", "x padded", "x packed", "x better", "worst"]
    print_table("times as fast as nn.LSTM, geometric means; worst case", columns, rows)


if __name__ == "__main__":
    main()
