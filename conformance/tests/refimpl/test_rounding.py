"""Rounding against exact arithmetic: fractions, integers, and float64 where that is exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from q8a8 import f16_to_f32, f32_to_f16, fma32, round_half_away, round_half_even
from q8a8.errors import ArgumentError
from q8a8.rounding import round_to_half_bits
from q8a8_golden import oracle

F32_BITS = st.integers(0, 0xFFFFFFFF)


def f32(bits: int) -> np.float32:
    """Make the float32 of these bits."""
    return np.uint32(bits).view(np.float32)


def bits32(x: object) -> int:
    """Return the bits of one float32."""
    return int(np.asarray(x, np.float32).view(np.uint32))


def around_halves() -> list[np.float32]:
    """List n and n + 1/2, their neighbours and negatives, for all small n and n around powers of two."""
    numbers = []
    for n in sorted({*range(300), *(2**e + d for e in range(8, 26) for d in (-2, -1, 0, 1, 2))}):
        for x in (np.float32(n), np.float32(n + 0.5)):
            for y in (np.nextafter(x, np.float32(-1)), x, np.nextafter(x, np.float32(np.inf))):
                numbers += [y, -y]
    return numbers


HALVES = around_halves()


@pytest.mark.rule("Q8A8-QNT-4")
def test_half_away_around_every_half() -> None:
    """Every tie and its neighbours one ULP away round as exact fractions do, with the sign of zeros kept."""
    got = round_half_away(np.array(HALVES, np.float32))
    for x, y in zip(HALVES, got, strict=True):
        assert Fraction(float(y)) == oracle.half_away(Fraction(float(x)))
        assert np.signbit(y) == np.signbit(x)


def test_half_even_around_every_half() -> None:
    """Halves go to the even integer, and nothing else moves differently."""
    got = round_half_even(np.array(HALVES, np.float32))
    for x, y in zip(HALVES, got, strict=True):
        assert Fraction(float(y)) == oracle.half_even(Fraction(float(x)))
        assert np.signbit(y) == np.signbit(x)


@pytest.mark.rule("Q8A8-QNT-4")
def test_half_away_on_a_million_floats() -> None:
    """On random bit patterns of every exponent it is floor(|x| + 1/2) in float64, which is exact there."""
    bits = np.random.default_rng(11).integers(0, 1 << 32, 1 << 20, np.uint32)
    x = bits.view(np.float32)
    x = x[np.isfinite(x)]
    wanted = np.copysign(np.floor(np.abs(x.astype(np.float64)) + 0.5), x)
    assert np.array_equal(round_half_away(x).view(np.uint32), wanted.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        (0.5, 1.0),
        (-0.5, -1.0),
        (0.49999997, 0.0),
        (-0.49999997, -0.0),
        (8388609.0, 8388609.0),
        (4194304.5, 4194305.0),
        (8388607.5, 8388608.0),
        (-0.0, -0.0),
        (1e-45, 0.0),
        (3.4028235e38, 3.4028235e38),
        (np.inf, np.inf),
        (-np.inf, -np.inf),
    ],
)
def test_half_away_where_shortcuts_fail(x: float, wanted: float) -> None:
    """The inputs on which floor(x + 0.5), or an int32 on the way, goes wrong."""
    assert bits32(round_half_away(x)) == bits32(wanted)


def test_rounding_keeps_nans_and_inputs() -> None:
    """A NaN stays one, shapes stay, and the argument is not touched."""
    x = np.array([[np.nan, 1.5], [2.5, -2.5]], np.float32)
    assert np.isnan(round_half_away(x)[0, 0])
    assert np.isnan(round_half_even(x)[0, 0])
    assert round_half_away(x)[1].tolist() == [3, -3]
    assert round_half_even(x)[1].tolist() == [2, -2]
    assert x[1].tolist() == [2.5, -2.5]
    assert round_half_away(np.zeros((2, 0, 3), np.float32)).shape == (2, 0, 3)


@pytest.mark.rule("Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-3")
def test_every_half_survives_the_round_trip() -> None:
    """All 63488 finite halves widen to their exact value and come back."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    bits = bits[(bits & 0x7C00) != 0x7C00]
    wide = f16_to_f32(bits.view(np.float16))
    assert wide.dtype == np.float32
    for h, x in zip(bits[::61].tolist(), wide[::61].tolist(), strict=True):
        assert Fraction(x) == oracle.value(h, oracle.F16)
    assert np.array_equal(f32_to_f16(wide).view(np.uint16), bits)


