"""Dot products of quantized rows, in any accumulation order (Q8A8-DOT, Q8A8-ORD).

In the specification's order, `scalar`::

    sum = 0
    for each block b:   sumi = sum_j qx_j * qy_j                               int32, exact    Q8A8-DOT-1
                        sum  = f32(sum + f32(f32(sumi) * f32(dx * dy)))                        Q8A8-DOT-2, -3

`q8a8.order` describes the other orders; `_dot_rows` below is the one interpreter of that data. It works on
many rows at once, a block at a time.

Why float32 holds the integers exactly: a product of two int8 is at most 2^14 in magnitude, a sum of 32 of
them at most 2^19, and float32 holds every integer up to 2^24. So a lane's sum may be taken as a float32
matrix product with the 0/1 matrix of its bytes, in whatever order the BLAS likes, and is exact.

Why dx * dy is exact: two float16 values have 11 significant bits each, so the product has at most 22, and its
magnitude lies between 2^-48 and 2^32 or is zero. A term s * dx * dy is a multiple of 2^-48 as well: nothing
here is ever subnormal in float32.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.errors import DomainError, ShapeError
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, QK8_A8, require_blocks
from q8a8.order import get_order
from q8a8.rounding import fma32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.order import Fold, Lanes, Order

    F32 = NDArray[np.float32]

__all__ = ["block_sums", "vec_dot", "vec_dot_real"]

# Rows, and the blocks of a long row, are taken in chunks of about this many products: 2 MiB of float32.
_CHUNK = 1 << 19


def vec_dot(x: Blocks, y: Blocks, order: str | Order = "scalar") -> F32:
    """Multiply quantized rows: x · y for each pair of rows (Q8A8-DOT-1 to -5, -8, -10).

    Parameters
    ----------
    x, y
        Blocks `BLOCK_Q8_A8` [..., nb]; the leading shapes broadcast. Any int8 and any finite scale.
    order
        A name in `q8a8.order.ORDERS`, or an `Order`.

    Returns
    -------
    numpy.ndarray
        float32 [...], of no axes for two single rows; +0 where nb = 0.

    Raises
    ------
    DtypeError, ShapeError, UnknownNameError
        another dtype; rows of different length, or leading shapes that do not broadcast; no such order.
    DomainError
        a scale that is NaN or infinite.
    """
    return _vec_dot(x, y, get_order(order), real=False)


def vec_dot_real(x: Blocks, y: Blocks, order: str | Order = "scalar") -> F32:
    """Multiply rows of version 2 blocks: x's `weight_scale` with y's `activation_scale` (Q8A8-DOT-9).

    As `vec_dot`, over `BLOCK_Q8_A8_V2`. The other scale field of each block is not read, whatever it holds.
    """
    return _vec_dot(x, y, get_order(order), real=True)


def block_sums(x: Blocks, y: Blocks) -> NDArray[np.int32]:
    """Return the integer sum of products of each block, sumi (Q8A8-DOT-1).

    Parameters
    ----------
    x, y
        Blocks of either version [..., nb]; the leading shapes broadcast.

    Returns
    -------
    numpy.ndarray
        int32 [..., nb], exact.

    Raises
    ------
    DtypeError, ShapeError
        as `vec_dot`.
    """
    dtype = BLOCK_Q8_A8_V2 if x.dtype == BLOCK_Q8_A8_V2 else BLOCK_Q8_A8
    shape = require_pair(x, y, dtype)
    nb = x.shape[-1]
    sums = np.empty((prod(shape), nb), np.int32)
    whole = (tuple(range(QK8_A8)),)
    for rows, x_rows, y_rows in _row_chunks(x, y, shape):
        for blocks in _block_chunks(nb, 1):
            sumi = _lane_sums(x_rows["weight_qs"][:, blocks], y_rows["weight_qs"][:, blocks], whole)
            sums[rows, blocks] = sumi[:, :, 0].T
    return sums.reshape(*shape, nb)


def _vec_dot(x: Blocks, y: Blocks, order: Order, *, real: bool) -> F32:
    dtype = BLOCK_Q8_A8_V2 if real else BLOCK_Q8_A8
    shape = require_pair(x, y, dtype)
    x_field, y_field = "weight_scale", "activation_scale" if real else "weight_scale"
    require_finite_scales(x[x_field], "x")
    require_finite_scales(y[y_field], "y")
    out = np.empty(prod(shape), np.float32)
    for rows, x_rows, y_rows in _row_chunks(x, y, shape):
        # f32(dx * dy), exact
        d = x_rows[x_field].astype(np.float32) * y_rows[y_field].astype(np.float32)
        out[rows] = _dot_rows(order, x_rows["weight_qs"], y_rows["weight_qs"], d)
    return out.reshape(shape)


def _dot_rows(order: Order, qx: NDArray[np.int8], qy: NDArray[np.int8], d: F32) -> F32:
    """Interpret an order: qx, qy int8 [rows, nb, 32], d = f32(dx * dy) [rows, nb]; returns f32 [rows]."""
    rows, nb = d.shape
    step = len(order.body)
    # Blocks from here on are the scalar tail's.
    tail = nb if order.tail == "body" else nb - nb % step
    registers = [np.zeros((rows, len(order.lanes)), np.float32) for _ in range(order.accumulators)]
    for blocks in _block_chunks(tail, step):
        sums = _lane_sums(qx[:, blocks], qy[:, blocks], order.lanes)
        for b, s in enumerate(sums, start=blocks.start):
            a = order.body[b % step]
            registers[a] = _add(registers[a], s, d[:, b, np.newaxis], fused=order.fused)
    total = _fold(order.fold, [lane for accumulator in registers for lane in accumulator.T])
    # An exact sum of the lanes of a block is the block's whole sum.
    for b, s in enumerate(_lane_sums(qx[:, tail:], qy[:, tail:], order.lanes), start=tail):
        total = _add(total, s.sum(axis=1), d[:, b], fused=order.tail_fused)
    return total


def _add(total: F32, s: F32, d: F32, *, fused: bool) -> F32:
    """f32(total + s*d) with one rounding, or f32(total + f32(s*d)) with two."""
    return fma32(s, d, total) if fused else total + s * d


def _fold(fold: Fold, registers: list[F32]) -> F32:
    """Add up the registers, each f32 [rows], as the tree says."""
    if isinstance(fold, int):
        return registers[fold]
    return _fold(fold[0], registers) + _fold(fold[1], registers)


def _lane_sums(qx: NDArray[np.int8], qy: NDArray[np.int8], lanes: Lanes) -> F32:
    """Sum the products of each lane: qx, qy int8 [rows, nb, 32] give f32 [nb, rows, lanes], exact.

    The matrix product may add in any order: every partial sum is an integer of at most 2^19 < 2^24.
    """
    owns = np.zeros((QK8_A8, len(lanes)), np.float32)
    for lane, own in enumerate(lanes):
        owns[list(own), lane] = 1
    products: F32 = np.multiply(qx.swapaxes(0, 1), qy.swapaxes(0, 1), dtype=np.float32)
    sums: F32 = np.matmul(products, owns)
    return sums


def require_pair(x: Blocks, y: Blocks, dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Check two arrays of blocks of this dtype and return the shape that their leading axes broadcast to.

    Raises
    ------
    DtypeError, ShapeError
        as `vec_dot`.
    """
    for blocks, name in ((x, "x"), (y, "y")):
        require_blocks(blocks, name, dtype)
        if blocks.ndim == 0:
            raise ShapeError(f"{name}: a row has at least one axis; this array has none")
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(f"x, y: rows of {x.shape[-1]} and {y.shape[-1]} blocks")
    try:
        return np.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    except ValueError:
        raise ShapeError(f"x, y: shapes {x.shape} and {y.shape} do not broadcast") from None


