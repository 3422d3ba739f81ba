"""Judging dot products: bits where every order gives the same, the proven bound where orders may differ."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.bound import LANE_FOLD_ROUNDINGS, exact_dot, magnitude
from q8a8.dot import vec_dot, vec_dot_real
from q8a8_conformance.inputs import calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

Array = NDArray[Any]

ULP = Fraction(1, 1 << 24)


@dataclass(frozen=True)
class Product:
    """One float of a result.

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

    @property
    def bound(self) -> Fraction:
        """The largest legal distance from ``exact``: ((1 + u)^m - 1) · magnitude, u = 2^-24."""
        return ((1 + ULP) ** self.m - 1) * self.magnitude

    def holds(self, result: bytes) -> bool:
        """Say whether a float, as its four bytes, is within the bound; NaN and infinities never are."""
        error = self.error(result)
        return error is not None and abs(error) <= self.bound

    def error(self, result: bytes) -> Fraction | None:
        """Give computed - exact of a float, as its four bytes; None for NaN and infinities."""
        value = float(np.frombuffer(result, "<f4")[0])
        return Fraction(value) - self.exact if np.isfinite(value) else None


def product(x: Array, y: Array, offset: int = 0) -> Product:
    """Give what is to be known of the dot product of two rows of blocks [nb], of either version."""
    dot = vec_dot if x.dtype == layout.BLOCK_Q8_A8 else vec_dot_real
    bits = np.float32(dot(x, y)).astype("<f4").tobytes()
    return Product(offset, bits, exact_dot(x, y), magnitude(x, y), x.size + LANE_FOLD_ROUNDINGS)


def judge_dot(judge: Judge, x: Array, y: Array, *, exact: bool) -> bytes:
    """Judge one dot product of two rows of blocks [nb], of either version; give the kernel's ``s``.

    Parameters
    ----------
    judge
        Of the case.
    x, y
        Blocks; their version says which function is called.
    exact
        Whether the rows are exact by construction: then bits count under every profile.
    """
    call = calls.dot(x, y) if x.dtype == layout.BLOCK_Q8_A8 else calls.dot_real(x, y)
    actual = judge.run(call)["s"]
    judge.target.observations.add_dot(call.function, 1, x, y, actual)
    if exact:
        dot = vec_dot if x.dtype == layout.BLOCK_Q8_A8 else vec_dot_real
        judge.compare(call, {"s": actual}, {"s": np.float32(dot(x, y)).astype("<f4").tobytes()})
    else:
        judge_products(judge, call, actual, [product(x, y)])
    return actual


def judge_pair(judge: Judge, x: Array, y: Array, *, exact: bool, **shape: int) -> bytes:
    """Judge the four dot products of an ``nrc = 2`` call; give the kernel's ``s``.

    Parameters
    ----------
    judge, exact
        As :func:`judge_dot`.
    x, y
        Blocks [2, nb].
    **shape
        ``bs``, ``x_gap`` and ``y_gap`` of `requests.dot_pair`.
    """
    call = calls.dot_pair(x, y, **shape)
    actual = judge.run(call)["s"]
    places = [(4 * (j * call.bs + i), x[i], y[j]) for j in (0, 1) for i in (0, 1)]
    for offset, row, column in places:
        judge.target.observations.add_dot(call.function, 2, row, column, actual[offset : offset + 4])
    if exact:
        expected = bytearray(calls.poison(len(actual)))
        for offset, row, column in places:
            expected[offset : offset + 4] = np.float32(vec_dot(row, column)).astype("<f4").tobytes()
        judge.compare(call, {"s": actual}, {"s": bytes(expected)})
    else:
        judge_products(judge, call, actual, [product(row, column, offset) for offset, row, column in places])
    return actual


def judge_products(judge: Judge, call: Call, actual: bytes, products: Sequence[Product]) -> None:
    """Judge the floats of one result: bits under profile ``exact``, else the bound.

    All other bytes keep their poison.

    Parameters
    ----------
    judge
        Of the case.
    call
        That was made, with poison in ``s``.
    actual
        ``s`` after it.
    products
        What is to be known of each float.
    """
    expected = bytearray(calls.poison(len(actual)))
    outside = None
    for item in products:
        place = slice(item.offset, item.offset + 4)
        judge.target.margins.add(call.function, judge.case, item.error(actual[place]), item.bound)
        legal = judge.target.profile != "exact" and item.holds(actual[place])
        expected[place] = actual[place] if legal else item.bits
        if not legal and outside is None and actual[place] != item.bits:
            outside = item
    message = "the result differs from the scalar order's"
    if outside is not None and judge.target.profile != "exact":
        value = float(np.frombuffer(actual[outside.offset : outside.offset + 4], "<f4")[0])
        error = f"{float(abs(Fraction(value) - outside.exact)):.3g}" if np.isfinite(value) else "no number"
        message = (
            f"off by {error}, the bound is {float(outside.bound):.3g} (exact sum {float(outside.exact):.9g})"
        )
    judge.compare(call, {"s": actual}, {"s": bytes(expected)}, message=message, in_bound=True)