@pytest.mark.rule("Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-4")
def test_halves_between_neighbours() -> None:
    """Midpoints of neighbouring halves, and one ULP to either side, round as fractions do."""
    bits = np.arange(0, 0x7C00, 7, dtype=np.uint16)
    low = bits.view(np.float16).astype(np.float64)
    high = (bits + 1).view(np.float16).astype(np.float64)
    high[np.isinf(high)] = 65536.0
    middle = ((low + high) / 2).astype(np.float32)
    for step in (np.float32(-np.inf), None, np.float32(np.inf)):
        x = middle if step is None else np.nextafter(middle, step)
        for sign in (1, -1):
            got = f32_to_f16(sign * x).view(np.uint16)
            for number, half in zip((sign * x).view(np.uint32).tolist(), got.tolist(), strict=True):
                assert half == oracle.f16_from_f32(number)


@pytest.mark.rule("Q8A8-HLF-4")
@pytest.mark.parametrize(
    ("x", "bits"),
    [
        (65504.0, 0x7BFF),
        (65519.996, 0x7BFF),
        (65520.0, 0x7C00),
        (-65520.0, 0xFC00),
        (3.4e38, 0x7C00),
        (np.inf, 0x7C00),
        (2.0**-24, 0x0001),
        (2.0**-25, 0x0000),
        (-(2.0**-25), 0x8000),
        (2.0**-25 * (1 + 2.0**-23), 0x0001),
        (1e-45, 0x0000),
    ],
)
def test_halves_at_the_edges(x: float, bits: int) -> None:
    """The overflow threshold, the smallest subnormal, and half of it; no warning is raised."""
    assert int(f32_to_f16(x).view(np.uint16)) == bits


def test_halves_of_seven_bits() -> None:
    """Every such half stays, what lies between two goes to the nearer one, and a tie to the even one."""
    # m · 2^e with m of 7 bits, and below 2^-18 whole multiples of 2^-24.
    kept = sorted({m * Fraction(2) ** e for m in range(128) for e in range(-24, 10)})
    assert kept[-1] == 127 * 512
    below, above = (np.array([float(k) for k in part], np.float32) for part in (kept[:-1], kept[1:]))
    middle = ((below.astype(np.float64) + above) / 2).astype(np.float32)
    for sign in (1, -1):
        assert np.array_equal(round_to_half_bits(sign * above, 7), sign * above)
        assert np.array_equal(round_to_half_bits(sign * np.nextafter(middle, below), 7), sign * below)
        assert np.array_equal(round_to_half_bits(sign * np.nextafter(middle, above), 7), sign * above)
        # Neighbours are consecutive multiples of their distance: one of the two is even.
        even = (below / (above - below)) % 2 == 0
        assert np.array_equal(round_to_half_bits(sign * middle, 7), sign * np.where(even, below, above))
    assert np.isinf(round_to_half_bits(np.float32(65280), 7))
    # Times an integer of 4 bits they are halves; with one bit more not all are.
    whole = above[above < 2**11]
    for bits, fits in ((7, True), (8, False)):
        products = round_to_half_bits(np.linspace(1, 2, 1000), bits)[:, None] * np.arange(
            16, dtype=np.float32
        )
        assert np.array_equal(f16_to_f32(f32_to_f16(products)), products) is fits
    products = np.outer(whole, np.arange(16, dtype=np.float32))
    assert np.array_equal(f16_to_f32(f32_to_f16(products)), products)
    x = np.array([1 / 3, 1e-7, 65519, np.inf], np.float32)
    assert np.array_equal(round_to_half_bits(x), f16_to_f32(f32_to_f16(x)))
    for bits in (0, 12):
        with pytest.raises(ArgumentError, match=f"bits: expected 1 to 11, got {bits}"):
            round_to_half_bits(x, bits)


def exact_fma(a: int, b: int, c: int) -> int:
    """Return the bits of the fused multiply-add of finite bit patterns, by fractions alone."""
    fa, fb, fc = (oracle.value(v, oracle.F32) for v in (a, b, c))
    exact = fa * fb + fc
    product_negative, c_negative = bool((a ^ b) >> 31), bool(c >> 31)
    # IEEE-754, 6.3: a zero sum is -0 only where both addends are negative (zeros).
    zero_negative = product_negative and c_negative
    return oracle.nearest(exact, oracle.F32, negative_zero=zero_negative)


