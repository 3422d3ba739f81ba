"""Integer products, rescale orders, requantization, and the layer made of them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from q8a8 import errors
from q8a8.methods import dynamic
from q8a8.methods.affine import Quantized, dequantize, quantize
from q8a8.methods.integer import chunk_length, int_matmul
from q8a8_golden import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "vectors" / "dynamic.json").read_text("utf-8")
)
TYPES = ("int8", "uint8", "int16")


def number(text: float | str) -> float:
    """Read a number of the vectors: decimal where that is exact, else hexadecimal."""
    return float.fromhex(text) if isinstance(text, str) else float(text)


def name_of(case: dict[str, Any]) -> str:
    """Name a test by its vector."""
    return str(case["id"])


def extreme(dtype: str) -> int:
    """Return the element of the largest magnitude."""
    return {"int8": -128, "uint8": 255, "int16": -255}[dtype]


# ---- Integer products -----------------------------------------------------------------------------


@pytest.mark.parametrize("a", TYPES)
@pytest.mark.parametrize("b", TYPES)
def test_chunks_are_exact_and_as_long_as_that_allows(a: str, b: str) -> None:
    """DYN-6: a chunk's largest sum is at most 2^24, and one column more would pass it, or 1024."""
    length = chunk_length(np.dtype(a), np.dtype(b))
    largest = abs(extreme(a) * extreme(b))
    assert length * largest <= 2**24
    assert length == 1024 or (length + 1) * largest > 2**24
    assert 1024 * 127 * 128 < 2**24


@pytest.mark.parametrize("a", TYPES)
@pytest.mark.parametrize("b", TYPES)
@pytest.mark.parametrize("k", [0, 1, 257, 258, 259, 514, 515, 1023, 1024, 1025, 5000])
def test_products_are_exact(a: str, b: str, k: int) -> None:
    """DYN-6: extremes and random codes around the chunks' ends, against int64."""
    rng = np.random.default_rng(k)
    low = {"int8": -128, "uint8": 0, "int16": -255}
    x = rng.integers(low[a], abs(extreme(a)) if a == "int8" else 256, (4, k)).astype(a)
    y = rng.integers(low[b], abs(extreme(b)) if b == "int8" else 256, (3, k)).astype(b)
    x[0], y[0] = extreme(a), extreme(b)
    # Odd partial sums just below 2^24, where float32 has no room to spare.
    x[1], x[1, ::2], y[1] = extreme(a), extreme(a) + (1 if extreme(a) < 0 else -1), extreme(b)
    exact = x.astype(np.int64) @ y.astype(np.int64).T
    acc = int_matmul(x, y)
    assert acc.dtype == np.int32
    assert np.array_equal(acc, exact)


def test_longest_rows() -> None:
    """DYN-6: 131071 columns of -128 by -128 fit int32; one more is refused."""
    x = np.full((1, 131072), -128, np.int8)
    assert int_matmul(x[:, 1:], x[:, 1:]).item() == 131071 * 128 * 128 <= 2**31 - 1
    with pytest.raises(errors.ShapeError, match="131072 elements could overflow int32; at most 131071"):
        int_matmul(x, x)


def test_integer_refusals() -> None:
    """Other types, codes that are none, and shapes that do not fit are refused."""
    a = np.zeros((2, 3), np.int8)
    with pytest.raises(errors.DtypeError, match="b: expected one of int8, uint8, int16, got float32"):
        int_matmul(a, a.astype(np.float32))
    with pytest.raises(errors.DtypeError, match="a: expected codes less a zero point, got an int16 element"):
        int_matmul(np.full((2, 3), -256, np.int16), a)
    for wrong in (a[:, :2], a[0]):
        with pytest.raises(errors.ShapeError, match=r"shapes \(2, 3\) and"):
            int_matmul(a, wrong)


# ---- Rescaling and requantization ----------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["rescale"], ids=name_of)
def test_rescale_vectors(case: dict[str, Any]) -> None:
    """DYN-7: both orders, where they differ and where a sum is no float32."""
    acc = np.array([[case["acc"]]], np.int32)
    sx, sw = (np.array([number(case[key])], np.float32) for key in ("sx", "sw"))
    for order, key in (("(acc*sx)*sw", "sequential"), ("acc*(sx*sw)", "product")):
        y = dynamic.rescale(acc, sx, sw, order)
        assert y.item() == number(case[key])
        assert y.dtype == np.float32


def test_rescale_against_fractions() -> None:
    """DYN-7: random sums and scales, each order rounded step by step."""
    rng = np.random.default_rng(7)
    acc = rng.integers(-(2**31), 2**31, (20, 30), np.int64).astype(np.int32)
    sx, sw = (np.exp(rng.normal(-4, 3, n)).astype(np.float32) for n in (20, 30))

    def f32(exact: Fraction) -> Fraction:
        return oracle.value(oracle.nearest(exact, oracle.F32), oracle.F32)

    sequential, product = (dynamic.rescale(acc, sx, sw, order) for order in dynamic.RESCALES)
    for i in range(20):
        for j in range(30):
            total, x, w = f32(Fraction(int(acc[i, j]))), Fraction(float(sx[i])), Fraction(float(sw[j]))
            assert Fraction(float(sequential[i, j])) == f32(f32(total * x) * w)
            assert Fraction(float(product[i, j])) == f32(total * f32(x * w))


