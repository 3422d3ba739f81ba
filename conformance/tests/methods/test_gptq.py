"""GPTQ against an oracle that has neither its factor nor its blocks, and by hand.

The oracle is optimal brain surgeon's rule itself, with the columns in a fixed order: after each column the
inverse of what is left of H is computed anew, and every column to come is updated at once.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q8a8.errors import ArgumentError, DomainError, DtypeError, ShapeError, UnknownNameError
from q8a8.methods.gptq import GptqLinear, Hessian, gptq, layer_error
from q8a8.methods.gptq_grid import Grid, dequantize, round_to_nearest


def problem(seed: int, m: int, k: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and the H of correlated inputs."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((k, k)) / np.sqrt(k) + np.eye(k)
    inputs = (rng.standard_normal((rows, k)) @ mixed).astype(np.float32)
    hessian = Hessian(k)
    hessian.update(inputs)
    return rng.standard_normal((m, k)).astype(np.float32), hessian.matrix()


def oracle(
    weight: np.ndarray,
    hessian: np.ndarray,
    grid: Grid,
    *,
    damping: float = 0.01,
    block: int = 128,
    act_order: bool = False,
    parameters: str = "stale",
) -> np.ndarray:
    """Return the dequantized weights, by the rule as the paper derives it; groups by plain loops."""
    m, k = weight.shape
    h, w = np.array(hessian), weight.astype(np.float64)
    for j in range(k):
        if h[j, j] == 0:
            h[j, j], w[:, j] = 1, 0
    width = k if grid.group is None else grid.group
    original = w.copy()
    order = sorted(range(k), key=lambda j: -h[j, j]) if act_order else list(range(k))
    h, w = h[np.ix_(order, order)], w[:, order]
    h = h + np.eye(k) * damping * np.mean(np.diag(h))
    out = np.zeros((m, k))
    snapshot = w.copy()
    for j in range(k):
        if j % block == 0:
            snapshot = w.copy()
        if parameters == "static":
            first = order[j] // width * width
            source = original[:, first : first + width]
        elif j % width == 0:
            source = (snapshot if parameters == "stale" else w)[:, j : j + width].copy()
        remaining = np.linalg.inv(h[j:, j:])
        for i in range(m):
            lo, hi = min(0.0, source[i].min()), max(0.0, source[i].max())
            if grid.symmetric:
                hi = max(-lo, hi)
                lo = -hi if lo < 0 else lo
            if lo == hi:
                lo, hi = -1.0, 1.0
            scale = (hi - lo) / (2**grid.bits - 1)
            zero = 2 ** (grid.bits - 1) if grid.symmetric else round(-lo / scale)
            scale = float(np.float16(scale) if grid.half_scale else np.float32(scale))
            code = min(max(round(w[i, j] / scale) + zero, 0), 2**grid.bits - 1)
            out[i, order[j]] = scale * (code - zero)
            w[i, j:] -= (w[i, j] - scale * (code - zero)) / remaining[0, 0] * remaining[0]
    return out


@pytest.mark.parametrize("parameters", ["stale", "fresh", "static"])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize(
    ("grid", "block"),
    [
        (Grid(4, None, half_scale=False), 128),
        (Grid(4, None), 7),  # blocks that do not divide the row
        (Grid(3, 8, symmetric=True), 16),  # groups that begin inside a block
        (Grid(2, 12), 8),  # groups that end in the middle of a block
        (Grid(8, 20), 8),  # a group over three blocks, and a short last one
        (Grid(4, 5, half_scale=False), 1),
    ],
)
def test_oracle(grid: Grid, block: int, *, act_order: bool, parameters: str) -> None:
    """Every code is the oracle's, whatever the blocks, groups and order."""
    weight, hessian = problem(seed=grid.bits, m=3, k=50, rows=200)
    stored = gptq(weight, hessian, grid, block=block, act_order=act_order, parameters=parameters)
    expected = oracle(weight, hessian, grid, block=block, act_order=act_order, parameters=parameters)
    np.testing.assert_array_equal(dequantize(stored), expected.astype(np.float32))


