"""LLM.int8(): golden vectors, an exact oracle, and the layer."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from q8a8 import errors
from q8a8.methods import llm_int8
from q8a8_golden import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "vectors" / "llm_int8.json").read_text("utf-8")
)


def number(text: float | str) -> float:
    """Read a number of the vectors: decimal where that is exact, else hexadecimal."""
    return float.fromhex(text) if isinstance(text, str) else float(text)


def f32(exact: Fraction) -> Fraction:
    """Round once to binary32."""
    return oracle.value(oracle.nearest(exact, oracle.F32), oracle.F32)


@pytest.mark.parametrize("case", VECTORS["quantize"], ids=lambda case: str(case["id"]))
def test_vectors(case: dict[str, Any]) -> None:
    """LI8-1 to LI8-4: codes, statistics and columns of the golden vectors."""
    a = np.array([[number(each) for each in row] for row in case["a"]], np.float16)
    result = llm_int8.vectorwise_quantize(a, case["threshold"])
    assert result.columns.tolist() == case["columns"]
    assert llm_int8.outlier_columns(a, case["threshold"]).tolist() == case["columns"]
    assert result.absmax.tolist() == [number(each) for each in case["absmax"]]
    assert result.q.tolist() == case["q"]


HALVES = st.floats(-9, 9, width=16)


@given(a=arrays(np.float16, (3, 5), elements=HALVES), threshold=st.sampled_from([0.0, 4.0, 6.0]))
def test_oracle(a: NDArray[np.float16], threshold: float) -> None:
    """LI8-1 to LI8-4: the authors' order of operations, in fractions."""
    rows = [[Fraction(float(v)) for v in row] for row in a]
    result = llm_int8.vectorwise_quantize(a, threshold)
    outside = [[threshold > 0 and abs(v) >= threshold for v in row] for row in rows]
    columns = [j for j in range(5) if any(row[j] for row in outside)]
    assert result.columns.tolist() == columns
    for i, row in enumerate(rows):
        amax = max((abs(v) for v, out in zip(row, outside[i], strict=True) if not out), default=Fraction(0))
        assert Fraction(float(result.absmax[i])) == amax
        inverse = f32(127 * f32(1 / amax)) if amax else Fraction(0)
        codes = [0 if j in columns else oracle.half_even(f32(v * inverse)) for j, v in enumerate(row)]
        assert result.q[i].tolist() == codes


def test_ways_back() -> None:
    """LI8-6: each way rounds where it says; the CPU constant is 1.8e-5 off, the CUDA one an ulp at most."""
    rng = np.random.default_rng(5)
    acc = rng.integers(-(2**24), 2**24, (6, 7)).astype(np.int32)
    rows, columns = (np.abs(rng.standard_normal(n)).astype(np.float32) for n in (6, 7))
    constants = {name: Fraction(float(way.constant)) for name, way in llm_int8.DEQUANTIZATIONS.items()}
    exact, cpu, cuda = (constants[name] for name in ("exact", "bitsandbytes-cpu", "bitsandbytes-cuda"))
    assert exact == f32(Fraction(1, 127**2))
    assert cpu == f32(Fraction("6.200124e-05"))
    assert cuda == f32(Fraction("6.200012e-05"))
    assert Fraction(179, 10**7) < cpu * 127**2 - 1 < Fraction(181, 10**7)
    assert abs(cuda - exact) <= Fraction(1, 2**38)  # one unit in the last place of numbers from 2^-14 up
    for name, way in llm_int8.DEQUANTIZATIONS.items():
        y = llm_int8.dequantize_sums(acc, rows, columns, name)
        assert np.array_equal(y, llm_int8.dequantize_sums(acc, rows, columns, way))
        for (i, j), total in np.ndenumerate(acc):
            r, c, s = Fraction(float(rows[i])), Fraction(float(columns[j])), f32(Fraction(int(total)))
            product = f32(s * f32(r * c)) if name != "bitsandbytes-cuda" else f32(f32(s * r) * c)
            assert Fraction(float(y[i, j])) == f32(product * constants[name])


def test_weight_columns() -> None:
    """LI8-5: f16(f32(f32(q · absmax) · f32(1/127))), for the columns asked for."""
    w = np.random.default_rng(6).standard_normal((5, 9)).astype(np.float16)
    quantized = llm_int8.vectorwise_quantize(w)
    columns = np.array([1, 7])
    halves = llm_int8.dequantize_columns(quantized, columns)
    seventh = f32(Fraction("7.874015718698502e-3"))
    for i in range(5):
        for place, j in enumerate(columns):
            exact = f32(
                f32(Fraction(int(quantized.q[i, j])) * Fraction(float(quantized.absmax[i]))) * seventh
            )
            bits = oracle.nearest(exact, oracle.F16, negative_zero=False)
            assert Fraction(float(halves[i, place])) == oracle.value(bits, oracle.F16)


