"""Building and finding the C harness of ``native_check/``, for tests, the demo and the peers' checks.

The suite itself does not need this module: it judges whatever worker it is pointed at. A checkout is needed
here, because the C sources are not in the wheel.
"""

from __future__ import annotations

import fcntl
import functools
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "CPUS",
    "KERNELS",
    "PLAINEST",
    "RUNS_ON",
    "SVE_BITS",
    "UNSUPPORTED",
    "X86_KERNELS",
    "BuildFailedError",
    "MissingToolError",
    "NativeError",
    "build",
    "build_folder",
    "device_argv",
    "harness_argv",
    "library_argv",
    "qemu_argv",
    "run_tool",
    "source_folder",
    "sve_cpu",
]

UNSUPPORTED: Final = 77
"""The harness's exit status where the CPU lacks what the kernel needs."""

X86_KERNELS: Final = ("avx2", "avx512-vnni", "amx")
"""Our kernels for x86-64, from the plainest on."""

KERNELS: Final = ("scalar", *X86_KERNELS, "neon", "dotprod", "i8mm", "sve", "sve-i8mm", "rvv")
"""Our kernels, by the harness's names."""

CPUS: Final = ("cortex-a72", "neoverse-n1", "max")
"""The emulated Arm CPUs: plain NEON, dotprod, i8mm and SVE with vectors of 512 bits."""

SVE_BITS: Final = (128, 256, 512, 1024, 2048)
"""The lengths of a vector, in bits, that the kernels for SVE are run with."""

PLAINEST: Final = (
    ("cortex-a72", "scalar"),
    ("cortex-a72", "neon"),
    ("neoverse-n1", "dotprod"),
    ("max", "i8mm"),
    ("max", "sve"),
    ("max", "sve-i8mm"),
)
"""Our kernels for Arm, each with the plainest emulated CPU that can run it: an emulator does the same with an
instruction on any."""

RUNS_ON: Final[Mapping[str, tuple[str, ...]]] = {
    "cortex-a72": ("scalar", "neon"),
    "neoverse-n1": ("scalar", "neon", "dotprod"),
    "max": ("scalar", "neon", "dotprod", "i8mm", "sve", "sve-i8mm"),
}
"""Which of our kernels each emulated CPU can run."""

SYSROOT: Final = Path("/usr/aarch64-linux-gnu")
"""Where Debian's cross compiler keeps the Arm C library, for programs under qemu-user."""

_DEBIAN: Final = {
    "cmake": "cmake",
    "cc": "gcc libc6-dev",
    "make": "make",
    "aarch64-linux-gnu-objdump": "binutils-aarch64-linux-gnu",
    "objdump": "binutils",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "qemu-aarch64": "qemu-user",
    "llvm-mca-19": "llvm-19",
    "qemu-ppc64le": "qemu-user",
    "qemu-riscv64": "qemu-user",
    "qemu-s390x": "qemu-user",
    "powerpc64le-linux-gnu-gcc": "gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross",
    "s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu libc6-dev-s390x-cross",
}
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "native": ("cc",),
    "release": ("cc",),
    "asan": ("cc",),
    "ubsan": ("cc",),
    "aarch64": ("aarch64-linux-gnu-gcc",),
    "aarch64-asan": ("aarch64-linux-gnu-gcc",),
    "aarch64-ubsan": ("aarch64-linux-gnu-gcc",),
    "ppc64le": ("powerpc64le-linux-gnu-gcc",),
    "s390x": ("s390x-linux-gnu-gcc",),
    "zig-riscv64": (),
    "zig-wasm": (),
    "zig-aarch64": (),
    "zig-aarch64-static": (),
    "zig-x86_64": (),
}


class NativeError(Exception):
    """The C side cannot be built or run here."""


class MissingToolError(NativeError):
    """A program is missing. `tool` is its name, `install` says how to get it."""

    def __init__(self, tool: str, install: str) -> None:
        self.tool = tool
        self.install = install
        super().__init__(f"{tool} is missing: {install}")