def require_finite_scales(scales: NDArray[np.float16], name: str) -> None:
    """Refuse NaN and infinity among the scales [..., nb] of an array (Q8A8-DOT-8 asks for finite ones).

    Raises
    ------
    DomainError
        naming the array, row, block and value.
    """
    finite = np.isfinite(scales)
    if not finite.all():
        *row, block = (int(i) for i in np.argwhere(~finite)[0])
        raise DomainError(
            "a scale must be finite",
            array=name, row=tuple(row), block=block, element=None, value=float(scales[(*row, block)]),
        )  # fmt: skip


def _row_chunks(x: Blocks, y: Blocks, shape: tuple[int, ...]) -> Iterator[tuple[slice, Blocks, Blocks]]:
    """Broadcast the leading axes of x and y [..., nb]; yield pairs of rows [rows, nb], a chunk at a time."""
    nb = x.shape[-1]
    shape = shape or (1,)
    x, y = np.broadcast_to(x, (*shape, nb)), np.broadcast_to(y, (*shape, nb))
    rows = prod(shape)
    chunk = max(1, _CHUNK // (QK8_A8 * max(1, nb)))
    for start in range(0, rows, chunk):
        here = slice(start, min(start + chunk, rows))
        index = np.unravel_index(np.arange(here.start, here.stop), shape)
        yield here, x[index], y[index]


def _block_chunks(count: int, step: int) -> Iterator[slice]:
    """Cut `count` blocks of a row into chunks of whole steps."""
    chunk = max(1, _CHUNK // (QK8_A8 * step)) * step
    for start in range(0, count, chunk):
        yield slice(start, min(start + chunk, count))
