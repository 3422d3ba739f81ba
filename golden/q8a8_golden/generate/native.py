"""The C scalar kernel's library: the one built by CMake, or compiled here directly."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from q8a8.atomic import replacing

__all__ = ["NativeBuildError", "in_checkout", "scalar_library"]

_NATIVE = Path(__file__).resolve().parents[3] / "native_check"
_NAME = "libq8a8-scalar.so"

# As in native_check/cmake/kernels.cmake: without -ffp-contract=off a compiler may fuse a product and a sum.
_FLAGS = ("-std=c11", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=hidden")


class NativeBuildError(RuntimeError):
    """The C compiler failed; the message is the compiler's."""


def in_checkout() -> bool:
    """Return whether this package is in a checkout, with the C sources."""
    return (_NATIVE / "kernels" / "scalar.c").is_file()


def scalar_library() -> Path | None:
    """Return the scalar kernel's shared library, built if necessary.

    In a checkout this is the library of CMake in ``native_check/build/native/lib``, if newer than the
    sources; else it is compiled with ``cc`` (or ``$CC``) into ``native_check/build/golden``. Return None
    without a checkout or a compiler; raise NativeBuildError if the compiler fails.
    """
    if not in_checkout():
        return None
    sources = [path for folder in ("kernels", "include") for path in (_NATIVE / folder).glob("*.[ch]")]
    newest = max(path.stat().st_mtime_ns for path in sources)
    for folder in ("native/lib", "golden"):
        library = _NATIVE / "build" / folder / _NAME
        if library.is_file() and library.stat().st_mtime_ns >= newest:
            return library
    compiler = shutil.which(os.environ.get("CC", "cc"))
    return None if compiler is None else _compile(compiler, _NATIVE / "build" / "golden" / _NAME)


def _compile(compiler: str, library: Path) -> Path:
    """Compile the scalar kernel and the file with its exported names."""
    library.parent.mkdir(parents=True, exist_ok=True)
    command = [
        compiler,
        *_FLAGS,
        f"-I{_NATIVE / 'include'}",
        f"-I{_NATIVE / 'kernels'}",
        "-DQ8A8_KERNEL=q8a8_kernel_scalar",
        str(_NATIVE / "kernels" / "scalar.c"),
        str(_NATIVE / "kernels" / "product.c"),
        str(_NATIVE / "kernels" / "export.c"),
        "-pthread",
    ]
    with replacing(library) as output:
        # The compiler of the user's own choice, on this project's sources.
        done = subprocess.run([*command, "-o", output], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise NativeBuildError(f"{' '.join(command)}\n{done.stderr}")
    return library
