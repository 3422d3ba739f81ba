"""gguf-py's Q8_0 (`gguf.quants`), under the ABI's names: ``py:q8a8_conformance.adapters.gguf_py:kernel``.

gguf-py has one quantizer, used for both of the ABI's row quantizers, and a dequantizer; it has no activation
quantizer and no dot product. What is done with it instead is ``gguf_py:product``: weights are dequantized,
and NumPy multiplies floats.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK_ELEMENTS, _BLOCK_BYTES = 32, 34


class GgufPy:
    """gguf-py's Q8_0."""

    version = version("gguf")

    def quantize_row_q8_a8(self, x: NDArray[np.float32], y: NDArray[np.uint8], k: int) -> None:
        """Quantize ``k`` floats of ``x`` into blocks in ``y``."""
        if k:  # gguf-py cannot reshape an empty array
            y[: k // _BLOCK_ELEMENTS * _BLOCK_BYTES] = quantize(x[:k], GGMLQuantizationType.Q8_0)

    quantize_row_q8_a8_ref = quantize_row_q8_a8

    def dequantize_row_q8_a8(self, x: NDArray[np.uint8], y: NDArray[np.float32], k: int) -> None:
        """Dequantize the blocks of ``k`` elements of ``x`` into floats in ``y``."""
        if k:
            y[:k] = dequantize(x[: k // _BLOCK_ELEMENTS * _BLOCK_BYTES], GGMLQuantizationType.Q8_0)


class Dequantized:
    """A matrix product of weights that gguf-py dequantizes."""

    version = version("gguf")

    def mul_mat_q8_a8(
        self, m: int, n: int, k: int, w: NDArray[np.uint8], x: NDArray[np.float32], out: NDArray[np.float32]
    ) -> None:
        """Multiply m rows of blocks in ``w`` by n rows of ``x``."""
        if not m * n * k:
            out[: m * n] = 0
            return
        blocks = w[: m * k // _BLOCK_ELEMENTS * _BLOCK_BYTES].reshape(m, -1)
        out[: m * n] = (x[: n * k].reshape(n, k) @ dequantize(blocks, GGMLQuantizationType.Q8_0).T).reshape(
            -1
        )


kernel = GgufPy()
product = Dequantized()
