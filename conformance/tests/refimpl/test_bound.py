"""The bound on all orders: its value, that every order keeps it, and that its checker is exact."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q8a8.bound import (
    LANE_FOLD_ROUNDINGS,
    dot_bound,
    exact_dot,
    fraction_of_bound,
    magnitude,
    roundings,
    within_bound,
)
from q8a8.dot import vec_dot
from q8a8.errors import DomainError, DtypeError, ShapeError
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2
from q8a8.order import ORDERS, Fold, Order, sequential

pytestmark = pytest.mark.rule("Q8A8-ORD-2")


def random_row(nb: int, seed: int, *, cancelling: bool = False) -> np.ndarray:
    """Make a row of blocks with any int8 and any finite scale."""
    rng = np.random.default_rng([nb, seed])
    row = np.zeros(nb, BLOCK_Q8_A8)
    row["weight_qs"] = rng.integers(-128, 128, (nb, 32))
    bits = rng.integers(0, 0x7C00, nb) + (0x8000 * rng.integers(0, 2, nb))
    row["weight_scale"] = bits.astype(np.uint16).view(np.float16)
    if cancelling:
        row["weight_scale"] = np.where(np.arange(nb) % 2, -1, 1) * np.float16(1 / 3)
        row["weight_qs"][1::2] = row["weight_qs"][: nb - nb % 2 : 2]
    return row


def terms_of(x: np.ndarray, y: np.ndarray) -> list[Fraction]:
    """List every product qx * qy * dx * dy as a fraction."""
    return [
        Fraction(int(a)) * int(b) * Fraction(float(bx["weight_scale"])) * Fraction(float(by["weight_scale"]))
        for bx, by in zip(x, y, strict=True)
        for a, b in zip(bx["weight_qs"], by["weight_qs"], strict=True)
    ]


def neighbours(limit: Fraction) -> tuple[np.float32, np.float32]:
    """Return the largest float32 that is not above a limit, and the next one."""
    below = np.float32(float(limit))
    while Fraction(float(below)) > limit:
        below = np.nextafter(below, np.float32(-np.inf))
    while Fraction(float(np.nextafter(below, np.float32(np.inf)))) <= limit:
        below = np.nextafter(below, np.float32(np.inf))
    return below, np.nextafter(below, np.float32(np.inf))


@pytest.mark.parametrize("nb", [0, 1, 2, 3, 4, 5, 7, 255, 256, 257])
def test_exact_values(nb: int) -> None:
    """The sum, the sum of magnitudes and the bound are those of the formula, over fractions."""
    x, y = random_row(nb, 1), random_row(nb, 2)
    terms = terms_of(x, y)
    assert exact_dot(x, y) == sum(terms)
    assert magnitude(x, y) == sum(abs(term) for term in terms)
    growth = (1 + Fraction(1, 2**24)) ** (nb + 64) - 1
    assert dot_bound(x, y) == growth * sum(abs(term) for term in terms)


def test_extreme_values_are_exact() -> None:
    """-128 times -128 with the largest and the smallest scales: 2^19 * 65504^2 and 2^19 * 2^-48."""
    row = np.zeros(1, BLOCK_Q8_A8)
    row["weight_qs"] = -128
    for scale in (65504.0, -65504.0, 2.0**-24):
        row["weight_scale"] = scale
        assert exact_dot(row, row) == magnitude(row, row) == 2**19 * Fraction(scale) ** 2


def test_version_2_blocks() -> None:
    """Of x weight_scale, of y activation_scale count; the other fields may hold anything."""
    x, y = np.zeros(2, BLOCK_Q8_A8_V2), np.zeros(2, BLOCK_Q8_A8_V2)
    x["weight_qs"][:, :2] = [3, -4]
    y["weight_qs"][:, :2] = [5, 6]
    x["weight_scale"], x["activation_scale"] = [2, -1], np.nan
    y["weight_scale"], y["activation_scale"] = np.inf, [0.5, 4]
    # 2 * 0.5 * (15 - 24) - 4 * (15 - 24); magnitudes 39
    assert exact_dot(x, y) == -9 + 36
    assert magnitude(x, y) == 39 + 4 * 39
    assert within_bound(27, x, y)
    assert not within_bound(28, x, y)


@pytest.mark.parametrize(("nb", "cancelling"), [(1, False), (3, False), (64, True), (257, False)])
def test_the_checker_is_exact_from_both_sides(nb: int, cancelling: bool) -> None:
    """The last float32 inside the bound passes and the next does not, above the exact result and below."""
    x, y = random_row(nb, 3, cancelling=cancelling), random_row(nb, 4)
    terms = terms_of(x, y)
    exact = sum(terms, Fraction(0))
    bound = ((1 + Fraction(1, 2**24)) ** (nb + 64) - 1) * sum(abs(term) for term in terms)
    inside, outside = neighbours(exact + bound)
    assert within_bound(inside, x, y)
    assert not within_bound(outside, x, y)
    assert fraction_of_bound(inside, x, y) <= 1 <= fraction_of_bound(outside, x, y)
    # Below: negate one side, and the same holds for the negated neighbours of bound - exact.
    inside, outside = neighbours(bound - exact)
    assert within_bound(-inside, x, y)
    assert not within_bound(-outside, x, y)


def test_fraction_of_bound() -> None:
    """By hand: half of the bound, and all of the exceptions."""
    row = np.zeros(1, BLOCK_Q8_A8)
    row["weight_scale"] = 1
    row["weight_qs"][0, 0] = 1
    bound = (1 + Fraction(1, 2**24)) ** 65 - 1
    assert fraction_of_bound(1 + 2.0**-20, row, row) == float(Fraction(1, 2**20) / bound)
    assert fraction_of_bound(1.0, row, row) == 0
    zero = np.zeros(1, BLOCK_Q8_A8)
    assert fraction_of_bound(-0.0, zero, row) == 0
    assert fraction_of_bound(2.0**-149, zero, row) == np.inf


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_outside(value: float) -> None:
    """NaN and infinities never keep the bound."""
    row = random_row(2, 5)
    assert not within_bound(np.float32(value), row, row)
    assert fraction_of_bound(value, row, row) == np.inf


def test_zero_is_all_that_zero_allows() -> None:
    """Where all products vanish both zeros are inside, and nothing else."""
    zero, row = np.zeros(3, BLOCK_Q8_A8), random_row(3, 6)
    assert within_bound(0.0, zero, row)
    assert within_bound(-0.0, zero, row)
    assert not within_bound(np.float32(2.0**-149), zero, row)
    assert within_bound(0.0, zero[:0], row[:0])


@pytest.mark.parametrize(
    ("name", "nb", "expected"),
    [
        ("scalar", 1, 1), ("scalar", 256, 256), ("scalar-fma", 5, 5), ("i8mm", 7, 7),
        # Half the blocks, 2 fold additions in the vector, 1 to join; an odd block by the scalar tail.
        ("neon-dotprod", 8, 4 + 3), ("neon-dotprod-gcc", 9, 4 + 3 + 1), ("neon-dotprod", 1, 1),
        # Joined first: 1 + 2, and 1 + 3; 16 lanes: 4.
        ("sve-128", 8, 4 + 3), ("sve-256", 8, 4 + 4), ("sve-512", 9, 4 + 4 + 1),
        # All blocks in one vector of eight; the first lane of a left-to-right fold passes three additions.
        ("avx2", 256, 256 + 3), ("wasm", 10, 10 + 3), ("neon-armv7", 2, 1 + 4), ("avx2", 0, 0),
    ],
)  # fmt: skip
def test_roundings_by_hand(name: str, nb: int, expected: int) -> None:
    """The longest way of a term through each kind of order, counted by hand."""
    assert roundings(name, nb) == expected


def test_roundings_of_a_body_that_takes_the_tail() -> None:
    """Blocks left over go to the accumulators one by one, each of them one more rounding there."""
    whole = ORDERS["neon"]
    order = replace(whole, body=(0, 0, 1), tail="body")
    folds = roundings(order, 1) - 1
    assert [roundings(order, nb) - folds for nb in range(1, 7)] == [1, 2, 2, 3, 4, 4]


def test_the_constant_covers_every_known_order() -> None:
    """The m = nb + 64 is at least each order's own count."""
    assert LANE_FOLD_ROUNDINGS == 64
    for name in ORDERS:
        assert all(roundings(name, nb) <= nb + LANE_FOLD_ROUNDINGS for nb in range(600)), name


