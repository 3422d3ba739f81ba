"""Uniform quantization: golden vectors, an exact oracle for every rule, properties, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from q8a8 import errors
from q8a8.methods.affine import RULES, Rule, dequantize, quantize
from q8a8_golden import oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "vectors"
VECTORS: list[dict[str, Any]] = [
    case
    for name in ("dynamic", "weight_only")
    for case in json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["quantize"]
]


def number(text: float | str) -> float:
    """Read a number of the vectors: decimal where that is exact, else hexadecimal."""
    return float.fromhex(text) if isinstance(text, str) else float(text)


def same(mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    """Compare bits."""
    return np.array_equal(np.asarray(mine).view(np.uint32), np.asarray(theirs).view(np.uint32))


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"{case['rule']}/{case['id']}")
def test_vectors(case: dict[str, Any]) -> None:
    """DYN-1 to DYN-5: the scale, zero point and codes of the golden vectors."""
    x = np.array([number(each) for each in case["x"]], np.float32)
    result = quantize(x, case["rule"])
    assert same(result.scale, np.array(number(case["scale"]), np.float32))
    assert result.q.tolist() == case["q"]
    assert (None if result.zero is None else int(result.zero)) == case["zero"]


# ---- The oracle: each library's formula in fractions, written from its source, not from the table ----------


def f32(exact: Fraction) -> Fraction:
    """Round once to binary32."""
    return oracle.value(oracle.nearest(exact, oracle.F32), oracle.F32)


def clamp(exact: Fraction, low: int, high: int) -> Fraction:
    """Clamp."""
    return min(max(exact, Fraction(low)), Fraction(high))


def half_even(exact: Fraction) -> Fraction:
    """Round to an integer."""
    return Fraction(oracle.half_even(exact))


Result = tuple[Fraction, int | None, list[int]]


def quanto(x: Sequence[Fraction]) -> Result:
    """optimum-quanto: base.abs().max() / 127; clamp(round(base / scale), -128, 127)."""
    s = f32(max(map(abs, x)) / 127)
    return s, None, [int(clamp(half_even(f32(v / s)), -128, 127)) if s else 0 for v in x]


def torchao(x: Sequence[Fraction], low: int, high: int, eps: Fraction) -> Result:
    """torchao: clamp(round(x * (1 / scale)), low, high), scale = max(amax / ((high - low) / 2), eps)."""
    s = max(f32(max(map(abs, x)) / Fraction(high - low, 2)), eps)
    inverse = f32(1 / s)
    return s, None, [int(clamp(half_even(f32(v * inverse)), low, high)) for v in x]


def torchao_asymmetric(x: Sequence[Fraction], low: int, high: int, eps: Fraction) -> Result:
    """torchao: zero = clamp(low - round(min / scale)), clamp(round(x * (1 / scale)) + zero)."""
    least, most = min(Fraction(0), *x), max(Fraction(0), *x)
    s = max(f32(f32(Fraction(most - least)) / (high - low)), eps)
    z = clamp(low - half_even(f32(least / s)), low, high)
    inverse = f32(1 / s)
    return s, int(z), [int(clamp(half_even(f32(v * inverse)) + z, low, high)) for v in x]


def compressed(x: Sequence[Fraction], low: int, high: int) -> Result:
    """compressed-tensors, symmetric: round(clamp(x / scale)), a scale of 0 becomes eps."""
    s = f32(max(map(abs, x)) / Fraction(high - low, 2)) or Fraction(1, 2**23)
    return s, None, [int(half_even(clamp(f32(v / s), low, high))) for v in x]


def compressed_asymmetric(x: Sequence[Fraction], low: int, high: int) -> Result:
    """compressed-tensors: zero = round(clamp(low - min / scale)), round(clamp(x / scale + zero))."""
    least, most = min(Fraction(0), *x), max(Fraction(0), *x)
    s = f32(f32(Fraction(most - least)) / (high - low))
    quotient = f32(least / s) if s else Fraction(-(10**9) if least else 0)
    z = half_even(clamp(f32(low - quotient), low, high))
    s = s or Fraction(1, 2**23)
    return s, int(z), [int(half_even(clamp(f32(f32(v / s) + z), low, high))) for v in x]


def onnx(x: Sequence[Fraction]) -> Result:
    """DynamicQuantizeLinear: the range includes 0; scale 1 where it is empty."""
    least, most = min(Fraction(0), *x), max(Fraction(0), *x)
    if least == most:
        return Fraction(1), 0, [0] * len(x)
    s = f32(f32(Fraction(most - least)) / 255)
    if not s:
        z = Fraction(255 if least else 0)
        return s, int(z), [int(z)] * len(x)
    z = half_even(clamp(f32(-f32(least / s)), 0, 255))
    return s, int(z), [int(clamp(half_even(f32(v / s)) + z, 0, 255)) for v in x]


EPS, TINY = Fraction(1, 2**23), Fraction(1, 2**126)
ORACLES: dict[str, Callable[[Sequence[Fraction]], Result]] = {
    "absmax-127": quanto,
    "torchao": partial(torchao, low=-128, high=127, eps=EPS),
    "torchao-asymmetric": partial(torchao_asymmetric, low=-128, high=127, eps=EPS),
    "compressed-tensors": partial(compressed, low=-128, high=127),
    "onnx": onnx,
    "int4-torchao": partial(torchao, low=-8, high=7, eps=TINY),
    "int4-torchao-asymmetric": partial(torchao_asymmetric, low=-8, high=7, eps=TINY),
    "int4-compressed-tensors": partial(compressed, low=-8, high=7),
    "int4-compressed-tensors-asymmetric": partial(compressed_asymmetric, low=-8, high=7),
}


def hard_rows() -> NDArray[np.float32]:
    """Rows of 16: ties of every rule, neighbours of ties, subnormals, zeros, single outliers, random ones."""
    rng = np.random.default_rng(20240)
    ties = np.array([0, 0.5, 1.5, 2.5, -0.5, -1.5, 3.5, -6.5, 6.5, 5.5, -2.5, 4.5, 1, -1, 0.25], np.float32)
    rows = [
        np.append(ties, np.float32(end)) for end in (127, -127, 127.5, -127.5, 7.5, -7.5, 7, 15, 255, -255)
    ]
    rows += [np.nextafter(row, np.float32(way)) for row in rows[:10] for way in (-np.inf, np.inf)]
    rows += [
        row * np.float32(scale) for row in rows[:10] for scale in (2.0**-30, 2.0**-147, 3.0, 0.1, 2.0**100)
    ]
    rows += [np.zeros(16, np.float32), np.full(16, -0.0, np.float32), np.full(16, -3, np.float32)]
    for magnitude in (1, 63, 64, 100, 127, 190, 191, 255, 300, 5000):
        row = rng.integers(-magnitude, magnitude + 1, 16).astype(np.float32)
        row[3] = magnitude
        rows += [
            row * np.float32(2.0**-149),
            np.abs(row) * np.float32(2.0**-149),
            -np.abs(row) * np.float32(1e-42),
        ]
    outlier = rng.standard_normal((20, 16)).astype(np.float32)
    outlier[:, 5] *= 1000
    return np.concatenate([np.array(rows), outlier, rng.standard_normal((40, 16)).astype(np.float32)])


@pytest.mark.parametrize("name", RULES)
def test_oracle(name: str) -> None:
    """DYN-1 to DYN-5: hard rows, bit for bit what fractions give; every rule has its oracle."""
    assert set(ORACLES) == set(RULES)
    rows = hard_rows()
    result = quantize(rows, name)
    for i, row in enumerate(rows):
        s, z, q = ORACLES[name]([Fraction(float(v)) for v in row])
        assert Fraction(float(result.scale[i])) == s, row
        assert result.q[i].tolist() == q, row
        assert result.zero is None if z is None else result.zero is not None and int(result.zero[i]) == z, row


FLOATS = st.floats(-1000, 1000, width=32, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 1e-30)


@pytest.mark.parametrize("name", RULES)
@given(x=arrays(np.float32, 9, elements=FLOATS))
def test_order_and_zero(name: str, x: NDArray[np.float32]) -> None:
    """Codes are in the order of the numbers, and the number 0 comes back as 0."""
    x[4] = 0
    result = quantize(x, name)
    assert (np.diff(result.q[np.argsort(x, kind="stable")].astype(int)) >= 0).all()
    assert dequantize(result)[4] == 0


@given(x=arrays(np.float32, 7, elements=FLOATS), power=st.integers(-8, 8))
def test_scaling_by_powers_of_two(x: NDArray[np.float32], power: int) -> None:
    """Without a floor, codes do not change with the unit, and the scale changes with it exactly."""
    factor = np.float32(2.0**power)
    for name in ("absmax-127", "int4-compressed-tensors"):
        if not x.any():
            return
        plain, scaled = quantize(x, name), quantize(x * factor, name)
        assert np.array_equal(plain.q, scaled.q)
        assert plain.scale * factor == scaled.scale


@given(x=arrays(np.float32, 7, elements=FLOATS))
def test_negation(x: NDArray[np.float32]) -> None:
    """With levels of 127 the grid is symmetric: the codes of -x are those of x, negated."""
    assert np.array_equal(quantize(-x, "absmax-127").q, -quantize(x, "absmax-127").q)


def test_half_scales() -> None:
    """WON-3: a float16 scale is rounded first, codes follow it; a zero scale becomes float16's epsilon."""
    x = np.array([[7.5 * 1.0009, 1.0, 0.5], [0, 0, 0], [1e-9, 0, 0]], np.float32)
    result = quantize(x, "int4-compressed-tensors", half_scale=True)
    # 1.0009 lies between the halves 1 and 1 + 2^-10, nearer to the upper one.
    assert result.scale.tolist() == [1 + 2.0**-10, 2.0**-10, 2.0**-10]
    assert result.q.tolist() == [[7, 1, 0], [0, 0, 0], [0, 0, 0]]
    # torchao's floor of 2^-126 is no half: the scale is 0, and the codes are the zero point's.
    gone = quantize(np.array([0.0, 1e-20], np.float32), "int4-torchao-asymmetric", half_scale=True)
    assert gone.scale == 0
    assert gone.zero is not None
    assert gone.q.tolist() == [int(gone.zero)] * 2
    assert dequantize(gone).tolist() == [0, 0]


