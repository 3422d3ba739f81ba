"""Fused steps, one after the other: the bits of `fma32` step by step."""

from __future__ import annotations

import numpy as np
import pytest

from q8a8.rounding import fma32, fma32_steps

F32 = np.float32
TIE = F32(1 + 2.0**-12)
"""Its square is 1 + 2^-11 + 2^-24: half-way between two float32."""


def by_steps(total: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Take the steps one by one: the definition."""
    for a_step, b_step in zip(a, b, strict=True):
        total = fma32(a_step, b_step, total)
    return total


@pytest.mark.parametrize("exponents", [12, 40, 120])
def test_anything(exponents: int) -> None:
    """Random numbers whose exponents are near or far apart, scales for all lanes of a row."""
    rng = np.random.default_rng(5)

    def numbers(*shape: int) -> np.ndarray:
        """Return numbers of either sign."""
        exponent = rng.integers(-exponents // 2, exponents // 2, shape)
        return np.ldexp(rng.uniform(-2, 2, shape), exponent).astype(F32)

    total, a, b = numbers(3, 8), numbers(200, 3, 8), numbers(200, 3, 1)
    assert fma32_steps(total, a, b).tobytes() == by_steps(total, a, b).tobytes()


def test_sums_half_way() -> None:
    """What float64 cannot hold decides ties, in either direction, in some lanes and in others not."""
    for trifle in (2.0**-60, -(2.0**-60), 0.0):
        total = np.array([trifle, 1.0, trifle], F32)
        a = np.array([[TIE, 3.0, -TIE], [1.0, 1.0, 1.0]], F32)
        b = np.array([[TIE, 5.0, TIE], [0.0, 2.0, 2.0**-20]], F32)
        assert fma32_steps(total, a, b).tobytes() == by_steps(total, a, b).tobytes()
    twice = F32(float(TIE) * float(TIE) + 2.0**-60)
    assert fma32_steps(np.array([2.0**-60], F32), np.array([[TIE]]), np.array([[TIE]]))[0] > twice


def test_subnormal_sums() -> None:
    """Float32 has less room there, and ties are elsewhere; a trifle below the smallest number counts."""
    small = np.array([2.0**-149, 3 * 2.0**-149, -(2.0**-148), 2.0**-126], F32)
    a = np.array([[0.5] * 4, [1.5] * 4, [2.0**-75] * 4], F32)
    b = np.array([small, small[::-1], [2.0**-75, -(2.0**-75), F32(2.0**-75) * F32(1.0000001), 2.0**-80]], F32)
    assert fma32_steps(small, a, b).tobytes() == by_steps(small, a, b).tobytes()


def test_no_numbers_and_no_steps() -> None:
    """Infinities and NaNs stay what they are, overflow is one, no step changes nothing; nothing warns."""
    total = np.array([np.inf, -np.inf, np.nan, 3e38, -0.0], F32)
    a = np.array([[1.0, np.inf, 1.0, 3e38, 0.0], [1.0] * 5], F32)
    b = np.array([[1.0, 1.0, 1.0, 1.0, -1.0], [0.0] * 5], F32)
    with np.errstate(all="raise"):
        found = fma32_steps(total, a, b)
    assert [str(value) for value in found] == ["inf", "nan", "nan", "inf", "0.0"]
    assert [str(value) for value in fma32_steps(total, a[:1], b[:1])][-1] == "-0.0"
    assert fma32_steps(total, a[:0], b[:0]) is total
