"""What a dot product must be: the scalar order's bits, the exact sum, and the bound of Q8A8-ORD-2."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.bound import LANE_FOLD_ROUNDINGS, exact_dot, magnitude
from q8a8.dot import vec_dot, vec_dot_real

Array = NDArray[Any]

ULP = Fraction(1, 1 << 24)
"""u = 2^-24: half an ULP of 1."""


@dataclass(frozen=True)
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
        value = float(np.frombuffer(result, "<f4")[0])
        return Fraction(value) - self.exact if np.isfinite(value) else None


@cache
def _growth(m: int) -> Fraction:
    return (1 + ULP) ** m - 1


def scalar_bits(x: Array, y: Array) -> bytes:
    """Return the float's bytes that the scalar order gives for rows of blocks [..., nb] of either version."""
    dot = vec_dot if x.dtype == layout.BLOCK_Q8_A8 else vec_dot_real
    return bytes(np.asarray(dot(x, y), "<f4").tobytes())


def expected_dot(x: Array, y: Array, offset: int = 0) -> ExpectedDot:
    """Compute what the dot product of two rows of blocks [nb], of either version, must be."""
    return ExpectedDot(
        offset, scalar_bits(x, y), exact_dot(x, y), magnitude(x, y), x.size + LANE_FOLD_ROUNDINGS
    )
