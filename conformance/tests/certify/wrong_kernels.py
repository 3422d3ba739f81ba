"""The reference with one result of a domain changed, and kernels that crash; used as ``py:`` targets."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.abi import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

HALF_POINT = 0x3F803000
"""1 + 3 · 2^-11, a tie."""
SCALE_POINT = 0x41234567
"""The one amax whose scale is wrong."""
CODE_PATTERN = 0x80345678
"""The one element whose code is wrong, where amax is 1: tiny, negative, its code 0."""


class Right(Reference):
    """The reference; subclasses change one result."""


class OneDequantized(Right):
    """Scale 0x0001 with code -128 gives the neighbouring float32."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize, with the last bit of one result flipped."""
        super().dequantize_row_q8_a8(x, y, k)
        blocks = x.reshape(-1, 34)
        here = (blocks[:, :1] == 1) & (blocks[:, 1:2] == 0) & (blocks[:, 2:] == 0x80)
        y.view(np.uint32).reshape(-1, 32)[here] ^= 1


class OneHalf:
    """A conversion only; one tie among the 2^32 floats goes to the odd half."""

    @staticmethod
    def ggml_fp32_to_fp16_row(x: Array, y: Array, n: int) -> None:
        """Convert with NumPy, with the last bit of one result flipped."""
        with np.errstate(all="ignore"):
            y[:n] = x.astype(np.float16).view(np.uint16)
        y[x.view(np.uint32) == HALF_POINT] ^= 1


class OneScale(Right):
    """One amax of 1.26 billion has a wrong scale."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize, with the last bit of one scale changed."""
        super().quantize_row_q8_a8(x, y, k)
        amax = (x.view(np.uint32).reshape(-1, 32) & 0x7FFFFFFF).max(axis=1)
        y.reshape(-1, 34)[amax == SCALE_POINT, 0] ^= 1


class OneCode(Right):
    """One element of two billion under amax 1 has a wrong code."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize, with one code changed."""
        super().quantize_row_q8_a8(x, y, k)
        blocks = x.view(np.uint32).reshape(-1, 32)
        codes = y.reshape(-1, 34)[:, 2:]
        codes[blocks == CODE_PATTERN] ^= 1


class OneProduct(Right):
    """-128 · -128 saturates in the last lane, as in 16-bit arithmetic."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Compute the dot product with 16383 for that product."""
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, nrc)
        if vx[33] == vy[33] == 0x80:
            s[0] *= np.float32(16383 / 16384)


class OneRow(Right):
    """Takes nrc = 2 for nrc = 1: three of four results are never written."""

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Compute the first result only."""
        super().ggml_vec_dot_q8_a8_q8_a8(n, s, bs, vx, bx, vy, by, min(nrc, 1))


class Dies(Right):
    """Ends its process in the middle of a domain."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize; exit at a negative scale."""
        if x[1] & 0x80:
            os._exit(7)
        super().dequantize_row_q8_a8(x, y, k)


class Raises(Right):
    """Raises an exception."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Raise."""
        raise ArithmeticError(f"{k} is too much for {len(x)} and {len(y)}")


class Slow(Right):
    """Sleeps in each call, for the seconds in the environment, so that it can be interrupted."""

    @staticmethod
    def ggml_fp16_to_fp32_row(x: Array, y: Array, n: int) -> None:
        """Convert without a delay."""
        y[:n] = x[:n].view(np.float16)

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize after a delay."""
        time.sleep(float(os.environ.get("SECONDS_A_CALL", "0")))
        super().dequantize_row_q8_a8(x, y, k)


class Hangs(Right):
    """Never returns."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Wait."""
        time.sleep(600 + 0 * (k + len(x) + len(y)))
