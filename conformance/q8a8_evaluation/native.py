"""The C kernels through ctypes: products of packed weights, whose bits are the reference's.

::

    kernel = find_kernel()                       # the fastest that this CPU can run
    linear = NativeLinear(weight, kernel=kernel)
    y = linear(x)                                # the bits of q8a8.mul_mat(quantize_row(weight), x)

A library says what it needs of the CPU (`q8a8_needs` of ``native_check/include/q8a8.h``), in the words of
Linux's ``/proc/cpuinfo``; on RISC-V these are the letters and names of its line ``isa``, such as ``v``. The
kernel for WebAssembly is not among them: it is a module that a host calls, and no library of a Python there.
"""

from __future__ import annotations

import ctypes
import dataclasses
import platform
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from q8a8.errors import Q8A8Error
from q8a8.layout import BLOCK_Q8_A8, QK8_A8
from q8a8.llama.linear import Q8A8Linear
from q8a8_golden.generate.native import NativeBuildError, in_checkout, kernel_library, kernel_names

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.schemes.scheme import Scheme

__all__ = [
    "NO_KERNEL",
    "NativeKernel",
    "NativeKernelError",
    "NativeLinear",
    "PackedWeights",
    "add_kernel_options",
    "cpu_features",
    "find_kernel",
    "runnable",
    "takes_kernel",
    "with_kernel",
]

NO_KERNEL: Final = "numpy"
"""What the option `--kernel` calls the reference itself."""

_TOO_LARGE: Final = 65520 * 127
"""From which on a value has no quantization (Q8A8-QNT-11); a NaN is not below it either."""

_FASTEST_FIRST = ("amx", "avx512-vnni", "avx2", "i8mm", "sve-i8mm", "sve", "dotprod", "neon", "rvv", "scalar")

_POINTER, _INT, _INT64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64

_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "q8a8_needs": (ctypes.c_char_p, (_INT,)),
    "q8a8_pack": (_POINTER, (_INT64, _INT64, _POINTER)),
    "q8a8_mul_mat_packed": (_INT, (_POINTER, _INT64, _POINTER, _POINTER, _INT)),
    "q8a8_free": (None, (_POINTER,)),
    "quantize_row_q8_a8": (None, (_POINTER, _POINTER, _INT64)),
}


class NativeKernelError(Q8A8Error):
    """No C kernel can be had here, or it cannot do what it is asked."""


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the names of the CPU's features, as Linux has them; none on other systems.

    Of RISC-V's ``isa : rv64imafdcv_zicsr_zba`` these are the letters after the width, and the longer names.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    names: set[str] = set()
    for line in lines:
        key, _, value = (word.strip() for word in line.partition(":"))
        if key in {"flags", "Features"}:
            names.update(value.split())
        elif key == "isa":
            letters, *longer = value.split("_")
            names.update(letters.lower()[len("rv64") :], longer)
    return frozenset(names)


class NativeKernel:
    """A kernel's shared library.

    Parameters
    ----------
    path
        The library.

    Attributes
    ----------
    name
        The kernel's name, as the file's.
    path
        The library.
    quantize_row
        Its function `quantize_row_q8_a8`.
    missing
        The features that it needs and this CPU lacks; only without any can it be called.

    Raises
    ------
    NativeKernelError
        It cannot be loaded, or lacks a function.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.name = path.stem.removeprefix("libq8a8-")
        try:
            library = ctypes.CDLL(str(path.resolve()))
            for function, (result, parameters) in _SIGNATURES.items():
                entry = getattr(library, function)
                entry.restype, entry.argtypes = result, parameters
        except (OSError, AttributeError) as error:
            raise NativeKernelError(f"{path}: {error}") from None
        self._library = library
        self.quantize_row: Callable[..., object] = library.quantize_row_q8_a8
        needs: list[str] = []
        while feature := library.q8a8_needs(len(needs)):
            needs.append(feature.decode())
        here = cpu_features()
        self.missing = tuple(feature for feature in needs if feature not in here)

    def pack(self, blocks: Blocks) -> PackedWeights:
        """Pack weights `[m, k / 32]`; they are not needed afterwards.

        Raises
        ------
        NativeKernelError
            There is no memory.
        """
        return PackedWeights(self._library, blocks)


class PackedWeights:
    """Weights packed by a kernel; made by `NativeKernel.pack`.

    Attributes
    ----------
    m, k
        The number of rows, and of elements of a row.
    """

    def __init__(self, library: ctypes.CDLL, blocks: Blocks) -> None:
        blocks = np.ascontiguousarray(blocks)
        self.m, self.k = blocks.shape[0], blocks.shape[1] * QK8_A8
        self._multiply = library.q8a8_mul_mat_packed
        self._packed = library.q8a8_pack(self.m, self.k, blocks.ctypes.data)
        if not self._packed:
            raise NativeKernelError(f"no memory for {self.m} packed rows of {self.k}")
        weakref.finalize(self, library.q8a8_free, self._packed)

    def multiply(self, x: NDArray[np.float32], out: NDArray[np.float32], threads: int = 1) -> None:
        """Multiply contiguous float32 `[n, k]` into float32 `[n, m]`.

        Raises
        ------
        NativeKernelError
            There is no memory.
        """
        if self._multiply(self._packed, len(x), x.ctypes.data, out.ctypes.data, threads):
            raise NativeKernelError(f"no memory for {len(x)} quantized rows of {self.k}")


class NativeLinear:
    """Q8_A8 on both sides by a C kernel, in place of `q8a8.llama.Q8A8Linear`: the same bits.

    Parameters
    ----------
    weight
        float32 `[out, in]`, or `BLOCK_Q8_A8` `[out, in / 32]`.
    kernel
        What packs and multiplies.
    threads
        How many threads multiply; they have no influence on a bit.

    Raises
    ------
    DomainError, DtypeError, ShapeError
        as `q8a8.quantize_row`; at run time, as `q8a8.mul_mat`.
    NativeKernelError
        There is no memory.
    """

    activation_bits = Q8A8Linear.activation_bits

    def __init__(
        self, weight: NDArray[np.float32] | Blocks, *, kernel: NativeKernel, threads: int = 1
    ) -> None:
        reference = Q8A8Linear(weight)
        self.weight_bytes: int = reference.weight_bytes
        self._packed = kernel.pack(reference.blocks)
        # what the reference refuses, it refuses by its own checks, for which no row of weights is needed
        self._check = Q8A8Linear(np.zeros((0, self._packed.k // QK8_A8), BLOCK_Q8_A8))
        self._threads = threads

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`."""
        if (
            x.dtype != np.float32
            or x.shape[-1] != self._packed.k
            or not np.abs(x).max(initial=0) < _TOO_LARGE
        ):
            self._check(x)
        x = np.ascontiguousarray(x)
        out = np.empty((*x.shape[:-1], self._packed.m), np.float32)
        self._packed.multiply(x.reshape(-1, self._packed.k), out.reshape(-1, self._packed.m), self._threads)
        return out