class BuildFailedError(NativeError):
    """CMake or the compiler failed; the message holds the command and the end of its output."""


def source_folder() -> Path:
    """Return ``native_check/`` of the checkout that this package lies in.

    Raises
    ------
    NativeError
        This package was installed from a wheel, which has no C sources.
    """
    folder = Path(__file__).resolve().parents[2] / "native_check"
    if not (folder / "CMakeLists.txt").is_file():
        raise NativeError(
            "the C sources (native_check/) are in a checkout of the project only, not in its wheel"
        )
    return folder


def build_folder(preset: str) -> Path:
    """Return where the build of a preset of ``CMakePresets.json`` lies, built or not."""
    if preset not in _NEEDS:
        raise NativeError(f"no preset {preset!r}: {', '.join(_NEEDS)}")
    return source_folder() / "build" / preset


def find_tool(tool: str) -> str:
    """Return the path of a program.

    Raises
    ------
    MissingToolError
        It is not installed; the message names the Debian package that has it.
    """
    # beside this Python too: cmake and ninja come from PyPI as well
    beside = str(Path(sys.executable).parent)
    found = shutil.which(tool) or shutil.which(tool, path=beside)
    if found is None:
        raise MissingToolError(tool, f"apt-get install {_DEBIAN.get(tool, tool)}")
    return found


@functools.cache
def build(preset: str = "native", target: str = "all") -> Path:
    """Build what is out of date of one preset, and return its folder.

    Parameters
    ----------
    preset : str
        A preset of ``CMakePresets.json``.
    target : str
        What is needed of it.

    Returns
    -------
    Path
        Below it are ``bin/q8a8-harness`` and ``lib/libq8a8-KERNEL.so``.

    Raises
    ------
    MissingToolError
        A compiler or CMake is not installed.
    BuildFailedError
        They are, and failed.
    """
    folder = build_folder(preset)
    cmake = find_tool("cmake")
    toolchain = _toolchain(preset)
    with _locked(folder):
        if not _configured(folder):
            shutil.rmtree(folder, ignore_errors=True)
            generator = "Ninja" if shutil.which("ninja") else "Unix Makefiles"
            if generator != "Ninja":
                find_tool("make")
            run_tool(
                [cmake, "--preset", preset, "-G", generator, *toolchain],
                cwd=source_folder(),
                env=_environment(),
            )
        run_tool([cmake, "--build", str(folder), "--target", target, "--parallel", "2"], cwd=source_folder())
    return folder


def harness_argv(kernel: str, cpu: str | None = None) -> list[str]:
    """Return the command of a worker that runs one of our kernels, built if need be.

    Parameters
    ----------
    kernel : str
        One of `KERNELS`.
    cpu : str, optional
        A CPU of QEMU, such as one of `CPUS`; the machine's own without it.

    Raises
    ------
    NativeError
        It cannot be built or run here.
    """
    return [*_harness(cpu), kernel]


def library_argv(
    library: Path,
    cpu: str | None = None,
    *,
    symbols: Mapping[str, str] | None = None,
    init: str | None = None,
    search: Sequence[Path] = (),
) -> list[str]:
    """Return the command of a worker that runs somebody's shared library in the harness.

    Parameters
    ----------
    library : Path
        The library; for the CPU's architecture.
    cpu : str, optional
        As for `harness_argv`.
    symbols : mapping of str to str, optional
        ABI name to exported name.
    init : str, optional
        A ``void f(void)`` to call once after loading.
    search : sequence of Path
        Folders in which the libraries that it needs are looked for (with `cpu` only).

    Raises
    ------
    NativeError
        The harness cannot be built or run here.
    """
    argv = [*_harness(cpu, search), "--lib", str(library)]
    for name, exported in (symbols or {}).items():
        argv += ["--symbol", f"{name}={exported}"]
    return argv if init is None else [*argv, "--init", init]


