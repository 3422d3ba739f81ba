"""Rows of float32 to rows of blocks, and back (Q8A8-QNT, Q8A8-DEQ).

Quantizing is `recipe.run`, block by block; dequantizing is one exact product an element (Q8A8-DEQ-1)::

    y_j = f32(h) · q_j           11 significant bits times 8: at most 19 of float32's 24

Both go through an array in chunks that fit in a core's cache, with working memory for one chunk; of a mapped
file no more than `mapping.BATCH` bytes stay resident::

    x [..., k] float32  = | chunk | chunk | ... |     each: CHUNK elements, 32 of them a block
                              |
                          recipe.run with one Scratch, used again for every chunk
                              v
    y [..., k/32] blocks= | chunk | chunk | ... |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import recipe as recipes
from q8a8.errors import DomainError, ShapeError, require_dtype, require_row_length
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, QK8_A8, require_blocks, require_field, unpack
from q8a8.mapping import ReadPages
from q8a8.rounding import f16_to_f32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.recipe import Recipe

__all__ = ["dequantize_row", "quantize_activation", "quantize_row", "quantize_row_v2"]

CHUNK = 1 << 17
"""Elements in a chunk: 512 KiB of input and twice that of scratch, which a core's caches hold."""


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
    return _quantize(x, recipe, _output(out, _blocks_shape(x), BLOCK_Q8_A8), "weight_scale")


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
    out["activation_scale" if field == "weight_scale" else "weight_scale"] = 0
    return _quantize(x, recipe, out, field)


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
        raise ShapeError(f"x: one axis wanted, shape {x.shape} given")
    h, q = recipes.quantize_blocks(x, recipe)
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
    require_blocks(blocks, "blocks")
    if blocks.ndim == 0:
        raise ShapeError("blocks: a row of blocks has at least one axis; this array has none")
    y = _output(out, (*blocks.shape[:-1], blocks.shape[-1] * QK8_A8), np.dtype(np.float32))
    target = y.reshape(math.prod(blocks.shape), QK8_A8)
    pages = ReadPages(blocks)
    for first, part in _chunks(blocks, CHUNK // QK8_A8):
        h, q = unpack(part, field)
        if not np.isfinite(h).all():
            index = int(np.argmin(np.isfinite(h)))
            *row, block = np.unravel_index(first + index, blocks.shape)
            raise DomainError(
                "only blocks with a finite scale can be dequantized",
                array=f"blocks[{field!r}]",
                row=tuple(int(i) for i in row),
                block=int(block),
                element=None,
                value=float(h[index]),
            )
        # Q8A8-DEQ-1: y_j = f32(h) · q_j; the conversion of q is exact, and so is the product.
        y_part = target[first : first + len(part)]
        np.copyto(y_part, q)
        np.multiply(y_part, f16_to_f32(h)[:, None], out=y_part)
        pages.count(part.nbytes)
    return y


def _blocks_shape(x: NDArray[np.float32]) -> tuple[int, ...]:
    """Check an array of rows, and give the shape of its blocks."""
    require_dtype(x, np.float32, "x")
    require_row_length(x, QK8_A8, "x")
    return (*x.shape[:-1], x.shape[-1] // QK8_A8)


def _output(out: Blocks | None, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Blocks:
    """Check the caller's output array, or make one."""
    if out is None:
        return np.empty(shape, dtype)
    require_dtype(out, dtype, "out")
    if out.shape != shape:
        raise ShapeError(f"out: shape {out.shape} given, {shape} wanted")
    if not out.flags.c_contiguous:
        raise ShapeError("out: a C-contiguous array is wanted")
    return out


def _quantize(x: NDArray[np.float32], recipe: str | Recipe, out: Blocks, field: str) -> Blocks:
    """Run a recipe over rows, chunk by chunk, into the blocks `out`."""
    recipe = recipes.get_recipe(recipe)
    h, q = unpack(out.reshape(-1), field)
    size = min(CHUNK // QK8_A8, len(h))
    scratch = recipes.Scratch(size, QK8_A8)
    pages = ReadPages(x)
    for first, part in _chunks(x, CHUNK):
        start, part_blocks = first // QK8_A8, part.reshape(-1, QK8_A8)
        stop = start + len(part_blocks)
        domain = recipes.run(part_blocks, recipe, h[start:stop], q[start:stop], scratch)
        if domain is not None:
            recipes.refuse(part_blocks, domain, recipe, array="x", blocks=out.shape, first=start)
        pages.count(part.nbytes)
    return out


def _chunks(array: NDArray[Any], size: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Cut an array, read in C order, into flat chunks of at most `size` elements, each with its position.

    Where the array is contiguous the chunks are views of it; otherwise copies, one at a time.
    """
    if array.flags.c_contiguous or array.ndim == 1:
        flat = array.reshape(-1)
        for first in range(0, flat.size, size):
            yield first, np.ascontiguousarray(flat[first : first + size])
        return
    each = math.prod(array.shape[1:])
    count = size // each
    if count:
        for first in range(0, len(array), count):
            yield first * each, array[first : first + count].reshape(-1)
    else:
        for index, entry in enumerate(array):
            for first, part in _chunks(entry, size):
                yield index * each + first, part