def test_the_oracle_tells_stale_from_fresh() -> None:
    """The two kinds of parameters differ where a group begins inside a block, and only there."""
    weight, hessian = problem(seed=1, m=4, k=64, rows=100)
    stale, fresh = (
        [dequantize(gptq(weight, hessian, Grid(3, 16), block=b, parameters=kind)) for b in (64, 16)]
        for kind in ("stale", "fresh")
    )
    assert (stale[0] != fresh[0]).any()
    np.testing.assert_array_equal(stale[1], fresh[1])
    # What is fresh does not depend on the blocks.
    np.testing.assert_array_equal(fresh[0], fresh[1])


def test_by_hand_exactly() -> None:
    """Two columns in rational numbers: the error of the first moves the second over a boundary."""
    # H = [[2, 1], [1, 2]] without damping; H^-1 = [[2, -1], [-1, 2]]/3, so w_2 += (w_1 - q_1)/2.
    hessian = np.array([[2.0, 1.0], [1.0, 2.0]])
    weight = np.array([[0.4375, 0.34375, -7.0]], np.float32)
    three = np.zeros((3, 3))
    three[:2, :2], three[2, 2] = hessian, 2
    # Symmetric, 4 bits, half_scale: scale = 14/15, as float16 1911/2048.
    grid = Grid(4, None, symmetric=True)
    scale = Fraction(float(np.float16(14 / 15)))
    stored = gptq(weight, three, grid, damping=0)
    assert stored.scale[0, 0] == float(scale)
    # round(0.4375/scale) = round(0.47) = 0: the whole 0.4375 is the error, and 0.34375 + 0.21875 = 0.5625.
    assert Fraction(0.4375) / scale < Fraction(1, 2)
    assert Fraction(0.34375) / scale < Fraction(1, 2) < Fraction(0.5625) / scale
    np.testing.assert_array_equal(stored.codes, [[8, 9, 0]])
    np.testing.assert_array_equal(round_to_nearest(weight, grid).codes, [[8, 8, 0]])


def test_ties_in_the_order_are_stable() -> None:
    """Columns with equal diagonals are taken as they lie."""
    weight, _ = problem(seed=3, m=2, k=12, rows=1)
    hessian = np.diag([1.0, 5, 1, 5, 1, 5, 1, 5, 1, 5, 1, 5])
    stored = gptq(weight, hessian, Grid(4, 4), act_order=True)
    np.testing.assert_array_equal(stored.group_of, [1, 0, 1, 0, 2, 0, 2, 0, 2, 1, 2, 1])


def test_dead_columns() -> None:
    """A column whose input is always 0 becomes 0 and moves no other; all may be dead."""
    weight, hessian = problem(seed=4, m=3, k=16, rows=64)
    hessian[5] = hessian[:, 5] = 0
    grid = Grid(4, None, half_scale=False)
    numbers = dequantize(gptq(weight, hessian, grid, parameters="static"))
    assert not numbers[:, 5].any()
    np.testing.assert_array_equal(
        numbers, oracle(weight, hessian, grid, parameters="static").astype(np.float32)
    )
    assert not dequantize(gptq(weight, np.zeros((16, 16)), grid)).any()


def test_diagonal_rounds_to_nearest() -> None:
    """Without correlation nothing can be made good: GPTQ then is rounding to the nearest."""
    weight, _ = problem(seed=5, m=4, k=40, rows=1)
    diagonal = np.diag(np.arange(1.0, 41))
    for grid in (Grid(4, 8), Grid(3, None, symmetric=True)):
        np.testing.assert_array_equal(
            gptq(weight, diagonal, grid).codes, round_to_nearest(weight, grid).codes
        )


@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([2, 3, 4, 8]), act_order=st.booleans())
def test_guarded_is_never_worse(seed: int, bits: int, *, act_order: bool) -> None:
    """With the guard no row is worse than rounded to the nearest on the same grid."""
    k = 2 + seed % 15
    weight, hessian = problem(seed, m=3, k=k, rows=1 + seed % 40)
    grid = Grid(bits, None)
    ours = gptq(weight, hessian, grid, act_order=act_order, parameters="static", guard=True)
    nearest = round_to_nearest(weight, grid)
    np.testing.assert_array_equal(ours.scale, nearest.scale)
    errors, others = (layer_error(weight, dequantize(each), hessian) for each in (ours, nearest))
    assert (errors <= others).all()


