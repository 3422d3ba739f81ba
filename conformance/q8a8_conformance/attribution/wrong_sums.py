"""What a wrong dot product would be if one rule alone were broken: each suspect's own exact sum.

A suspect changes the reading of the blocks, the scales, their product, or the integer sums. Its sum, taken
without rounding, either is the kernel's result (exactly on inputs that are exact by construction, within a
part of the bound of Q8A8-ORD-2 elsewhere) or is not. Whatever leaves the right sum as it is accuses nobody.

Sums are integers in units of 2^-48, the least product of two halves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.bound import LANE_FOLD_ROUNDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Array = NDArray[Any]

UNIT = 1 << 48
U = Fraction(1, 1 << 24)
SMALLEST_NORMAL = 2.0**-14
SHARE = 8
"""The bound is for the worst data and order; what kernels use of it is less than one part of so many."""

V1_LAYOUT, V2_LAYOUT, SUBNORMALS, WIDENING, INTEGERS, PRODUCT, SIGNS = (
    f"Q8A8-{name}" for name in ("LAY-1", "LAY-3", "HLF-2", "HLF-3", "DOT-1", "DOT-2", "DOT-8")
)


@dataclass(frozen=True)
class Terms:
    """A dot product's parts: `hx`, `hy` halves [nb], `qx`, `qy` int8 [nb, 32]."""

    hx: Array
    hy: Array
    qx: Array
    qy: Array

    def integer_sums(self) -> Array:
        """Give the integer sum of each block: int64 [nb] (Q8A8-DOT-1)."""
        return np.asarray((self.qx.astype(np.int64) * self.qy).sum(axis=1))

    def magnitudes(self) -> Array:
        """Give the sum of the products' magnitudes of each block: int64 [nb]."""
        return np.asarray(np.abs(self.qx.astype(np.int64) * self.qy).sum(axis=1))


def terms_of(x: Array, y: Array) -> Terms:
    """Give the parts of two rows of blocks [nb] of either version."""
    second = "weight_scale" if x.dtype == layout.BLOCK_Q8_A8 else "activation_scale"
    return Terms(x["weight_scale"], y[second], x["weight_qs"], y["weight_qs"])


def _units(d: Array) -> list[int] | None:
    """Give products of scales as integers times 2^-48; None where one is no finite number."""
    if not np.isfinite(d).all():
        return None
    return [int(Fraction(v) * UNIT) for v in d.astype(np.float64).tolist()]


