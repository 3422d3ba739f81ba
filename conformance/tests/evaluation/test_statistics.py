"""Paired errors: values computed by hand, and a jackknife as another way to the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from q8a8.errors import DomainError, ShapeError
from q8a8_evaluation.statistics import Estimate, Ratio, compare, perplexity, ratio_of_sums


def test_equal_windows_by_hand() -> None:
    """Means 0.1 and 0.3 of two windows: 0.2 ± s/√2 with s = √0.02, so ± 0.1."""
    found = ratio_of_sums([0.2, 0.6], [2, 2])
    assert found.value == pytest.approx(0.2, rel=1e-15)
    assert found.error == pytest.approx(0.1, rel=1e-15)


def test_unequal_windows_by_hand() -> None:
    """Sums 1 and 1 over 1 and 3 tokens: 2/4; residues ±1/2, so √(2 · (1/4 + 1/4)) / 4 = 1/4."""
    assert ratio_of_sums([1.0, 1.0], [1, 3]) == Estimate(0.5, 0.25)


def test_an_empty_window_counts_as_a_window() -> None:
    """Sums 0 and 2 over 0 and 4 tokens: 1/2, residues 0 and 0."""
    assert ratio_of_sums([0.0, 2.0], [0, 4]) == Estimate(0.5, 0.0)


def test_equal_windows_are_the_standard_error_of_a_mean() -> None:
    """With one length the delta method is s/√m, for any data."""
    sums = np.random.default_rng(1).normal(size=12)
    found = ratio_of_sums(sums, [7] * 12)
    assert found.error == pytest.approx(np.std(sums / 7, ddof=1) / math.sqrt(12), rel=1e-12)


def test_the_delta_method_is_near_the_jackknife() -> None:
    """Leaving out one window at a time estimates the same error; both differ by terms of order 1/m.

    The two are equal to first order. With n_w = 50 ± 5 % and m = 400 the second order is well below 2 %.
    """
    random = np.random.default_rng(2)
    counts = random.integers(48, 53, 400)
    sums = random.normal(0.01, 0.3, 400) * counts
    found = ratio_of_sums(sums, counts)
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    jackknife = math.sqrt(399 / 400 * ((left_out - left_out.mean()) ** 2).sum())
    assert found.error == pytest.approx(jackknife, rel=0.02)


def test_one_window_has_no_error() -> None:
    """One window tells nothing about its own scatter."""
    assert ratio_of_sums([1.0], [2]) == Estimate(0.5, None)


@pytest.mark.parametrize(("sums", "counts"), [([], []), ([1.0], [1, 2]), ([1.0], [0]), ([1.0, 2.0], [-1, 4])])
def test_refuses_what_is_no_sample(sums: list[float], counts: list[int]) -> None:
    """No windows, other lengths, no token: refused with the shapes."""
    with pytest.raises(ShapeError, match="sums, counts: shapes"):
        ratio_of_sums(sums, counts)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_refuses_what_is_not_finite(value: float) -> None:
    """A window without a finite log-likelihood is named."""
    with pytest.raises(DomainError, match=r"sums: row 1, block 0: value (nan|inf): no finite log-likelihood"):
        ratio_of_sums([1.0, value], [1, 1])


def test_perplexity_by_hand() -> None:
    """Mean ln 8 over windows of ln 4 and ln 16: perplexity 8, error 8 · ln 2 (s = √2·ln 2, over √2)."""
    found = perplexity([np.full(3, math.log(4)), np.full(3, math.log(16))])
    assert found.value == pytest.approx(8, rel=1e-14)
    assert found.error == pytest.approx(8 * math.log(2), rel=1e-14)
    assert perplexity([np.full(3, math.log(4))]).error is None


def test_paired_by_hand() -> None:
    """Differences 0.1 and 0.3: 0.2 ± 0.1, however far apart the windows themselves are."""
    base = [np.array([1.0, 3.0]), np.array([10.0, 20.0])]
    ours = [base[0] + 0.1, base[1] + 0.3]
    found = compare(ours, base)
    assert found.log.value == pytest.approx(0.2, rel=1e-13)
    assert found.log.error == pytest.approx(0.1, rel=1e-13)
    # Four tokens 0.1 0.1 0.3 0.3: s² = 4 · 0.01 / 3, over 4.
    assert found.token_error == pytest.approx(0.1 / math.sqrt(3), rel=1e-13)
    assert found.percent.value == pytest.approx(100 * (math.exp(0.2) - 1), rel=1e-13)
    assert found.percent.error == pytest.approx(100 * math.exp(0.2) * 0.1, rel=1e-13)
    low, high = found.bounds(2)
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high == pytest.approx(100 * (math.exp(0.4) - 1), rel=1e-13)


def test_the_same_is_exactly_the_same() -> None:
    """A scheme compared with itself has change 0 and error 0."""
    base = [np.array([1.0, 3.0]), np.array([10.0, 20.0])]
    found = compare(base, base)
    assert found == Ratio(Estimate(0.0, 0.0), 0.0)
    assert found.percent == Estimate(0.0, 0.0)


def test_one_window_or_token() -> None:
    """One window has no error, its bar is a point; one token has no scatter."""
    found = compare([np.array([1.5])], [np.array([1.0])])
    assert found.log == Estimate(0.5, None)
    assert found.token_error == 0.0
    assert found.percent.error is None
    assert found.bounds() == pytest.approx((found.percent.value, found.percent.value))


def test_refuses_other_windows() -> None:
    """Only the same tokens can be paired."""
    with pytest.raises(ShapeError, match="ours, theirs"):
        compare([np.ones(2)], [np.ones(3)])
    with pytest.raises(ShapeError, match="ours, theirs"):
        compare([np.ones(2)], [np.ones(2), np.ones(2)])


def test_error_bars_cover() -> None:
    """Of 2000 samples of 12 windows from a known mean, ± 2 errors miss it as often as Student's t says.

    P(|t| > 2) with 11 degrees of freedom is 7.1 %; 2000 trials have a standard deviation of 0.6 %, and four
    of them are allowed. An error of windows taken as tokens (√n too small) would miss far more often.
    """
    random = np.random.default_rng(3)
    missed = 0
    for _ in range(2000):
        windows = [random.normal(0.5) + random.normal(size=5) for _ in range(12)]
        log = compare(windows, [np.zeros(5)] * 12).log
        assert log.error is not None
        missed += abs(log.value - 0.5) > 2 * log.error
    assert 0.071 - 4 * 0.006 <= missed / 2000 <= 0.071 + 4 * 0.006
