"""Rows to blocks and back, fast: the bits of `q8a8.quantize.plain_quantize_row`, in chunks that fit a cache.

Working memory is that of one chunk, used again for every chunk; of a mapped file no more than
`q8a8._pages.BATCH` bytes stay resident::

    x [..., k] float32  = | chunk | chunk | ... |     each: CHUNK elements, 32 of them a block
                              |
                      _quantize_chunk with one _Scratch
                              v
    y [..., k/32] blocks= | chunk | chunk | ... |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8._pages import ReadPages
from q8a8.layout import QK8_A8, require_finite_scales, unpack
from q8a8.recipe import apply_recipe, raise_domain_error
from q8a8.rounding import BELOW_HALF, HALF_OVERFLOW, f16_to_f32, f32_to_f16

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.recipe import Recipe

    F32 = NDArray[np.float32]

__all__ = ["CHUNK", "NOT_FINITE", "dequantize_rows", "quantize_rows"]

CHUNK = 1 << 17
"""Elements in a chunk: 512 KiB of input and twice that of scratch, which a core's caches hold."""

NOT_FINITE = "only blocks with a finite scale can be dequantized"
"""The reason that a `DomainError` of dequantizing names."""

SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


def quantize_rows(x: F32, recipe: Recipe, out: Blocks, field: str) -> None:
    """Quantize rows, chunk by chunk.

    Parameters
    ----------
    x
        float32 `[..., 32·nb]`, any strides.
    recipe
        The arithmetic.
    out
        Blocks of either version `[..., nb]`, C-contiguous: where the result goes.
    field
        The scale field to write.

    Raises
    ------
    DomainError
        for the first block outside the recipe's domain; `out` is then partly written.
    """
    h, q = unpack(out.reshape(-1), field)
    scratch = _Scratch(min(CHUNK // QK8_A8, len(h)), QK8_A8)
    pages = ReadPages(x)
    for first, part in _chunks(x, CHUNK):
        start, blocks = first // QK8_A8, part.reshape(-1, QK8_A8)
        stop = start + len(blocks)
        inside = _quantize_chunk(blocks, recipe, h[start:stop], q[start:stop], scratch)
        if not inside.all():
            raise_domain_error(blocks, inside, recipe, array="x", blocks=out.shape, first=start)
        pages.count(part.nbytes)


def dequantize_rows(blocks: Blocks, field: str, out: F32) -> None:
    """Dequantize rows, chunk by chunk.

    Parameters
    ----------
    blocks
        Blocks of either version `[..., nb]`, any strides.
    field
        The scale field to read.
    out
        float32 `[..., 32·nb]`, C-contiguous: where the result goes.

    Raises
    ------
    UnknownNameError
        where the blocks have no such field.
    DomainError
        for the first scale that is not finite; `out` is then partly written.
    """
    y = out.reshape(math.prod(blocks.shape), QK8_A8)
    name, shape = f"blocks[{field!r}]", blocks.shape
    pages = ReadPages(blocks)
    for first, part in _chunks(blocks, CHUNK // QK8_A8):
        h, q = unpack(part, field)
        require_finite_scales(h, name, NOT_FINITE, blocks=shape, first=first)
        # Q8A8-DEQ-1: y_j = f32(h) · q_j, in the output: the conversion of q is exact, and so is the product.
        y_part = y[first : first + len(part)]
        np.copyto(y_part, q)
        np.multiply(y_part, f16_to_f32(h)[:, None], out=y_part)
        pages.count(part.nbytes)


class _Scratch:
    """Working memory of `_quantize_chunk` for up to `blocks` blocks of `size` elements, 8 bytes each."""

    def __init__(self, blocks: int, size: int) -> None:
        self.work = np.empty((blocks, size), np.float32)
        self.other = np.empty((blocks, size), np.float32)
        self.amax = np.empty(blocks, np.float32)
        self.scale = np.empty(blocks, np.float32)
        self.inverse = np.empty(blocks, np.float32)


def _quantize_chunk(
    x: F32, recipe: Recipe, h: NDArray[np.float16], q: NDArray[np.int8], scratch: _Scratch
) -> NDArray[np.bool_]:
    """Do what `apply_recipe` does, in place and without an allocation an element.

    Parameters
    ----------
    x
        float32 `[n, s]`, any strides.
    recipe
        The arithmetic.
    h, q
        float16 `[n]` and int8 `[n, s]`, any strides: where the result goes.
    scratch
        Working memory for at least n blocks of s elements; its contents afterwards are of no use.

    Returns
    -------
    bool `[n]`: whether each block lies in the recipe's domain. `h` and `q` of the others have no meaning.
    """
    if not recipe.is_plain:
        h[...], q[...], inside = apply_recipe(x, recipe)
        return inside
    n = len(x)
    work, other = scratch.work[:n], scratch.other[:n]
    amax, d, inv = scratch.amax[:n], scratch.scale[:n], scratch.inverse[:n]
    with np.errstate(all="ignore"):
        # Q8A8-QNT-1
        np.abs(x, out=work)
        _block_max(work, other, amax)
        # Q8A8-QNT-2
        np.divide(amax, np.float32(127), out=d)
        half = f32_to_f16(d)
        h[...] = half
        # Q8A8-QNT-3
        if recipe.inverse == "127/amax":
            np.divide(np.float32(127), amax, out=inv)
        else:
            np.divide(np.float32(1), d, out=inv)
        if recipe.zero_test != "none":
            # A stored half is never negative: it is zero where its bits are.
            tested = {"half": half.view(np.uint16), "d": d, "amax": amax}[recipe.zero_test]
            inv[tested == 0] = 0
        # Q8A8-QNT-4
        if recipe.inverse == "x/d":
            np.divide(x, d[:, None], out=work)
        else:
            np.multiply(x, inv[:, None], out=work)
        if recipe.rounding == "half-away":
            _round_half_away(work, other)
        else:
            np.rint(work, out=work)
        inside = _convert(recipe, amax, d, work)
        np.copyto(q, work, casting="unsafe")
    return inside


def _block_max(magnitudes: F32, scratch: F32, largest: F32) -> None:
    """Find the largest of each row's magnitudes; a NaN among them makes a NaN of it.

    Magnitudes are compared as unsigned integers: without the sign bit, float32 patterns order like the
    numbers, and the NaNs come last. Neighbours are folded while the rows have an even length, 32 to 16 to 8
    to 4 to 2 to 1, in long loops over all rows at once, which takes a third of the time of one short loop a
    row.

    Parameters
    ----------
    magnitudes, scratch
        float32 `[n, 32]`, overwritten.
    largest
        float32 `[n]`, for the result.
    """
    source, target = magnitudes.reshape(-1).view(np.uint32), scratch.reshape(-1).view(np.uint32)
    while source.size > largest.size:
        folded = target[: source.size // 2]
        np.maximum(source[0::2], source[1::2], out=folded)
        source, target = folded, source
    largest.view(np.uint32)[...] = source


def _round_half_away(x: F32, scratch: F32) -> None:
    """Do what `q8a8.rounding.round_half_away` does, in place: trunc(x + copysign(c, x)).

    Parameters
    ----------
    x
        float32 `[...]`, overwritten with the result.
    scratch
        float32, as `x`, overwritten.
    """
    # scratch = copysign(c, x): the sign bit of x, the other bits of c.
    bits = scratch.view(np.uint32)
    np.bitwise_and(x.view(np.uint32), np.uint32(0x80000000), out=bits)
    np.bitwise_or(bits, BELOW_HALF.view(np.uint32), out=bits)
    np.add(x, scratch, out=x)
    np.trunc(x, out=x)


def _convert(recipe: Recipe, amax: F32, d: F32, rounded: F32) -> NDArray[np.bool_]:
    """Find which blocks lie in the recipe's domain, and saturate those that a recipe saturates.

    With a normal d every recipe stays below 127 (1 + 2^-23)^3 < 127.5 in magnitude and no element needs a
    look; that leaves the blocks of subnormal or zero d.
    """
    # f16(d) is finite where d < 65520; the comparison is false for NaNs.
    inside = d < HALF_OVERFLOW if recipe.finite_scale else np.isfinite(amax)
    tiny = np.flatnonzero(d < SMALLEST_NORMAL)
    if tiny.size:
        values = rounded[tiny]
        if recipe.conversion == "saturate":
            rounded[tiny] = np.where(np.isfinite(values), np.clip(values, -128, 127), np.float32(-128))
        else:
            inside[tiny] &= ((values >= -128) & (values <= 127)).all(axis=1)
    return inside


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
