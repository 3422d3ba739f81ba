"""Mutants of the matrix product: tiles and their edges, places, activations, the sum over blocks.

Real ones have tiles of some rows of x by some rows of w by some blocks; a mistake in a tile's edge, or in
what a tile leaves for the next, shows only in some shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults import steps
from q8a8_conformance.faults.mutant import Legal, Mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from q8a8_conformance.faults.kernel import Step

    Array = NDArray[Any]
    Results = Callable[[Array], Array]

F32 = np.float32
TILE = 8
ACTIVATIONS, SUMS, PLACES, OVERWRITE, APART, INVARIANT = (f"Q8A8-MUL-{number}" for number in range(4, 10))


def _delivering(spoil: Callable[[Array, Array], None]) -> Step:
    """Return a step that writes what a function makes of the outputs [n, m] before and the results."""

    def deliver(out: Array, result: Array, nb: int) -> None:
        del nb
        if result.size:
            spoil(out[: result.size].reshape(result.shape), result)

    return deliver


def _to(rows: Callable[[int], int], columns: Callable[[int], int]) -> Step:
    """Return a step that writes only so many rows and columns."""

    def spoil(out: Array, result: Array) -> None:
        n, m = result.shape
        out[: rows(n), : columns(m)] = result[: rows(n), : columns(m)]

    return _delivering(spoil)


def _all(count: int) -> int:
    return count


def _whole_tiles(count: int) -> int:
    return count - count % TILE if count > TILE else count


def _corner_lost(out: Array, result: Array) -> None:
    n, m = (_whole_tiles(size) for size in result.shape)
    out[:n], out[:, :m] = result[:n], result[:, :m]


def _transposed(out: Array, result: Array) -> None:
    out[...] = result.T.reshape(result.shape)


def _neighbours(out: Array, result: Array) -> None:
    """Store the accumulator before the last one of each tile twice."""
    out[...] = result
    out[:, TILE - 1 :: TILE] = result[:, TILE - 2 :: TILE][:, : out[:, TILE - 1 :: TILE].shape[1]]


def _added(out: Array, result: Array) -> None:
    out += result


def _nothing_for_nothing(out: Array, result: Array, nb: int) -> None:
    if nb:
        steps.deliver(out, result, nb)


def _first_row(x: Array) -> tuple[Array, Array]:
    """Quantize the first row alone, and use it for all."""
    h, q = steps.activations(x[:1])
    return np.broadcast_to(h, (len(x), *h.shape[1:])), np.broadcast_to(q, x.shape)


def _stale_tile(x: Array) -> tuple[Array, Array]:
    """Leave the tile before in the buffer, where what is left over does not fill it."""
    rows = np.arange(len(x))
    rows[_whole_tiles(len(x)) :] -= TILE
    h, q = steps.activations(x)
    return h[rows], q[rows]


def _one_scale(x: Array) -> tuple[Array, Array]:
    """Quantize each row under one scale."""
    n, nb, _ = x.shape
    if not x.size:
        return steps.activations(x)
    h, q = steps.quantized(x.reshape(n, 1, 32 * nb), steps.to_integer)
    return np.repeat(h, nb, axis=1), q.reshape(x.shape)


def _half_even(x: Array) -> tuple[Array, Array]:
    return steps.quantized(x, np.rint)


def _scale_of_first_row(x: Array) -> tuple[Array, Array]:
    """Quantize each row by itself, and multiply by the first row's scales."""
    h, q = steps.activations(x)
    return np.broadcast_to(h[:1], h.shape), q


def _floats(x: Array) -> tuple[Array, Array]:
    """Leave the activations as they are, under scales of 1."""
    return np.ones(x.shape[:2], np.float16), x


