"""The C scalar kernel, called through ctypes: what compiled code without vector instructions does."""

from __future__ import annotations

import ctypes
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from q8a8.layout import BLOCK_Q8_A8, QK8_A8

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8.layout import Blocks

__all__ = ["CKernel"]

_SIZE, _POINTER, _INT, _INT64 = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64


class CKernel:
    """A shared library with the C ABI.

    Parameters
    ----------
    path
        The library; OSError where it cannot be loaded, AttributeError where it lacks a function.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._quantize = library.quantize_row_q8_a8
        self._quantize.argtypes, self._quantize.restype = (_POINTER, _POINTER, _INT64), None
        self._dequantize = library.dequantize_row_q8_a8
        self._dequantize.argtypes, self._dequantize.restype = (_POINTER, _POINTER, _INT64), None
        self._dot = library.ggml_vec_dot_q8_a8_q8_a8
        self._dot.argtypes = (_INT, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE, _INT)
        self._dot.restype = None

    def quantize(self, x: NDArray[np.float32]) -> Blocks:
        """Quantize contiguous float32 [..., k] to blocks [..., k/32]."""
        blocks = np.empty((*x.shape[:-1], x.shape[-1] // QK8_A8), BLOCK_Q8_A8)
        self._quantize(x.ctypes.data, blocks.ctypes.data, x.size)
        return blocks

    def dequantize(self, blocks: Blocks) -> NDArray[np.float32]:
        """Turn contiguous blocks [..., nb] into float32 [..., 32·nb]."""
        y = np.empty((*blocks.shape[:-1], blocks.shape[-1] * QK8_A8), np.float32)
        self._dequantize(blocks.ctypes.data, y.ctypes.data, y.size)
        return y

    def mul_mat(self, w: Blocks, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Quantize X [n, k] and multiply by W [m, k/32], a call for each result: float32 [n, m]."""
        xq = self.quantize(x)
        out = np.empty((len(x), len(w)), np.float32)
        self._dots(x.shape[-1], w, xq, out)
        return out

    def seconds_of_calls(self, w: Blocks, x: NDArray[np.float32]) -> float:
        """Measure what the calls of `mul_mat` cost apart from their work: dot products of no blocks."""
        out = np.empty((len(x), len(w)), np.float32)
        start = perf_counter()
        self._dots(0, w, np.empty((len(x), w.shape[1]), BLOCK_Q8_A8), out)
        return perf_counter() - start

    def _dots(self, k: int, w: Blocks, xq: Blocks, out: NDArray[np.float32]) -> None:
        dot, step = self._dot, w.strides[0]
        result = out.ctypes.data
        for row in range(len(xq)):
            y = xq.ctypes.data + row * xq.strides[0]
            for x in range(w.ctypes.data, w.ctypes.data + len(w) * step, step):
                dot(k, result, 0, x, 0, y, 0, 1)
                result += 4
