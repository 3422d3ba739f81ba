"""The libraries of the C kernels: those built by CMake, or compiled here directly."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from q8a8.atomic import replacing

__all__ = [
    "NativeBuildError",
    "in_checkout",
    "kernel_library",
    "kernel_names",
    "native_folder",
    "scalar_library",
]

_NATIVE = Path(__file__).resolve().parents[3] / "native_check"

# As in native_check/cmake/kernels.cmake: without -ffp-contract=off a compiler may fuse a product and a sum.
_FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")


class NativeBuildError(RuntimeError):
    """The C compiler failed; the message is the compiler's."""


def native_folder() -> Path:
    """Return where a checkout has the C sources, whether it is one or not."""
    return _NATIVE


def in_checkout() -> bool:
    """Return whether this package is in a checkout, with the C sources."""
    return (_NATIVE / "kernels" / "scalar.c").is_file()


def scalar_library() -> Path | None:
    """Return the scalar kernel's shared library, built if necessary; as `kernel_library`."""
    return kernel_library("scalar")


def kernel_names() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return what CMakeLists.txt says of each kernel: its processor ("any" for all), and compiler flags.

    Without a checkout there are none.
    """
    lists = _NATIVE / "CMakeLists.txt"
    if not lists.is_file():
        return {}
    lines = re.findall(r"^q8a8_kernel\((\S+) (\w+)(.*)\)$", lists.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: (processor, tuple(flags.split())) for name, processor, flags in lines}


def kernel_library(name: str) -> Path | None:
    """Return the shared library of a kernel for this processor, built if necessary.

    In a checkout this is the library of CMake in ``native_check/build/native/lib``, if newer than the
    sources; else it is compiled with ``cc`` (or ``$CC``) into ``native_check/build/golden``.

    Returns
    -------
    Path or None
        None without a checkout or a compiler.

    Raises
    ------
    NativeBuildError
        The compiler failed.
    """
    if not in_checkout():
        return None
    sources = [path for folder in ("kernels", "include") for path in (_NATIVE / folder).glob("*.[ch]")]
    newest = max(path.stat().st_mtime_ns for path in sources)
    for folder in ("native/lib", "golden"):
        library = _NATIVE / "build" / folder / f"libq8a8-{name}.so"
        if library.is_file() and library.stat().st_mtime_ns >= newest:
            return library
    compiler = shutil.which(os.environ.get("CC", "cc"))
    return None if compiler is None else _compile(compiler, name)


def _compile(compiler: str, name: str) -> Path:
    """Compile a kernel, what kernels share, and the file with the exported names."""
    library = _NATIVE / "build" / "golden" / f"libq8a8-{name}.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    _, flags = kernel_names().get(name, ("any", ()))
    command = [
        compiler,
        *_FLAGS,
        *flags,
        f"-I{_NATIVE / 'include'}",
        f"-I{_NATIVE / 'kernels'}",
        f"-DQ8A8_KERNEL=q8a8_kernel_{name.replace('-', '_')}",
        *(str(_NATIVE / "kernels" / f"{part}.c") for part in (name, "product", "export")),
    ]
    with replacing(library) as output:
        # The compiler of the user's own choice, on this project's sources.
        done = subprocess.run([*command, "-o", output], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NativeBuildError(f"{' '.join(command)}\n{done.stderr}")
    return library
