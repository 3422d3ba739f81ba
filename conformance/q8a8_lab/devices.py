"""Where our kernels run: each kernel on each processor, emulator and device, as a system under test.

`LEGS` has a row for each, which the page about the one result and its tests go through.
"""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from q8a8_lab import native_build

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "EMULATORS",
    "LEGS",
    "RVV_BITS",
    "Leg",
    "cuda_shim",
    "emulated",
    "opencl",
    "rvv_cpu",
    "vector_loads_resume",
    "wasm",
]

EMULATORS: Final[Mapping[str, tuple[str, ...]]] = {
    "s390x": ("qemu-s390x", "-L", "/usr/s390x-linux-gnu"),
    "ppc64le": ("qemu-ppc64le", "-L", "/usr/powerpc64le-linux-gnu"),
    "zig-riscv64": ("qemu-riscv64",),
}
"""What runs the programs of a preset for another processor than x86-64 and Arm."""

RVV_BITS: Final = (128, 256, 512, 1024)
"""The lengths of a vector, in bits, that the kernel for RISC-V is run with."""


_CALLED_ILLEGAL = 2
"""What the program ``vstart`` ends with where a reduction was called illegal."""


@dataclass(frozen=True)
class Leg:
    """A kernel on a device.

    Attributes
    ----------
    kernel
        Its name.
    where
        The device or emulator, in words.
    sut
        Builds what is out of date and returns the system under test; raises `NativeError` where it cannot.
    """

    kernel: str
    where: str
    sut: Callable[[], str]


def rvv_cpu(bits: int) -> str:
    """Return QEMU's name for a RISC-V processor with vectors of so many bits."""
    return f"rv64,v=true,vlen={bits},vext_spec=v1.0"


def emulated(preset: str, kernel: str, *options: str, program: str = "q8a8-harness") -> Callable[[], str]:
    """Return the `Leg.sut` of a kernel of one of `EMULATORS`, with more options for the emulator.

    The kernels of the program ``q8a8-mutants`` are wrong ones.
    """

    def sut() -> str:
        emulator, *sysroot = EMULATORS[preset]
        path = native_build.build(preset, program) / "bin" / program
        argv = [native_build.find_tool(emulator), *sysroot, *options, str(path), kernel]
        return f"exec:{shlex.join(argv)}"

    return sut


def vector_loads_resume(bits: int) -> bool:
    """Return whether QEMU goes on rightly after a RISC-V vector load that a page fault has stopped.

    ``native_check/tests/vstart.c`` tries it without a kernel. Where it does not, a kernel's call that the
    harness stops by such a fault (Q8A8-ENV-4) can crash, and the crash is the emulator's.

    Raises
    ------
    NativeError
        It cannot be built or run here, or the sum is wrong.
    """
    program = native_build.build("zig-riscv64", "vstart") / "bin" / "vstart"
    argv = [native_build.find_tool("qemu-riscv64"), "-cpu", rvv_cpu(bits), str(program)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode not in {0, _CALLED_ILLEGAL}:
        raise native_build.NativeError(f"{shlex.join(argv)}: status {done.returncode}: {done.stdout}")
    return done.returncode == 0


def opencl() -> str:
    """Return the GPU kernel on the first OpenCL device.

    Raises
    ------
    MissingToolError
        There is no PyOpenCL.
    """
    if importlib.util.find_spec("pyopencl") is None:
        raise native_build.MissingToolError(
            "pyopencl", "pip install pyopencl; apt-get install pocl-opencl-icd"
        )
    return "py:q8a8_lab.opencl:Kernel"


def cuda_shim() -> str:
    """Return the CUDA kernel, compiled for this machine's processor."""
    return f"lib:{native_build.build('native') / 'lib' / 'libq8a8-cuda-shim.so'}"


def wasm(kernel: str) -> Callable[[], str]:
    """Return the `Leg.sut` of a kernel as a WebAssembly module in wasmtime: ``scalar`` or ``simd128``."""

    def sut() -> str:
        if importlib.util.find_spec("wasmtime") is None:
            raise native_build.MissingToolError("wasmtime", "pip install wasmtime")
        native_build.build("zig-wasm")
        return f"py:q8a8_lab.wasm:{kernel}"

    return sut


def _harness(kernel: str, cpu: str | None = None) -> Callable[[], str]:
    return lambda: f"exec:{shlex.join(native_build.harness_argv(kernel, cpu))}"


LEGS: tuple[Leg, ...] = (
    Leg("NumPy reference", "x86-64", lambda: "ref"),
    *(Leg(f"`{kernel}`", "x86-64", _harness(kernel)) for kernel in ("scalar", *native_build.X86_KERNELS)),
    *(
        Leg(f"`{kernel}`", f"64-bit Arm, `qemu-aarch64 -cpu {cpu}`", _harness(kernel, cpu))
        for cpu in native_build.CPUS
        for kernel in native_build.RUNS_ON[cpu]
        if not kernel.startswith("sve")
    ),
    *(
        Leg(f"`{kernel}`", f"64-bit Arm, vectors of {bits} bits, `qemu-aarch64`", _harness(kernel, cpu))
        for kernel in ("sve", "sve-i8mm")
        for bits in native_build.SVE_BITS
        for cpu in [native_build.sve_cpu(bits)]
    ),
    *(
        Leg("`rvv`", f"RISC-V, vectors of {bits} bits, `qemu-riscv64`", sut)
        for bits in RVV_BITS
        for sut in [emulated("zig-riscv64", "rvv", "-cpu", rvv_cpu(bits))]
    ),
    Leg("`scalar`", "RISC-V, `qemu-riscv64`", emulated("zig-riscv64", "scalar")),
    Leg("`scalar`", "POWER, `qemu-ppc64le`", emulated("ppc64le", "scalar")),
    Leg("`scalar`", "IBM Z, big-endian, `qemu-s390x`", emulated("s390x", "scalar")),
    Leg("`wasm-simd128`", "WebAssembly, wasmtime", wasm("simd128")),
    Leg("`scalar`", "WebAssembly, wasmtime", wasm("scalar")),
    Leg("OpenCL", "PoCL on x86-64", opencl),
    Leg("CUDA", "x86-64, compiled as C with a shim", cuda_shim),
)
"""Every leg, in the order of the table."""