ONE = 0x3F800000
FMA_CASES = {
    # 1 + 2^-11 + 2^-24 is a tie of float32; a last addend that float64 loses decides it.
    "tie, up": (1 + 2.0**-12, 1 + 2.0**-12, 2.0**-80),
    "tie, down": (1 + 2.0**-12, 1 + 2.0**-12, -(2.0**-80)),
    "tie, to even": (1 + 2.0**-12, 1 + 2.0**-12, 0.0),
    "negative tie, up": (-(1 + 2.0**-12), 1 + 2.0**-12, -(2.0**-80)),
    "negative tie, down": (-(1 + 2.0**-12), 1 + 2.0**-12, 2.0**-80),
    # The product is the small addend and c the large one, just off a tie.
    "large c, up": (2.0**-24, 1 + 2.0**-23, 1.0),
    "large c, down": (2.0**-24, 1 - 2.0**-24, 1.0),
    "power of two from below": (-(2.0**-40), 2.0**-40, 1.0),
    "half an ulp below a power of two": (-(2.0**-25), 1.0, 1.0),
    "a little more than that": (-(2.0**-25), 1 + 2.0**-23, 1.0),
    # Cancellation leaves what a rounded product would have lost.
    "cancellation": (1 + 2.0**-12, 1 + 2.0**-12, -(1 + 2.0**-11)),
    "exact cancellation": (3.0, 5.0, -15.0),
    "subnormal tie": (2.0**-75, 2.0**-75, 0.0),
    "subnormal tie, up": (2.0**-75, 2.0**-75 * (1 + 2.0**-23), 0.0),
    "subnormal tie to even": (3.0 * 2.0**-75, 2.0**-75, 0.0),
    "subnormal tie decided far below": (-(2.0**-149), 2.0**-149, 2.0**-149 * 3),
    "subnormal and tiny": (2.0**-140, 2.0**-140, 2.0**-130),
    # float64's s lies one of its last bits above a tie, odd, and must stay: the exact sum is above the tie.
    "odd, just above a tie": ((2**23 + 2863) * 2.0**-35, (2**23 - 2862) * 2.0**-35, 1.0),
    # Sums below 1, ties but for a tiny part of either sign.
    "small, above a tie": ((2**23 + 2896) * 2.0**-35, (2**23 - 2895) * 2.0**-36, 0.5),
    "small, below a tie": ((2**23 + 1) * 2.0**-35, (2**23 - 1) * 2.0**-36, 0.5 + 2.0**-24),
    "smallest product": (1e-45, 1e-45, 0.0),
    "smallest negative product": (-1e-45, 1e-45, 0.0),
    "overflow tie": (3.4028234663852886e38, 1.0, 2.0**103),
    "just no overflow": (
        3.4028234663852886e38,
        1.0,
        float(np.nextafter(np.float32(2.0**103), np.float32(0))),
    ),
    "overflow by tiny": (2.0**127, 2.0, -(2.0**103)),
    "no overflow by tiny": (2.0**127, 2.0, -(2.0**103) * (1 + 2.0**-23)),
    "huge product, huge c": (2.0**127, 2.0**127, -3e38),
    "zeros": (0.0, 1.0, 0.0),
    "negative tie, towards zero": (-(2.0**-24) * (1 - 2.0**-18), 1 + 2.0**-18, -(1 + 2.0**-23)),
    "negative zeros": (-0.0, 1.0, -0.0),
    "zeros of two signs": (-0.0, 1.0, 0.0),
    "zero product keeps c": (0.0, -1.0, -1e-45),
}


@pytest.mark.parametrize("case", FMA_CASES)
def test_fma_chosen(case: str) -> None:
    """Ties decided far below float64's last bit, cancellation, subnormals, the overflow edge, zeros."""
    a, b, c = (bits32(v) for v in FMA_CASES[case])
    assert bits32(fma32(f32(a), f32(b), f32(c))) == exact_fma(a, b, c)


def test_fma_is_no_double_rounding() -> None:
    """The chosen ties tell the fused operation from a float64 sum rounded twice."""
    a, b, c = (np.float32(v) for v in FMA_CASES["tie, up"])
    twice = np.float32(float(a) * float(b) + float(c))
    assert fma32(a, b, c) == np.float32(1 + 2.0**-11 + 2.0**-23)
    assert twice == np.float32(1 + 2.0**-11)


NEAR = st.builds(
    lambda sign, exponent, fraction: sign << 31 | exponent << 23 | fraction,
    st.integers(0, 1),
    st.integers(90, 164),
    st.integers(0, 0x7FFFFF),
)