def test_the_constant_covers_the_worst_of_64_partial_sums() -> None:
    """Eight accumulators of eight lanes folded from left to right: 63 additions."""
    lanes = tuple(tuple(range(4 * k, 4 * k + 4)) for k in range(8))
    tails: tuple[Literal["scalar", "body"], ...] = ("scalar", "body")
    for tail in tails:
        order = Order("worst", lanes, tuple(range(8)), sequential(0, 64), False, tail, False, 1, "a test")
        assert roundings(order, 8) == 1 + 63
        assert all(roundings(order, nb) <= nb + LANE_FOLD_ROUNDINGS for nb in range(600))


@st.composite
def any_fold(draw: st.DrawFn, registers: int) -> Fold:
    """Draw a binary tree over so many registers."""
    folds: list[Fold] = list(draw(st.permutations(range(registers))))
    while len(folds) > 1:
        a = folds.pop(draw(st.integers(0, len(folds) - 1)))
        b = folds.pop(draw(st.integers(0, len(folds) - 1)))
        folds.append((a, b))
    return folds[0]


@st.composite
def any_order(draw: st.DrawFn) -> Order:
    """Draw an order: lanes, body, fold, contraction and tail of any kind, with up to 64 registers."""
    count = draw(st.sampled_from([1, 2, 4, 8, 16]))
    permuted = draw(st.permutations(range(32)))
    lanes = tuple(tuple(permuted[k::count]) for k in range(count))
    accumulators = draw(st.integers(1, 4))
    body = (*range(accumulators), *draw(st.lists(st.integers(0, accumulators - 1), max_size=3)))
    fold = draw(any_fold(count * accumulators))
    fused, tail_fused = draw(st.booleans()), draw(st.booleans())
    tail: Literal["scalar", "body"] = draw(st.sampled_from(["scalar", "body"]))
    return Order("drawn", lanes, body, fold, fused, tail, tail_fused, 1, "a test")


