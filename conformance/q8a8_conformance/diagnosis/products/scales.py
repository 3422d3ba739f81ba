"""Scales that a product reads as others: signs that are lost, subnormal ones that are 0 or misread.

The same laws as of other terms (`laws`), of scales of every kind on one side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.products.terms import SHORT, Effect, Measuring
from q8a8_conformance.inputs import dot_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.diagnosis.products.terms import Side
    from q8a8_conformance.inputs.arrays import Array

LEAST, NORMAL = 2.0**-24, 2.0**-14
"""The least positive half, and the least one that is not subnormal."""

NUMBERS = (
    0,
    5,
    7,
    9,
    12,
    16,
    21,
    28,
    37,
    50,
    66,
    88,
    117,
    156,
    207,
    275,
    366,
    487,
    648,
    862,
    1023,
    1025,
    1366,
    1800,
)
"""Scales in units of the least one: less than 1024 of these are subnormal."""


@dataclass(frozen=True)
class ScaleRead:
    """How scales of a side are read.

    Attributes
    ----------
    side
        "w" or "x".
    words
        How, as a clause.
    function
        Returns what scales are read as.
    """

    side: str
    words: str
    function: Callable[[Array], Array]


def _small(d: Array) -> Array:
    return np.asarray((np.abs(d) < NORMAL) & (d != 0))


def _cut(t: float, d: Array) -> Array:
    return np.where(np.abs(d) < t, 0, d)


_READ: dict[str, Callable[[Array], Array]] = {
    "negative scales of {0} lose their sign": np.abs,
    "negative scales of {0} count as 0": lambda d: np.maximum(d, 0),
    "subnormal scales of {0} count as 0": lambda d: np.where(_small(d), 0, d),
    "subnormal scales of {0} lose their sign": lambda d: np.where(_small(d), np.abs(d), d),
    "subnormal scales of {0} count half": lambda d: np.where(_small(d), d / 2, d),
    "subnormal scales of {0} count twice": lambda d: np.where(_small(d), d * 2, d),
    "subnormal scales of {0} are read as normal ones, m * 2^-24 as 2^-15 + m * 2^-25": lambda d: np.where(
        _small(d), np.copysign(2.0**-15 + np.abs(d) / 2, d), d
    ),
    "subnormal scales of {0} are read as normal ones, m * 2^-24 as 2^-14 + m * 2^-24": lambda d: np.where(
        _small(d), np.copysign(2.0**-14 + np.abs(d), d), d
    ),
    "scales of 0 of {0} count as 1": lambda d: np.where(d == 0, 1, d),
    "scales of 0 of {0} count as 2^-24": lambda d: np.where(d == 0, LEAST, d),
}
"""What scales may be read as."""


class ScaleMeasuring(Measuring):
    """Measures terms of scales of every kind on a side."""

    side = "w"
    sides = "w"
    tried = 36

    def effects(self) -> list[Effect]:
        """Return how scales may be read."""
        every = [ScaleRead(self.side, words.format(self.side), of) for words, of in _READ.items()]
        for high, low in pairwise(LEAST * np.array(NUMBERS[:0:-1])):
            # (Beside 127 the amax, of which a kernel may know, is 127 times as large.)
            times, what = (
                (127, "blocks of x whose amax is") if self.side == "x" else (1, "scales of w of magnitude")
            )
            words = f"{what} {times * low:.3g} or less count as 0, those of {times * high:.3g} or more do not"
            every.append(ScaleRead(self.side, words, partial(_cut, high)))
        return [Effect("scales", read=each) for each in every]

    def operands(self, shape: Shape) -> tuple[Side, Array]:
        """Return codes and scales of w, and the elements of x, float32 [n, 32·nb]."""
        m, n, nb = shape
        (w, of_w), (x, of_x) = (self._of(rows, nb, side) for rows, side in ((m, "w"), (n, "x")))
        return (w, of_w), (x * of_x[..., np.newaxis]).astype(np.float32).reshape(n, -1)

    def _of(self, rows: int, nb: int, side: str) -> Side:
        rng = dot_rows.generator("scales", rows, nb, side)
        most = 6 if nb <= SHORT else 3
        codes = rng.integers(1, most + 1, (rows, nb, 32)) * rng.choice([-1, 1], (rows, nb, 32))
        if side == "x":
            np.put_along_axis(codes, rng.integers(0, 32, (rows, nb, 1)), 127, axis=2)
        scales = np.ones((rows, nb))
        if side == self.side:
            scales = LEAST * rng.choice(NUMBERS, (rows, nb))
            scales *= rng.choice([-1, 1], (rows, nb)) if side == "w" else 1
        return codes.astype(np.int8), scales


class ScaleMeasuringOfX(ScaleMeasuring):
    """The same of the scales of activations."""

    side = "x"
