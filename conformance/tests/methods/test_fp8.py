"""FP8 products: scales, codes and sums, against exact arithmetic and within the proven bound."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

from q8a8 import errors
from q8a8.methods.fp8 import FORMATS, Fp8Linear, Quantized, matmul, quantize, scale_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from q8a8.methods.fp8 import Granularity

U = Fraction(1, 2**24)


def decoded(quantized: Quantized) -> NDArray[np.float64]:
    """Decode codes by ml_dtypes."""
    dtype = getattr(ml_dtypes, f"float8_{quantized.format.name}")
    return np.asarray(quantized.codes.view(dtype).astype(np.float64))


def exact_sums(x: Quantized, w: Quantized) -> tuple[list[list[Fraction]], list[list[Fraction]]]:
    """Sum the products of codes in fractions, and their magnitudes."""
    rows = [[Fraction(v) for v in row] for row in decoded(x).tolist()]
    columns = [[Fraction(v) for v in row] for row in decoded(w).tolist()]
    products = [[[a * b for a, b in zip(row, column, strict=True)] for column in columns] for row in rows]
    return (
        [[sum(p, Fraction(0)) for p in row] for row in products],
        [[sum(map(abs, p), Fraction(0)) for p in row] for row in products],
    )


def outside(y: NDArray[np.float32], x: Quantized, w: Quantized) -> list[tuple[int, int]]:
    """List the elements of a product outside the bound of FP8-9.

    |y - exact| <= ((1 + u)^(k + 2) - 1) · sum |cx·cw| · sx · sw
    """
    exact, magnitude = exact_sums(x, w)
    factor = (1 + U) ** (x.codes.shape[1] + 2) - 1
    found = []
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            scale = Fraction(float(x.scales[i % len(x.scales)])) * Fraction(
                float(w.scales[j % len(w.scales)])
            )
            if abs(Fraction(float(y[i, j])) - exact[i][j] * scale) > factor * magnitude[i][j] * scale:
                found.append((i, j))
    return found


def data(rows: int, k: int, seed: int) -> NDArray[np.float32]:
    """Gaussian rows of different sizes, with an outlier, a row of zeros and zeros of both signs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, k)).astype(np.float32) * np.exp2(rng.integers(-9, 9, (rows, 1)))
    x = x.astype(np.float32)
    x[0, 3] = 1000
    x[1] = 0
    x[2, 1], x[2, 2] = -0.0, 1e-30
    return x


def by_peer(x: NDArray[np.float32], name: str, granularity: str) -> tuple[NDArray[np.uint8], list[float]]:
    """Quantize rows one at a time with ml_dtypes: scale f32(amax / largest), then clip, divide and cast."""
    dtype = getattr(ml_dtypes, f"float8_{name}")
    largest = {"e4m3fn": 448, "e5m2": 57344, "e4m3fnuz": 240}[name]
    scales, codes = [], []
    for row in x:
        amax = np.abs(x if granularity == "tensor" else row).max()
        scale = np.float32(amax / np.float32(largest)) or np.float32(1)
        scales.append(float(scale))
        codes.append(np.clip(row / scale, -largest, largest).astype(dtype).view(np.uint8))
    return np.stack(codes), scales


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e4m3fnuz"])
def test_codes_and_scales(name: str, granularity: Granularity) -> None:
    """FP8-7, FP8-8: scales and codes are those of the formula on ml_dtypes, bit for bit."""
    x = data(7, 33, 1)
    mine = quantize(x, name, granularity)
    codes, scales = by_peer(x, name, granularity)
    assert np.array_equal(mine.codes, codes)
    assert mine.scales.tolist() == (scales[:1] if granularity == "tensor" else scales)
    # The largest magnitude of a scale's elements is the largest number of the format.
    rows = [0] if granularity == "tensor" else [0, 2, 3, 4, 5, 6]
    assert ((mine.codes[rows] & 0x7F).max(axis=1) == FORMATS[name].largest_code).all()
    assert mine.nbytes == 7 * 33 + 4 * len(mine.scales)