@pytest.mark.parametrize("case", VECTORS["requantize"], ids=name_of)
def test_requantize_vectors(case: dict[str, Any]) -> None:
    """DYN-8: ties, the ends, and zero points."""
    acc = np.array([case["acc"]], np.int32)
    q = dynamic.requantize(acc, np.full(acc.shape, case["factor"], np.float32), case["zero"], case["dtype"])
    assert q[0].tolist() == case["q"]
    assert q.dtype == case["dtype"]


def test_output_quantization() -> None:
    """DYN-8, DYN-9: the multiplier is rounded twice; numbers are divided, halves to even, ends clamped."""
    sx, sw = np.array([0.1], np.float32), np.array([0.3, 2.0**-100], np.float32)
    factor = dynamic.multiplier(sx, sw, 0.7)
    assert factor.tolist() == [[float((sx * sw)[0] / np.float32(0.7)), float((sx * sw)[1] / np.float32(0.7))]]
    y = np.array([[1, 3, -1, -3, 1e9, -1e9]], np.float32)
    assert dynamic.quantize_linear(y, 2).tolist() == [[0, 2, 0, -2, 127, -128]]
    assert dynamic.quantize_linear(y, 2, 3, np.uint8).tolist() == [[3, 5, 3, 1, 255, 0]]
    # Division overflows to an infinity, which is clamped as any large number.
    assert dynamic.quantize_linear(y, 2.0**-149).tolist() == [[127, 127, -128, -128, 127, -128]]


def test_output_refusals() -> None:
    """DYN-8, DYN-9: scales that are no positive float32, zero points that the type has not."""
    one = np.ones((1, 1), np.float32)
    for scale in (0.0, -1.0, float("nan"), float("inf"), 1e-60, 1e60):
        with pytest.raises(errors.ArgumentError, match="sy: "):
            dynamic.quantize_linear(one, scale)
    with pytest.raises(errors.ArgumentError, match="sy: expected a positive"):
        dynamic.multiplier(one[0], one[0], 0)
    with pytest.raises(errors.ArgumentError, match="zero: expected -128 to 127 \\(int8\\), got 128"):
        dynamic.requantize(one.astype(np.int32), one, 128)
    with pytest.raises(errors.ArgumentError, match="zero: expected 0 to 255 \\(uint8\\), got -1"):
        dynamic.quantize_linear(one, 1, -1, np.uint8)
    with pytest.raises(errors.DomainError, match="y: row 0, block 0, element 0: value nan"):
        dynamic.quantize_linear(one * np.float32(np.nan), 1)
    with pytest.raises(errors.UnknownNameError, match="no rescale order is called 'sx'"):
        dynamic.rescale(one.astype(np.int32), one[0], one[0], "sx")


# ---- Granularity, and the layer ------------------------------------------------------------------------


def test_granularities() -> None:
    """One scale a row, or one for all rows: as quantizing the rows alone, or the flat matrix."""
    x = np.random.default_rng(5).standard_normal((4, 6)).astype(np.float32)
    for name in ("token", "channel"):
        rows = dynamic.quantize_matrix(x, name, "onnx")
        for i in range(4):
            alone = quantize(x[i], "onnx")
            assert np.array_equal(rows.q[i], alone.q)
            assert rows.scale[i] == alone.scale
    for rule in ("onnx", "absmax-127"):
        whole, flat = dynamic.quantize_matrix(x, "tensor", rule), quantize(x.reshape(-1), rule)
        assert np.array_equal(whole.q.reshape(-1), flat.q)
        assert whole.scale.tolist() == [flat.scale] * 4
        assert (whole.zero is None) == (flat.zero is None)
        assert whole.zero is None or whole.zero.tolist() == [flat.zero] * 4
    with pytest.raises(errors.UnknownNameError, match="granularity is called 'column'; there are token"):
        dynamic.quantize_matrix(x, "column")
    with pytest.raises(errors.ShapeError, match="weights: expected shape"):
        dynamic.quantize_matrix(x[0], "token", name="weights")


def test_zero_points_are_taken_off_exactly() -> None:
    """DYN-6: sums of (qx - zx)(qw - zw), the widest differences of 255 included."""
    x = Quantized(
        np.array([[255, 0], [0, 255]], np.uint8), np.ones(2, np.float32), np.array([0, 255], np.uint8)
    )
    w = Quantized(np.array([[-128, 127]], np.int8), np.ones(1, np.float32), np.array([127], np.int8))
    assert dynamic.accumulate(x, w).tolist() == [[255 * -255], [-255 * -255]]