def test_the_guard_is_needed() -> None:
    """The authors' algorithm itself can be worse on a small layer: the guard then changes its rows alone."""
    changed = 0
    for seed in range(40):
        weight, hessian = problem(seed, m=4, k=6, rows=8)
        grid = Grid(2, None)
        plain, guarded, nearest = (
            gptq(weight, hessian, grid, parameters="static"),
            gptq(weight, hessian, grid, parameters="static", guard=True),
            round_to_nearest(weight, grid),
        )
        worse = layer_error(weight, dequantize(plain), hessian) > layer_error(
            weight, dequantize(nearest), hessian
        )
        np.testing.assert_array_equal(guarded.codes[worse], nearest.codes[worse])
        np.testing.assert_array_equal(guarded.codes[~worse], plain.codes[~worse])
        changed += int(worse.sum())
    assert changed > 0


def test_layer_error_is_the_output_error() -> None:
    """With H of the inputs themselves the error is 2/n times the squared difference of the outputs."""
    rng = np.random.default_rng(6)
    inputs = rng.standard_normal((50, 8)).astype(np.float32)
    weight = rng.standard_normal((3, 8)).astype(np.float32)
    other = weight + np.float32(0.125)
    hessian = Hessian(8)
    hessian.update(inputs)
    wide = inputs.astype(np.float64)
    outputs = wide @ (weight.astype(np.float64) - other).T
    expected = (outputs**2).sum(axis=0) * 2 / 50
    # 50·8 products and sums of float64: far fewer than 2^20 roundings.
    np.testing.assert_allclose(layer_error(weight, other, hessian.matrix()), expected, rtol=2**-32)


def test_hessian_merges() -> None:
    """Parts of the inputs, merged, give the sums of the whole; integers are exact."""
    rng = np.random.default_rng(7)
    inputs = rng.integers(-9, 9, (32, 5)).astype(np.float32)
    whole, first, second = Hessian(5), Hessian(5), Hessian(5)
    whole.update(inputs)
    first.update(inputs[:11])
    second.update(inputs[11:])
    first.merge(second)
    np.testing.assert_array_equal(first.matrix(), whole.matrix())
    np.testing.assert_array_equal(whole.matrix() * 16, (inputs.T @ inputs).astype(np.float64))
    assert not Hessian(2).matrix().any()
    with pytest.raises(ShapeError, match="expected rows of 5 elements, got 4"):
        whole.merge(Hessian(4))
    with pytest.raises(ShapeError, match=r"x: expected shape \[n, 5\], got \(2, 4\)"):
        whole.update(np.zeros((2, 4), np.float32))
    with pytest.raises(DomainError, match="nan"):
        whole.update(np.full((1, 5), np.nan, np.float32))


@pytest.mark.parametrize(
    ("bits", "symmetric", "half", "expected"),
    [(4, True, True, 3 * 16 / 2 + 3 * 2 * 2), (3, False, True, 18 + 12 + 3), (8, False, False, 48 + 24 + 6)],
)
def test_stored_bytes(bits: int, *, symmetric: bool, half: bool, expected: float) -> None:
    """Codes, scales and zeros are counted as packed: 3 rows of 16 columns in 2 groups, by hand."""
    weight, hessian = problem(seed=8, m=3, k=16, rows=40)
    grid = Grid(bits, 8, symmetric=symmetric, half_scale=half)
    stored = gptq(weight, hessian, grid)
    assert stored.nbytes == expected
    # 4 bytes a column more where the columns' groups are out of order.
    assert gptq(weight, hessian, grid, act_order=True).nbytes == expected + 64
    assert gptq(weight, hessian, grid, act_order=True, parameters="static").nbytes == expected


