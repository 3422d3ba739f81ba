"""Where the C scalar kernel is: the one that CMake built, or one compiled here with the plain compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["NativeBuildError", "in_checkout", "scalar_library"]

_NATIVE = Path(__file__).resolve().parents[3] / "native_check"
_NAME = "libq8a8-scalar.so"

# As native_check/cmake/kernels.cmake has it: without this flag a compiler may fuse a product and a sum.
_FLAGS = ("-std=c11", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=hidden")


class NativeBuildError(RuntimeError):
    """The C compiler refused the scalar kernel; the message is the compiler's."""


def in_checkout() -> bool:
    """Tell whether the C sources lie beside this package: in a checkout they do, in a wheel not."""
    return (_NATIVE / "kernels" / "scalar.c").is_file()


def scalar_library() -> Path | None:
    """Give the scalar kernel's shared library, built if need be.

    In a checkout: ``native_check/build/native/lib``, where CMake puts it, if it is newer than the sources;
    else it is compiled with ``cc`` (or ``$CC``) into ``native_check/build/golden``. None where there is no
    checkout or no compiler. NativeBuildError if the compiler fails.
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
    """Compile the scalar kernel and the file that gives it its exported names."""
    library.parent.mkdir(parents=True, exist_ok=True)
    scratch = library.with_name(f"{library.name}.{os.getpid()}")
    command = [
        compiler,
        *_FLAGS,
        f"-I{_NATIVE / 'include'}",
        f"-I{_NATIVE / 'kernels'}",
        "-DQ8A8_KERNEL=q8a8_kernel_scalar",
        str(_NATIVE / "kernels" / "scalar.c"),
        str(_NATIVE / "kernels" / "export.c"),
        "-o",
        str(scratch),
    ]
    # The compiler of the user's own choice, on this project's sources.
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise NativeBuildError(f"{' '.join(command)}\n{done.stderr}")
    scratch.replace(library)
    return library
