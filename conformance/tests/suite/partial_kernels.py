"""Kernels that offer few functions, or refuse some calls: ``py:partial_kernels:OneRow``."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.abi import Reference
from q8a8_conformance.mutants import make

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OneRow:
    """Offers the dot product alone, one row at a time."""

    ggml_vec_dot_q8_a8_q8_a8 = staticmethod(make("one-row-at-a-time").ggml_vec_dot_q8_a8_q8_a8)


class OneQuantizer:
    """Offers one of the two row quantizers."""

    quantize_row_q8_a8 = staticmethod(Reference().quantize_row_q8_a8)


class Nothing:
    """Offers no function."""


class Refusing(Reference):
    """Raises an exception on rows of 13 blocks."""

    def dequantize_row_q8_a8(self, x: NDArray[Any], y: NDArray[Any], k: int) -> None:
        """Dequantize, or raise."""
        if k == 13 * 32:
            raise RuntimeError("thirteen")
        super().dequantize_row_q8_a8(x, y, k)


class SaturatingLongRows:
    """Offers the dot product, whose pairs of products saturate in 16 bits in rows of 64 blocks and more."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self,
        n: int,
        s: NDArray[Any],
        bs: int,
        vx: NDArray[Any],
        bx: int,
        vy: NDArray[Any],
        by: int,
        nrc: int,
    ) -> None:
        """Compute the dot product, and take off what each block loses by saturation."""
        Reference().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
        if n >= 64 * 32 and nrc == 1:
            x, y = (row[: n // 32 * 34].reshape(-1, 34) for row in (vx, vy))
            codes = x[:, 2:].view(np.int8).astype(int) * y[:, 2:].view(np.int8)
            lost = (codes.reshape(-1, 16, 2).sum(axis=2) == 1 << 15).sum(axis=1)
            d = x[:, :2].copy().view(np.float16).astype(np.float32) * y[:, :2].copy().view(np.float16)
            s[0] -= (lost * d[:, 0]).sum(where=lost > 0, dtype=np.float32)


class Printing:
    """Prints a line in every call of the one function that it has."""

    def dequantize_row_q8_a8(self, x: NDArray[Any], y: NDArray[Any], k: int) -> None:
        """Print and dequantize."""
        sys.stdout.write("dequantizing\n")
        Reference().dequantize_row_q8_a8(x, y, k)


class Dying:
    """Ends its process in every call of the one function that it has."""

    def dequantize_row_q8_a8(self, x: object, y: object, k: int) -> None:
        """Abort."""
        del x, y, k
        os.abort()


class Waiting(Reference):
    """Writes its process's number into the file that Q8A8_MARK names, and does not return from long rows.

    Beside the file, each process leaves one with its number at the end of the name.
    """

    def dequantize_row_q8_a8(self, x: NDArray[Any], y: NDArray[Any], k: int) -> None:
        """Dequantize two blocks, or wait."""
        if k == 2 * 32:
            super().dequantize_row_q8_a8(x, y, k)
            return
        mark = Path(os.environ["Q8A8_MARK"])
        mark.with_suffix(".part").write_text(str(os.getpid()), encoding="ascii")
        mark.with_suffix(".part").rename(mark)
        mark.with_name(f"mark-{os.getpid()}").touch()
        time.sleep(600)


class SubnormalInOtherThreads:
    """Takes subnormal scales for zero in dot products of other threads than the main one."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self,
        n: int,
        s: NDArray[Any],
        bs: int,
        vx: NDArray[Any],
        *rest: Any,  # noqa: ANN401 - as in C
    ) -> None:
        """Compute dot products."""
        if threading.current_thread() is not threading.main_thread() and rest[-1] == 1:
            vx = vx.copy()
            blocks = vx[: n // 32 * 34].reshape(-1, 34)
            blocks[blocks[:, 1] & 0x7C == 0, :2] = 0
        Reference().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, *rest)


class Leaving(Reference):
    """Negates what comes right after another function: activations after products, products after a row's."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def quantize_activation_q8_a8(
        self, x: NDArray[Any], output: NDArray[Any], scale: NDArray[Any], size: int
    ) -> None:
        """Quantize."""
        super().quantize_activation_q8_a8(x, output, scale, size)
        if self._last == "product":
            output *= -1
        self._last = "activation"

    def dequantize_row_q8_a8(self, x: NDArray[Any], y: NDArray[Any], k: int) -> None:
        """Dequantize."""
        super().dequantize_row_q8_a8(x, y, k)
        self._last = "row"

    def mul_mat_q8_a8(
        self, m: int, n: int, k: int, w: NDArray[Any], x: NDArray[Any], out: NDArray[Any]
    ) -> None:
        """Multiply."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        if self._last in {"row", "empty"}:
            out *= -1
        self._last = "empty" if (m, k) == (3, 0) else "product"


class MatrixOfFloats:
    """Multiplies activations as they are, and adds single elements from left to right."""

    def mul_mat_q8_a8(
        self, m: int, n: int, k: int, w: NDArray[Any], x: NDArray[Any], out: NDArray[Any]
    ) -> None:
        """Multiply."""
        blocks = w[: m * k // 32 * 34].reshape(m, -1, 34)
        scale = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)
        weights = (blocks[..., 2:].view(np.int8) * scale).reshape(1, m, k)
        with np.errstate(all="ignore"):
            sums = np.cumsum(x[: n * k].reshape(n, 1, k) * weights, axis=-1, dtype=np.float32)
        out[: m * n] = sums[..., -1].reshape(-1) if k else 0


class MatrixOfGgml:
    """Offers the matrix product alone, by a recipe of ggml's."""

    mul_mat_q8_a8 = staticmethod(Reference("ggml-avx2").mul_mat_q8_a8)


class MatrixOfOneThread:
    """Has a matrix product that is not made where three threads are asked for."""

    def mul_mat_q8_a8(self, *arguments: Any) -> None:  # noqa: ANN401 - as in C
        """Multiply, or raise."""
        if os.environ.get("OMP_NUM_THREADS") == "3":
            raise RuntimeError("three")
        Reference().mul_mat_q8_a8(*arguments)


class MatrixByThreads:
    """Has a matrix product that adds in another order where three threads are asked for."""

    def mul_mat_q8_a8(self, *arguments: Any) -> None:  # noqa: ANN401 - as in C
        """Multiply."""
        other = os.environ.get("OMP_NUM_THREADS") == "3"
        make(*["matrix-blocks-reversed"] * other).mul_mat_q8_a8(*arguments)


class MatrixOfWords:
    """Has a matrix product that reads x from the address rounded down to a multiple of eight."""

    def mul_mat_q8_a8(
        self, m: int, n: int, k: int, w: NDArray[Any], x: NDArray[Any], out: NDArray[Any]
    ) -> None:
        """Multiply."""
        if x.ctypes.data % 8:
            x = np.roll(x, 1)
        Reference().mul_mat_q8_a8(m, n, k, w, x, out)


class MatrixWithScratch:
    """Has a matrix product that is made in a buffer of all threads."""

    def __init__(self) -> None:
        self._scratch = np.zeros(1 << 20, np.float32)

    def mul_mat_q8_a8(
        self, m: int, n: int, k: int, w: NDArray[Any], x: NDArray[Any], out: NDArray[Any]
    ) -> None:
        """Multiply."""
        Reference().mul_mat_q8_a8(m, n, k, w, x, self._scratch)
        time.sleep(0.0005)
        out[:] = self._scratch[: out.size]


class RareRows:
    """Has functions that are wrong for one length, for weights that changed, or for one amax in thousands."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int, int], NDArray[Any]] = {}

    def ggml_vec_dot_q8_a8_q8_a8(self, n: int, *arguments: Any) -> None:  # noqa: ANN401 - as in C
        """Leave out the last 16 blocks of the one width that has a loop of its own."""
        Reference().ggml_vec_dot_q8_a8_q8_a8(n - 512 if n == 18_944 else n, *arguments)

    def quantize_activation_q8_a8(
        self, x: NDArray[Any], output: NDArray[Any], scale: NDArray[Any], size: int
    ) -> None:
        """Leave the last element of a very long vector of odd size out of amax."""
        even = size - (size >= 2**22 and size % 2)
        Reference().quantize_activation_q8_a8(x[:even], output[:even], scale, even)
        if even < size:
            output[even:] = 127

    def mul_mat_q8_a8(
        self, m: int, n: int, k: int, w: NDArray[Any], x: NDArray[Any], out: NDArray[Any]
    ) -> None:
        """Keep large weights, and take an inverse that is one ULP off for some amax."""
        if m * k >= 2**20:
            w = self._kept.setdefault((w.ctypes.data, m, k), w.copy())
        blocks = x[: n * k].reshape(-1, 32)
        amax = np.abs(blocks).max(axis=1, initial=0)
        off = amax.view(np.uint32) % 6899 == 0
        if off.any():
            inverse = np.nextafter(np.float32(127) / amax[off], np.float32(0))
            codes = np.trunc(blocks[off] * inverse[:, np.newaxis] + np.copysign(np.float32(0.5), blocks[off]))
            x = x.copy()
            x[: n * k].reshape(-1, 32)[off] = codes * (amax[off] / np.float32(127))[:, np.newaxis]
        Reference().mul_mat_q8_a8(m, n, k, w, x, out)


class Streaming:
    """Has a path for aligned outputs that exchanges elements 8 to 15 of a block with 16 to 23."""

    def dequantize_row_q8_a8(self, x: NDArray[Any], y: NDArray[Any], k: int) -> None:
        """Dequantize."""
        Reference().dequantize_row_q8_a8(x, y, k)
        if y.ctypes.data % 32 == 0:
            blocks = y[:k].reshape(-1, 4, 8)
            blocks[:] = blocks[:, [0, 2, 1, 3]]
