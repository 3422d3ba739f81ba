"""Rows of float32 to rows of blocks, and back (Q8A8-QNT, Q8A8-DEQ).

::

    x [..., k] float32   element j of block b of a row is x[32·b + j]           Q8A8-LAY-2
    h, q                 each block quantized alone, by `recipe.apply_recipe`   Q8A8-QNT-7
    y_j = f32(h) · q_j   11 significant bits times 8: 19 of float32's 24        Q8A8-DEQ-1

`plain_quantize_row`, `plain_quantize_row_v2` and `plain_dequantize_row` are these lines in NumPy: the
definitions. `quantize_row`, `quantize_row_v2` and `dequantize_row` return the same bits and raise the same
errors, fast and in bounded memory (`q8a8._fast_quantize`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8 import _fast_quantize
from q8a8.errors import ShapeError, require_dtype, require_row_length
from q8a8.layout import (
    BLOCK_Q8_A8,
    BLOCK_Q8_A8_V2,
    QK8_A8,
    pack,
    pack_v2,
    require_blocks,
    require_field,
    require_finite_scales,
    unpack,
)
from q8a8.recipe import get_recipe, quantize_blocks
from q8a8.rounding import f16_to_f32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.recipe import Recipe

__all__ = [
    "dequantize_row",
    "plain_dequantize_row",
    "plain_quantize_row",
    "plain_quantize_row_v2",
    "quantize_activation",
    "quantize_row",
    "quantize_row_v2",
]


def plain_quantize_row(x: NDArray[np.float32], recipe: str | Recipe = "design") -> Blocks:
    """Quantize rows to blocks: the definition of `quantize_row`, with its parameters and errors."""
    h, q = _quantize_rows_of_blocks(x, recipe)
    # Q8A8-LAY-1
    return pack(h, q)


def plain_quantize_row_v2(
    x: NDArray[np.float32], field: str = "activation_scale", recipe: str | Recipe = "design"
) -> Blocks:
    """Quantize rows to version 2 blocks: the definition of `quantize_row_v2`."""
    require_field(field)
    h, q = _quantize_rows_of_blocks(x, recipe)
    # Q8A8-LAY-3, Q8A8-LAY-4
    return pack_v2(q, **{field: h})


def _quantize_rows_of_blocks(
    x: NDArray[np.float32], recipe: str | Recipe
) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Return the scales [..., nb] and integers [..., nb, 32] of rows [..., 32·nb]."""
    x = np.asarray(x)
    # Q8A8-LAY-2: element j of block b is x[32·b + j]; Q8A8-QNT-7: every block alone.
    return quantize_blocks(x.reshape(*_blocks_shape(x), QK8_A8), recipe)


def plain_dequantize_row(blocks: Blocks, *, field: str = "weight_scale") -> NDArray[np.float32]:
    """Turn rows of blocks into float32 again: the definition of `dequantize_row`."""
    _require_rows_of_blocks(blocks)
    h, q = unpack(blocks, field)
    require_finite_scales(h, f"blocks[{field!r}]", _fast_quantize.NOT_FINITE)
    # Q8A8-DEQ-1: y_j = f32(h) · q_j, exact
    y = f16_to_f32(h)[..., np.newaxis] * q.astype(np.float32)
    return y.reshape(_row_shape(blocks))


def quantize_row(
    x: NDArray[np.float32], recipe: str | Recipe = "design", *, out: Blocks | None = None
) -> Blocks:
    """Quantize rows to blocks (Q8A8-QNT-1 to Q8A8-QNT-7).

    Working memory is one chunk, whatever the size of `x`, which may be a memory map; so may `out`.

    Parameters
    ----------
    x
        float32 `[..., k]`, k a multiple of 32 (0 too), any strides.
    recipe
        The arithmetic, or its name; only `design` conforms (Q8A8-QNT-13).
    out
        `BLOCK_Q8_A8` `[..., k/32]`, C-contiguous, to write to; a new array by default.

    Returns
    -------
    `BLOCK_Q8_A8` `[..., k/32]`: `out`, where that was given.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError
        for arrays of other types or shapes, or an unknown recipe.
    DomainError
        for a value outside the recipe's domain (for `design`: NaN, infinities, and magnitudes of 65520·127
        and more, Q8A8-QNT-12), naming row, block, element and value. `out` is then partly written.
    """
    x = np.asarray(x)
    out = _output(out, _blocks_shape(x), BLOCK_Q8_A8)
    _fast_quantize.quantize_rows(x, get_recipe(recipe), out, "weight_scale")
    return out


