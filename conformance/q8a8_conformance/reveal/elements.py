"""The program of a row of any length: the terms of each block, the tree over them, and which are fused.

Terms. Two products of codes, 127 · 125 and 126 · -126, are added to -1 in integers, and the result is -d
exactly. Rounded one by one under a d of 22 bits they leave an error of at least 1900, in whichever way d is
multiplied and the sum is fused. All codes of a lane show in the same way that it is one.

Units in the masks' own blocks. The range of codes is too small for a mask and a unit in one block: 64 · 64 to
1. But a unit there need not be lost to be seen, if it loses its last bit. With scales dx = dy = 1 + 2^-10,
dx * dy = 1 + 2^-9 + 2^-20 has 21 bits, and so has a unit. Beside a mask of 2^12 units, where floats are 2^-11
apart, it becomes 1 + 2^-9, and 2^-20 is gone (no tie: half of 2^-11 is more). The mask itself,
2^12 + 2^3 + 2^-8, is exact. So the result, up to 15 units in 24 bits, counts in its last bits the units that
survive.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.order import WHOLE, Program
from q8a8_conformance.inputs.dot_rows import generator
from q8a8_conformance.reveal import arithmetic
from q8a8_conformance.reveal.asking import NoTreeError
from q8a8_conformance.reveal.masks import Masks, Place
from q8a8_conformance.reveal.trees import members, reveal_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8.order import Lanes
    from q8a8_conformance.reveal.asking import Dot

SIZE = len(WHOLE[0])

COUNTED = 15
"""Units that one experiment counts."""

SCALE = 1 + 2.0**-10
LEFT, LOST = 1 + 2.0**-9, 2.0**-20
"""Of the unit: what is left beside a mask, and what is lost."""

TERM_SCALES = 1295, 1803
"""dx and dy of a block whose products are rounded one by one, if they are."""


@lru_cache
def _sum_to_minus_one(count: int) -> tuple[tuple[int, int], ...]:
    """Return pairs of codes whose products are large, and -1 in all."""
    if count == 2:
        return (127, 125), (126, -126)
    rng = generator("minus one", count)
    while True:
        pairs, total = [], 0
        for _ in range(count - 2):
            a, b = map(int, rng.integers(90, 128, 2))
            pairs.append((a, -b if total > 0 else b))
            total += a * pairs[-1][1]
        sign = -1 if total >= 0 else 1
        q, r = divmod(abs(total + 1), 127)
        if 60 < q < 128 and r > 50:
            return *pairs, (127, sign * q), (1, sign * r)


def _are_one(dot: Dot, nb: int, block: int, own: Sequence[int]) -> bool:
    """Return whether elements of a block are summed before anything is rounded."""
    if len(own) == 1:
        return True
    codes = np.zeros((2, nb, SIZE), np.int8)
    codes[:, block, own] = np.array(_sum_to_minus_one(len(own))).T
    x, y = (
        layout.pack(np.full(nb, scale, np.float16), c) for scale, c in zip(TERM_SCALES, codes, strict=True)
    )
    return dot.value(x, y) == -TERM_SCALES[0] * TERM_SCALES[1]


def _lanes(dot: Dot, nb: int, block: int, known: Sequence[Lanes]) -> Lanes:
    """Find the elements of a block that are summed in integers; lanes of other blocks are tried first."""
    for lanes in (WHOLE, *known):
        if all(_are_one(dot, nb, block, own) for own in lanes):
            break
    else:
        lanes = tuple((element,) for element in range(SIZE))
    found: list[tuple[int, ...]] = []
    for own in lanes:
        joined = (k for k, other in enumerate(found) if _are_one(dot, nb, block, (other[0], own[0])))
        where = next(joined, len(found))
        found[where : where + 1] = [tuple(sorted((*found[where], *own)) if where < len(found) else own)]
    return tuple(sorted(found))


def _lost_beside(dot: Dot, nb: int, plus: Place, minus: Place, places: Sequence[Place]) -> int:
    """Return how many units at places in the masks' own blocks lose their last bit."""
    lost = 0
    for start in range(0, len(places), COUNTED):
        part = places[start : start + COUNTED]
        x, y = (np.zeros((nb, SIZE), np.int8) for _ in "xy")
        for place in part:
            x[place] = y[place] = 1
        x[plus] = x[minus] = y[plus] = 64
        y[minus] = -64
        rows = (layout.pack(np.full(nb, SCALE, np.float16), codes) for codes in (x, y))
        kept = (dot.value(*rows) - len(part) * LEFT) / LOST
        if kept not in range(len(part) + 1):
            raise NoTreeError(f"of {len(part)} units beside two masks of their block, {kept:g} are left")
        lost += len(part) - int(kept)
    return lost


def reveal_program(dot: Dot, nb: int) -> Program:
    """Find all additions of a row of nb blocks, whatever its lanes and its tree.

    Raises
    ------
    NoTreeError
        There is none.
    """
    if nb in dot.programs:
        return dot.programs[nb]
    lanes: list[Lanes] = []
    for block in range(nb):
        lanes.append(
            _lanes(dot, nb, block, [each for each in dict.fromkeys(reversed(lanes)) if each != WHOLE])
        )
    places = [(block, own[0]) for block, of in enumerate(lanes) for own in of]
    masks = Masks(dot, nb, places)
    beside = [[place for place in places if place[0] == block] for block in range(nb)]

    def size(one: int, other: int) -> int:
        plus, minus = places[one], places[other]
        near = [p for b in sorted({plus[0], minus[0]}) for p in beside[b] if p not in {plus, minus}]
        return 2 + masks.absorbed(plus, minus) + _lost_beside(dot, nb, plus, minus, near)

    additions = reveal_tree(len(places), size) if len(places) > 2 else ((0, 1),) * (len(places) - 1)
    dot.programs[nb] = _with_fused(dot, nb, tuple(lanes), places, additions)
    return dot.programs[nb]


def _with_fused(
    dot: Dot, nb: int, lanes: tuple[Lanes, ...], places: Sequence[Place], additions: Sequence[tuple[int, int]]
) -> Program:
    """Find which terms are fused where they are added; the fused one of two stands on the right."""
    terms = len(places)
    held = members(terms, tuple(additions))
    pairs: list[tuple[int, int]] = []
    fused: list[bool] = []
    for pair in additions:
        ways = [(left, right) for left, right in (pair, pair[::-1]) if right < terms]
        of = next((way for way in ways if _is_fused(dot, nb, places, held[way[0]], way[1])), None)
        pairs.append(of or pair)
        fused.append(of is not None)
    return Program(lanes, tuple(pairs), tuple(fused))


def _is_fused(dot: Dot, nb: int, places: Sequence[Place], before: int, term: int) -> bool:
    """Return whether a term is fused with a sum of others; not, where all of them are of its block."""
    others = (number for number in range(len(places)) if before >> number & 1)
    other = next((places[number] for number in others if places[number][0] != places[term][0]), None)
    return other is not None and arithmetic.is_fused(dot, nb, places[term], other)
