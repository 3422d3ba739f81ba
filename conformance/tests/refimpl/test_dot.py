"""The dot product's shapes, integers, arguments and refusals; its orders are in test_dot_orders."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from q8a8 import _fast_dot
from q8a8.dot import block_sums, vec_dot, vec_dot_real
from q8a8.errors import DomainError, DtypeError, ShapeError, UnknownNameError
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2
from q8a8.order import ORDERS


def random_blocks(*shape: int, seed: int = 0) -> np.ndarray:
    """Make blocks with any int8 and gaussian scales."""
    rng = np.random.default_rng([seed, *shape])
    blocks = np.zeros(shape, BLOCK_Q8_A8)
    blocks["weight_qs"] = rng.integers(-128, 128, (*shape, 32))
    blocks["weight_scale"] = rng.normal(size=shape).astype(np.float16)
    return blocks


def one_block(scale: float, qs: list[int]) -> np.ndarray:
    """Make a row of one block; missing elements are zero."""
    row = np.zeros(1, BLOCK_Q8_A8)
    row["weight_scale"] = scale
    row["weight_qs"][0, : len(qs)] = qs
    return row


@pytest.mark.rule("Q8A8-DOT-5")
@pytest.mark.parametrize("order", ORDERS)
def test_no_blocks_give_plus_zero(order: str) -> None:
    """The result is the bits of +0, for one row and for many."""
    empty = random_blocks(3, 0)
    assert vec_dot(empty, empty, order).view(np.uint32).tolist() == [0, 0, 0]
    assert vec_dot(empty[0], empty[0], order).shape == ()
    assert block_sums(empty, empty).shape == (3, 0)


@pytest.mark.rule("Q8A8-DOT-1")
@pytest.mark.parametrize(
    ("a", "b", "expected"), [(-128, -128, 2**19), (-128, 127, -(2**19) + 4096), (127, 127, 516128)]
)
def test_extreme_integers(a: int, b: int, expected: int) -> None:
    """32 products of extreme int8 are exact; -128 times -128 reaches 2^19."""
    x, y = one_block(1, [a] * 32), one_block(1, [b] * 32)
    assert block_sums(x, y).tolist() == [expected]
    for order in ORDERS:
        assert float(vec_dot(x, y, order)) == expected


@pytest.mark.rule("Q8A8-DOT-1")
@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.int8, (2, 3, 32)))
def test_block_sums_are_the_integer_sums(qs: np.ndarray) -> None:
    """Any int8, against Python's integers."""
    x, y = np.zeros(3, BLOCK_Q8_A8), np.zeros(3, BLOCK_Q8_A8)
    x["weight_qs"], y["weight_qs"] = qs
    expected = [sum(p * q for p, q in zip(a, b, strict=True)) for a, b in zip(*qs.tolist(), strict=True)]
    sums = block_sums(x, y)
    assert sums.dtype == np.int32
    assert sums.tolist() == expected


@pytest.mark.rule("Q8A8-DOT-2", "Q8A8-DOT-8")
@pytest.mark.parametrize(
    ("dx", "dy"),
    [
        (65504.0, 65504.0), (2.0**-24, 2.0**-24), (2.0**-24, 65504.0), (-1023 * 2.0**-24, 0.1),
        (1 / 3, 1 / 3), (-0.5, -2.0), (-65504.0, 2.0**-14),
    ],
)  # fmt: skip
def test_the_product_of_the_scales_is_exact(dx: float, dy: float) -> None:
    """One element of one block shows all 22 bits, for large, subnormal and negative scales."""
    exact = Fraction(float(np.float16(dx))) * Fraction(float(np.float16(dy)))
    for order in ORDERS:
        assert Fraction(float(vec_dot(one_block(dx, [1]), one_block(dy, [1]), order))) == exact


@pytest.mark.rule("Q8A8-DOT-8")
@pytest.mark.parametrize("scales", [(0.0, 1.0), (-0.0, 1.0), (-0.0, -0.0), (0.0, -1.0)])
def test_zero_scales_give_plus_zero(scales: tuple[float, float]) -> None:
    """+0 + -0 is +0: a sum that starts at +0 never becomes -0."""
    x, y = one_block(scales[0], [3, -5]), one_block(scales[1], [7, 7])
    for order in ORDERS:
        assert int(vec_dot(x, y, order).view(np.uint32)) == 0


@pytest.mark.rule("Q8A8-DOT-3")
def test_scalar_order_rounds_where_the_specification_says() -> None:
    """By hand: 2^24 + 1 is a tie and goes to the even 2^24, so the order of three terms shows."""
    x = np.zeros(3, BLOCK_Q8_A8)
    x["weight_qs"][:, 0] = 1
    for scales, expected in (([4096, 1, 1], 2**24), ([1, 1, 4096], 2**24 + 2)):
        x["weight_scale"] = scales
        assert float(vec_dot(x, x)) == expected


