"""The domains of products: two codes in one lane, in a dot product of one block.

All other codes are 0 and the scales are powers of two, so that every order of summation gives the same bits
(Q8A8-DOT-4)::

    x   scale 2^(lane-16) | 0 ... qx ... 0 |
    y   scale 1           | 0 ... qy ... 0 |        s = qx · qy · 2^(lane-16)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.certify import steps
from q8a8_conformance.certify.domains import Domain
from q8a8_conformance.certify.functions import DOT, DOT_REAL

if TYPE_CHECKING:
    from q8a8_conformance.certify.functions import Functions
    from q8a8_conformance.inputs.arrays import Array

POWERS = np.array([1 << (8 + lane) for lane in (0, 1)] + [lane - 1 << 10 for lane in range(2, 32)])
"""2^(lane-16) as halves; 2^-16 and 2^-15 are subnormal, multiples of 2^-24."""
ONE = 0x3C00
NAN = 0x7E00


class Products(Domain):
    """Point lane·65536 + qx·256 + qy, the codes taken as unsigned bytes."""

    name, size, chunk = "products", 32 << 16, 1 << 14
    rules: tuple[str, ...] = ("Q8A8-DOT-1", "Q8A8-DOT-2", "Q8A8-DOT-8")
    functions = (DOT,)

    def evaluate(self, kernel: Functions, start: int, stop: int) -> Array:
        """See `Domain`."""
        lane, qx, qy = codes(np.arange(start, stop))
        return kernel.dots(DOT, one_hot(lane, qx, POWERS[lane]), one_hot(lane, qy, ONE), 1)

    def expected(self, start: int, stop: int) -> Array:
        """See `Domain`."""
        lane, qx, qy = codes(np.arange(start, stop))
        return product_bits(lane, qx, qy)[:, None]

    def given(self, point: int) -> str:
        """See `Domain`."""
        lane, qx, qy = (int(part) for part in codes(np.array(point)))
        return f"lane {lane}, {qx} · {qy}, scales 2^{lane - 16} and 1"


class ProductsV2(Products):
    """The same in version 2 blocks; the unused scale fields hold a NaN."""

    name = "products-v2"
    rules = ("Q8A8-DOT-1", "Q8A8-DOT-2", "Q8A8-DOT-8", "Q8A8-DOT-9", "Q8A8-LAY-5")
    functions = (DOT_REAL,)

    def evaluate(self, kernel: Functions, start: int, stop: int) -> Array:
        """See `Domain`."""
        lane, qx, qy = codes(np.arange(start, stop))
        x = _v2(one_hot(lane, qx, POWERS[lane]), 0)
        return kernel.dots(DOT_REAL, x, _v2(one_hot(lane, qy, ONE), 2), 1)


class ProductsNrc2(Products):
    """Four products a call: group g = point / 4 has x codes 2i, 2i+1 and y codes 2j, 2j+1 of one lane.

    The results are in the order of the output: x0·y0, x1·y0, x0·y1, x1·y1.
    """

    name, chunk, grain = "products-nrc2", 1 << 16, 4
    rules = ("Q8A8-DOT-1", "Q8A8-DOT-6")

    @staticmethod
    def codes(point: Array) -> tuple[Array, Array, Array]:
        """Return lane, x code and y code of points, int64."""
        group, place = point >> 2, point & 3
        qx = (group >> 7 & 0x7F) << 1 | place & 1
        qy = (group & 0x7F) << 1 | place >> 1
        return group >> 14, signed(qx), signed(qy)

    def evaluate(self, kernel: Functions, start: int, stop: int) -> Array:
        """See `Domain`."""
        lane, qx, qy = (part.reshape(-1, 4) for part in self.codes(np.arange(start, stop)))
        first = lane[:, 0]
        x = [one_hot(first, qx[:, row], POWERS[first]) for row in (0, 1)]
        y = [one_hot(first, qy[:, 2 * row], ONE) for row in (0, 1)]
        return kernel.dots(DOT, np.concatenate(x, axis=1), np.concatenate(y, axis=1), 2)

    def expected(self, start: int, stop: int) -> Array:
        """See `Domain`."""
        return product_bits(*self.codes(np.arange(start, stop))).reshape(-1, 4)

    def given(self, point: int) -> str:
        """See `Domain`."""
        lane, qx, qy = (int(part) for part in self.codes(np.array(point)))
        place = ("x0·y0", "x1·y0", "x0·y1", "x1·y1")[point & 3]
        return f"nrc 2, {place}, lane {lane}, {qx} · {qy}, scales 2^{lane - 16} and 1"


def signed(byte: Array) -> Array:
    """Return bytes as int8 values, int64."""
    return (byte ^ 0x80) - 0x80


def codes(point: Array) -> tuple[Array, Array, Array]:
    """Return lane, x code and y code of points, int64."""
    return point >> 16, signed(point >> 8 & 0xFF), signed(point & 0xFF)


def product_bits(lane: Array, qx: Array, qy: Array) -> Array:
    """Return the patterns of qx · qy · 2^(lane-16); a product of 0 is +0, as +0 + ±0 is."""
    return steps.float_bits(qx * qy, lane - 16)


def one_hot(lane: Array, code: Array, scale: Array | int) -> Array:
    """Build blocks with one code each: uint8 [m, 34] of int64 [m]."""
    blocks = np.zeros((len(lane), 34), np.uint8)
    blocks[:, 0], blocks[:, 1] = scale & 0xFF, scale >> 8
    blocks[np.arange(len(lane)), 2 + lane] = code & 0xFF
    return blocks


def _v2(blocks: Array, scale_at: int) -> Array:
    """Convert blocks of 34 bytes to version 2, with the scale at byte 0 or 2."""
    wide = np.empty((len(blocks), 36), np.uint8)
    wide[:, 0:4:2], wide[:, 1:4:2] = NAN & 0xFF, NAN >> 8
    wide[:, scale_at : scale_at + 2] = blocks[:, :2]
    wide[:, 4:] = blocks[:, 2:]
    return wide