def test_scales_of_almost_nothing() -> None:
    """FP8-7: where f32(amax / 448) is zero the scale is 1, from 224 · 2^-149 down; the elements vanish."""
    fmt = FORMATS["e4m3fn"]
    amax = np.array([0, 1, 224, 225, 672, 673], np.float64) * 2.0**-149
    # 672/448 = 1.5 is a tie, to the even 2.
    wanted = [1, 1, 1, 2.0**-149, 2.0**-148, 2.0**-148]
    assert scale_of(amax.astype(np.float32), fmt).tolist() == wanted
    x = np.array([[224.0, -224.0, 0.0, -0.0], [671.0, -671.0, 100.0, 0.0]]) * 2.0**-149
    mine = quantize(x.astype(np.float32), fmt)
    # 671 is above 448 of its scale, 2^-149: it saturates. 100 is midway between 96 and 104: to the even 96.
    assert mine.codes.tolist() == [[0, 0x80, 0, 0x80], [0x7E, 0xFE, 0x6C, 0]]


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_exact_sums(granularity: Granularity) -> None:
    """FP8-9: with float64 sums a product is the exact sum rounded once, then (acc · sx) · sw in float32."""
    x, w = quantize(data(5, 65, 2), "e4m3fn", granularity), quantize(data(4, 65, 3), "e4m3fn", granularity)
    y = matmul(x, w, accumulate="float64")
    sums, _ = exact_sums(x, w)
    for i in range(5):
        for j in range(4):
            # The sum has at most 53 bits, so float() is exact, and float32 the only rounding.
            assert Fraction(float(sums[i][j])) == sums[i][j]
            sx, sw = x.scales[i % len(x.scales)], w.scales[j % len(w.scales)]
            assert y[i, j] == np.float32(np.float32(np.float32(float(sums[i][j])) * sx) * sw)


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
def test_float32_sums_within_the_bound(name: str) -> None:
    """FP8-9: float32 sums stay within the bound, whatever their order; the checker finds what does not."""
    x, w = quantize(data(4, 257, 4), name), quantize(data(5, 257, 5), name)
    y = matmul(x, w)
    assert y.dtype == np.float32
    assert outside(y, x, w) == []
    # The checker from both sides: the last float32 within the bound, and the first outside.
    exact, magnitude = exact_sums(x, w)
    scale = Fraction(float(x.scales[0])) * Fraction(float(w.scales[0]))
    edge = (exact[0][0] + ((1 + U) ** 259 - 1) * magnitude[0][0]) * scale
    first = np.float32(float(edge))
    while Fraction(float(first)) <= edge:
        first = np.nextafter(first, np.float32(np.inf))
    for value, found in ((np.nextafter(first, np.float32(-np.inf)), []), (first, [(0, 0)])):
        y[0, 0] = value
        assert outside(y, x, w) == found


