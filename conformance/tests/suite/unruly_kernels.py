"""Kernels that compute what is right and misbehave otherwise: ``py:unruly_kernels:InputWritten``.

They write where they must not, leave the processor changed, or die.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from q8a8.abi import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class InputWritten(Reference):
    """Clears the sign of its first input element."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize, then write to the input behind NumPy's back."""
        super().quantize_row_q8_a8(x, y, k)
        if k:
            ctypes.memset(x.ctypes.data, 0x5A, 1)


class BeyondWritten(Reference):
    """Writes one byte behind its output."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize, then write on."""
        super().dequantize_row_q8_a8(x, y, k)
        ctypes.memset(y.ctypes.data + 4 * k, 0, 1)


class BeyondRead(Reference):
    """Reads sixteen bytes where two blocks end."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize, after a look behind the last block."""
        ctypes.string_at(x.ctypes.data + k // 32 * 34, 16)
        super().dequantize_row_q8_a8(x, y, k)


class Aligned(Reference):
    """Wants its blocks on 32-byte boundaries."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Die as an aligned load does."""
        if x.ctypes.data % 32 and len(x) > 34:
            os.kill(os.getpid(), signal.SIGSEGV)
        super().dequantize_row_q8_a8(x, y, k)


class RoundingLeft(Reference):
    """Leaves the processor rounding towards zero."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize, and set the rounding mode of x86 or Arm."""
        super().dequantize_row_q8_a8(x, y, k)
        toward_zero = 0xC00000 if os.uname().machine == "aarch64" else 0xC00
        ctypes.CDLL(ctypes.util.find_library("m")).fesetround(toward_zero)


class SharedScratch(Reference):
    """Keeps its row in one buffer for all threads."""

    def __init__(self) -> None:
        super().__init__()
        self._inside = 0

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize, wrongly if another call is under way."""
        self._inside += 1
        time.sleep(0.001)
        alone = self._inside == 1
        super().dequantize_row_q8_a8(x, y, k)
        if not alone:
            y[:k] = 0
        self._inside -= 1


class CrashOnShape(Reference):
    """Dies on rows of 13 blocks."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize, or die."""
        if k == 13 * 32:
            os.kill(os.getpid(), signal.SIGSEGV)
        super().dequantize_row_q8_a8(x, y, k)


class HangOnShape(Reference):
    """Never returns on rows of 13 blocks."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize, or hang."""
        while k == 13 * 32:
            time.sleep(1)
        super().dequantize_row_q8_a8(x, y, k)


class RaiseOnShape(Reference):
    """Raises an exception on rows of 13 blocks."""

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Dequantize, or raise."""
        if k == 13 * 32:
            raise RuntimeError("thirteen")
        super().dequantize_row_q8_a8(x, y, k)


class Nothing:
    """Offers no function."""
