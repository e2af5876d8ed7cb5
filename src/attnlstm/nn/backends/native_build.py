"""Builds csrc/ on first use and loads it, once for each version of everything it depends on.

The library lies where torch keeps its extensions (TORCH_EXTENSIONS_DIR, by default a folder of the
user's cache), under a key of the source, the flags with the processor's instruction set, and torch.
"""

import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import FileLock

SOURCES = sorted(Path(__file__).with_name("csrc").iterdir())

# The instruction sets by the names that torch has for what the processor can do.
ARCHITECTURES = {"AVX512": ["-march=x86-64-v4"], "AVX2": ["-march=x86-64-v3"]}


@cache
def load_library() -> str | None:
    """Register the operators `torch.ops.attnlstm`, building them if need be.

    Returns the reason where that is impossible; there is one attempt in a process.
    """
    try:
        torch.ops.load_library(find_library())
    except (OSError, RuntimeError) as error:  # of the folder and of the compiler
        return _first_error_line(str(error))
    return None


def find_library() -> Path:
    """The library for this source and machine, built unless it is there and whole."""
    # The compiler alone gets -fopenmp: the threads are to be those of torch's own OpenMP library,
    # which is found at load time. A second one beside it would compete for the cores.
    flags = ["-O3", "-fopenmp", "-Wno-psabi"]
    capability = torch.backends.cpu.get_cpu_capability()
    flags += ARCHITECTURES.get(capability, [])
    if capability == "AVX512" and torch.cpu.get_capabilities().get("amx_bf16"):
        flags += ["-mamx-tile", "-mamx-bf16", "-mavx512bf16"]
    depends_on = [
        *(file.read_text(encoding="utf-8") for file in SOURCES),
        *flags,
        torch.__version__,
        platform.machine(),
    ]
    key = hashlib.sha256("\n".join(depends_on).encode()).hexdigest()
    folder = _extensions_folder() / f"attnlstm_{key[:16]}"
    library = folder / "attnlstm_native.so"
    if not _is_whole(library):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # two processes may come at the same time
            if not _is_whole(library):
                _build(library, flags)
    return library


def _extensions_folder() -> Path:
    folder = os.environ.get("TORCH_EXTENSIONS_DIR")
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) if folder else Path(cache_home, "torch_extensions")


def _is_whole(library: Path) -> bool:
    """Whether the library is what was built: a damaged one could end the process."""
    try:
        return _digest_file(library).read_text() == _digest(library)
    except (OSError, UnicodeDecodeError):
        return False


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


def _digest_file(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _build(library: Path, flags: list[str]) -> None:
    # Not at the top: slow to import, and rarely needed.
    import ninja
    from torch.utils import cpp_extension

    print(
        "building the native LSTM for this machine, once: half a minute to a minute",
        file=sys.stderr,
        flush=True,
    )
    with (
        TemporaryDirectory(dir=library.parent) as folder,
        # The ninja of a virtual environment that is not activated is not on the path.
        _on_path(ninja.BIN_DIR),
    ):
        cpp_extension.load(
            library.stem,
            [str(file) for file in SOURCES if file.suffix == ".cpp"],
            extra_cflags=flags,
            build_directory=folder,
            is_python_module=False,
        )
        built = Path(folder, library.name)
        _digest_file(library).write_text(_digest(built))
        os.replace(built, library)


@contextmanager
def _on_path(folder: str) -> Iterator[None]:
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([folder, before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _first_error_line(message: str) -> str:
    """What the compiler complained of first, or else the first line."""
    lines = message.splitlines()
    errors = (line for line in lines if re.search(r"\b(error:|not found|No such file)", line))
    return next(errors, lines[0] if lines else "unknown error").strip()
