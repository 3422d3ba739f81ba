"""The edges of the bound in the golden cases: the last float inside, the first outside, on either side."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q8a8_golden.cases import Bound, DotResult
from q8a8_golden.edges import Edges, bound_edges
from q8a8_golden.load import load_cases
from q8a8_golden.oracle import F32, finite, within_bound

pytestmark = pytest.mark.rule("Q8A8-ORD-2")

ONE = 1 << 48

RESULTS = [
    pytest.param(result, id=f"{case.id}-{result.offset}")
    for case in load_cases()
    if isinstance(case.outcome, Bound)
    for result in case.outcome.results
]


def number(bits: int) -> np.float32:
    """Return the float of a pattern, with NumPy."""
    return np.float32(np.uint32(bits).view(np.float32))


@pytest.mark.parametrize("result", RESULTS)
def test_edges_of_every_bound_case(result: DotResult) -> None:
    """Edges are neighbours by nextafter; the inner ones satisfy the bound's formula, the outer do not."""
    limit = ((1 + Fraction(1, 2**24)) ** result.m - 1) * result.magnitude
    for inside, outside, away in zip(
        map(number, result.edges.inside), map(number, result.edges.outside), (-np.inf, np.inf), strict=True
    ):
        assert outside == np.nextafter(inside, np.float32(away))
        assert abs(Fraction(float(inside)) * ONE - result.exact) <= limit
        assert abs(Fraction(float(outside)) * ONE - result.exact) > limit


@pytest.mark.parametrize(
    ("exact", "size", "m", "edges"),
    [
        # 1 -+ 2^-24: below 1 the floats are 2^-24 apart, above it 2^-23.
        (ONE, ONE, 1, Edges((0x3F7FFFFF, 0x3F800000), (0x3F7FFFFE, 0x3F800001))),
        # -1 -+ 2 * 2^-24 + 2^-48: one step outward, two inward.
        (-ONE, ONE, 2, Edges((0xBF800001, 0xBF7FFFFE), (0xBF800002, 0xBF7FFFFD))),
        # An empty sum: both zeros, and no subnormal.
        (0, 0, 9, Edges((0x80000000, 0x00000000), (0x80000001, 0x00000001))),
        # 2^-24 -+ 2^-24: down to zero of either sign, up to 2^-23.
        (1 << 24, ONE, 1, Edges((0x80000000, 0x34000000), (0x80000001, 0x34000001))),
        # No rounding: a single float.
        (3 * ONE, 3 * ONE, 0, Edges((0x40400000, 0x40400000), (0x403FFFFF, 0x40400001))),
    ],
    ids=["one", "minus-one", "zero", "down-to-zero", "exact"],
)
def test_edges_by_hand(exact: int, size: int, m: int, edges: Edges) -> None:
    """The edges of intervals computed by hand."""
    assert bound_edges(exact, size, m) == edges


def test_interval_without_a_float_is_refused() -> None:
    """With m = 0 and the sum 1 + 2^-25, which is not a float, there is no interval."""
    with pytest.raises(ValueError, match="no float32"):
        bound_edges(ONE + (1 << 23), 2 * ONE, 0)


@given(exact=st.integers(-(1 << 90), 1 << 90), more=st.integers(0, 1 << 90), m=st.integers(1, 400))
def test_edges_by_the_oracle(exact: int, more: int, m: int) -> None:
    """For any sums the inner patterns are within the oracle's bound, the outer are not."""
    edges = bound_edges(exact, abs(exact) + more, m)
    for inside, outside in zip(edges.inside, edges.outside, strict=True):
        assert finite(inside, F32)
        assert within_bound(inside, exact, abs(exact) + more, m)
        assert not within_bound(outside, exact, abs(exact) + more, m)
