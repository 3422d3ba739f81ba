"""AWQ against plain loops over single numbers, and by hand.

The oracle has no array arithmetic: each float32 operation is one of `np.float32`, in the authors' order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q8a8.errors import ArgumentError, DomainError, DtypeError, ShapeError
from q8a8.methods.awq import (
    AwqGrid,
    AwqLinear,
    channel_scales,
    clip_limits,
    dequantize,
    quantize,
    search_scales,
)

F32 = np.float32


def pseudo_quantize(values: list[np.float32], bits: int, *, zero_point: bool) -> list[np.float32]:
    """Return one group, quantized and back, number by number."""
    if zero_point:
        top = 2**bits - 1
        scale = max(max(values) - min(values), F32(1e-5)) / F32(top)
        zero = min(max(-round(float(min(values) / scale)), 0), top)
        low = 0
    else:
        top, low, zero = 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), 0
        scale = max(*(abs(v) for v in values), F32(1e-5)) / F32(top)
    # Python's round is to even, as torch's and NumPy's are.
    codes = [min(max(round(float(v / scale)) + zero, low), top) for v in values]
    return [F32(code - zero) * scale for code in codes]


def matrix(seed: int, m: int, k: int) -> np.ndarray:
    """Return weights with channels of different size."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((m, k)) * np.exp(rng.standard_normal(k))).astype(F32)


@pytest.mark.parametrize("zero_point", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_grid(bits: int, *, zero_point: bool) -> None:
    """Every number is the oracle's, bit for bit: random groups, ties, one sign, zeros, subnormals."""
    rows = matrix(bits, 6, 16)
    rows[1] = np.arange(16) / 2  # ties
    rows[2] = np.abs(rows[2]) + 5  # far from 0
    rows[3] = 0
    rows[4] = rows[4] * F32(2.0**-140)
    rows[5] = -np.abs(rows[5])
    stored = quantize(rows, AwqGrid(bits, 8, zero_point=zero_point))
    expected = [
        [pseudo_quantize(list(row[i : i + 8]), bits, zero_point=zero_point) for i in (0, 8)] for row in rows
    ]
    np.testing.assert_array_equal(dequantize(stored), np.array(expected, F32).reshape(6, 16))
    assert stored.codes.min() >= stored.grid.lowest
    assert stored.codes.max() <= stored.grid.highest


def test_range_without_zero_saturates() -> None:
    """The hazard of AWQ-2, by hand: weights between 5 and 6 become 1, the width of their range."""
    weight = np.linspace(5, 6, 16, dtype=F32)[None]
    stored = quantize(weight, AwqGrid(4, 16))
    assert stored.zero[0, 0] == 0  # -round(5 / (1/15)) = -75, clamped
    np.testing.assert_array_equal(stored.codes, 15)
    np.testing.assert_array_equal(dequantize(stored), F32(15) * (F32(1) / F32(15)))
    # The symmetric grid has no such groups.
    assert dequantize(quantize(weight, AwqGrid(4, 16, zero_point=False))).min() > 4


VECTORS = json.loads((Path(__file__).parent / "vectors" / "awq.json").read_text("utf-8"))["cases"]


@pytest.mark.parametrize("case", VECTORS, ids=[case["id"] for case in VECTORS])
def test_vectors(case: dict[str, Any]) -> None:
    """Each row of the vectors, derived by hand, has its scale, zero and codes."""
    weight = np.array([case["weight"]], F32)
    stored = quantize(weight, AwqGrid(case["bits"], weight.size, zero_point=case["zero_point"]))
    assert stored.scale[0, 0] == F32(case["scale"])
    assert stored.zero[0, 0] == case["zero"]
    np.testing.assert_array_equal(stored.codes[0], case["codes"])


def test_scales_by_hand() -> None:
    """Ratio 0 gives ones; ratio 1/2 square roots, over the root of the largest times the smallest."""
    mean = np.array([4.0, 1, 0.25])
    np.testing.assert_array_equal(channel_scales(mean, 0), np.ones(3, F32))
    np.testing.assert_array_equal(channel_scales(mean, 0.5), np.array([2, 1, 0.5], F32))
    # A channel that was never active: 1e-4 before the normalization, sqrt(1 · 1e-4) = 0.01.
    np.testing.assert_allclose(channel_scales(np.array([1.0, 0]), 0.5), [100, 0.01], rtol=2**-22)
    assert channel_scales(np.empty(0), 0.5).shape == (0,)


def test_search_against_loops() -> None:
    """Losses and choice are those of plain loops over ratios."""
    weight, other = matrix(1, 5, 32), matrix(2, 3, 32)
    rows = matrix(3, 20, 32)
    mean = np.abs(rows.astype(np.float64)).mean(axis=0)
    grid = AwqGrid(3, 16)
    found = search_scales([weight, other], mean, rows, grid)
    losses = []
    for step in range(20):
        s = np.maximum(mean.astype(F32) ** F32(step / 20), F32(1e-4))
        s = s / np.sqrt(s.max() * s.min())
        squares: list[float] = []
        for matrix_ in (weight, other):
            for row in matrix_ * s:
                groups = [pseudo_quantize(list(row[i : i + 16]), 3, zero_point=True) for i in (0, 16)]
                back = np.array(groups, F32).ravel() / s
                index = len(squares) // 20
                original = np.concatenate([weight, other])[index]
                squares += list((rows.astype(np.float64) @ (back - original).astype(np.float64)) ** 2)
        losses.append(float(np.mean(squares)))
    # The products of 32 float32 terms: relative errors far below 2^-12 in a sum of squares.
    np.testing.assert_allclose(found.losses, losses, rtol=2**-12)
    assert found.ratio == np.argmin(losses) / 20
    np.testing.assert_array_equal(found.scales, channel_scales(mean, found.ratio))
    assert found.ratio > 0


def test_equal_losses_keep_the_first_ratio() -> None:
    """Where every ratio gives the same, the first is chosen: the rule is strictly less."""
    weight = np.array([[1, -1, 1, -1]], F32)
    grid = AwqGrid(8, 4)
    same = np.ones(4)
    assert search_scales([weight], same, np.ones((3, 4), F32), grid).ratio == 0
    empty = search_scales([weight], np.arange(4.0), np.empty((0, 4), F32), grid)
    assert (empty.ratio, set(empty.losses)) == (0, {0.0})


def test_clip_against_loops() -> None:
    """Each group's limit is the one that plain loops find, the largest of equal ones."""
    weight, rows = matrix(4, 3, 16), matrix(5, 12, 16)
    weight[2, 8:] = [1, -1] * 4  # clipping only hurts: the limit stays
    grid = AwqGrid(2, 8, zero_point=False)
    found = clip_limits(weight, rows, grid)
    for i in range(3):
        for g in (0, 1):
            part, inputs = weight[i, 8 * g : 8 * g + 8], rows[:, 8 * g : 8 * g + 8].astype(np.float64)
            largest = np.abs(part).max()
            errors, limits = [], []
            for step in range(10):
                limit = largest * F32(1 - step / 20)
                clipped = [min(max(v, -limit), limit) for v in part]
                numbers = np.array(pseudo_quantize(clipped, 2, zero_point=False))
                errors.append(float(np.mean((inputs @ (numbers - part).astype(np.float64)) ** 2)))
                limits.append(limit)
            assert found[i, g] == limits[int(np.argmin(errors))]
    assert found[2, 1] == 1
    assert (found < np.abs(weight).reshape(3, 2, 8).max(axis=-1)).any()


@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([3, 4]))
def test_search_is_never_worse_than_ratio_0(seed: int, bits: int) -> None:
    """Ratio 0 is rounding to the nearest: what is found cannot lose more on the sample."""
    weight, rows = matrix(seed, 4, 32), matrix(seed + 1, 8, 32)
    found = search_scales([weight], np.abs(rows).mean(axis=0), rows, AwqGrid(bits, 16))
    assert min(found.losses) <= found.losses[0]
    assert found.losses[round(found.ratio * 20)] == min(found.losses)


