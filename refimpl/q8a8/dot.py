"""Dot products of quantized rows, in any accumulation order (Q8A8-DOT, Q8A8-ORD).

In the specification's order, `scalar`::

    sum = 0
    for each block b:   sumi = sum_j qx_j * qy_j                               int32, exact    Q8A8-DOT-1
                        sum  = f32(sum + f32(f32(sumi) * f32(dx * dy)))                        Q8A8-DOT-2, -3

`plain_vec_dot` is this loop. `q8a8.order` describes the other orders as data, and `dot_rows` is the one
interpreter of them; `vec_dot` applies it to rows of any number, a chunk at a time (`q8a8._fast_dot`).

Why dx * dy is exact: two float16 values have 11 significant bits each, so the product has at most 22, and its
magnitude lies between 2^-48 and 2^32 or is zero. A term s * dx * dy is a multiple of 2^-48 as well: nothing
here is ever subnormal in float32.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import _fast_dot
from q8a8.errors import ShapeError
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, require_blocks, require_finite_scales
from q8a8.order import WHOLE, TreeOrder, get_order
from q8a8.rounding import fma32, fma32_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.order import AnyOrder, Fold, Lanes, Program

    F32 = NDArray[np.float32]

__all__ = [
    "block_sums",
    "dot_rows",
    "lane_sums",
    "plain_lane_sums",
    "plain_vec_dot",
    "require_pair",
    "vec_dot",
    "vec_dot_real",
]


def plain_vec_dot(x: Blocks, y: Blocks) -> F32:
    """Multiply quantized rows in the specification's order: the definition of `vec_dot` in order `scalar`."""
    shape = require_pair(x, y, BLOCK_Q8_A8)
    require_finite_scales(x["weight_scale"], "x")
    require_finite_scales(y["weight_scale"], "y")
    total = np.zeros(shape, np.float32)
    for b in range(x.shape[-1]):
        xb, yb = x[..., b], y[..., b]
        # Q8A8-DOT-1: sumi = sum_j qx_j * qy_j
        sumi = (xb["weight_qs"].astype(np.int32) * yb["weight_qs"]).sum(axis=-1)
        # Q8A8-DOT-2: d = f32(dx * dy), exact
        d = xb["weight_scale"].astype(np.float32) * yb["weight_scale"].astype(np.float32)
        # Q8A8-DOT-3: sum = f32(sum + f32(f32(sumi) * d))
        total = total + sumi.astype(np.float32) * d
    return total


def plain_lane_sums(qx: NDArray[np.int8], qy: NDArray[np.int8], lanes: Lanes) -> F32:
    """Sum the products of each lane in integers: the definition of `lane_sums`."""
    # Q8A8-DOT-1, of the bytes of one lane
    products = qx.astype(np.int32) * qy
    sums = np.stack([products[..., list(own)].sum(axis=-1) for own in lanes], axis=-1)
    return sums.swapaxes(0, 1).astype(np.float32)


