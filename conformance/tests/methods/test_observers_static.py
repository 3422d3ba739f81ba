"""The layer whose activations have one calibrated scale, against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from q8a8 import errors
from q8a8.methods.static_linear import StaticLinear, quantize_static


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
