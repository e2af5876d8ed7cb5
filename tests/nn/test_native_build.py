"""The native backend's build: without a compiler, damaged, and by two processes at once."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import get_cxx_compiler

from attnlstm.nn import LSTM
from attnlstm.nn.backends import native_build

ONE_CALL = """
import sys, torch
from attnlstm.nn import LSTM
torch.manual_seed(0)
lstm = LSTM(3, 4, backend=sys.argv[1])
print(lstm(torch.ones(5, 2, 3))[0].sum().item())
"""


def start(backend: str, folder: Path, **environment: str) -> subprocess.Popen:
    """One call of an LSTM in a new process that keeps its extensions in a folder of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", ONE_CALL, backend],
        env=os.environ | {"TORCH_EXTENSIONS_DIR": str(folder)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_a_compiler_it_says_so_and_auto_does_without(tmp_path: Path) -> None:
    by_name = start("native", tmp_path, CXX="no-such-compiler")
    auto = start("auto", tmp_path, CXX="no-such-compiler")
    _, errors = by_name.communicate()
    assert by_name.returncode == 1
    assert re.search("backend='native' cannot run this LSTM: .*no-such-compiler.*not found", errors)
    assert "use backend='naive' or 'fused' or 'torch'" in errors
    output, errors = auto.communicate()
    assert auto.returncode == 0, errors
    torch.manual_seed(0)
    expected, _ = LSTM(3, 4, backend="naive")(torch.ones(5, 2, 3))
    assert float(output) == pytest.approx(expected.sum().item(), abs=1e-5)
    assert errors.count("UserWarning: without the native kernels, which cannot be built") == 1


def test_a_damaged_build_heals_while_two_processes_want_it(tmp_path: Path) -> None:
    library = native_build.find_library()
    folder = tmp_path / library.parent.name
    shutil.copytree(library.parent, folder)
    (folder / library.name).write_bytes(library.read_bytes()[:5000])
    compiler = tmp_path / "compiler"  # in half the time: how fast the library is does not matter
    compiler.write_text(f'#!/bin/sh\nexec {get_cxx_compiler()} "$@" -O0\n')
    compiler.chmod(0o755)
    both = [start("native", tmp_path, CXX=str(compiler)) for _ in range(2)]
    results = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert sum(errors.count("building the native LSTM") for _, errors in results) == 1