def vec_dot(x: Blocks, y: Blocks, order: str | AnyOrder = "scalar") -> F32:
    """Multiply quantized rows: x · y for each pair of rows (Q8A8-DOT-1 to -5, -8, -10).

    Parameters
    ----------
    x, y
        Blocks `BLOCK_Q8_A8` [..., nb]; the leading shapes broadcast. Any int8 and any finite scale.
    order
        A name in `q8a8.order.ORDERS`, an `Order`, or a `TreeOrder` with a tree for nb blocks.

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


def vec_dot_real(x: Blocks, y: Blocks, order: str | AnyOrder = "scalar") -> F32:
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
    sums = np.empty((prod(shape), x.shape[-1]), np.int32)
    for rows, x_rows, y_rows in _fast_dot.row_chunks(x, y, shape):
        for of, sumi in _fast_dot.lane_sums_of_blocks(x_rows["weight_qs"], y_rows["weight_qs"], WHOLE):
            sums[rows, of] = sumi[..., 0].T
    return sums.reshape(*shape, x.shape[-1])


def _vec_dot(x: Blocks, y: Blocks, order: AnyOrder, *, real: bool) -> F32:
    """Multiply rows of version 1, or of version 2 by role (`real`)."""
    shape = require_pair(x, y, BLOCK_Q8_A8_V2 if real else BLOCK_Q8_A8)
    x_field, y_field = "weight_scale", "activation_scale" if real else "weight_scale"
    require_finite_scales(x[x_field], "x")
    require_finite_scales(y[y_field], "y")
    out = np.empty(prod(shape), np.float32)
    for rows, x_rows, y_rows in _fast_dot.row_chunks(x, y, shape):
        dx, dy = x_rows[x_field].astype(np.float32), y_rows[y_field].astype(np.float32)
        codes = x_rows["weight_qs"], y_rows["weight_qs"]
        if order.scales == "product":
            # Q8A8-DOT-2: d = f32(dx * dy), exact
            out[rows] = dot_rows(order, *codes, dx * dy)
        else:
            first, second = (dx, dy) if order.scales == "x" else (dy, dx)
            out[rows] = dot_rows(order, *codes, second, first)
    return out.reshape(shape)


def dot_rows(
    order: AnyOrder, qx: NDArray[np.int8], qy: NDArray[np.int8], d: F32, first: F32 | None = None
) -> F32:
    """Add up dot products in an order: the interpreter of `q8a8.order` (Q8A8-DOT-3, Q8A8-ORD-1).

    Parameters
    ----------
    order
        The order of additions.
    qx, qy
        int8 `[rows, nb, 32]`: the integers of both factors.
    d
        float32 `[rows, nb]`: f32(dx * dy) of each block.
    first
        float32 `[rows, nb]`: the scale that an order multiplies by before the other, which is then `d`.

    Returns
    -------
    float32 `[rows]`.
    """
    rows, nb = d.shape
    if isinstance(order, TreeOrder):
        if nb not in order.programs:
            raise ShapeError(f"order {order.name} has no tree for rows of {nb} blocks")
        return _along_tree(order.programs[nb], qx, qy, d, first)
    step = len(order.body)
    # Blocks from here on are those that the last whole step leaves over.
    left = nb if order.tail == "body" else nb - nb % step
    registers = [np.zeros(rows, np.float32) for _ in range(order.registers)]
    before = None if first is None else first[:, :left]
    terms = _terms(qx[:, :left], qy[:, :left], d[:, :left], before, order.lanes)
    registers = _accumulate(registers, len(order.lanes), order.body, terms, fused=order.fused)
    if order.tail == "body":
        return _fold(order.fold, registers)
    tail, fold = order.remainder
    registers = [np.zeros(rows, np.float32) if f is None else _fold(f, registers) for f in tail.start]
    after = None if first is None else first[:, left:]
    terms = _terms(qx[:, left:], qy[:, left:], d[:, left:], after, tail.lanes)
    return _fold(fold, _accumulate(registers, len(tail.lanes), tail.body, terms, fused=order.tail_fused))


def _terms(
    qx: NDArray[np.int8], qy: NDArray[np.int8], d: F32, first: F32 | None, lanes: Lanes
) -> Iterable[tuple[F32, F32]]:
    """Yield s [nb, rows, lanes], exact or times the first scale, and d [nb, rows, 1] of a chunk of blocks."""
    for of, s in _fast_dot.lane_sums_of_blocks(qx, qy, lanes):
        yield s if first is None else s * first.T[of, :, np.newaxis], d.T[of, :, np.newaxis]


def _accumulate(
    registers: Sequence[F32],
    lanes: int,
    body: tuple[int, ...],
    terms: Iterable[tuple[F32, F32]],
    *,
    fused: bool,
) -> list[F32]:
    """Add terms to accumulators, block by block; registers are f32 [rows], accumulator by accumulator."""
    vectors = [np.stack(registers[i : i + lanes], axis=1) for i in range(0, len(registers), lanes)]
    done = 0
    for s, d in terms:
        takes = np.array(body)[np.arange(done, done + len(s)) % len(body)]
        for a, vector in enumerate(vectors):
            mine = slice(None) if len(vectors) == 1 else takes == a
            vectors[a] = _add(vector, s[mine], d[mine], fused=fused)
        done += len(s)
    return [lane for vector in vectors for lane in vector.T]


def _along_tree(
    program: Program, qx: NDArray[np.int8], qy: NDArray[np.int8], d: F32, first: F32 | None
) -> F32:
    """Add up dot products, addition by addition: those together whose operands are known."""
    rows, nb = d.shape
    if not nb:
        return np.zeros(rows, np.float32)
    starts = np.cumsum([0, *map(len, program.lanes)])
    terms, count = int(starts[-1]), len(program.additions)
    s, scale = (np.empty((terms, rows), np.float32) for _ in range(2))
    for lanes in dict.fromkeys(program.lanes):
        blocks = np.array([b for b, own in enumerate(program.lanes) if own == lanes])
        sums = _fast_dot.lane_sums(qx[:, blocks], qy[:, blocks], lanes)
        if first is not None:
            sums = sums * first.T[blocks, :, np.newaxis]
        for lane in range(len(lanes)):
            s[starts[blocks] + lane], scale[starts[blocks] + lane] = sums[:, :, lane], d.T[blocks]
    values = np.empty((terms + count, rows), np.float32)
    np.multiply(s, scale, out=values[:terms])
    for rounds in _rounds(program, terms):
        left, right = np.array([program.additions[k] for k in rounds]).T
        sums = values[left] + values[right]
        fused = np.array([program.fused[k] for k in rounds])
        if fused.any():
            of = right[fused]
            sums[fused] = fma32(s[of], scale[of], values[left[fused]])
        values[terms + np.array(rounds)] = sums
    # + 0: an accumulator starts there, so no sum of zeros is -0.
    total: F32 = values[-1] + np.float32(0)
    return total


def _rounds(program: Program, terms: int) -> list[list[int]]:
    """Return the additions by the length of the longest way to a term: those of a round are independent."""
    depths = [0] * terms
    rounds: list[list[int]] = []
    for k, (left, right) in enumerate(program.additions):
        depth = max(depths[left], depths[right])
        depths.append(depth + 1)
        if depth == len(rounds):
            rounds.append([])
        rounds[depth].append(k)
    return rounds


def _add(total: F32, s: F32, d: F32, *, fused: bool) -> F32:
    """Add block by block: f32(total + s*d) with one rounding, or f32(total + f32(s*d)) with two."""
    if not fused:
        return _fast_dot.add_blocks(total, s, d)
    return fma32_steps(total, s, d)


def _fold(fold: Fold, registers: list[F32]) -> F32:
    """Add up the registers, each f32 [rows], along the tree."""
    if isinstance(fold, int):
        return registers[fold]
    return _fold(fold[0], registers) + _fold(fold[1], registers)


def lane_sums(qx: NDArray[np.int8], qy: NDArray[np.int8], lanes: Lanes) -> F32:
    """Sum the products of each lane of each block, exactly.

    Parameters
    ----------
    qx, qy
        int8 `[rows, nb, 32]`.
    lanes
        For each lane the bytes of a block that it sums.

    Returns
    -------
    float32 `[nb, rows, lanes]`: integers of at most 2^19 in magnitude.
    """
    return _fast_dot.lane_sums(qx, qy, lanes)


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