def parts(x: NDArray[np.float32], w: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the int8 part of the layer's result, with int64 sums, and the outlier columns."""
    a, b = (llm_int8.vectorwise_quantize(m.astype(np.float16), t) for m, t in ((x, 6.0), (w, 0.0)))
    acc = a.q.astype(np.int64) @ b.q.astype(np.int64).T
    constant = np.float32(1 / 127**2)
    return (acc.astype(np.float32) * (a.absmax[:, None] * b.absmax)) * constant, a.columns


def test_layer_without_outliers() -> None:
    """LI8-6, LI8-8: nothing but the int8 part, not rounded to float16."""
    rng = np.random.default_rng(8)
    x, w = rng.uniform(-5, 5, (4, 1100)).astype(np.float32), rng.standard_normal((6, 1100)).astype(np.float32)
    layer = llm_int8.LlmInt8Linear(w)
    expected, columns = parts(x, w)
    assert not columns.size
    assert np.array_equal(layer(x), expected)
    assert layer.activation_bits == 8
    assert layer.weight_bytes == 6 * 1100 + 6 * 4


@pytest.mark.parametrize("kind", ["int8", "f16"])
def test_layer_with_one_outlier_column(kind: str) -> None:
    """LI8-5, LI8-8: one column adds one exact product a result, rounded once with the sum."""
    rng = np.random.default_rng(9)
    x, w = rng.uniform(-5, 5, (4, 50)).astype(np.float32), rng.standard_normal((6, 50)).astype(np.float32)
    x[2, 17] = -400
    layer = llm_int8.LlmInt8Linear(w, outlier_weights=kind)
    expected, columns = parts(x, w)
    assert columns.tolist() == [17]
    halves = w[:, 17].astype(np.float16)
    if kind == "int8":
        halves = llm_int8.dequantize_columns(layer.weight, columns)[:, 0]
    # 11 bits times 11: the product is exact in float32.
    products = x[:, 17].astype(np.float16).astype(np.float32)[:, None] * halves.astype(np.float32)
    assert np.array_equal(layer(x), expected + products)
    assert layer.activation_bits == 8 + 8 / 50
    assert layer.weight_bytes == 6 * 50 + 6 * 4 + (6 * 50 * 2 if kind == "f16" else 0)


def test_outliers_are_of_the_batch() -> None:
    """LI8-7: an outlier in another row of the call takes the column out of this row's int8 part."""
    rng = np.random.default_rng(10)
    x, w = rng.uniform(-5, 5, (2, 40)).astype(np.float32), rng.standard_normal((30, 40)).astype(np.float32)
    x[1, 3] = 60
    layer = llm_int8.LlmInt8Linear(w)
    assert not np.array_equal(layer(x)[0], layer(x[:1])[0])
    off = llm_int8.LlmInt8Linear(w, threshold=0)
    assert np.array_equal(off(x)[:1], off(x[:1]))
    assert off.activation_bits == 8


def test_decomposition_helps() -> None:
    """What the method is for: with one outlier column the error is far below plain int8's."""
    rng = np.random.default_rng(12)
    x, w = (
        rng.standard_normal((16, 256)).astype(np.float32),
        rng.standard_normal((64, 256)).astype(np.float32),
    )
    x[:, 31] = 100 * np.sign(x[:, 31])
    exact = x.astype(np.float64) @ w.astype(np.float64).T

    def error(threshold: float) -> float:
        return float(np.sqrt(np.mean((llm_int8.LlmInt8Linear(w, threshold=threshold)(x) - exact) ** 2)))

    assert error(6) < error(0) / 4


def test_refusals() -> None:
    """Types, places, thresholds and names."""
    a = np.zeros((2, 3), np.float16)
    with pytest.raises(errors.DtypeError, match="a: expected float16, got float32"):
        llm_int8.outlier_columns(a.astype(np.float32))
    with pytest.raises(errors.ShapeError, match="a: expected shape"):
        llm_int8.vectorwise_quantize(a[0])
    a[1, 2] = np.nan
    with pytest.raises(errors.DomainError, match="a: row 1, block 0, element 2: value nan"):
        llm_int8.vectorwise_quantize(a)
    for threshold in (-1.0, float("nan")):
        with pytest.raises(errors.ArgumentError, match="threshold: "):
            llm_int8.outlier_columns(np.zeros((1, 1), np.float16), threshold)
    w = np.ones((2, 3), np.float32)
    with pytest.raises(errors.ArgumentError, match="threshold: expected 0 or more, got -1"):
        llm_int8.LlmInt8Linear(w, threshold=-1)
    with pytest.raises(errors.UnknownNameError, match="dequantization is called 'cpu'; there are exact"):
        llm_int8.LlmInt8Linear(w, way="cpu")
    with pytest.raises(errors.UnknownNameError, match="kind of outlier weights is called 'f32'"):
        llm_int8.LlmInt8Linear(w, outlier_weights="f32")
    with pytest.raises(errors.DomainError, match="weight: row 0, block 0, element 0: value 100000"):
        llm_int8.LlmInt8Linear(w * np.float32(1e5))
    with pytest.raises(errors.ShapeError, match=r"x: expected shape \[n, 3\], got \(2, 4\)"):
        llm_int8.LlmInt8Linear(w)(np.ones((2, 4), np.float32))
    # A threshold beyond float16 is an infinity: no finite element reaches it.
    assert llm_int8.outlier_columns(np.full((1, 1), 65504, np.float16), 1e6).size == 0