@pytest.mark.parametrize("clip", [True, False])
def test_linear(*, clip: bool) -> None:
    """The operator divides x by the scales and multiplies by what is stored; bytes by hand."""
    weight, rows = matrix(6, 4, 32), matrix(7, 16, 32)
    mean = np.abs(rows.astype(np.float64)).mean(axis=0)
    grid = AwqGrid(4, 16)
    linear = AwqLinear(weight, mean, rows, grid, clip=clip)
    s = search_scales([weight], mean, rows, grid).scales
    scaled = weight * s
    if clip:
        limits = np.repeat(clip_limits(scaled, (rows / s).astype(F32), grid), 16, axis=1)
        scaled = np.clip(scaled, -limits, limits)
    expected = dequantize(quantize(scaled, grid))
    np.testing.assert_array_equal(linear(np.eye(32, dtype=F32) * s), expected.T)
    # 128 codes and 8 zero points of 4 bits, 8 scales and 32 channels of 2 bytes.
    assert linear.weight_bytes == 64 + 4 + 16 + 64
    assert linear.activation_bits == 32
    assert AwqLinear(weight, mean, rows, AwqGrid(3, 16, zero_point=False)).weight.nbytes == 48 + 16


def test_refusals() -> None:
    """Bad input is refused by name and place."""
    weight, rows, mean = matrix(8, 2, 32), matrix(9, 4, 32), np.ones(32)
    grid = AwqGrid(4, 16)
    with pytest.raises(ShapeError, match="rows of 32 elements are not a multiple of the group of 12"):
        quantize(weight, AwqGrid(4, 12))
    with pytest.raises(DtypeError, match="weight"):
        quantize(weight.astype(np.float64), grid)
    with pytest.raises(DomainError, match="range is too large"):
        quantize(np.array([[0, 0, 3e38, -3e38]], F32), AwqGrid(4, 2))
    with pytest.raises(DomainError, match="mean"):
        search_scales([weight], mean * np.nan, rows, grid)
    with pytest.raises(ArgumentError, match="mean: element 0 is negative"):
        search_scales([weight], -mean, rows, grid)
    with pytest.raises(ShapeError, match="rows"):
        search_scales([weight], mean, rows[:, :5], grid)
    with pytest.raises(ArgumentError, match="weights: expected at least one matrix, got none"):
        search_scales([], mean, rows, grid)
    with pytest.raises(ShapeError, match="rows: expected at least one row, got none"):
        clip_limits(weight, rows[:0], grid)
    for bits in (1, 9):
        with pytest.raises(ArgumentError, match=f"bits: expected 2 to 8, got {bits}"):
            AwqGrid(bits)
    with pytest.raises(ArgumentError, match=r"group: expected at least 1.*, got 0"):
        AwqGrid(group=0)