def test_packed_bits() -> None:
    """Codes of 3 bits follow each other from the lowest bit: 5, 3, 7 are 101, 110 and 111, read backwards."""
    grid = Grid(3, None, half_scale=False)
    weight = np.array([[-3, 4, 1, -2, 0, 2, 3, -1]], np.float32)
    stored = round_to_nearest(weight, grid)
    np.testing.assert_array_equal(stored.codes, [[0, 7, 4, 1, 3, 5, 6, 2]])
    value = sum(code << 3 * i for i, code in enumerate(stored.codes[0].tolist()))
    assert stored.packed()[0].tobytes() == value.to_bytes(3, "little")
    np.testing.assert_array_equal(dequantize(stored), weight)


VECTORS = json.loads((Path(__file__).parent / "vectors" / "gptq.json").read_text("utf-8"))["cases"]


@pytest.mark.parametrize("case", VECTORS, ids=[case["id"] for case in VECTORS])
def test_vectors(case: dict[str, Any]) -> None:
    """Each row of the vectors, derived by hand, has its scale, zero and codes."""
    grid = Grid(case["bits"], None, symmetric=case["symmetric"], half_scale=case["half_scale"])
    stored = round_to_nearest(np.array([case["weight"]], np.float32), grid)
    assert stored.scale[0, 0] == case["scale"]
    assert stored.zero[0, 0] == case["zero"]
    np.testing.assert_array_equal(stored.codes[0], case["codes"])
    difference = np.array(case["codes"], np.float32) - np.float32(case["zero"])
    np.testing.assert_array_equal(dequantize(stored)[0], np.float32(case["scale"]) * difference)


def test_no_columns() -> None:
    """Rows of no columns are rows of no columns."""
    assert round_to_nearest(np.empty((2, 0), np.float32), Grid(4, None)).codes.shape == (2, 0)


def test_refusals() -> None:
    """Bad input is refused by name and place."""
    weight, hessian = problem(seed=9, m=2, k=4, rows=20)
    grid = Grid()
    with pytest.raises(DtypeError, match="weight"):
        gptq(weight.astype(np.float64), hessian, grid)
    with pytest.raises(ShapeError, match="hessian"):
        gptq(weight, hessian[:3], grid)
    with pytest.raises(ArgumentError, match="NaN"):
        gptq(weight, hessian * np.nan, grid)
    with pytest.raises(ArgumentError, match=r"damping: expected at least 0, got -0\.5"):
        gptq(weight, hessian, grid, damping=-0.5)
    with pytest.raises(ArgumentError, match="damping: expected at least 0, got nan"):
        gptq(weight, hessian, grid, damping=float("nan"))
    with pytest.raises(ArgumentError, match="block: expected at least 1, got 0"):
        gptq(weight, hessian, grid, block=0)
    with pytest.raises(UnknownNameError, match="stale, fresh, static"):
        gptq(weight, hessian, grid, parameters="none")
    with pytest.raises(ArgumentError, match="not positive definite with a damping of 0"):
        gptq(weight, np.ones((4, 4)), grid, damping=0)
    for bits in (1, 9):
        with pytest.raises(ArgumentError, match=f"bits: expected 2 to 8, got {bits}"):
            Grid(bits)
    with pytest.raises(ArgumentError, match=r"group: expected at least 1.*, got 0"):
        Grid(group=0)
    huge = np.array([[1, 2], [3, 3e6]], np.float32)
    with pytest.raises(DomainError, match=r"weight.*row 1.*element 1.*3e\+06|float16"):
        round_to_nearest(huge, Grid(4, None))


def test_linear() -> None:
    """The operator multiplies by the dequantized weights; without H it rounds to the nearest."""
    weight, hessian = problem(seed=10, m=3, k=32, rows=64)
    grid = Grid(4, 16)
    linear = GptqLinear(weight, hessian, grid, act_order=True)
    x = np.eye(32, dtype=np.float32)
    np.testing.assert_array_equal(linear(x).T, dequantize(gptq(weight, hessian, grid, act_order=True)))
    assert linear.weight_bytes == linear.weight.nbytes
    assert linear.activation_bits == 32
    nearest = GptqLinear(weight, None, grid)
    np.testing.assert_array_equal(nearest(x).T, dequantize(round_to_nearest(weight, grid)))
    with pytest.raises(ShapeError, match="x"):
        linear(x[:, :5])