@given(a=F32_BITS, b=F32_BITS, c=F32_BITS)
@example(a=1, b=0x807FFFFF, c=0x80000001)
def test_fma_anywhere(a: int, b: int, c: int) -> None:
    """Any three finite bit patterns."""
    if all(oracle.finite(v, oracle.F32) for v in (a, b, c)):
        assert bits32(fma32(f32(a), f32(b), f32(c))) == exact_fma(a, b, c)


@given(a=NEAR, b=NEAR, c=NEAR)
def test_fma_of_like_magnitudes(a: int, b: int, c: int) -> None:
    """Operands whose product and addend are likely to overlap."""
    assert bits32(fma32(f32(a), f32(b), f32(c))) == exact_fma(a, b, c)


@given(a=NEAR, b=NEAR, distance=st.integers(0, 120), up=st.booleans(), ulps=st.integers(-2, 2))
def test_fma_near_ties(a: int, b: int, *, distance: int, up: bool, ulps: int) -> None:
    """a·b + c where c completes the product to a tie of float32, or lies a few ULP, or a trifle, off it."""
    product = oracle.value(a, oracle.F32) * oracle.value(b, oracle.F32)
    near = oracle.nearest(product, oracle.F32)
    step = oracle.value((near & 0x7FFFFFFF) + 1, oracle.F32) - oracle.value(near & 0x7FFFFFFF, oracle.F32)
    tie = oracle.value(near, oracle.F32) + step / 2
    c = oracle.nearest(tie - product, oracle.F32)
    c = min(max((c & 0x7FFFFFFF) + ulps, 0), 0x7F7FFFFF) | (c & 0x80000000)
    assert bits32(fma32(f32(a), f32(b), f32(c))) == exact_fma(a, b, c)
    trifle = oracle.nearest(step / 2**distance * (1 if up else -1), oracle.F32)
    odd = near | 1
    assert bits32(fma32(f32(odd), f32(ONE), f32(trifle))) == exact_fma(odd, ONE, trifle)


def test_fma_of_infinities_and_nans() -> None:
    """The results that IEEE-754 gives, without a warning."""
    inf = np.inf
    assert fma32(inf, 2.0, 1.0) == inf
    assert fma32(-inf, 2.0, 1.0) == -inf
    assert fma32(1.0, 1.0, -inf) == -inf
    assert fma32(3e38, 3e38, -3e38) == inf
    for a, b, c in ((inf, 0.0, 1.0), (inf, 1.0, -inf), (np.nan, 1.0, 1.0), (1.0, 1.0, np.nan)):
        assert np.isnan(fma32(a, b, c))


def test_signalling_nans_raise_no_warnings() -> None:
    """The quiet and the signalling NaN stay NaNs everywhere; NumPy would warn of the latter."""
    x = np.array([0x7F800001, 0xFFC00000], np.uint32).view(np.float32)
    for result in (round_half_away(x), round_half_even(x), fma32(x, x, x), fma32(1, 1, x)):
        assert np.isnan(result).all()
    assert np.isnan(f32_to_f16(x)).all()
    assert np.isnan(f16_to_f32(np.array([0x7C01, 0xFE00], np.uint16).view(np.float16))).all()


def test_other_types_become_float32_first() -> None:
    """A float64 that only float32 rounds to a tie is that tie, under any `errstate`."""
    above = 0.5 + 2.0**-40
    assert round_half_even(above) == 0
    assert round_half_even(above).dtype == np.float32
    assert f16_to_f32(0.1) == np.float32(np.float16(0.1))  # type: ignore[comparison-overlap,unused-ignore]
    assert fma32(0.1, 10.0, -1.0) == fma32(np.float32(0.1), np.float32(10), np.float32(-1)) != 0
    with np.errstate(all="raise"):
        assert fma32(1e-45, 0.5, 0.0) == 0
        assert fma32(3e38, 3e38, 0.0) == np.inf


def test_fma_broadcasts() -> None:
    """Shapes broadcast as in any NumPy function, and the result is float32."""
    got = fma32(np.full((2, 1), 2, np.float32), np.arange(3, dtype=np.float32), np.float32(1))
    assert got.dtype == np.float32
    assert got.tolist() == [[1, 3, 5], [1, 3, 5]]
    assert fma32(1, 2, 3).shape == ()


def test_half_of_a_double_is_rounded_to_float32_first() -> None:
    """1 + 2^-11 + 2^-40 is a tie once it is a float32, whatever the caller's error state."""
    with np.errstate(all="raise"):
        assert f32_to_f16(np.array([1 + 2.0**-11 + 2.0**-40, 1e-8])).tolist() == [1, 0]