def device_argv(
    libraries: Sequence[Path], cpu: str | None = None, *, options: Mapping[str, str] | None = None
) -> list[str]:
    """Return the command of a worker that runs a device of ggml's in the harness.

    Parameters
    ----------
    libraries : sequence of Path
        ggml's, those that others need first; for the CPU's architecture.
    cpu : str, optional
        As for `harness_argv`.
    options : mapping of str to str, optional
        Values by name: device, threads, buffer, precision, copy.

    Raises
    ------
    NativeError
        The harness cannot be built or run here.
    """
    argv = [*_harness(cpu), "--ggml", ",".join(map(str, libraries))]
    return argv + [word for name, value in (options or {}).items() for word in (f"--{name}", value)]


def qemu_argv(cpu: str, search: Sequence[Path] = ()) -> list[str]:
    """Return the command before an aarch64 program that runs it on an emulated CPU.

    Parameters
    ----------
    cpu : str
        A CPU of QEMU.
    search : sequence of Path
        Folders for the program's LD_LIBRARY_PATH.

    Raises
    ------
    MissingToolError
        There is no qemu-aarch64.
    """
    argv = [find_tool("qemu-aarch64"), "-cpu", cpu]
    if SYSROOT.is_dir():
        argv += ["-L", str(SYSROOT)]
    return [*argv, "-E", f"LD_LIBRARY_PATH={':'.join(map(str, search))}"] if search else argv


def sve_cpu(bits: int) -> str:
    """Return the CPU of QEMU that has everything, and vectors of `bits` bits, a multiple of 128, for SVE."""
    return f"max,sve-max-vq={bits // 128},sve-default-vector-length=-1"


def _harness(cpu: str | None, search: Sequence[Path] = ()) -> list[str]:
    if cpu is None:
        return [str(build("native") / "bin" / "q8a8-harness")]
    return [*qemu_argv(cpu, search), str(build("aarch64") / "bin" / "q8a8-harness")]


def _configured(folder: Path) -> bool:
    """Return whether CMake has set the folder up for these very sources, and finished doing so."""
    try:
        cache = (folder / "CMakeCache.txt").read_text(encoding="utf-8")
    except OSError:
        return False
    made = (folder / "build.ninja").is_file() or (folder / "Makefile").is_file()
    return made and f"CMAKE_HOME_DIRECTORY:INTERNAL={source_folder()}\n" in cache


def _toolchain(preset: str) -> list[str]:
    """Return CMake's option for another compiler than the preset's: ziglang, where that one is missing.

    Raises
    ------
    MissingToolError
        There is neither, or a sanitizer was asked for, which ziglang lacks.
    """
    try:
        for tool in _NEEDS[preset]:
            find_tool(tool)
    except MissingToolError as error:
        target = {"native": f"zig-{platform.machine()}", "aarch64": "zig-aarch64"}.get(preset, "")
        file = source_folder() / "cmake" / f"{target}.cmake"
        if not file.is_file():
            raise
        if importlib.util.find_spec("ziglang") is None:
            raise MissingToolError(error.tool, f"{error.install}, or pip install ziglang") from None
        return [f"-DCMAKE_TOOLCHAIN_FILE={file}"]
    return []


def _environment() -> dict[str, str]:
    """Point the toolchain files of zig at the Python that may have ziglang."""
    return {**os.environ, "Q8A8_PYTHON": os.environ.get("Q8A8_PYTHON", sys.executable)}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from building in the same folder at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_tool(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    both: bool = False,
) -> str:
    """Run a build tool, or what it built, and return what it printed.

    Parameters
    ----------
    command, cwd, env
        As for `subprocess.run`.
    both
        Whether what it prints to standard error is returned too, in its place in the other.

    Raises
    ------
    BuildFailedError
        It failed; with the last lines that it printed.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if both else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        output = "\n".join((done.stdout + (done.stderr or "")).splitlines()[-40:])
        raise BuildFailedError(f"{shlex.join(command)} failed with status {done.returncode}:\n{output}")
    return done.stdout