@pytest.mark.rule("Q8A8-DOT-3")
def test_fused_and_not_differ_by_the_rounding_of_the_product() -> None:
    """Two blocks that cancel: unfused to zero, fused to the first product's rounding error."""
    x, y = np.zeros(2, BLOCK_Q8_A8), np.zeros(2, BLOCK_Q8_A8)
    x["weight_qs"] = y["weight_qs"] = 127
    x["weight_scale"] = y["weight_scale"] = 1 + 2.0**-10
    x["weight_scale"][1] *= -1
    # s * dx * dy has more than 24 bits.
    term = Fraction(32 * 127**2) * (1 + Fraction(1, 1024)) ** 2
    rounded = Fraction(float(np.float32(float(term))))
    assert term != rounded
    assert float(vec_dot(x, y, "scalar")) == 0
    assert Fraction(float(vec_dot(x, y, "scalar-fma"))) == rounded - term


def test_leading_shapes_broadcast() -> None:
    """A matrix of rows against a column of rows; each result is that of its two rows."""
    x, y = random_blocks(3, 1, 5), random_blocks(4, 5)
    for order in ("scalar", "avx2", "neon-dotprod-fma"):
        result = vec_dot(x, y, order)
        assert result.shape == (3, 4)
        assert result.dtype == np.float32
        for i in range(3):
            for j in range(4):
                assert result[i, j] == vec_dot(x[i, 0], y[j], order)
    assert block_sums(x, y).shape == (3, 4, 5)
    assert vec_dot(x[:0], y).shape == (0, 4)


@pytest.mark.rule("Q8A8-DOT-10")
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and blocks in chunks as small as a step give the bits of one chunk."""
    x, y = random_blocks(3, 2, 9), random_blocks(2, 9, seed=1)
    whole = {name: vec_dot(x, y, name).tobytes() for name in ORDERS}
    sums = block_sums(x, y).tobytes()
    for chunk in (1, 64, 200, 600):
        monkeypatch.setattr(_fast_dot, "CHUNK", chunk)
        assert {name: vec_dot(x, y, name).tobytes() for name in ORDERS} == whole
        assert block_sums(x, y).tobytes() == sums


@pytest.mark.rule("Q8A8-DOT-9")
def test_the_two_versions_need_their_own_blocks() -> None:
    """vec_dot takes 34-byte blocks, vec_dot_real 36-byte ones; block_sums takes either, but not both."""
    x, v2 = np.zeros(2, BLOCK_Q8_A8), np.zeros(2, BLOCK_Q8_A8_V2)
    with pytest.raises(DtypeError, match="y: expected blocks of"):
        vec_dot(x, v2)
    with pytest.raises(DtypeError, match="x: expected blocks of"):
        vec_dot_real(x, v2)
    with pytest.raises(DtypeError, match="y: expected blocks of"):
        block_sums(x, v2)
    v2["weight_qs"][:, :2] = 3
    assert block_sums(v2, v2).tolist() == [18, 18]
    # No scale in the role that counts: +0.
    v2["weight_scale"] = 1
    assert vec_dot_real(v2, v2) == 0
    v2["activation_scale"] = 2
    assert vec_dot_real(v2, v2) == 72


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (random_blocks(2), random_blocks(3), "x, y: rows of 2 and 3 blocks"),
        (random_blocks(2, 3), random_blocks(4, 3), r"x, y: shapes \(2, 3\) and \(4, 3\) do not broadcast"),
        (random_blocks(2)[0], random_blocks(2), "x: a row has at least one axis"),
        (random_blocks(2), np.zeros((), BLOCK_Q8_A8), "y: a row has at least one axis"),
    ],
)
def test_shapes_that_do_not_fit(x: np.ndarray, y: np.ndarray, message: str) -> None:
    """Rows of different length, shapes that do not broadcast, a block that is no row."""
    for function in (vec_dot, block_sums):
        with pytest.raises(ShapeError, match=message):
            function(np.asarray(x), y)


@pytest.mark.rule("Q8A8-DOT-8")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scales_that_are_no_number_are_refused(value: float) -> None:
    """The error names the array, row, block and value."""
    x, y = random_blocks(2, 3), random_blocks(3)
    x["weight_scale"][1, 2] = value
    with pytest.raises(DomainError, match=r"x: row 1, block 2: value .*: a scale must be finite") as caught:
        vec_dot(x, y)
    assert (caught.value.array, caught.value.row, caught.value.block) == ("x", (1,), 2)
    with pytest.raises(DomainError, match=r"y: row \(?1"):
        vec_dot(y, x)


def test_unknown_orders_are_refused() -> None:
    """The message lists the orders."""
    with pytest.raises(UnknownNameError, match="there are scalar, "):
        vec_dot(random_blocks(1), random_blocks(1), "fastest")
