"""Each function of a layer on inputs whose result is known by hand, to the bit."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest

from q8a8.llama.layers import attention, rms_norm, swiglu
from q8a8.llama.rope import rope_angles, rotate

FLOATS = (np.float32, np.float64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rms_norm_of_known_roots(dtype: type[np.floating]) -> None:
    """Rows whose mean square is a square of a power of two: every step is exact."""
    x = np.array([[1, -7, 5, 5], [0, 0, 0, 0], [2, 2, -2, 2]], dtype)  # mean squares 25, 0, 4
    y = rms_norm(x[[1, 2]], np.array([1, 2, 3, -4], dtype), 0.0 + 12.0)
    assert y.dtype == dtype
    # sqrt(0 + 12) divides zeros; sqrt(4 + 12) = 4.
    assert y.tolist() == [[0, 0, 0, 0], [0.5, 1, -1.5, -2]]
    y = rms_norm(x[[0]], np.ones(4, dtype), 0.0)
    assert y.tolist() == [[float(dtype(v) / dtype(5)) for v in (1, -7, 5, 5)]]


def test_rms_norm_is_row_by_row() -> None:
    """A row does not depend on the others, in any bit."""
    x = np.random.default_rng(1).normal(size=(5, 576)).astype(np.float32)
    weight = np.random.default_rng(2).normal(size=576).astype(np.float32)
    together = rms_norm(x, weight, 1e-5)
    assert all((rms_norm(x[i : i + 1], weight, 1e-5) == together[i]).all() for i in range(5))


def test_rms_norm_is_right_to_its_roundings() -> None:
    """Against exact fractions: within the roundings of the formula, and not far beyond."""
    x = np.random.default_rng(3).normal(size=(4, 96)).astype(np.float32)
    weight = np.random.default_rng(4).normal(size=96).astype(np.float32)
    y = rms_norm(x, weight, 1e-5)
    eps = Fraction(float(np.float32(1e-5)))
    for row, out in zip(x, y, strict=True):
        mean = sum((Fraction(float(v)) * Fraction(float(v)) for v in row), Fraction(0)) / 96 + eps
        root = Fraction(isqrt(mean.numerator * 10**60 // mean.denominator), 10**30)
        for value, scale, got in zip(row, weight, out, strict=True):
            exact = Fraction(float(value)) / root * Fraction(float(scale))
            # Each square rounds once, and a sum of 96 that starts with eight partial sums is at most 12 + 3
            # roundings deep; the mean, eps, root, quotient and product round once each. The root halves what
            # is before it: (1 + 15 + 1 + 1)/2 + 3 = 12 roundings, and one for their products.
            assert abs(Fraction(float(got)) - exact) <= abs(exact) * 13 * Fraction(1, 2**24)


def test_rope_angles_of_a_base_whose_roots_are_exact() -> None:
    """Base 16, four channels: frequencies 1 and 16^(−1/2) = 1/4; scale and factors multiply and divide."""
    positions = np.array([0, 1, 3, 8191])
    assert rope_angles(positions, 4, 16.0).tolist() == [[0, 0], [1, 0.25], [3, 0.75], [8191, 2047.75]]
    scaled = rope_angles(positions, 4, 16.0, scale=0.5, factors=np.array([1, 8], np.float32))
    assert scaled.tolist() == [[0, 0], [0.5, 1 / 64], [1.5, 3 / 64], [4095.5, 8191 / 64]]


@pytest.mark.parametrize("dtype", FLOATS)
def test_rotate_turns_neighbours(dtype: type[np.floating]) -> None:
    """By 0, 90 and 180 degrees exactly: channels 2i and 2i+1 are a pair, every head is turned alike."""
    x = np.arange(1, 13, dtype=dtype).reshape(1, 2, 6)
    turn = np.array([[1, 1j, -1]], np.result_type(dtype, np.complex64))
    y = rotate(x, turn)
    assert y.dtype == dtype
    assert y.tolist() == [[[1, 2, -4, 3, -5, -6], [7, 8, -10, 9, -11, -12]]]


def test_rotate_takes_heads_in_any_layout() -> None:
    """Heads that are not contiguous in memory give the same."""
    x = np.random.default_rng(5).normal(size=(4, 3, 2)).astype(np.float32)
    turn = np.exp(1j * np.arange(3.0)).astype(np.complex64).reshape(3, 1)
    swapped = np.ascontiguousarray(x.T).T  # last axis strided
    assert (rotate(swapped[:3], turn) == rotate(x[:3].copy(), turn)).all()


def test_rotate_uses_the_position_of_each_row() -> None:
    """Rows are turned by their own angles."""
    x = np.ones((2, 1, 2), np.float32)
    turn = np.array([[1], [1j]], np.complex64)
    assert rotate(x, turn).tolist() == [[[1, 1]], [[-1, 1]]]


@pytest.mark.parametrize("dtype", FLOATS)
def test_swiglu_at_its_limits(dtype: type[np.floating]) -> None:
    """Zero, far above and far below, where e^(−z) is infinite: no warning, the limits' values and signs."""
    gate = np.array([[0.0, -0.0, 200.0, -1e4, 1e4]], dtype)
    y = swiglu(gate, np.full((1, 5), 3, dtype))
    assert y.dtype == dtype
    assert y.tolist() == [[0.0, 0.0, 600.0, 0.0, 3e4]]
    assert np.signbit(y).tolist() == [[False, True, False, True, False]]