def quantize_row_v2(
    x: NDArray[np.float32],
    field: str = "activation_scale",
    recipe: str | Recipe = "design",
    *,
    out: Blocks | None = None,
) -> Blocks:
    """Quantize rows to version 2 blocks, with the scale in one of the two fields (Q8A8-LAY-4).

    Parameters
    ----------
    x
        float32 `[..., k]`, k a multiple of 32.
    field
        "activation_scale" or "weight_scale"; the other one becomes +0.
    recipe, out
        As for `quantize_row`; `out` is of `BLOCK_Q8_A8_V2`.

    Returns
    -------
    `BLOCK_Q8_A8_V2` `[..., k/32]`.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError, DomainError
        As for `quantize_row`.
    """
    require_field(field)
    x = np.asarray(x)
    out = _output(out, _blocks_shape(x), BLOCK_Q8_A8_V2)
    # Q8A8-LAY-4
    out["activation_scale" if field == "weight_scale" else "weight_scale"] = 0
    _fast_quantize.quantize_rows(x, get_recipe(recipe), out, field)
    return out


def quantize_activation(
    x: NDArray[np.float32], recipe: str | Recipe = "design"
) -> tuple[NDArray[np.int8], np.float16]:
    """Quantize one vector of any length with a single scale (Q8A8-QNT-9, Q8A8-QNT-10).

    Parameters
    ----------
    x
        float32 `[size]`, size >= 0.
    recipe
        The arithmetic, or its name.

    Returns
    -------
    q, h
        int8 `[size]` and its scale, +0 for an empty vector.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError, DomainError
        As for `quantize_row`; the vector counts as one block.
    """
    x = np.asarray(x)
    if x.ndim != 1:
        raise ShapeError(f"x: expected one axis, got shape {x.shape}")
    h, q = quantize_blocks(x, recipe)
    return q, np.float16(h)


def dequantize_row(
    blocks: Blocks, *, out: NDArray[np.float32] | None = None, field: str = "weight_scale"
) -> NDArray[np.float32]:
    """Turn rows of blocks into float32 again; every value is exact (Q8A8-DEQ-1, Q8A8-DEQ-2).

    Working memory is one chunk, whatever the size of `blocks`.

    Parameters
    ----------
    blocks
        `BLOCK_Q8_A8` or `BLOCK_Q8_A8_V2` `[..., nb]`, any int8 and any finite scale.
    out
        float32 `[..., 32·nb]`, C-contiguous, to write to; a new array by default.
    field
        The scale to use of version 2 blocks.

    Returns
    -------
    float32 `[..., 32·nb]`: `out`, where that was given.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError
        for arrays of other types or shapes, or an unknown field.
    DomainError
        for a scale that is a NaN or an infinity, naming row, block and value. `out` is then partly written.
    """
    blocks = np.asarray(blocks)
    _require_rows_of_blocks(blocks)
    out = _output(out, _row_shape(blocks), np.dtype(np.float32))
    _fast_quantize.dequantize_rows(blocks, field, out)
    return out


def _blocks_shape(x: NDArray[np.float32]) -> tuple[int, ...]:
    """Check an array of rows, and return the shape of its blocks."""
    require_dtype(x, np.float32, "x")
    require_row_length(x, QK8_A8, "x")
    return (*x.shape[:-1], x.shape[-1] // QK8_A8)


def _require_rows_of_blocks(blocks: Blocks) -> None:
    """Check an array of rows of blocks."""
    require_blocks(blocks, "blocks")
    if blocks.ndim == 0:
        raise ShapeError("blocks: a row of blocks has at least one axis; this array has none")


def _row_shape(blocks: Blocks) -> tuple[int, ...]:
    """Return the shape of the float32 rows of an array of blocks."""
    return (*blocks.shape[:-1], blocks.shape[-1] * QK8_A8)


def _output(out: Blocks | None, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Blocks:
    """Check the caller's output array, or make one."""
    if out is None:
        return np.empty(shape, dtype)
    require_dtype(out, dtype, "out")
    if out.shape != shape:
        raise ShapeError(f"out: expected shape {shape}, got {out.shape}")
    if not out.flags.c_contiguous:
        raise ShapeError("out: expected a C-contiguous array")
    return out
