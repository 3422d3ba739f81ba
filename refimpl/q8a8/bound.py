"""How far any order of addition may be from the exact dot product: the proven bound (Q8A8-ORD-2).

For every order, fused or not, of nb blocks::

    |computed - exact| <= ((1 + u)^m - 1) * sum_b |dx dy| sum_j |qx_j qy_j|        u = 2^-24, m = nb + 64

Proof. 1. What is exact. sumi and the sum of any of its lanes are integers of at most 2^19, exact in float32.
dx * dy has at most 22 significant bits: exact. So the exact result is the sum over blocks b and lanes l of
the terms t(b, l) = s(b, l) * dx_b * dy_b, and only products with the scale and additions of terms round.

2. Each rounding multiplies by (1 + delta), |delta| <= u. That is the standard model; it needs the absence of
underflow and overflow. A term is zero or a multiple of 2^-48, so no product is below 2^-48; and a float32 sum
is exact where it is subnormal. Magnitudes stay below nb * 2^51.

3. So computed = sum of t(b, l) * product of the (1 + delta) on the way of t(b, l) to the result. If no way
has more than m roundings, each product of them differs from 1 by at most (1 + u)^m - 1, hence::

    |computed - exact| <= ((1 + u)^m - 1) * sum_b,l |t(b, l)|

and |s(b, l)| is at most the sum of |qx_j qy_j| over the lane. The magnitude is per product, not per block,
because lanes cancel later than blocks do.

4. Count the roundings on a way. Let a kernel keep at most R partial sums (the lanes of all accumulators),
which start at +0, add each block's terms to some of them, fold them by R - 1 additions in any tree, and add
the t blocks left over to the folded sum.

- A partial sum that takes n blocks: fused, each block is one rounding, so at most n. Not fused, a term has
  one more rounding, its product's; but the first addition, to +0, is exact. So again at most n.
- The fold: a way through a tree with R leaves meets at most R - 1 additions.
- The left-over blocks: t additions for what was folded; for a left-over term itself at most its product's
  rounding and t additions, and where nothing was folded the first of them is exact.

So a way has at most n + (R - 1) + t roundings, and n + t <= nb because no partial sum takes a block that is
left over.

5. The constant. R = 64 covers eight vectors of eight floats, four of sixteen, and every kernel in
`q8a8.order.ORDERS`: 63 roundings. One more lets a kernel form s * dx * dy with two roundings instead of one.
In all m = nb + 64 (`LANE_FOLD_ROUNDINGS`). QED. `roundings` counts the known orders exactly; scalar has nb.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, SupportsFloat

import numpy as np

from q8a8.dot import require_pair
from q8a8.errors import ShapeError
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, require_finite_scales
from q8a8.order import TreeOrder, fold_leaves, get_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8.order import AnyOrder, Fold, Program

__all__ = [
    "LANE_FOLD_ROUNDINGS",
    "UNIT_ROUNDOFF",
    "dot_bound",
    "exact_dot",
    "fraction_of_bound",
    "magnitude",
    "roundings",
    "within_bound",
]

UNIT_ROUNDOFF = Fraction(1, 1 << 24)
"""u: the largest relative error of one rounding to float32."""

LANE_FOLD_ROUNDINGS = 64
"""m - nb: 63 additions to fold up to 64 partial sums, and one more rounding of a term's product."""

# A finite float16 is an integer times 2^-24, so a term of a dot product is an integer times 2^-48.
_SCALE_UNIT = 1 << 24
_TERM_UNIT = 1 << 48


def roundings(order: str | AnyOrder, nb: int) -> int:
    """Count the roundings on the longest way from a term to the result, for nb blocks in this order.

    Step 4 of the proof with the order's own numbers. `Q8A8-ORD-2` holds with this m too, for this order.
    """
    order = get_order(order)
    if isinstance(order, TreeOrder):
        return _depth(order.programs[nb])
    step = len(order.body)
    whole, left = (nb, 0) if order.tail == "body" else (nb - nb % step, nb % step)
    taken = _taken(order.body, whole, order.registers, len(order.lanes))
    if order.tail == "body":
        return _longest(order.fold, taken)
    tail, fold = order.remainder
    joined = [0 if start is None else _longest(start, taken) for start in tail.start]
    more = _taken(tail.body, left, len(tail.start), len(tail.lanes))
    return _longest(fold, [a + b for a, b in zip(joined, more, strict=True)])


