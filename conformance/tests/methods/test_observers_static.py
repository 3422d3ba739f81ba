"""The layer whose activations have one calibrated scale, against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from q8a8 import errors
from q8a8.methods.signed_observer import SignedObserver
from q8a8.methods.static_linear import AsymmetricStaticLinear, StaticLinear, quantize_static


def to_f32(value: Fraction) -> np.float32:
    """Round a product or an integer to float32; exact in float64 first."""
    assert Fraction(float(value)) == value
    return np.float32(float(value))


def test_codes() -> None:
    """OBS-10: halves go to even, what is outside is clamped, -128 is not used, scale 0 gives 0."""
    x = np.array([0.5, 1.5, -2.5, 126.5, 127.5, 1e9, -1e9, -0.0], np.float32)
    codes, scale = quantize_static(x, np.array(127, np.float32))
    assert codes.dtype == np.int8
    assert scale == 1
    assert codes.tolist() == [0, 2, -2, 126, 127, 127, -127, 0]
    codes, scale = quantize_static(x, np.array(2.0**-149, np.float32))
    assert scale == 0
    assert not codes.any()


def test_layer() -> None:
    """OBS-10: y is (acc · sx) · sw, each product and the sum rounded to float32 once."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((5, 2100)).astype(np.float32)
    weight[2] = 0
    x = rng.standard_normal((4, 2100)).astype(np.float32)
    layer = StaticLinear(weight, 2.5)
    y = layer(x)
    sx = np.float32(np.float32(2.5) / np.float32(127))
    qx = [[max(-127, min(127, round(float(np.float32(v / sx))))) for v in row] for row in x]
    assert any(abs(v) == 127 for row in qx for v in row)
    for j, row in enumerate(weight):
        sw = np.float32(np.abs(row).max() / np.float32(127))
        qw = [0 if sw == 0 else round(float(np.float32(v / sw))) for v in row]
        for i in range(4):
            acc = to_f32(Fraction(sum(a * b for a, b in zip(qx[i], qw, strict=True))))
            assert y[i, j] == np.float32(np.float32(acc * sx) * sw)
    assert layer.weight_bytes == 5 * 2100 + 4 * 5 + 4
    assert layer.activation_bits == 8


def test_refusals() -> None:
    """Arrays and thresholds that do not fit are refused by name."""
    weight = np.ones((2, 3), np.float32)
    for threshold in (-1.0, np.nan, np.inf, 1e39):
        with pytest.raises(
            errors.ArgumentError, match=r"threshold: expected a finite magnitude of float32, got "
        ):
            StaticLinear(weight, threshold)
    with pytest.raises(errors.ShapeError, match="weight: expected shape"):
        StaticLinear(weight[0], 1.0)
    with pytest.raises(errors.ShapeError, match=r"x: expected shape \[n, 3\], got \(2, 2\)"):
        StaticLinear(weight, 1.0)(weight[:, :2])


def test_ends_are_of_the_tensor() -> None:
    """Both ends by each method, merged or not; an end without elements is 0."""
    x = np.random.default_rng(6).normal(1, 2, 5000).astype(np.float32)
    whole, first, second = SignedObserver(), SignedObserver(), SignedObserver()
    whole.observe(x)
    first.observe(x[:1234])
    second.observe(x[1234:])
    first.merge(second)
    assert whole.ends() == (float(x.min()), float(x.max()))
    for method in ("absmax", "percentile-99.9", "mse"):
        assert first.ends(method) == whole.ends(method)
    low, high = whole.ends("percentile-99.9")
    assert (x < low).mean() <= 0.001 >= (x > high).mean()
    assert x.min() < low < high < x.max()
    positive = SignedObserver()
    positive.observe(np.abs(x))
    assert positive.ends() == (0, float(np.abs(x).max()))


def test_asymmetric_layer() -> None:
    """OBS-11: scale and zero point of both ends, exact sums, each product rounded to float32 once."""
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((5, 200)).astype(np.float32)
    x = rng.uniform(-1.5, 6.5, (4, 200)).astype(np.float32)
    x[0, :3] = (0, -1, 6)
    layer = AsymmetricStaticLinear(weight, np.array([-1.0, 6.0]))
    scale = np.float32(7) / np.float32(255)
    zero = round(-128 - float(np.float32(-1) / scale))
    assert (layer.scale, layer.zero) == (scale, zero)
    sums = np.zeros((4, 5), dtype=object)
    for t in range(4):
        codes = [max(-128, min(127, round(float(v / scale)) + zero)) for v in x[t]]
        for m in range(5):
            sums[t, m] = sum((q - zero) * int(w) for q, w in zip(codes, layer.codes[m], strict=True))
    expected = sums.astype(np.float32) * scale * layer.scales
    assert np.array_equal(layer(x), expected)
    # With a tail on one side it is closer than the symmetric layer.
    exact = x.astype(float) @ weight.T
    symmetric = StaticLinear(weight, 6.0)(np.clip(x, -1, 6))
    inside = np.clip(x, -1, 6).astype(float) @ weight.T
    assert np.abs(layer(np.clip(x, -1, 6)) - inside).mean() < np.abs(symmetric - inside).mean()
    assert np.abs(exact).max() > 0
    assert not AsymmetricStaticLinear(weight, np.zeros(2))(x).any()
    with pytest.raises(errors.ArgumentError, match="ends: expected a finite range"):
        AsymmetricStaticLinear(weight, np.array([-3e38, 3e38]))