def test_order_of_the_scales() -> None:
    """FP8-9: the sum meets the activations' scale first, then the weights'."""
    fmt = FORMATS["e4m3fn"]
    one = np.array([[0x38]], np.uint8)
    sx, sw = np.array([2.0**-100], np.float32), np.array([2.0**100], np.float32)
    tiny = np.array([2.0**-60], np.float32)
    product = matmul(Quantized(one, sx, fmt), Quantized(one, tiny, fmt))
    assert product.tolist() == [[0.0]]
    # Found by trying: the two orders round differently for these scales.
    a, b, c = np.float32(1.1), np.float32(1.03), np.float32(1.125)
    y = matmul(
        Quantized(np.array([[0x39]], np.uint8), np.array([a], np.float32), fmt),
        Quantized(one, np.array([b], np.float32), fmt),
    )
    assert y[0, 0] == np.float32(np.float32(c * a) * b)
    assert y[0, 0] != np.float32(np.float32(c * b) * a)
    assert matmul(Quantized(one, sx, fmt), Quantized(one, sw, fmt)).tolist() == [[1.0]]


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_linear(granularity: Granularity) -> None:
    """FP8-10: the layer quantizes its inputs as it quantized its weights, and counts its bytes."""
    weight, x = data(6, 32, 6), data(5, 32, 7)
    layer = Fp8Linear(weight, granularity=granularity, format="e4m3fn", activation_format="e5m2")
    wanted = matmul(quantize(x, "e5m2", granularity), quantize(weight, "e4m3fn", granularity))
    assert np.array_equal(layer(x), wanted)
    assert layer.weight_bytes == 6 * 32 + 4 * (6 if granularity == "channel" else 1)
    assert layer.activation_bits == 8
    # Each element is off by at most 1/16 (normal numbers) or half the smallest subnormal of its scale.
    for_format = Fp8Linear(weight, granularity=granularity)
    assert for_format.activation_format.name == "e4m3fn"
    assert for_format(x[:0]).shape == (0, 6)


def test_calibrated_scale() -> None:
    """FP8-7: a calibrated magnitude gives all calls one scale, whatever the batch; larger inputs saturate."""
    weight = 448 * np.eye(4, dtype=np.float32)  # a scale of 1
    layer = Fp8Linear(weight, input_amax=448.0)
    x = np.array([[1.0, 2.0, 448.0, 1e9]], np.float32)
    assert (layer(x) / 448).tolist() == [[1.0, 2.0, 448.0, 448.0]]
    assert (layer(x[:, [0, 1, 0, 1]]) / 448).tolist() == [[1.0, 2.0, 1.0, 2.0]]
    assert quantize(x, "e4m3fn", "tensor", amax=0.0).scales.tolist() == [1.0]


def test_refusals() -> None:
    """What is no finite float32 matrix, and names and numbers that fit nothing, are refused by name."""
    good = np.ones((2, 3), np.float32)
    bad = good.copy()
    bad[1, 2] = np.inf
    with pytest.raises(errors.DomainError, match="weight: row 1, block 0, element 2: value inf: only finite"):
        Fp8Linear(bad)
    layer = Fp8Linear(good)
    bad[1, 2] = np.nan
    with pytest.raises(errors.DomainError, match="x: row 1, block 0, element 2: value nan: only finite"):
        layer(bad)
    with pytest.raises(errors.ShapeError, match=r"x: expected shape \[n, 3\], got \(2, 4\)"):
        layer(np.ones((2, 4), np.float32))
    with pytest.raises(errors.ShapeError, match=r"x: expected shape \[n, k\], got \(3,\)"):
        quantize(good[0], "e4m3fn")
    with pytest.raises(errors.DtypeError, match="weight: expected float32, got float64"):
        Fp8Linear(good.astype(np.float64))
    with pytest.raises(errors.DomainError, match="weight: row 0, block 0: value nan"):
        Fp8Linear(np.array(np.nan, np.float32))
    with pytest.raises(
        errors.UnknownNameError, match="no granularity is called 'row'; there are tensor, cha"
    ):
        quantize(good, "e4m3fn", "row")  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(errors.ArgumentError, match="amax: a calibrated magnitude goes with one scale"):
        quantize(good, "e4m3fn", amax=1.0)
    for amax in (-1.0, np.nan, np.inf, 1e39):
        with pytest.raises(errors.ArgumentError, match="expected a finite magnitude of float32"):
            quantize(good, "e4m3fn", "tensor", amax=amax)
    short = quantize(good[:, :2], "e4m3fn")
    with pytest.raises(errors.ShapeError, match="x has rows of 2 codes, w of 3"):
        matmul(short, layer.weight)
    with pytest.raises(errors.UnknownNameError, match="no type of the sum is called 'float16'"):
        matmul(short, short, accumulate="float16")  # type: ignore[arg-type]  # the mistake under test
