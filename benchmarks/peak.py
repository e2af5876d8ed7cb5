"""Measure the peak of the processor, by a loop of multiplications and additions in registers."""

import ctypes
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils.cpp_extension import get_cxx_compiler, include_paths

from attnlstm.nn.backends import NATIVE
from attnlstm.nn.backends.native_build import SOURCES, compiler_flags

SECONDS = 0.005  # of a sample: short, so that other programs leave some samples alone
SAMPLES = 50


def measure_peak(dtype: torch.dtype, threads: int) -> float:
    """Return the most operations per second of this many threads together, in billions.

    A multiplication and an addition are two operations. The library is small enough to be built
    each time.
    """
    NATIVE.load()  # asks the system for permission to use the matrix unit
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peak.so"
        folders = [SOURCES[0].parent, *include_paths()]
        subprocess.run(
            [
                *(get_cxx_compiler(), "-std=c++20", "-shared", "-fPIC", *compiler_flags()),
                *(["-mavx512bf16"] if torch.cpu.get_capabilities().get("avx512_bf16") else []),
                *(f"-I{folder}" for folder in folders),
                *(str(Path(__file__).with_name("peak.cpp")), "-o", str(library)),
            ],
            check=True,
        )
        name = f"multiply_{str(dtype).removeprefix('torch.')}"
        multiply = getattr(ctypes.CDLL(str(library)), name)
        multiply.argtypes, multiply.restype = [ctypes.c_int64], ctypes.c_int64
        return _fastest(multiply, threads)


def _fastest(multiply: "ctypes._CFuncPtr", threads: int) -> float:
    rounds, speed = 1000, 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(SAMPLES):
            started = time.perf_counter()
            operations = sum(pool.map(multiply, [rounds] * threads))
            elapsed = time.perf_counter() - started
            speed = max(speed, operations / elapsed / 1e9)
            rounds = max(rounds, round(rounds * min(10, SECONDS / elapsed)))
    return speed