def test_leading_axes() -> None:
    """The last axis shares a scale, whatever comes before it; the input is left alone."""
    x = np.random.default_rng(3).standard_normal((2, 3, 4, 8)).astype(np.float32)
    before = x.copy()
    result = quantize(x, "onnx")
    assert result.q.shape == x.shape
    assert result.scale.shape == (2, 3, 4)
    assert np.array_equal(x, before)
    one = quantize(x[1, 2, 3], "onnx")
    assert np.array_equal(result.q[1, 2, 3], one.q)
    assert result.q.dtype == np.uint8


def test_refusals() -> None:
    """What cannot be quantized is refused with its place; rules are looked up by name."""
    with pytest.raises(errors.UnknownNameError, match=r"no rule is called 'int5'.*absmax-127"):
        quantize(np.zeros(3, np.float32), "int5")
    with pytest.raises(errors.DtypeError, match="float64"):
        quantize(np.zeros(3), "onnx")  # type: ignore[arg-type] # another dtype: what is tested
    with pytest.raises(errors.ShapeError, match="one axis"):
        quantize(np.float32(1), "onnx")  # type: ignore[arg-type] # no array: what is tested
    bad = np.zeros((2, 4), np.float32)
    bad[1, 2] = np.nan
    with pytest.raises(errors.DomainError, match=r"w: row 1, block 0, element 2: value nan"):
        quantize(bad, "onnx", name="w")
    wide = np.zeros((3, 4), np.float32)
    wide[2] = [0, 3e38, -3e38, 1]
    with pytest.raises(errors.DomainError, match=r"x: row 2, block 0, element 1: value 3.*infinite"):
        quantize(wide, "onnx")
    groups = np.zeros((2, 3, 4), np.float32)
    groups[1, 2, 3] = -600000
    with pytest.raises(errors.DomainError, match=r"x: row 1, block 2, element 3: value -600000"):
        quantize(groups, "int4-compressed-tensors", half_scale=True)


def test_rules_are_data() -> None:
    """A rule may be passed itself, each says whose it is, and its name is its key."""
    mine = Rule("seven", 7.0, -7, 7, "keep", "x/s", "none", "after", "this test")
    assert quantize(np.array([7, -7, 3.4], np.float32), mine).q.tolist() == [7, -7, 3]
    assert all(name == rule.name and rule.source for name, rule in RULES.items())
