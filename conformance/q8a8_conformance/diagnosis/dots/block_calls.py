"""One block at a time: the calls of a dot product on it that the experiments on its arithmetic make.

Products of single codes, sums of every size, filled blocks, and scales of every kind.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.diagnosis.dots.readings import codes_of_sum
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.asking import NoSuchCallError

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.dots.bench import Bench
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult

EDGES = (-128, -127, -100, -1, 1, 77, 127)
"""Codes of single products."""

FILLED = ((127, 127), (-128, -128), (127, -128), (-128, 127), (-127, 127))
"""Codes of blocks that are filled up from the first element."""

SIZES = (2, 5, 11, 30, 64, 100, 127, 127, 127, 127)
"""The greatest magnitudes of the codes of random blocks."""

HALVES = (
    0x0001, 0x0002, 0x0003, 0x01FF, 0x0200, 0x03FF, 0x0400, 0x0401, 0x1400, 0x2E66, 0x3BFF, 0x3C00, 0x3C01,
    0x3FFF, 0x4000, 0x5555, 0x77FF, 0x7800, 0x7801, 0x7BFF,
    0x8001, 0x83FF, 0x8400, 0xB800, 0xBC00, 0xC001, 0xFBFF, 0x0000, 0x8000,
)  # fmt: skip
"""Bits of scales: least and greatest, subnormal and normal, of both signs, odd and even, zeros."""

SCALES = (
    (2047, 2047), (2047, 2045), (1025, 1025), (-2047, 2047), (-1.5, -2.5),
    (3, 5), (5, 3), (2.0**-24, 2.0**-24),
    (2.0**-24, 3.0), (2.0**-14, 2.0**-10), (3 * 2.0**-24, 2.0**-12), (2.0**-8, 2.0**-7), (2.0**-7, 2.0**-7),
    (2.0**-7, 2.0**-6), (65504, 65504), (32768, 4), (65504, 1),
    (65504, -2), (-65504, 2), (257, 1.0), (0.75, 0.375),
    (1361, 1747), (1533, 1999), (1999, 1123), (1701, 1371), (1847, -1657), (1289, 2011), (1093, 1187),
    (1619, 1831), (-1427, 1973), (1153, 1609),
    *((2.0 ** -(p // 2), 2.0 ** -(p - p // 2)) for p in range(9, 49)),
    *((1.375 * 2.0 ** -(p // 2), 2.0 ** -(p - p // 2)) for p in range(9, 28)),
)  # fmt: skip
"""Pairs of scales; each product has 22 significant bits at most."""


SCALED_SUMS = ((2049, 2.0**-10), (4097, 2.0**-4), (262145, 2.0**-12), (-2049, 2.0**8), (-2049, -1.0))
"""Sums of a block, and x's scale."""


class Experiments:
    """Calls of one block that were made, with their outputs.

    Parameters
    ----------
    bench
        Makes the calls.

    Attributes
    ----------
    made, given
        The calls with their outputs; and codes and scales of x and y, by a call's identity.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.made: list[CallResult] = []
        self.given: dict[int, tuple[Array, Array, float, float]] = {}

    def block(self, qx: Array, qy: Array, dx: float = 1.0, dy: float = 1.0) -> float:
        """Return the result of one block, in units of what 1 by 1 gives; or the right one."""
        x, y = (
            self.bench.padded(dot_rows.blocks(d, np.asarray(q)[np.newaxis])) for d, q in ((dx, qx), (dy, qy))
        )
        try:
            self.made.append(self.bench.answer(self.bench.call(x, y)))
        except NoSuchCallError:
            return float(np.float32(int(np.dot(np.int64(qx), np.int64(qy))) * np.float32(dx * dy)))
        self.given[id(self.made[-1])] = qx, qy, dx, dy
        return float(np.frombuffer(self.made[-1].outputs[0], "<f4")[0]) / self.bench.factor

    def wrong(self, model: Model) -> list[CallResult]:
        """Return the calls that a model does not give."""
        return [one for one in self.made if not matches(model, one)]

    def make(self) -> None:
        """Make all calls."""
        rng = dot_rows.generator("arithmetic")
        none, every = np.zeros(32, np.int64), np.arange(1, 33)
        shuffled = rng.permutation(every)
        some = rng.integers(-60, 61, 32)
        self.block(none, some)
        self.block(some, none)
        self.block(none, every)
        for j in range(32):
            self.block(unit_codes(j), every)
            self.block(unit_codes(j), shuffled)
            self.block(every, unit_codes(j))
        element = self.bench.element
        for j, code in itertools.product(range(32), (-128, 127)):
            self.block(unit_codes(j, code), unit_codes(j, 3))
            self.block(unit_codes(j, 3), unit_codes(j, code))
        for a, b in itertools.product(EDGES, EDGES):
            self.block(unit_codes(element, a), unit_codes(element, b))
        for j in range(32):
            pair = unit_codes(element, -128) + unit_codes(j, -128) * (j != element)
            self.block(pair, pair)
        for (a, b), n in itertools.product(FILLED, (2, 3, 4, 5, 8, 9, 16, 17, 31, 32)):
            filled = np.arange(32) < n
            self.block(a * filled, b * filled)
        for _ in range(4):
            self.block(*rng.integers(-60, 61, (2, 32)))
        for most in SIZES:
            self.block(*rng.integers(-most, most + 1, (2, 32)))
            x, y = rng.integers(-most, most + 1, (2, 32))
            self.block(x, np.abs(y) * np.sign(x) * rng.choice([1, -1]))
            # (Sums that are large before they are small again.)
            self.block(x, np.abs(y) * np.sign(x) * np.repeat(rng.choice([[1, -1], [-1, 1]]), 16))
        for _ in range(8):
            # (Sums that leave 16 bits, and come back with the next product, or with one of the next.)
            self.block(np.full(32, 127), rng.choice([-127, 127], 32))
        for total in (2049, 4097, 32769, 65537, 262145):
            self.block(*codes_of_sum(total))
        self._make_scaled()

    def _make_scaled(self) -> None:
        """Make the calls under other scales than 1."""
        one = unit_codes(self.bench.element)
        for total, d in SCALED_SUMS:
            self.block(*codes_of_sum(total), d)
        for h in HALVES:
            value = float(np.uint16(h).view(np.float16))
            self.block(one, one, value)
            self.block(one, one, 1.0, value)
        for pair in SCALES:
            self.block(one, one, *pair)


def unit_codes(place: int, code: int = 1) -> Array:
    """Return the codes of a block, int64 [32], of which one is not zero."""
    codes = np.zeros(32, np.int64)
    codes[place] = code
    return codes
