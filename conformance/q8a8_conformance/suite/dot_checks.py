"""Judging dot products: bits where every order gives the same, the proven bound where orders may differ."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_dot import expected_dot, scalar_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.expected_dot import ExpectedDot
    from q8a8_conformance.suite.judge import Judge

ORDER, ROLES, SUMS = "Q8A8-DOT-3", "Q8A8-DOT-9", "Q8A8-MUL-5"


def judge_dot(judge: Judge, x: Array, y: Array, *, exact: bool) -> bytes:
    """Judge one dot product of two rows of blocks [nb], of either version; return the kernel's ``s``.

    Parameters
    ----------
    judge
        Of the case.
    x, y
        Blocks; their version decides which function is called.
    exact
        Whether the rows are exact by construction: then bits count under every profile.
    """
    call = calls.dot(x, y) if x.dtype == layout.BLOCK_Q8_A8 else calls.dot_real(x, y)
    actual = judge.run(call)["s"]
    judge.target.observations.add_dot(call.function, 1, x, y, actual)
    if exact:
        judge.compare(call, {"s": actual}, {"s": scalar_bits(x, y)})
    else:
        judge_products(judge, call, actual, [expected_dot(x, y)])
    return actual


def judge_pair(judge: Judge, x: Array, y: Array, *, exact: bool, **shape: int) -> bytes:
    """Judge the four dot products of an ``nrc = 2`` call; return the kernel's ``s``.

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
            expected[offset : offset + 4] = scalar_bits(row, column)
        judge.compare(call, {"s": actual}, {"s": bytes(expected)})
    else:
        judge_products(
            judge, call, actual, [expected_dot(row, column, offset) for offset, row, column in places]
        )
    return actual


def judge_products(
    judge: Judge,
    call: Call,
    actual: bytes,
    products: Sequence[ExpectedDot],
    rules: tuple[str, ...] | None = None,
) -> bool:
    """Judge the floats of one result, bits under profile ``exact``, else the bound; return whether all hold.

    All other bytes keep their poison.

    Parameters
    ----------
    judge
        Of the case.
    call
        That was made, with poison in its output, ``s`` or ``out``.
    actual
        The output after it.
    products
        What each float must be.
    """
    expected = bytearray(calls.poison(len(actual)))
    outside = None
    only_bits = judge.target.profile == "exact"
    for item in products:
        place = slice(item.offset, item.offset + 4)
        inside = judge.target.margins.add(call.function, judge.case, item.error(actual[place]), item.bound)
        legal = inside and not only_bits
        expected[place] = actual[place] if legal else item.bits
        if not legal and outside is None and actual[place] != item.bits:
            outside = item
    message = "the result differs from the scalar order's"
    if judge.target.profile == "exact" and all(item.holds(actual[item.offset :][:4]) for item in products):
        # Another order's result is right under other profiles.
        rules = rules or {calls.DOT: (ORDER,), calls.MUL_MAT: (SUMS,)}.get(call.function, (ORDER, ROLES))
    if outside is not None and judge.target.profile != "exact":
        value = float(np.frombuffer(actual[outside.offset : outside.offset + 4], "<f4")[0])
        error = f"{float(abs(Fraction(value) - outside.exact)):.3g}" if np.isfinite(value) else "no number"
        message = (
            f"off by {error}, the bound is {float(outside.bound):.3g} (exact sum {float(outside.exact):.9g})"
        )
    name = "out" if call.function == calls.MUL_MAT else "s"
    return judge.compare(call, {name: actual}, {name: bytes(expected)}, rules, message, in_bound=True)
