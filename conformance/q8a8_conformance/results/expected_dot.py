"""What a dot product must be: the scalar order's bits, the exact sum, and the bound of Q8A8-ORD-2."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from math import isfinite
from operator import mul
from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.bound import LANE_FOLD_ROUNDINGS
from q8a8.dot import vec_dot, vec_dot_real
from q8a8_conformance.inputs.calls import DOT, inputs_of

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

_FLOAT = Struct("<f")
_UNIT_BITS = 48
"""Every product of scales is a multiple of 2^-48."""

ULP = Fraction(1, 1 << 24)
"""u = 2^-24: half an ULP of 1."""


@dataclass(unsafe_hash=True)
class ExpectedDot:
    """One float of a result, as it must be.

    Attributes
    ----------
    offset
        Where it lies in ``s``, in bytes.
    bits
        The four bytes that the specification's scalar order gives.
    exact, magnitude, m
        The sum without rounding, the sum of magnitudes, and the exponent of Q8A8-ORD-2's bound.
    """

    offset: int
    bits: bytes
    exact: Fraction
    magnitude: Fraction
    m: int

    @cached_property
    def bound(self) -> Fraction:
        """The largest legal distance from ``exact``: ((1 + u)^m - 1) · magnitude, u = 2^-24 (Q8A8-ORD-2)."""
        return _growth(self.m) * self.magnitude

    def holds(self, result: bytes) -> bool:
        """Return whether a float, as its four bytes, is within the bound; NaN and infinities never are."""
        error = self.error(result)
        return error is not None and abs(error) <= self.bound

    def error(self, result: bytes) -> Fraction | None:
        """Return computed - exact of a float, as its four bytes; None for NaN and infinities."""
        (value,) = _FLOAT.unpack(result)
        return Fraction(value) - self.exact if isfinite(value) else None


@cache
def _growth(m: int) -> Fraction:
    return (1 + ULP) ** m - 1


def scalar_bits(x: Array, y: Array) -> bytes:
    """Return the float's bytes that the scalar order gives for rows of blocks [nb] of either version."""
    exact = exact_bits(x, y)
    if exact is not None:
        return exact
    dot = vec_dot if x.dtype == layout.BLOCK_Q8_A8 else vec_dot_real
    return bytes(np.asarray(dot(x, y), "<f4").tobytes())


def exact_bits(x: Array, y: Array) -> bytes | None:
    """Return the float's bytes that every order gives for rows that are exact by construction; else None.

    The rows are those of Q8A8-DOT-4: every term is a multiple of one power of two, and all of them together
    are below 2^24 times it. So is every partial sum, in binary64 too, and a sum of zero is +0.
    """
    d, sums, sizes = _parts(x, y)
    used = np.abs(d) * sizes
    if not used.sum() < 2.0**24 * _unit(d[used != 0]):
        return None
    return bytes(np.float32(0.0 + (d * sums).sum()).astype("<f4").tobytes())


def _parts(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return dx * dy of each block, the sum of its products and of their magnitudes: float64 [..., nb]."""
    second = "weight_scale" if x.dtype == layout.BLOCK_Q8_A8 else "activation_scale"
    products = x["weight_qs"].astype(np.int16) * y["weight_qs"]
    d = x["weight_scale"].astype(np.float64) * y[second].astype(np.float64)
    sums = products.sum(axis=-1, dtype=np.int64), np.abs(products).sum(axis=-1, dtype=np.int64)
    return d, sums[0].astype(np.float64), sums[1].astype(np.float64)


def _unit(d: Array) -> float:
    """Return the largest power of two of which all these numbers are multiples; infinite for none.

    Products of two halves have at most 22 significant bits, so 2^22 times their fraction is an integer.
    """
    fractions, exponents = np.frexp(d)
    integers = np.ldexp(np.abs(fractions), 22).astype(np.int64)
    return float(np.ldexp((integers & -integers).astype(np.float64), exponents - 22).min(initial=np.inf))


def expected_dot(x: Array, y: Array, offset: int = 0) -> ExpectedDot:
    """Compute what the dot product of two rows of blocks [nb], of either version, must be."""
    d, sums, sizes = _parts(x, y)
    return _expected(offset, scalar_bits(x, y), d, sums, sizes)


def expected_results(call: Call) -> list[ExpectedDot]:
    """Compute what the one or four floats of a dot product's call must be (Q8A8-DOT-6)."""
    dtype = layout.BLOCK_Q8_A8 if call.function == DOT else layout.BLOCK_Q8_A8_V2
    size = call.n // layout.QK8_A8 * dtype.itemsize
    vx, vy = inputs_of(call).values()
    return [
        expected_dot(
            np.frombuffer(vx[i * call.bx :][:size], dtype),
            np.frombuffer(vy[j * call.by :][:size], dtype),
            4 * (j * call.bs + i),
        )
        for j in range(call.nrc)
        for i in range(call.nrc)
    ]


def expected_dots(x: Array, y: Array, offset: int = 0) -> list[ExpectedDot]:
    """Compute what the dot products of rows of v1 blocks [n, nb] must be, each pair of rows its own."""
    bits = np.asarray(vec_dot(x, y), "<f4")
    return [_expected(offset, one.tobytes(), *parts) for one, *parts in zip(bits, *_parts(x, y), strict=True)]


def _expected(offset: int, bits: bytes, d: Array, sums: Array, sizes: Array) -> ExpectedDot:
    """Return an expected dot product by the `_parts` of its blocks [nb]; all sums are of integers."""
    units = [int(each) for each in (d * 2.0**_UNIT_BITS).tolist()]
    exact = sum(map(mul, units, map(int, sums.tolist())))
    magnitude = sum(map(mul, map(abs, units), map(int, sizes.tolist())))
    one = 1 << _UNIT_BITS
    return ExpectedDot(
        offset, bits, Fraction(exact, one), Fraction(magnitude, one), d.size + LANE_FOLD_ROUNDINGS
    )