def _taken(body: tuple[int, ...], blocks: int, registers: int, lanes: int) -> list[int]:
    """Count the additions to each register where accumulators of so many lanes take so many blocks."""
    steps, left = divmod(blocks, len(body))
    return [steps * body.count(r // lanes) + body[:left].count(r // lanes) for r in range(registers)]


def _longest(fold: Fold, taken: list[int]) -> int:
    """Count the roundings on the longest way through a fold; with nothing in it, it adds zeros, exactly."""
    return max(taken[r] + depth for r, depth in fold_leaves(fold)) if any(taken) else 0


def _depth(program: Program) -> int:
    """Count the roundings on the longest way through a tree, and that of a term's product."""
    ways = [1] * sum(map(len, program.lanes))
    for left, right in program.additions:
        ways.append(1 + max(ways[left], ways[right]))
    return ways[-1] if ways else 0


def exact_dot(x: Blocks, y: Blocks) -> Fraction:
    """Return the dot product of two rows without any rounding, a multiple of 2^-48.

    Parameters
    ----------
    x, y
        `BLOCK_Q8_A8` [nb]; or `BLOCK_Q8_A8_V2` [nb], of which x's `weight_scale` and y's `activation_scale`
        count.

    Raises
    ------
    DtypeError, ShapeError
        another dtype; arrays that are not single rows, or of different length.
    DomainError
        a scale that is NaN or infinite.
    """
    scales, products = _terms(x, y)
    sums = products.sum(axis=-1).tolist()
    return Fraction(sum(d * s for d, s in zip(scales, sums, strict=True)), _TERM_UNIT)


def magnitude(x: Blocks, y: Blocks) -> Fraction:
    """Return sum_b |dx dy| sum_j |qx_j qy_j|, without any rounding; arguments and errors as `exact_dot`."""
    scales, products = _terms(x, y)
    sums = np.abs(products).sum(axis=-1).tolist()
    return Fraction(sum(abs(d) * s for d, s in zip(scales, sums, strict=True)), _TERM_UNIT)


def dot_bound(x: Blocks, y: Blocks) -> Fraction:
    """Return the largest error that any order may have on these rows; arguments and errors as `exact_dot`."""
    size = magnitude(x, y)
    return _growth(x.shape[-1] + LANE_FOLD_ROUNDINGS) * size


def within_bound(computed: SupportsFloat, x: Blocks, y: Blocks) -> bool:
    """Return whether a computed dot product lies within the bound, decided in integers without rounding.

    Parameters
    ----------
    computed
        The result under test; NaN and infinities are outside.
    x, y
        As `exact_dot`, and the same errors.
    """
    result = float(computed)
    if not np.isfinite(result):
        return False
    return abs(Fraction(result) - exact_dot(x, y)) <= dot_bound(x, y)


def fraction_of_bound(computed: SupportsFloat, x: Blocks, y: Blocks) -> float:
    """Return |computed - exact| / bound: at most 1 for a result inside; infinite for NaN and infinities.

    Arguments and errors as `within_bound`.
    """
    result = float(computed)
    if not np.isfinite(result):
        return float("inf")
    error, bound = abs(Fraction(result) - exact_dot(x, y)), dot_bound(x, y)
    if error == 0:
        return 0.0
    return float(error / bound) if bound else float("inf")


@lru_cache(maxsize=1024)
def _growth(m: int) -> Fraction:
    """Return (1 + u)^m - 1, exactly."""
    return (1 + UNIT_ROUNDOFF) ** m - 1


def _terms(x: Blocks, y: Blocks) -> tuple[list[int], NDArray[np.int32]]:
    """Check the arguments; return dx * dy of each block in units of 2^-48, and qx_j * qy_j [nb, 32]."""
    version_2 = x.dtype == BLOCK_Q8_A8_V2
    if require_pair(x, y, BLOCK_Q8_A8_V2 if version_2 else BLOCK_Q8_A8):  # leading axes
        raise ShapeError(f"x, y: expected one row each, got shapes {x.shape} and {y.shape}")
    dx, dy = x["weight_scale"], y["activation_scale" if version_2 else "weight_scale"]
    require_finite_scales(dx, "x")
    require_finite_scales(dy, "y")
    scales = [a * b for a, b in zip(_scale_integers(dx), _scale_integers(dy), strict=True)]
    return scales, x["weight_qs"].astype(np.int32) * y["weight_qs"]


def _scale_integers(scales: NDArray[np.float16]) -> list[int]:
    """Return finite scales in units of 2^-24, as Python's unbounded integers."""
    integers: list[int] = (scales.astype(np.float64) * _SCALE_UNIT).astype(np.int64).tolist()
    return integers
