"""The edges of a dot product's bound: the last float32 inside and the first outside, on either side.

They are computed with integers and fractions only, as in the oracle. A checker that is off by one unit in the
last rank, on one side only, is wrong for one of the four patterns.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from q8a8_golden.oracle import F32, PRODUCT_UNIT, finite, nearest, value

__all__ = ["Edges", "bound_edges"]


@dataclass(frozen=True)
class Edges:
    """The ends of an interval of float32 patterns, the lower end first.

    Parameters
    ----------
    inside
        The smallest and the largest float inside.
    outside
        The float just below the first, and the float just above the second; an infinity where no finite float
        is outside.
    """

    inside: tuple[int, int]
    outside: tuple[int, int]


def bound_edges(exact: int, size: int, m: int) -> Edges:
    """Return the edges of Q8A8-ORD-2's bound: exact -+ ((1 + 2^-24)^m - 1) * size, both in units of 2^-48.

    -0 and +0 have the same value, so either both are inside or neither is; -0 is ordered below +0.

    Raises
    ------
    ValueError
        The interval contains no float32, so that no result could conform.
    """
    reach = (Fraction(((1 << 24) + 1) ** m, 1 << (24 * m)) - 1) * size
    low, high = _lowest((exact - reach) * PRODUCT_UNIT), _highest((exact + reach) * PRODUCT_UNIT)
    if _rank(low) > _rank(high):
        raise ValueError("no float32 is within the bound")
    return Edges((low, high), (_pattern(_rank(low) - 1), _pattern(_rank(high) + 1)))


def _highest(limit: Fraction) -> int:
    """Return the largest float not above a number; of the two zeros, +0."""
    near = nearest(limit, F32)
    rank = _rank(near)
    while not finite(near, F32) or value(near, F32) > limit:
        rank -= 1
        near = _pattern(rank)
    return 0 if value(near, F32) == 0 else near


def _lowest(limit: Fraction) -> int:
    """Return the smallest float not below a number; of the two zeros, -0."""
    return _highest(-limit) ^ F32.sign


def _rank(bits: int) -> int:
    """Return a pattern's rank in the order of values: +0 has rank 0, -0 has rank -1."""
    return -1 - (bits ^ F32.sign) if bits & F32.sign else bits


def _pattern(rank: int) -> int:
    """Return the pattern with a rank: the inverse of `_rank`."""
    return rank if rank >= 0 else (-1 - rank) | F32.sign