@settings(max_examples=60, deadline=None)
@given(order=any_order(), nb=st.integers(0, 40), seed=st.integers(0, 2**32 - 1), cancelling=st.booleans())
def test_any_order_keeps_the_bound(order: Order, nb: int, seed: int, cancelling: bool) -> None:
    """Whatever the order: its result is inside, even with the order's own count of roundings for m."""
    x, y = random_row(nb, seed, cancelling=cancelling), random_row(nb, seed + 1)
    computed = vec_dot(x, y, order)
    terms = terms_of(x, y)
    m = roundings(order, nb)
    assert m <= nb + 64
    error = abs(Fraction(float(computed)) - sum(terms))
    assert error <= ((1 + Fraction(1, 2**24)) ** m - 1) * sum(abs(term) for term in terms)
    assert within_bound(computed, x, y)


def test_a_wrong_kernel_leaves_the_bound() -> None:
    """A scale product rounded to half precision is no other order: it is outside on rows without a sign."""
    for seed in range(20):
        x, y = random_row(8, seed), random_row(8, seed + 50)
        x["weight_qs"] &= 127
        y["weight_qs"] &= 127
        x["weight_scale"], y["weight_scale"] = np.float16(1 / 3), np.float16(0.7)
        wrong = x.copy()
        wrong["weight_scale"] = np.float16(1 / 3) * np.float16(0.7)
        one = y.copy()
        one["weight_scale"] = 1
        assert not within_bound(vec_dot(wrong, one), x, y)


def test_arguments_are_checked() -> None:
    """Single rows of one length and one version, and finite scales, by name."""
    row, v2 = random_row(3, 7), np.zeros(3, BLOCK_Q8_A8_V2)
    for function in (exact_dot, magnitude, dot_bound):
        with pytest.raises(ShapeError, match="expected one row each"):
            function(row[np.newaxis], row)
        with pytest.raises(ShapeError, match="expected one row each"):
            function(row[np.newaxis], row[np.newaxis])
        with pytest.raises(ShapeError, match="rows of 3 and 2 blocks"):
            function(row, row[:2])
        with pytest.raises(DtypeError, match="y: expected blocks of"):
            function(v2, row)
        with pytest.raises(ShapeError, match="x: a row has at least one axis"):
            function(np.zeros((), BLOCK_Q8_A8), row)
    bad = row.copy()
    bad["weight_scale"][1] = np.inf
    with pytest.raises(DomainError, match="x: row 0, block 1: value inf"):
        exact_dot(bad, row)
    with pytest.raises(DomainError, match="y: row 0, block 1: value inf"):
        within_bound(0.0, row, bad)
