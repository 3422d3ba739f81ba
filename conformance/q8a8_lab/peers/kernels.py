"""One interface to every peer: quantize blocks, multiply rows, whoever does it.

A peer here is trusted to live: a prebuilt library of the package index, or one that was built a minute ago.
It is loaded into this process, where a million blocks cost a second; what this machine cannot run goes
through a worker process (QEMU and the C harness), as every kernel under ``q8a8 test`` does.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from q8a8.layout import BLOCK_Q8_A8, QK8_A8
from q8a8_conformance.protocol.messages import Buffer, Call, Fault
from q8a8_conformance.spec import abi
from q8a8_lab.peers import ggml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from q8a8.layout import Blocks
    from q8a8_conformance.protocol.session import Session

__all__ = [
    "DOT",
    "QUANTIZE",
    "QUANTIZE_REF",
    "GgufKernel",
    "Kernel",
    "KernelFaultError",
    "LibraryKernel",
    "WorkerKernel",
]

F32: TypeAlias = NDArray[np.float32]
U8: TypeAlias = NDArray[np.uint8]

QUANTIZE_REF = "quantize_row_q8_a8_ref"
QUANTIZE = "quantize_row_q8_a8"
DOT = "ggml_vec_dot_q8_a8_q8_a8"

_C_TYPES = {"int": ctypes.c_int, "int64_t": ctypes.c_int64, "size_t": ctypes.c_size_t}


class KernelFaultError(Exception):
    """The worker saw the kernel misbehave around a call: it wrote outside a buffer, say."""


class Kernel(Protocol):
    """What a comparison asks of a peer. Functions have their ABI names."""

    def quantize(self, function: str, x: F32) -> U8:
        """Quantize blocks float32 [n, 32]; returns their bytes uint8 [n, 34]."""
        ...

    def dot(self, x: Blocks, y: Blocks) -> F32:
        """Multiply rows [rows, nb] pairwise, one call a row with nrc = 1; returns float32 [rows]."""
        ...

    def dot2(self, x: Blocks, y: Blocks) -> F32:
        """Multiply rows [rows, nb] in pairs, nrc = 2: float32 [rows/2, 2, 2]; [p, i, j] is x_i . y_j."""
        ...


class LibraryKernel:
    """A shared library in this process.

    Parameters
    ----------
    path
        The library.
    symbols
        ABI name to exported name, where it is another; ggml's by default.
    init
        A function without arguments to call first; ggml's by default, None for none.
    """

    def __init__(
        self, path: Path, symbols: Mapping[str, str] = ggml.SYMBOLS, init: str | None = ggml.INIT
    ) -> None:
        self._library = ctypes.CDLL(str(path))
        self._symbols = symbols
        if init is not None:
            getattr(self._library, init)()

    def _function(self, name: str) -> ctypes._NamedFuncPointer:
        function = getattr(self._library, self._symbols.get(name, name))
        function.argtypes = [
            _C_TYPES.get(parameter.ctype, ctypes.c_void_p) for parameter in abi.BY_NAME[name].parameters
        ]
        function.restype = None
        return function  # type: ignore[no-any-return]  # ctypes gives attributes no type

    def quantize(self, function: str, x: F32) -> U8:
        """As `Kernel.quantize`."""
        x = np.ascontiguousarray(x)
        y = np.empty((len(x), BLOCK_Q8_A8.itemsize), np.uint8)
        self._function(function)(x.ctypes.data, y.ctypes.data, x.size)
        return y

    def dot(self, x: Blocks, y: Blocks) -> F32:
        """As `Kernel.dot`."""
        return self._dot(x, y, 1)[:, 0, 0]

    def dot2(self, x: Blocks, y: Blocks) -> F32:
        """As `Kernel.dot2`."""
        return self._dot(x, y, 2)

    def _dot(self, x: Blocks, y: Blocks, nrc: int) -> F32:
        x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
        call = self._function(DOT)
        row = x.shape[1] * BLOCK_Q8_A8.itemsize
        out = np.empty((len(x) // nrc, nrc, nrc), np.float32)
        vx, vy, s = x.ctypes.data, y.ctypes.data, out.ctypes.data
        for i in range(len(out)):
            at = i * nrc * row
            call(x.shape[1] * QK8_A8, s + 4 * i * nrc * nrc, nrc, vx + at, row, vy + at, row, nrc)
        # Q8A8-DOT-6: s[j*bs + i] is x_i . y_j.
        return out.swapaxes(1, 2)


class WorkerKernel:
    """A kernel behind the worker protocol.

    Parameters
    ----------
    session
        The worker. Whoever made it closes it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def _call(self, call: Call) -> bytes:
        result = self._session.call(call)
        if result.faults != Fault(0):
            raise KernelFaultError(f"{call.function}, n = {call.n}: {result.faults!r} {result.detail}")
        return result.outputs[0]

    def quantize(self, function: str, x: F32) -> U8:
        """As `Kernel.quantize`."""
        y = bytes(len(x) * BLOCK_Q8_A8.itemsize)
        out = self._call(Call(function, x.size, (Buffer(np.ascontiguousarray(x).tobytes()), Buffer(y))))
        return np.frombuffer(out, np.uint8).reshape(len(x), BLOCK_Q8_A8.itemsize)

    def dot(self, x: Blocks, y: Blocks) -> F32:
        """As `Kernel.dot`."""
        return self._dot(x, y, 1)[:, 0, 0]

    def dot2(self, x: Blocks, y: Blocks) -> F32:
        """As `Kernel.dot2`."""
        return self._dot(x, y, 2)

    def _dot(self, x: Blocks, y: Blocks, nrc: int) -> F32:
        row = x.shape[1] * BLOCK_Q8_A8.itemsize
        out = np.empty((len(x) // nrc, nrc, nrc), np.float32)
        s = Buffer(bytes(4 * nrc * nrc))
        for i in range(len(out)):
            here = slice(i * nrc, (i + 1) * nrc)
            buffers = (s, Buffer(x[here].tobytes()), Buffer(y[here].tobytes()))
            call = Call(DOT, x.shape[1] * QK8_A8, buffers, bs=nrc, bx=row, by=row, nrc=nrc)
            out[i] = np.frombuffer(self._call(call), np.float32).reshape(nrc, nrc)
        return out.swapaxes(1, 2)


class GgufKernel:
    """gguf-py's NumPy quantizer of Q8_0. It multiplies nothing."""

    def quantize(self, function: str, x: F32) -> U8:
        """As `Kernel.quantize`; its one quantizer stands for `QUANTIZE_REF`."""
        if function != QUANTIZE_REF:
            raise NotImplementedError(f"gguf-py has no {function}")
        from gguf import GGMLQuantizationType, quants  # noqa: PLC0415 -- an extra, needed by this peer alone

        out: U8 = quants.quantize(x, GGMLQuantizationType.Q8_0)
        return out

    def dot(self, x: Blocks, y: Blocks) -> F32:
        """Refuse: there is no such function."""
        raise NotImplementedError("gguf-py multiplies nothing")

    def dot2(self, x: Blocks, y: Blocks) -> F32:
        """Refuse: there is no such function."""
        raise NotImplementedError("gguf-py multiplies nothing")
