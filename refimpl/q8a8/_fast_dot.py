"""Sums of products of many rows at once, exactly, as float32 matrix products in bounded memory.

Why float32 holds the integers: a product of two int8 is at most 2^14 in magnitude, a sum of 32 of them at
most 2^19, and float32 holds every integer up to 2^24. So the sum of a lane may be taken as a float32 matrix
product with the 0/1 matrix of its bytes, in whatever order the BLAS adds: every partial sum is exact.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from q8a8.layout import QK8_A8

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.order import Lanes

    F32 = NDArray[np.float32]

__all__ = ["CHUNK", "add_blocks", "lane_sums", "lane_sums_of_blocks", "row_chunks"]

CHUNK = 1 << 19
"""Products in a chunk of rows, or of the blocks of a long row: 2 MiB of float32."""

FEW = 64
"""Totals up to which a call of NumPy for each block takes longer than the additions."""


def lane_sums(qx: NDArray[np.int8], qy: NDArray[np.int8], lanes: Lanes) -> F32:
    """Sum the products of each lane of each block, all blocks at once; as `q8a8.dot.plain_lane_sums`."""
    owns = np.zeros((QK8_A8, len(lanes)), np.float32)
    for lane, own in enumerate(lanes):
        owns[list(own), lane] = 1
    products: F32 = np.multiply(qx.swapaxes(0, 1), qy.swapaxes(0, 1), dtype=np.float32)
    sums: F32 = np.matmul(products, owns)
    return sums


def lane_sums_of_blocks(
    qx: NDArray[np.int8], qy: NDArray[np.int8], lanes: Lanes
) -> Iterator[tuple[slice, F32]]:
    """Yield a chunk of blocks after the other, and the sums of each lane, float32 [nb, rows, lanes]."""
    size = max(1, CHUNK // QK8_A8)
    for start in range(0, qx.shape[1], size):
        part = slice(start, start + size)
        yield part, lane_sums(qx[:, part], qy[:, part], lanes)


def add_blocks(totals: F32, s: F32, d: F32) -> F32:
    """Add s*d of one block after the other, f32(total + f32(s*d)).

    `numpy.add.accumulate` is by definition this loop: its element i is f32(element i - 1, plus term i). It
    keeps every partial sum, so it is for few totals: for many, one addition a block is as fast.

    Parameters
    ----------
    totals
        float32 `[rows, lanes]`.
    s, d
        float32 `[nb, rows, lanes]` and `[nb, rows, 1]`.
    """
    if totals.size > FEW:
        for of_lanes, scale in zip(s, d, strict=True):
            totals = totals + of_lanes * scale
        return totals
    sums: F32 = np.add.accumulate(np.concatenate([totals[np.newaxis], s * d]), axis=0)[-1]
    return sums


def row_chunks(x: Blocks, y: Blocks, shape: tuple[int, ...]) -> Iterator[tuple[slice, Blocks, Blocks]]:
    """Broadcast the leading axes of x and y [..., nb]; yield pairs of rows [rows, nb], a chunk at a time.

    Parameters
    ----------
    x, y
        Blocks `[..., nb]`.
    shape
        The shape that their leading axes broadcast to.

    Yields
    ------
    rows, x, y
        Where the pairs lie among all pairs, counted flat, and blocks `[rows, nb]`.
    """
    nb = x.shape[-1]
    if not shape:
        yield slice(0, 1), x[np.newaxis], y[np.newaxis]
        return
    x, y = np.broadcast_to(x, (*shape, nb)), np.broadcast_to(y, (*shape, nb))
    rows = prod(shape)
    chunk = max(1, CHUNK // (QK8_A8 * max(1, nb)))
    for start in range(0, rows, chunk):
        part = slice(start, min(start + chunk, rows))
        index = np.unravel_index(np.arange(part.start, part.stop), shape)
        yield part, x[index], y[index]
