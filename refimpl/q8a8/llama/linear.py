"""The linear operator of the model, y = x Wᵀ, in float and in this format.

A `Linear` is anything that maps rows to rows; `q8a8.llama.model.Model` takes one for each weight. The others
of this project are in `q8a8.methods`.

===================  ====================  ==================================================================
class                stored                computed
===================  ====================  ==================================================================
`FloatLinear`        float32               x Wᵀ in float32
`Int8WeightLinear`   blocks of Q8_A8       W8A16: the blocks dequantized, activations in float
`Q8A8Linear`         blocks of Q8_A8       W8A8: activations quantized at run time too, `q8a8.mul_mat`
===================  ====================  ==================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from q8a8.arithmetic import matmul
from q8a8.errors import ShapeError
from q8a8.layout import BLOCK_Q8_A8, require_blocks
from q8a8.matmul import mul_mat
from q8a8.quantize import dequantize_row, quantize_row
from q8a8.recipe import get_recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.recipe import Recipe

    F32 = NDArray[np.float32]

__all__ = ["FloatLinear", "Int8WeightLinear", "Linear", "Q8A8Linear"]

BITS_A_NUMBER = 8.5
"""Of Q8_A8: 34 bytes hold 32 numbers."""


class Linear(Protocol):
    """A linear operator with weights of its own.

    Attributes
    ----------
    weight_bytes
        Bytes that the stored weights take, their scales included.
    activation_bits
        Bits of each number of x that takes part in the product, scales included: 32 for floats.
    """

    @property
    def weight_bytes(self) -> int:
        """Bytes that the stored weights take, their scales included."""

    @property
    def activation_bits(self) -> float:
        """Bits of each number of x that takes part in the product, scales included."""

    def __call__(self, x: F32, /) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`."""


class FloatLinear:
    """y = x Wᵀ in the precision of the weights.

    Parameters
    ----------
    weight
        `[out, in]`, float32; float64 where the model is evaluated in float64.
    """

    activation_bits = 32.0

    def __init__(self, weight: NDArray[Any]) -> None:
        if weight.ndim != 2:
            raise ShapeError(f"weight: expected a matrix, got shape {weight.shape}")
        self.weight = weight
        self.weight_bytes: int = weight.nbytes

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Multiply: `[t, in]` to `[t, out]`."""
        return matmul(x, self.weight.T)


def _blocks(weight: F32 | Blocks, recipe: str | Recipe) -> Blocks:
    """Quantize a matrix `[out, in]`; return blocks `[out, in / 32]` as they are."""
    if weight.ndim != 2:
        raise ShapeError(f"weight: expected a matrix, got shape {weight.shape}")
    if weight.dtype == BLOCK_Q8_A8:
        require_blocks(weight, "weight", BLOCK_Q8_A8)
        return weight
    return quantize_row(weight, recipe)


class Int8WeightLinear:
    """W8A16: weights stored as Q8_A8 blocks, activations left alone.

    The bytes are those of the blocks; the product is that of the dequantized weights, converted once
    (exactly, Q8A8-DEQ), so that it costs as much as a float product.

    Parameters
    ----------
    weight
        float32 `[out, in]`, or `BLOCK_Q8_A8` `[out, in / 32]`.
    recipe
        The arithmetic that quantizes it; only `design` conforms.

    Raises
    ------
    DomainError, DtypeError, ShapeError
        as `q8a8.quantize_row`.
    """

    activation_bits = 32.0

    def __init__(self, weight: F32 | Blocks, *, recipe: str | Recipe = "design") -> None:
        blocks = _blocks(weight, recipe)
        self.weight_bytes: int = blocks.nbytes
        self._weight = dequantize_row(blocks)

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`."""
        return matmul(x, self._weight.T)


class Q8A8Linear:
    """Q8_A8 on both sides: weights stored as blocks, x quantized block by block at run time (Q8A8-MUL).

    Every bit of the result is the specification's, whatever the number of threads.

    Parameters
    ----------
    weight
        float32 `[out, in]`, or `BLOCK_Q8_A8` `[out, in / 32]`.
    recipe
        The arithmetic that quantizes weights and activations; only `design` conforms.
    threads
        How many threads multiply.

    Raises
    ------
    DomainError, DtypeError, ShapeError
        as `q8a8.quantize_row`; at run time, as `q8a8.mul_mat`.
    """

    activation_bits = BITS_A_NUMBER

    def __init__(self, weight: F32 | Blocks, *, recipe: str | Recipe = "design", threads: int = 1) -> None:
        self.recipe = get_recipe(recipe)
        self.blocks = _blocks(weight, self.recipe)
        self.threads = threads
        self.weight_bytes: int = self.blocks.nbytes

    def __call__(self, x: F32) -> F32:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`."""
        return mul_mat(self.blocks, x, recipe=self.recipe, threads=self.threads)