def _wide(h: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return h.astype(np.float64)


def _flushed(h: Array) -> Array:
    """Take subnormal halves for zeros."""
    value = _wide(h)
    return np.where(np.abs(value) < SMALLEST_NORMAL, 0.0, value)


def _hidden_bit(h: Array) -> Array:
    """Take subnormal halves for numbers with a hidden bit and the exponent of 2^-15."""
    value, bits = _wide(h), h.view(np.uint16) & 0x7FFF
    misread = np.copysign((1.0 + bits / 1024.0) * 2.0**-15, value)
    return np.asarray(np.where((bits < 0x0400) & (bits > 0), misread, value))


def _ten_bits(h: Array) -> Array:
    """Take halves without their last bit."""
    return _wide((h.view(np.uint16) & np.uint16(0xFFFE)).view(np.float16))


def _infinite_early(h: Array) -> Array:
    """Take halves of the largest binade for infinities."""
    value = _wide(h)
    return np.where(np.abs(value) >= 2.0**15, np.copysign(np.inf, value), value)


def _brain(h: Array) -> Array:
    """Take halves for bfloat16."""
    wide = (h.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.asarray(wide, np.float64)


def _to_half(d: Array) -> Array:
    with np.errstate(over="ignore"):
        return d.astype(np.float16).astype(np.float64)


def _to_bfloat16(d: Array) -> Array:
    """Cut products to eight significant bits; they are floats exactly."""
    return (d.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


READINGS: tuple[tuple[str, Callable[[Array], Array]], ...] = (
    (SUBNORMALS, _flushed),
    (SUBNORMALS, _hidden_bit),
    (WIDENING, _ten_bits),
    (WIDENING, _brain),
    (WIDENING, _infinite_early),
    (SIGNS, lambda h: np.maximum(_wide(h), 0.0)),
)
"""Wrong values of a scale, with the rule that each breaks."""

PRODUCTS: tuple[tuple[str, Callable[[Array], Array]], ...] = (
    (PRODUCT, _to_half),
    (PRODUCT, _to_bfloat16),
    (PRODUCT, lambda d: np.where(np.abs(d) < SMALLEST_NORMAL, 0.0, d)),
    (PRODUCT, lambda d: np.clip(d, -65504.0, 65504.0)),
    (SIGNS, np.abs),
    (SIGNS, lambda d: np.where(np.cumsum(d == 0) > 0, 0.0, d)),
)
"""Wrong products of the scales: rounded, capped, without signs, none from the first zero on."""


def _sign_trick(qx: Array, qy: Array) -> Array:
    """Multiply |x| by y with x's sign, where -(-128) is -128: int64 [nb, 32]."""
    products = qx.astype(np.int64) * qy
    return np.where((qx < 0) & (qy == -128), -products, products)


def _pairs(qx: Array, qy: Array, *, saturating: bool) -> Array:
    """Add neighbouring products in int16, which saturates or wraps: int64 [nb, 16]."""
    pairs = (qx.astype(np.int64) * qy).reshape(-1, 16, 2).sum(axis=2)
    return np.asarray(
        np.clip(pairs, -(2**15), 2**15 - 1) if saturating else pairs.astype(np.int16).astype(np.int64)
    )


MULTIPLICATIONS: tuple[Callable[[Array, Array], Array], ...] = (
    _sign_trick,
    lambda qx, qy: _sign_trick(qy, qx),
    lambda qx, qy: np.maximum(qx, -127).astype(np.int64) * qy,
    lambda qx, qy: qx.astype(np.int64) * np.maximum(qy, -127),
    lambda qx, qy: np.maximum(qx, -127).astype(np.int64) * np.maximum(qy, -127),
    lambda qx, qy: _pairs(qx, qy, saturating=True),
    lambda qx, qy: _pairs(qx, qy, saturating=False),
)
"""Wrong integer products of a block, or sums of some of them: [nb, any number]."""


class Suspects:
    """The suspects of one dot product of two rows of blocks [nb] of one version.

    Parameters
    ----------
    x, y
        Blocks, as the call had them.
    in_bound
        Whether the result may be anywhere within the bound; otherwise the inputs leave nothing to round.
    """

    def __init__(self, x: Array, y: Array, *, in_bound: bool) -> None:
        self._x, self._y = x, y
        self._terms = terms_of(x, y)
        with np.errstate(invalid="ignore"):
            self._d = _wide(self._terms.hx) * _wide(self._terms.hy)
        units = _units(self._d) or []
        self._sums = [u * int(s) for u, s in zip(units, self._terms.integer_sums(), strict=False)]
        magnitude = sum(abs(u) * int(s) for u, s in zip(units, self._terms.magnitudes(), strict=False))
        growth = (1 + U) ** (len(x) + LANE_FOLD_ROUNDINGS) - 1
        self._room = growth * magnitude / SHARE if in_bound else Fraction(0)

    def accused(self, result: float) -> set[str]:
        """Give the rules whose suspects give this float; empty where none does.

        Other layouts are suspected last: nearly any sum can be had by reading the wrong bytes.
        """
        with np.errstate(invalid="ignore", over="ignore"):  # wrong readings give infinities, and 0 times them
            found = {rule for rule, total in self._candidates() if self._is(result, total)}
        return found or self.misread(result)

    def misread(self, result: float) -> set[str]:
        """Give the rule of layout, where another layout gives this float; a zero says nothing."""
        if not result or not math.isfinite(result):
            return set()
        with np.errstate(invalid="ignore", over="ignore"):
            return {rule for rule, total in self._misread() if self._is(result, total)}

    def _is(self, result: float, total: int | None) -> bool:
        """Say whether a float is a suspect's sum, which is not the right one; None is no finite number."""
        if total is None or not math.isfinite(result):
            return total is None and not math.isfinite(result)
        if total == sum(self._sums):
            return False
        if not self._room:
            return result == float(np.float32(Fraction(total, UNIT)))
        return abs(Fraction(result) * UNIT - total) <= self._room

    def _candidates(self) -> Iterator[tuple[str, int | None]]:
        """Yield each wrong reading's rule and sum."""
        terms, sums = self._terms, self._terms.integer_sums()
        for rule, read in READINGS:
            yield rule, _total(read(terms.hx) * read(terms.hy), sums)
        for rule, change in PRODUCTS:
            yield rule, _total(change(self._d), sums)
        for multiply in MULTIPLICATIONS:
            yield INTEGERS, _total(self._d, multiply(terms.qx, terms.qy).sum(axis=1))

    def _misread(self) -> Iterator[tuple[str, int | None]]:
        """Yield each wrong layout's rule and sum."""
        for rule, other in self._layouts():
            yield rule, _total(_wide(other.hx) * _wide(other.hy), other.integer_sums())

    def _layouts(self) -> Iterator[tuple[str, Terms]]:
        """Yield the parts as other layouts have them."""
        size = self._x.dtype.itemsize
        nb = len(self._x)
        rule = V1_LAYOUT if size == layout.BLOCK_Q8_A8.itemsize else V2_LAYOUT
        x, y = (np.frombuffer(row.tobytes(), np.uint8).reshape(nb, size) for row in (self._x, self._y))
        t = self._terms
        yield rule, Terms(_exchanged(t.hx), _exchanged(t.hy), t.qx, t.qy)
        if rule == V1_LAYOUT:
            # The scale behind the codes; blocks of 36 bytes.
            yield rule, Terms(_halves(x[:, 32:]), _halves(y[:, 32:]), _codes(x[:, :32]), _codes(y[:, :32]))
            wide = [np.append(row.reshape(-1), np.zeros(2 * nb, np.uint8)).reshape(nb, 36) for row in (x, y)]
            yield rule, _as_v1(*wide)
            return
        # The codes over the second scale; blocks of 34 bytes, of version 1.
        yield rule, Terms(t.hx, t.hy, _codes(x[:, 2:34]), _codes(y[:, 2:34]))
        yield rule, _as_v1(*(row.reshape(-1)[: 34 * nb].reshape(nb, 34) for row in (x, y)))


def _exchanged(h: Array) -> Array:
    return np.ascontiguousarray(h).view(np.uint16).byteswap().view(np.float16)


def _halves(data: Array) -> Array:
    return np.ascontiguousarray(data).view("<f2")[:, 0]


def _codes(data: Array) -> Array:
    return np.ascontiguousarray(data).view(np.int8)


def _as_v1(x: Array, y: Array) -> Terms:
    """Read rows of bytes [nb, 34 or more] as blocks of version 1."""
    return Terms(_halves(x[:, :2]), _halves(y[:, :2]), _codes(x[:, 2:34]), _codes(y[:, 2:34]))


def _total(d: Array, sums: Array) -> int | None:
    """Add up blocks without rounding; None where a product of scales is no finite number."""
    units = _units(d)
    if units is None:
        return None
    return sum(u * int(s) for u, s in zip(units, sums, strict=True))