def _float_matrix(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Multiply floats by codes; no BLAS, whose order of additions may depend on the shape."""
    del hx
    products = qx[:, np.newaxis].astype(np.float64) * qw
    return np.asarray((products.sum(axis=-1) * steps.widen(hw)).sum(axis=-1), F32)


def _blocks(chosen: Callable[[int], Array]) -> Step:
    """Return a step that adds up chosen blocks, in this order."""

    def matrix(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
        taken = chosen(hx.shape[1])
        return steps.matrix(hx[:, taken], qx[:, taken], hw[:, taken], qw[:, taken])

    return matrix


def _last_tile_twice(nb: int) -> Array:
    """Let the last tile of four blocks begin so early that it is whole, and add it as it is."""
    return np.r_[np.arange(nb - nb % 4), np.arange(nb - 4, nb)] if nb % 4 and nb > 4 else np.arange(nb)


def _half_scales(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Multiply the two scales in half precision."""
    d = (hx.T[:, :, np.newaxis] * hw.T[:, np.newaxis]).astype(F32)
    sums = np.matmul(qx.swapaxes(0, 1).astype(F32), qw.transpose(1, 2, 0).astype(F32))
    return np.asarray(sum(sums * d, np.zeros((len(hx), len(hw)), F32)))


def _half_sum(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Keep the sum in half precision."""
    out = np.zeros((len(hx), len(hw)), np.float16)
    for term in steps.terms_of_matrix(hx, qx, hw, qw):
        out = (out.astype(F32) + term).astype(np.float16)
    return out.astype(F32)


def _spreading(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Mask what does not belong to a tile by a factor of zero."""
    out = steps.matrix(hx, qx, hw, qw)
    return np.asarray(out + F32(0) * out.sum(axis=0), F32)


def reversed_blocks(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Add the blocks from the last to the first."""
    return steps.matrix(hx[:, ::-1], qx[:, ::-1], hw[:, ::-1], qw[:, ::-1])


def _other_for_one_row(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    return (reversed_blocks if len(hx) == 1 else steps.matrix)(hx, qx, hw, qw)


def _other_for_left_over(hx: Array, qx: Array, hw: Array, qw: Array) -> Array:
    """Add in another order in rows of w that fill no tile."""
    out = steps.matrix(hx, qx, hw, qw)
    whole = len(hw) - len(hw) % TILE
    out[:, whole:] = reversed_blocks(hx, qx, hw[whole:], qw[whole:])
    return out


EDGES = "Compute what does not fill a tile, too: clamp the loads, and store what there is."
PLACE = "Store row j of w times row i of x at out[i * m + j]."
BY_BLOCKS = "Quantize each row of x block by block, as quantize_row_q8_a8 does."
COUNTS = "Keep m, n and k in an int64_t."
ONE_ORDER = "Add the blocks in an order that depends on k alone, whatever the shape."

MUTANTS = (
    Mutant(
        "matrix-columns-lost",
        "Rows of w beyond a multiple of eight are left out.",
        {"deliver": _to(_all, _whole_tiles)},
        rule=PLACES,
        fix=EDGES,
    ),
    Mutant(
        "matrix-rows-lost",
        "Rows of x beyond a multiple of eight are left out.",
        {"deliver": _to(_whole_tiles, _all)},
        rule=PLACES,
        fix=EDGES,
    ),
    Mutant(
        "matrix-corner-lost",
        "The tile at the end of both x and w is left out.",
        {"deliver": _delivering(_corner_lost)},
        rule=PLACES,
        fix=EDGES,
    ),
    Mutant(
        "matrix-transposed",
        "The result is stored column by column.",
        {"deliver": _delivering(_transposed)},
        rule=PLACES,
        fix=PLACE,
    ),
    Mutant(
        "matrix-neighbour",
        "The last accumulator of a tile of eight is stored from the one before it.",
        {"deliver": _delivering(_neighbours)},
        rule=PLACES,
        fix=PLACE,
    ),
    Mutant(
        "matrix-first-row-for-all",
        "The first row of x is quantized, and used for all rows.",
        {"activations": _first_row},
        rule=PLACES,
        fix="Quantize every row of x.",
    ),
    Mutant(
        "matrix-tile-stale",
        "What does not fill a tile of eight rows of x leaves the tile before in the buffer.",
        {"activations": _stale_tile},
        rule=PLACES,
        fix="Load every tile of x, the last one too.",
    ),
    Mutant(
        "matrix-scales-of-first-row",
        "All rows of x are multiplied by the scales of the first one.",
        {"activations": _scale_of_first_row},
        rule=PLACES,
        fix="Keep the scales of every row of x beside its codes.",
    ),
    Mutant(
        "matrix-m-in-sixteen-bits",
        "The number of rows of w is kept in a uint16_t.",
        {"deliver": _to(_all, lambda m: m % 2**16)},
        rule=PLACES,
        fix=COUNTS,
    ),
    Mutant(
        "matrix-n-in-sixteen-bits",
        "The number of rows of x is kept in a uint16_t.",
        {"deliver": _to(lambda n: n % 2**16, _all)},
        rule=PLACES,
        fix=COUNTS,
    ),
    Mutant(
        "matrix-scale-of-row",
        "Each row of x is quantized under one scale.",
        {"activations": _one_scale},
        rule=ACTIVATIONS,
        fix=BY_BLOCKS,
        seen="per-token quantization of activations: torchao's and LLM.int8()'s products",
    ),
    Mutant(
        "matrix-rounds-even",
        "Elements of x are rounded with halves to even.",
        {"activations": _half_even},
        rule=ACTIVATIONS,
        fix=BY_BLOCKS + " Round halves away from zero.",
    ),
    Mutant(
        "matrix-float-activations",
        "The rows of x are not quantized.",
        {"activations": _floats, "matrix": _float_matrix},
        rule=ACTIVATIONS,
        fix=BY_BLOCKS,
        seen="ggml's Vulkan backend, mul_mat_vec with few rows of x",
    ),
    Mutant(
        "matrix-k-tail-lost",
        "Blocks beyond a multiple of four are left out.",
        {"matrix": _blocks(lambda nb: np.arange(nb - nb % 4 if nb > 4 else nb))},
        rule=SUMS,
        fix="Add every block once.",
    ),
    Mutant(
        "matrix-last-k-tile-twice",
        "The last tile of four blocks overlaps the one before it, and these blocks count twice.",
        {"matrix": _blocks(_last_tile_twice)},
        rule=SUMS,
        fix="Add every block once.",
    ),
    Mutant(
        "matrix-k-in-sixteen-bits",
        "k is kept in a uint16_t: of 65,536 elements none is counted.",
        {"matrix": _blocks(lambda nb: np.arange(nb % 2048))},
        rule=SUMS,
        fix=COUNTS,
    ),
    Mutant(
        "matrix-half-scales",
        "The two scales are multiplied in half precision.",
        {"matrix": _half_scales},
        rule=SUMS,
        fix="Convert both scales to float32, then multiply.",
    ),
    Mutant(
        "matrix-half-sum",
        "The sum is kept in half precision.",
        {"matrix": _half_sum},
        rule=SUMS,
        fix="Keep the sum in float32.",
        seen="ggml's Vulkan backend, with many rows of x",
    ),
    Mutant(
        "matrix-added",
        "The results are added to what out held.",
        {"deliver": _delivering(_added)},
        rule=OVERWRITE,
        fix="Overwrite out.",
    ),
    Mutant(
        "matrix-empty-unwritten",
        "With k = 0 nothing is written.",
        {"deliver": _nothing_for_nothing},
        rule=OVERWRITE,
        fix="Write +0: do not return early.",
    ),
    Mutant(
        "matrix-nan-spreads",
        "A NaN in one row of x reaches all rows.",
        {"matrix": _spreading},
        rule=APART,
        fix="Select what belongs to a tile: a factor of zero leaves a NaN.",
    ),
    Mutant(
        "matrix-one-row-otherwise",
        "For n = 1 the blocks are added in another order.",
        {"matrix": _other_for_one_row},
        rule=INVARIANT,
        fix=ONE_ORDER,
        seen="every backend of ggml with a path of its own for one row",
    ),
    Mutant(
        "matrix-edge-otherwise",
        "In rows of w that fill no tile of eight the blocks are added in another order.",
        {"matrix": _other_for_left_over},
        rule=INVARIANT,
        fix=ONE_ORDER,
    ),
)

LEGAL = (
    Legal(
        "matrix-blocks-reversed",
        "The blocks of a matrix product are added from the last to the first.",
        {"matrix": reversed_blocks},
        why="Q8A8-ORD-1 allows every order; all outputs have the same one.",
    ),
)
