"""The build of the kernels: without a compiler, after damage, and by two processes at once."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch.utils.cpp_extension import get_cxx_compiler

from attnlstm.nn import LSTM
from attnlstm.nn.backends import native_build

pytestmark = pytest.mark.slow

ONE_CALL = """
import sys, torch
from attnlstm.nn import LSTM
torch.manual_seed(0)
print("ready", flush=True)
lstm = LSTM(3, 4, backend=sys.argv[1])
print(lstm(torch.ones(5, 2, 3))[0].sum().item())
"""

COMPILER = """#!{python}
# Once `gate` is open, copies the existing library instead of compiling for half a minute.
import shutil, subprocess, sys
from pathlib import Path
from filelock import FileLock
arguments = sys.argv[1:]
if "-o" not in arguments:  # a query about the compiler
    sys.exit(subprocess.call(["{real}", *arguments]))
output = Path(arguments[arguments.index("-o") + 1])
if "-shared" in arguments:
    with FileLock("{gate}"):
        shutil.copy("{library}", output)
else:
    output.touch()
"""


def start(backend: str, folder: Path, **environment: str) -> subprocess.Popen:
    """Start a process that calls an LSTM once and keeps its extensions in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-c", ONE_CALL, backend],
        env=os.environ | {"TORCH_EXTENSIONS_DIR": str(folder)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_a_compiler_native_fails_and_auto_uses_another_backend(tmp_path: Path) -> None:
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
    assert float(output.split()[-1]) == pytest.approx(expected.sum().item(), abs=1e-5)
    assert errors.count("UserWarning: without the native kernels, which cannot be built") == 1


def test_a_damaged_build_is_replaced_once_for_two_processes(tmp_path: Path) -> None:
    library = native_build.find_library()
    folder = tmp_path / library.parent.name
    shutil.copytree(library.parent, folder)
    (folder / library.name).write_bytes(library.read_bytes()[:5000])
    compiler, gate = tmp_path / "compiler", tmp_path / "gate"
    compiler.write_text(
        COMPILER.format(python=sys.executable, real=get_cxx_compiler(), gate=gate, library=library)
    )
    compiler.chmod(0o755)
    with FileLock(gate):
        both = [start("native", tmp_path, CXX=str(compiler)) for _ in range(2)]
        assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    results = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert sum(errors.count("building the native LSTM") for _, errors in results) == 1
    assert (folder / library.name).read_bytes() == library.read_bytes()