def test_swiglu_of_a_logarithm() -> None:
    """silu(ln 3) = ln 3 · 3/4, to the roundings of an exponential, a sum, a quotient and a product."""
    z = np.float64(np.log(3.0))
    (y,) = swiglu(np.array([[z]]), np.array([[4.0]]))[0]
    # Four roundings of 2^−53; e^(−z) is a quarter of the sum, but may be off by a whole ulp (2 · 2^−53).
    assert abs(y - 3 * z) <= 3 * z * 6 * 2.0**-53


@pytest.mark.parametrize("dtype", FLOATS)
def test_attention_to_itself_alone(dtype: type[np.floating]) -> None:
    """One position gets its value back in every bit, for each head the one of its group."""
    rng = np.random.default_rng(6)
    q, k = rng.normal(size=(1, 6, 4)).astype(dtype), rng.normal(size=(1, 2, 4)).astype(dtype)
    v = rng.normal(size=(1, 2, 4)).astype(dtype)
    out = attention(q, k, v)
    assert out.dtype == dtype
    assert (out.reshape(6, 4) == v[0, [0, 0, 0, 1, 1, 1]]).all()


@pytest.mark.parametrize("t", [1, 2, 127, 128, 129, 300])
@pytest.mark.parametrize("past", [0, 1, 130])
def test_attention_to_equal_scores_is_the_mean_so_far(t: int, past: int) -> None:
    """Queries of zeros weigh all they see alike: means of integers, exact, over the edges of tiles."""
    values = np.random.default_rng(7).integers(-1000, 1000, (past + t, 2, 3))
    keys = np.random.default_rng(8).normal(size=(past + t, 2, 3)).astype(np.float32)
    out = attention(np.zeros((t, 4, 3), np.float32), keys, values.astype(np.float32))
    # Sums of at most 430 · 1000 are exact in float32; the quotient of two floats rounds once.
    sums = np.cumsum(values, axis=0)[past:].astype(np.float32)
    means = sums / np.arange(past + 1, past + t + 1, dtype=np.float32)[:, None, None]
    assert (out.reshape(t, 4, 3) == means[:, [0, 0, 1, 1]]).all()


def test_attention_finds_the_key_that_matches() -> None:
    """A score far above the others takes everything: e^(−10000) is 0. Values come back in every bit."""
    keys = 100 * np.eye(4, dtype=np.float32)[:, None]
    values = np.random.default_rng(9).normal(size=(4, 1, 4)).astype(np.float32)
    # 200 · 100 / sqrt(4) = 10000; the last query asks for the first key, the third for the second.
    asked = [0, 0, 1, 0]
    q = 200 * np.eye(4, dtype=np.float32)[asked][:, None]
    assert (attention(q, keys, values) == values[asked, 0]).all()


def test_attention_scales_by_the_root_of_the_head() -> None:
    """Two keys whose scores differ by ln 3 get 1/4 and 3/4 of the weight."""
    d = 16
    keys = np.zeros((2, 1, d))
    keys[1, 0, 0] = np.log(3.0)
    q = np.zeros((2, 1, d))
    q[:, 0, 0] = 4.0  # sqrt(16)
    values = np.array([0.0, 4.0])[:, None, None] * np.ones((2, 1, d))
    # As for silu(ln 3): an exponential, a sum, a product and a quotient.
    assert np.abs(attention(q, keys, values)[1] - 3).max() <= 3 * 6 * 2.0**-53


def test_attention_sees_no_future() -> None:
    """What comes later changes no bit of what was before."""
    rng = np.random.default_rng(10)
    q, k, v = (rng.normal(size=(200, heads, 8)).astype(np.float32) for heads in (4, 2, 2))
    before = attention(q, k, v)
    k[150:], v[150:] = 1e3, np.float32(-1e3)
    after = attention(q, k, v)
    assert (before[:150] == after[:150]).all()
    assert (before[150:] != after[150:]).any()
