r"""Experiments with two masks and many units: which terms are added before two others have met.

One term is +M, one is -M, all others are the unit u, and M is so large that any sum of units vanishes beside
it. A unit that is added to a partial sum that holds one mask alone is lost; one that is added after the masks
have met, or to a sum without either, survives. So the result counts, in units, the terms *outside* the
smallest subtree of additions that holds both masks (Xie et al., "FPRev: Revealing the Order of
Floating-Point Summation", USENIX ATC 2025).

Why the range suffices. A term is s * dx * dy with powers of two alone: dx * dy is any power from 2^-46 to
2^28 (halves reach from 2^-24 to 2^15), and s is ±1. M = 2^28 and the unit 2^-24 differ by 52 binary digits:
in float32 a unit is lost beside M as long as the units together stay below half an ulp of M, 2^4, which 2^28
of them reach. Where sums keep more than 24 bits, the unit is 2^-46: in float64 half an ulp of M is 2^-25,
which 2^20 units do not reach, and on the x87, with 64 bits, 2^-36, for 2^9 units. Survivors are counted
exactly, since their number stays below 2^24. All terms of a block share its scale, so a block that holds a
mask holds no unit; the masks may lie in one block, at two of its elements, as s is +1 for one and -1 for the
other.

Neighbouring blocks share neither of their scales: a kernel may sum such blocks in integers.
Terms of zero (blocks without unit or mask) change no sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.reveal.asking import NoTreeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.asking import Dot

Place = tuple[int, int]
"""A block, and an element of it."""

MASK = 28
"""log2 of the mask M."""

UNIT, SMALL_UNIT = -24, -46
"""log2 of the unit, for sums of float32, and for those that keep more."""


def rows(codes: Array, exponents: Array) -> tuple[Array, Array]:
    """Return rows [nb] whose terms are codes [nb, 32] times 2^exponents [nb], from -46 to 28."""
    half = exponents // 2 + np.arange(len(codes)) % 3 - 1
    dx, dy = (np.exp2(part).astype(np.float16) for part in (half, exponents - half))
    return layout.pack(dx, np.ones_like(codes)), layout.pack(dy, codes)


class Masks:
    """Makes the experiments on rows of nb blocks, with units of 2^unit at some places."""

    def __init__(self, dot: Dot, nb: int, units: Iterable[Place], unit: int = UNIT) -> None:
        self._dot = dot
        self._unit = unit
        self._codes = np.zeros((nb, 32), np.int8)
        for place in units:
            self._codes[place] = 1
        self._exponents = np.full(nb, unit)

    def absorbed(self, plus: Place, minus: Place) -> int:
        """Return how many units are lost between two masks; those of the masks' own blocks do not count.

        Raises
        ------
        NoTreeError
            The result is no number of units that there can be.
        """
        codes, exponents = self._codes.copy(), self._exponents.copy()
        for block, _ in (plus, minus):
            codes[block], exponents[block] = 0, MASK
        units = int(codes.sum())
        codes[plus], codes[minus] = 1, -1
        left = self._dot.value(*rows(codes, exponents)) / 2.0**self._unit
        if left not in range(units + 1):
            raise NoTreeError(f"of {units} units beside two masks, {left:g} are left")
        return units - int(left)