def runnable() -> list[NativeKernel]:
    """Return the kernels that this CPU can run, the fastest first.

    One that the compiler cannot make, because it is older than the instructions, is left out.

    Raises
    ------
    NativeKernelError
        There is none: no checkout, no compiler, or one that cannot compile the scalar kernel either.
    """
    if not in_checkout():
        raise NativeKernelError(
            "there are no C kernels here: their sources are in a checkout of the project, not in the wheel; "
            "a library of a build elsewhere is named by its path"
        )
    kernels = []
    for name in (name for name in _FASTEST_FIRST if name in kernel_names()):
        if kernel_names()[name][0] in {"any", platform.machine()}:
            try:
                path = kernel_library(name)
            except NativeBuildError as error:
                if name != "scalar":
                    continue
                raise NativeKernelError(f"the {name} kernel does not compile: {error}") from None
            if path is None:
                raise NativeKernelError(
                    "there is no C kernel built, and no C compiler: install cc, or name CC"
                )
            kernel = NativeKernel(path)
            if not kernel.missing:
                kernels.append(kernel)
    return kernels


def find_kernel(name: str = "native") -> NativeKernel:
    """Return a kernel.

    Parameters
    ----------
    name
        "native" for the fastest that this CPU can run, a kernel's name, or the path of its library.

    Raises
    ------
    NativeKernelError
        There is none of that name for this CPU.
    """
    if "/" in name or name.endswith(".so"):
        kernel = NativeKernel(Path(name))
        if kernel.missing:
            raise NativeKernelError(f"{name} needs the CPU feature {', '.join(kernel.missing)}")
        return kernel
    kernels = {kernel.name: kernel for kernel in runnable()}
    if name == "native":
        return next(iter(kernels.values()))
    if name not in kernels:
        raise NativeKernelError(f"no kernel {name} for this CPU; there is {', '.join(kernels)}")
    return kernels[name]


def add_kernel_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--kernel`` and ``--threads``, whose values `with_kernel` takes."""
    parser.add_argument(
        "--kernel",
        default=NO_KERNEL,
        metavar="NAME",
        help="what multiplies in the scheme q8_a8, with the same bits: numpy; native, the fastest C kernel "
        "for this CPU; a C kernel's name, or the path of its library [numpy]",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of a C kernel [1]")


def takes_kernel(scheme: Scheme) -> bool:
    """Return whether a scheme's products are those of Q8_A8, which a C kernel can compute."""
    return scheme.linear is Q8A8Linear and not scheme.options


def with_kernel(scheme: Scheme, name: str, threads: int = 1) -> Scheme:
    """Return a scheme whose products of Q8_A8 are a C kernel's.

    Parameters
    ----------
    scheme
        A scheme; one without such products is returned as it is.
    name
        As for `find_kernel`; `NO_KERNEL` leaves the scheme as it is.
    threads
        How many threads multiply.

    Raises
    ------
    NativeKernelError
        as `find_kernel`.
    """
    if name == NO_KERNEL or not takes_kernel(scheme):
        return scheme
    kernel = find_kernel(name)

    def linear(weight: NDArray[np.float32] | Blocks) -> NativeLinear:
        return NativeLinear(weight, kernel=kernel, threads=threads)

    return dataclasses.replace(scheme, linear=linear)
