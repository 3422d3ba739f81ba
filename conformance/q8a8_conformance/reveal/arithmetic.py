"""How a kernel rounds: the bits that sums keep, the direction, fused products, the scales' product."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.dot import vec_dot
from q8a8.order import Order
from q8a8_conformance.inputs.dot_rows import generator
from q8a8_conformance.reveal.asking import NoTreeError
from q8a8_conformance.reveal.masks import MASK, SMALL_UNIT, rows

if TYPE_CHECKING:
    from q8a8.order import Lanes, Scales
    from q8a8_conformance.reveal.asking import Dot
    from q8a8_conformance.reveal.masks import Place

EXACT = MASK - SMALL_UNIT
"""What `sum_bits` returns where nothing was lost in the whole range of terms, 2^-46 to 2^28."""

FUSED_TERM, ROUNDED_TERM, RESIDUE = (127, 2047, 1935), (128, 1965, 2000), 15
"""(s, dx, dy) of a term of 29 bits, and of minus the float32 that is next to it; and their difference.

127 · 2047 · 1935 = 503040015, between the floats 503040000 = 128 · 1965 · 2000 and 503040032.
"""


def sum_bits(dot: Dot) -> int:
    """Return how many bits sums keep: 24 for float32, 53, 64, 11; `EXACT` where none are lost.

    Three blocks hold 2^28, -2^28 and 2^(28-p). In a tree, two of the three pairs of places for the masks have
    the unit between them, where it is lost if p is at least the number of bits (p equal to it is a tie, which
    the even number 2^28 wins).

    Raises
    ------
    NoTreeError
        Not two of three pairs lose a unit beside a mask.
    """

    def lost(p: int) -> int:
        return sum(_is_lost(dot, p, unit) for unit in range(3))

    if not lost(EXACT):
        return EXACT
    low, high = 0, EXACT
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if lost(middle) else (middle, high)
    if lost(EXACT) != 2:
        raise NoTreeError(
            f"of three terms, a unit is lost beside two masks in {lost(EXACT)} of three places, not two"
        )
    return high


def _is_lost(dot: Dot, p: int, place: int) -> bool:
    """Return whether 2^(28-p) at one of three places is lost, with the masks at the others."""
    codes = np.zeros((3, 32), np.int8)
    exponents = np.full(3, MASK)
    codes[:, 0] = [1 if (b - place) % 3 < 2 else -1 for b in range(3)]
    exponents[place] = MASK - p
    left = dot.value(*rows(codes, exponents))
    if left not in {0.0, 2.0 ** (MASK - p)}:
        raise NoTreeError(f"2^28 - 2^28 + 2^{MASK - p} is {left:g}")
    return left == 0


DIRECTIONS: dict[tuple[float, ...], str] = {
    (0, 2, 0, -2, 0): "to nearest, ties to even",
    (0, 2, 0, -2, 2): "to nearest, ties away from zero or up",
    (0, 0, 0, 0, 0): "toward zero",
    (2, 2, 0, 0, 2): "up",
    (0, 0, -2, -2, 0): "down",
}
"""The rounding by what is added to 2^24 by 0.5 and 1.5, to -2^24 by -0.5 and -1.5, and to 2^24 by 1."""


def rounding(dot: Dot) -> str:
    """Return in words how a result is rounded to float32: 2^24, where floats are 2 apart, plus little."""
    seen = []
    for sign, halves in ((1, 1), (1, 3), (-1, 1), (-1, 3), (1, 2)):
        codes = np.zeros((2, 32), np.int8)
        codes[:, 0] = sign, sign * halves
        seen.append(dot.value(*rows(codes, np.array([24, -1]))) - sign * 2.0**24)
    return DIRECTIONS.get(tuple(seen), f"in a way of its own: {', '.join(f'{step:g}' for step in seen)}")


def is_fused(dot: Dot, nb: int, term: Place, other: Place) -> bool:
    """Return whether the product of a place's block is added to another one's without being rounded before.

    The block's term has 29 bits, the other block's is minus the nearest float32: with a product of 24 bits
    their sum is zero, with an exact one it is what the float lacks. (The other is added first.)

    Raises
    ------
    NoTreeError
        The sum is neither.
    """
    x, y = (layout.pack(np.zeros(nb, np.float16), np.zeros((nb, 32), np.int8)) for _ in "xy")
    for (block, element), (s, dx, dy), sign in ((term, FUSED_TERM, 1), (other, ROUNDED_TERM, -1)):
        a, b = (s, 1) if s < 128 else (s // 2, 2)
        x["weight_qs"][block, element], y["weight_qs"][block, element] = a, sign * b
        x["weight_scale"][block], y["weight_scale"][block] = dx, dy
    left = dot.value(x, y)
    if left not in {0, RESIDUE}:
        raise NoTreeError(f"503040015 - 503040000 is {left:g}: products are rounded to other than 24 bits")
    return left == RESIDUE


SCALES: tuple[Scales, ...] = ("product", "x", "y")


def scales(dot: Dot, nb: int, lanes: Lanes) -> Scales:
    """Return how a term is formed from its scales.

    Rows in which block 0 alone is not zero, and of it one lane: the result is that term, rounded.

    Raises
    ------
    NoTreeError
        It is formed in another way.
    """
    rng = generator("scales", nb)
    order = Order("term", (tuple(range(32)),), (0,), 0, False, "body", False, 1, "one term")
    left = list(SCALES)
    for _ in range(12):
        codes = np.zeros((2, nb, 32), np.int8)
        codes[:, 0, list(lanes[0])] = rng.integers(64, 128, (2, len(lanes[0])))
        codes[:, 0, lanes[0][0]] = 127  # No quantizer changes such a block.
        x, y = (layout.pack(np.exp2(rng.uniform(-9, -4, nb)).astype(np.float16), c) for c in codes)
        value = np.float32(dot.value(x, y))
        for each in tuple(left):
            if vec_dot(x[:1], y[:1], replace(order, scales=each)) != value:
                left.remove(each)
    if not left:
        raise NoTreeError("a block's term is not its integer sum times the scales, rounded once or twice")
    return left[0]
