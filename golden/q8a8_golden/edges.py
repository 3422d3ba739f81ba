"""Where the bound of a dot product ends: the last float32 inside and the first outside, on either side.

Computed with integers and fractions alone, as the oracle is: no float is rounded to find its place. A checker
that is off by one unit in the last place, on one side only, is wrong about one of the four patterns.
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
        The smallest and the largest float that is inside.
    outside
        The float just below the first, and the float just above the second; the lower one is the negative
        infinity's pattern, or the upper the positive one's, where no finite float is outside.
    """

    inside: tuple[int, int]
    outside: tuple[int, int]


def bound_edges(exact: int, size: int, m: int) -> Edges:
    """Give the edges of Q8A8-ORD-2's bound: exact -+ ((1 + 2^-24)^m - 1) * size, the two in units of 2^-48.

    -0 and +0 have one value, so both are inside or both are not; -0 counts as the lower one.

    Raises
    ------
    ValueError
        The interval holds no float32: no result at all could conform.
    """
    reach = (Fraction(((1 << 24) + 1) ** m, 1 << (24 * m)) - 1) * size
    low, high = _lowest((exact - reach) * PRODUCT_UNIT), _highest((exact + reach) * PRODUCT_UNIT)
    if _place(low) > _place(high):
        raise ValueError("no float32 is within the bound")
    return Edges((low, high), (_pattern(_place(low) - 1), _pattern(_place(high) + 1)))


def _highest(limit: Fraction) -> int:
    """Give the largest float that is not above a number; of the two zeros, +0."""
    near = nearest(limit, F32)
    place = _place(near)
    while not finite(near, F32) or value(near, F32) > limit:
        place -= 1
        near = _pattern(place)
    return 0 if value(near, F32) == 0 else near


def _lowest(limit: Fraction) -> int:
    """Give the smallest float that is not below a number; of the two zeros, -0."""
    return _highest(-limit) ^ F32.sign


def _place(bits: int) -> int:
    """Give a pattern's place in the order of their values: +0 is at 0, -0 at -1."""
    return -1 - (bits ^ F32.sign) if bits & F32.sign else bits


def _pattern(place: int) -> int:
    """Give the pattern at a place: the inverse of `_place`."""
    return place if place >= 0 else (-1 - place) | F32.sign
