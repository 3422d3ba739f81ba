"""Kernels that offer few functions, or refuse some calls: ``py:partial_kernels:OneRow``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Writes its process's number into the file that Q8A8_MARK names, and does not return from long rows."""

    def dequantize_row_q8_a8(self, x: NDArray[Any], y: NDArray[Any], k: int) -> None:
        """Dequantize two blocks, or wait."""
        if k == 2 * 32:
            super().dequantize_row_q8_a8(x, y, k)
            return
        mark = Path(os.environ["Q8A8_MARK"])
        mark.with_suffix(".part").write_text(str(os.getpid()), encoding="ascii")
        mark.with_suffix(".part").rename(mark)
        time.sleep(600)