@pytest.mark.parametrize("activations", ["token", "tensor"])
@pytest.mark.parametrize("weights", ["channel", "tensor"])
@pytest.mark.parametrize("rule", ["absmax-127", "torchao", "onnx"])
@pytest.mark.parametrize("order", dynamic.RESCALES)
def test_layer(activations: str, weights: str, rule: str, order: str) -> None:
    """The layer is its parts: quantize, multiply in int64, rescale as the formula says."""
    rng = np.random.default_rng(11)
    w, x = (rng.standard_normal((n, 1100)).astype(np.float32) for n in (7, 5))
    layer = dynamic.DynamicLinear(
        w, activations=activations, weights=weights, rule=rule, weight_rule="onnx", order=order
    )
    qx = dynamic.quantize_matrix(x, activations, rule)
    qw = dynamic.quantize_matrix(w, weights, "onnx")
    assert qw.zero is not None
    zx = 0 if qx.zero is None else qx.zero[:, None].astype(np.int64)
    acc = (qx.q.astype(np.int64) - zx) @ (qw.q.astype(np.int64) - qw.zero[:, None].astype(np.int64)).T
    sums = acc.astype(np.float32)
    sx = qx.scale[:, None]
    expected = (sums * sx) * qw.scale if order == "(acc*sx)*sw" else sums * (sx * qw.scale)
    assert np.array_equal(layer(x), expected)
    assert layer.weight_bytes == 7700 + 5 * (7 if weights == "channel" else 1)
    assert layer.activation_bits == 8


def test_per_token_result_is_the_token_s_own() -> None:
    """DYN-10: per token the other rows of the batch change nothing; per tensor it does."""
    rng = np.random.default_rng(13)
    w, x = (rng.standard_normal((n, 64)).astype(np.float32) for n in (9, 3))
    x[2] *= 100
    token, tensor = (dynamic.DynamicLinear(w, activations=name) for name in ("token", "tensor"))
    assert np.array_equal(token(x)[:1], token(x[:1]))
    assert not np.array_equal(tensor(x)[:1], tensor(x[:1]))
    assert token.weight_bytes == 9 * 64 + 9 * 4


def test_integers_pass_unchanged() -> None:
    """Integer matrices whose rows reach 127 have the scale 1, and the product is exact."""
    rng = np.random.default_rng(17)
    w, x = (rng.integers(-127, 128, (n, 40)).astype(np.float32) for n in (6, 4))
    w[:, 0], x[:, 1] = 127, -127
    assert np.array_equal(dynamic.DynamicLinear(w)(x), x @ w.T)
    assert np.array_equal(dequantize(dynamic.quantize_matrix(w, "channel")), w)


def test_layer_refusals() -> None:
    """Every choice is looked up by name, and rows must have the weight's length."""
    w: NDArray[np.float32] = np.ones((3, 4), np.float32)
    with pytest.raises(errors.UnknownNameError, match="granularity of activations is called 'channel'"):
        dynamic.DynamicLinear(w, activations="channel")
    with pytest.raises(errors.UnknownNameError, match="granularity of weights is called 'token'"):
        dynamic.DynamicLinear(w, weights="token")
    with pytest.raises(errors.UnknownNameError, match="rescale order is called 'sum'"):
        dynamic.DynamicLinear(w, order="sum")
    with pytest.raises(errors.UnknownNameError, match="rule is called 'int5'"):
        dynamic.DynamicLinear(w, rule="int5")
    with pytest.raises(errors.DomainError, match="weight: row 0, block 0, element 0: value inf"):
        dynamic.DynamicLinear(w * np.float32(np.inf))
    with pytest.raises(errors.ShapeError, match=r"x: expected shape \[n, 4\], got \(2, 5\)"):
        dynamic.DynamicLinear(w)(np.ones((2, 5), np.float32))


def test_bfloat16_output() -> None:
    """Each result is rounded to 8 bits once, ties to even, as ml_dtypes rounds it."""
    rng = np.random.default_rng(4)
    acc = rng.integers(-(2**20), 2**20, (40, 30)).astype(np.int32)
    sx, sw = (rng.random(n).astype(np.float32) for n in (40, 30))
    for order in dynamic.RESCALES:
        plain = dynamic.rescale(acc, sx, sw, order)
        half = dynamic.rescale(acc, sx, sw, order, output="bfloat16")
        assert np.array_equal(half, plain.astype(ml_dtypes.bfloat16).astype(np.float32))
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, -0.0, 3.4e38, np.inf, -np.inf, np.nan, 2.0**-149], np.float32)
    with np.errstate(over="ignore"):
        expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(dynamic.round_to_bfloat16(x), expected, equal_nan=True)
    with pytest.raises(errors.UnknownNameError, match="output"):
        dynamic.rescale(acc, sx, sw, output="float8")
