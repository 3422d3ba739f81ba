"""How much of the bound a kernel used: collected from the very results that are judged."""

from __future__ import annotations

from fractions import Fraction

import pytest

from q8a8_conformance.results.bound_use import BINS, Margins

pytestmark = pytest.mark.rule("Q8A8-ORD-2")


def test_fractions_by_hand() -> None:
    """Three results inside, one outside and one NaN: counts, ends, mean, the case of the largest."""
    margins = Margins()
    for case, error in (("a", 1), ("b", -3), ("c", 2), ("d", 5), ("e", None)):
        margins.add("f", case, None if error is None else Fraction(error), Fraction(4))
    (use,) = margins.by_function()
    assert (use.function, use.results, use.outside) == ("f", 5, 2)
    assert (use.least, use.largest, use.mean) == (-0.75, 0.5, 0.0)
    assert (use.largest_fraction, use.worst) == (0.75, "b")
    assert sum(use.histogram) == 3
    assert use.histogram[BINS // 8] == use.histogram[BINS * 5 // 8] == use.histogram[BINS * 3 // 4] == 1


def test_the_ends_belong_to_the_histogram() -> None:
    """-1 is in the first bin and 1 in the last; 0 of a bound of 0 is in the middle, anything else outside."""
    margins = Margins()
    for error, bound in ((-7, 7), (7, 7), (0, 0), (1, 0)):
        margins.add("f", "case", Fraction(error), Fraction(bound))
    (use,) = margins.by_function()
    assert use.histogram[0] == use.histogram[-1] == use.histogram[BINS // 2] == 1
    assert (use.results, use.outside, use.largest_fraction) == (4, 1, 1.0)


def test_where_all_are_outside_there_is_no_fraction() -> None:
    """No number stands for none; functions are kept apart, in the order they came in."""
    margins = Margins()
    margins.add("g", "case", None, Fraction(1))
    margins.add("f", "case", Fraction(0), Fraction(1))
    first, second = margins.by_function()
    assert (first.function, first.largest_fraction, first.mean, first.worst) == ("g", None, None, "")
    assert (second.function, second.largest_fraction, second.worst) == ("f", 0.0, "case")
