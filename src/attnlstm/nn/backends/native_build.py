"""Builds csrc/ on first use, and loads it.

The library is stored where torch keeps its extensions (TORCH_EXTENSIONS_DIR, by default a folder in
the user's cache), under a key made of the source, the compiler flags, the processor's instruction
set and the version of torch. Whenever one of these changes, it is built again. A digest next to it
tells a complete library from a damaged one, and a lock lets only one process build.
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

# Compiler flags by torch's name for the processor's instruction set.
ARCHITECTURES = {"AVX512": ["-march=x86-64-v4"], "AVX2": ["-march=x86-64-v3"]}


@cache
def load_library() -> str | None:
    """Register the operators `torch.ops.attnlstm`, after building them if necessary.

    A process tries this once.

    Returns:
        the reason why it is impossible, or None.
    """
    try:
        torch.ops.load_library(find_library())
    except (OSError, RuntimeError) as error:  # from the folder or the compiler
        return _first_error_line(str(error))
    return None


def find_library() -> Path:
    """Return the library for this source and machine; build it if it is missing or damaged."""
    # Only the compiler gets -fopenmp, not the linker. The threads have to come from torch's own
    # OpenMP library, which is found at load time; a second one would compete for the cores.
    flags = [*compiler_flags(), "-fopenmp"]
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
        with FileLock(folder / "lock"):  # another process may be building it
            if not _is_whole(library):
                _build(library, flags)
    return library


def compiler_flags() -> list[str]:
    """Return the flags for fast code with the processor's instruction set."""
    capability = torch.backends.cpu.get_cpu_capability()
    flags = ["-O3", "-Wno-psabi", *ARCHITECTURES.get(capability, [])]
    if capability == "AVX512" and torch.cpu.get_capabilities().get("amx_bf16"):
        flags += ["-mamx-tile", "-mamx-bf16", "-mavx512bf16"]
    return flags


def _extensions_folder() -> Path:
    folder = os.environ.get("TORCH_EXTENSIONS_DIR")
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) if folder else Path(cache_home, "torch_extensions")


def _is_whole(library: Path) -> bool:
    """Whether the library is what was built; loading a damaged one could crash the process."""
    try:
        return _digest_file(library).read_text() == _digest(library)
    except (OSError, UnicodeDecodeError):
        return False


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


def _digest_file(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _build(library: Path, flags: list[str]) -> None:
    # Imported here because they are slow to import and rarely needed.
    import ninja
    from torch.utils import cpp_extension

    print(
        "building the native LSTM for this machine, once: half a minute to a minute",
        file=sys.stderr,
        flush=True,
    )
    with (
        TemporaryDirectory(dir=library.parent) as folder,
        # ninja is not on the path if its virtual environment is not activated.
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
    """Return the compiler's first complaint, or the first line if there is none."""
    lines = message.splitlines()
    errors = (line for line in lines if re.search(r"\b(error:|not found|No such file)", line))
    return next(errors, lines[0] if lines else "unknown error").strip()
