"""The claims of the page of proofs, checked on every case or every boundary."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

import q8a8
from q8a8 import bound

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

F32 = np.float32
HALVES = np.arange(0x10000, dtype=np.uint16).view(np.float16)
FINITE = HALVES[np.isfinite(HALVES)]


def ties() -> NDArray[np.float64]:
    """Return the 31744 midpoints of neighbouring halves, 65520 included, exact in float64."""
    halves = np.append(np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64), 65536.0)
    middle: NDArray[np.float64] = (halves[:-1] + halves[1:]) / 2
    return middle


def floats_around(middle: NDArray[np.float64], reach: int) -> NDArray[np.float32]:
    """Return [ties, 2 reach + 1] floats: 127 times each tie, with its neighbours on either side."""
    exact = 127 * middle
    bits = exact.astype(F32).view(np.uint32)
    assert (bits.view(F32) == exact).all(), "127 times a tie is a float"
    return (bits[:, np.newaxis] + np.arange(-reach, reach + 1, dtype=np.int64)).astype(np.uint32).view(F32)


@pytest.mark.rule("Q8A8-HLF-5")
def test_double_rounding() -> None:
    """Near every tie, rounding amax / 127 via binary32, via binary64 and exactly gives the same half."""
    middle = ties()
    assert len(middle) == 31744
    reach = 40
    amax = floats_around(middle, reach)
    with np.errstate(over="ignore"):
        twice = (amax / F32(127)).astype(np.float16)
        once = (amax.astype(np.float64) / 127).astype(np.float16)
        # Exactly: below a tie the lower half, above it the upper one, on it the even one.
        lower = np.arange(0x7C00, dtype=np.uint16)[:, np.newaxis]
        beside = np.arange(-reach, reach + 1)
        up = (beside > 0) | ((beside == 0) & (lower % 2 == 1))
    exact = (lower + up).astype(np.uint16)
    # (The next tie is 127 * 64 floats away or more: 40 do not reach it.)
    assert (twice.view(np.uint16) == exact).all()
    assert (once.view(np.uint16) == exact).all()
    # The only float whose rounded quotient is the tie is 127 times the tie.
    hits = (amax / F32(127)).astype(np.float64) == middle[:, np.newaxis]
    assert (hits == (beside == 0)).all()


@pytest.mark.rule("Q8A8-QNT-2")
def test_reciprocal_differs_from_quotient() -> None:
    """Multiplying by f32(1 / 127) gives a wrong half for 126 floats, each the one after 127 times a tie."""
    amax = floats_around(ties(), 40)
    with np.errstate(over="ignore"):
        wrong = (amax / F32(127)).astype(np.float16) != (amax * F32(1 / 127)).astype(np.float16)
    assert wrong.sum() == wrong[:, 41].sum() == 126
    example = np.array([0x367E0001], np.uint32).view(F32)[0]
    assert example in amax[:, 41][wrong[:, 41]]
    assert np.float16(example * F32(1 / 127)) == 0


@pytest.mark.rule("Q8A8-QNT-6")
def test_when_the_scale_is_zero() -> None:
    """127 * 2^-25 is the largest amax whose scale is zero."""
    edge = F32(127 * 2.0**-25)
    for amax, bits in ((np.nextafter(edge, F32(0)), 0), (edge, 0), (np.nextafter(edge, F32(1)), 1)):
        codes, scale = q8a8.quantize_activation(np.array([amax], F32))
        assert int(scale.view(np.uint16)) == bits
        assert codes[0] == (127 if bits else 0)


@pytest.mark.rule("Q8A8-HLF-4", "Q8A8-QNT-11", "Q8A8-QNT-12")
def test_end_of_the_domain() -> None:
    """8321040 is the smallest amax whose scale is infinite; the float below it has the scale 65504."""
    edge = F32(8321040)
    _, scale = q8a8.quantize_activation(np.array([np.nextafter(edge, F32(0))], F32))
    assert scale == 65504
    for amax in (edge, np.nextafter(edge, F32(np.inf))):
        with pytest.raises(q8a8.DomainError):
            q8a8.quantize_activation(np.array([amax], F32))


@pytest.mark.rule("Q8A8-QNT-5")
def test_integers_are_within_127() -> None:
    """For every significand of amax, amax * inv rounds to 127 and never exceeds 127 + 2^-17."""
    greatest, least = 0.0, np.inf
    for first in range(0, 1 << 23, 1 << 20):
        amax = np.arange(first, first + (1 << 20), dtype=np.uint32)
        amax = (amax | np.uint32(0x3F800000)).view(F32)
        product = amax * (F32(127) / amax)
        greatest, least = max(greatest, float(product.max())), min(least, float(product.min()))
    assert greatest == 127 + 2.0**-17
    assert 126.5 < least <= 127


@pytest.mark.rule("Q8A8-DEQ-1", "Q8A8-DEQ-2")
def test_dequantization_is_exact() -> None:
    """Every finite half times every int8 is a float."""
    assert len(FINITE) == 63488
    codes = np.arange(-128, 128, dtype=np.int8)
    for scales in np.array_split(FINITE, 16):
        product = scales.astype(F32)[:, np.newaxis] * codes.astype(F32)
        exact = scales.astype(np.float64)[:, np.newaxis] * codes.astype(np.float64)
        assert (product == exact).all()


@pytest.mark.rule("Q8A8-DOT-1", "Q8A8-DOT-2")
def test_exact_steps_of_a_dot_product() -> None:
    """|sumi| up to 2^19, products of two significands, and the extreme products of scales are exact."""
    least = np.full((1, 32), -128, np.int8)
    block = q8a8.pack(np.ones(1, np.float16), least)
    assert q8a8.block_sums(block, block)[0] == 1 << 19
    sums = np.arange(-(1 << 19), (1 << 19) + 1)
    assert (sums.astype(F32).astype(np.int64) == sums).all()
    significands = np.arange(2048)
    for x in np.array_split(significands, 16):
        product = x.astype(F32)[:, np.newaxis] * significands.astype(F32)
        assert (product.astype(np.int64) == x[:, np.newaxis] * significands).all()
    assert F32(2.0**-24) * F32(2.0**-24) == 2.0**-48
    assert float(F32(65504) * F32(65504)) == 65504**2


@pytest.mark.rule("Q8A8-DOT-4")
@pytest.mark.parametrize("name", sorted(q8a8.ORDERS))
def test_inputs_exact_by_construction(name: str) -> None:
    """Rows that satisfy DOT-4's condition give the exact sum in every order, up to the condition's limit."""
    random = np.random.default_rng(4)
    for nb in (1, 2, 3, 7, 8):
        # One product of scales, 3/8, whose unit is g = 1/8: the magnitudes may come to 2^24 / 3.
        scale_x, scale_y = np.full(nb, 0.75, np.float16), np.full(nb, -0.5, np.float16)
        for limit in (3, 128):
            qx = random.integers(-limit, limit, (nb, 32), dtype=np.int8)
            qy = random.integers(-limit, limit, (nb, 32), dtype=np.int8)
            x, y = q8a8.pack(scale_x, qx), q8a8.pack(scale_y, qy)
            assert bound.magnitude(x, y) <= (1 << 24) * Fraction(1, 8)
            assert Fraction(float(q8a8.vec_dot(x, y, name))) == q8a8.exact_dot(x, y)


def test_constant(docs: Path) -> None:
    """The bound's constant is the same on the pages and in the reference, and is enough for every order."""
    assert f"m = nb + {bound.LANE_FOLD_ROUNDINGS}" in (docs / "spec/orders.md").read_text("utf-8")
    proofs = (docs / "proofs.md").read_text("utf-8")
    assert f"m = nb + {bound.LANE_FOLD_ROUNDINGS}" in proofs
    extra = max(bound.roundings(order, nb) - nb for order in q8a8.ORDERS for nb in range(301))
    assert f"needs more than nb + {extra};" in " ".join(proofs.split())
    assert extra < bound.LANE_FOLD_ROUNDINGS


@pytest.mark.rule("Q8A8-ORD-2")
def test_constant_of_each_order(docs: Path) -> None:
    """The table has every order once, and its formula equals the reference's count, from 2 blocks on."""
    page = (docs / "proofs.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]+`) \| `([nb0-9/%+ ]+)` \| nb \+ (\d) \|", page, re.MULTILINE)
    formulas = {
        name: (formula, int(most))
        for names, formula, most in rows
        for name in re.findall(r"`([^`]+)`", names)
    }
    assert sorted(formulas) == sorted(q8a8.ORDERS)
    assert sum(names.count(",") + 1 for names, _, _ in rows) == len(q8a8.ORDERS)
    for name, (formula, most) in formulas.items():
        code = compile(formula, "proofs.md", "eval")
        counts = {nb: bound.roundings(name, nb) for nb in range(301)}
        for nb in range(2, 301):
            m = eval(code, {"__builtins__": {}}, {"nb": nb})  # noqa: S307 (digits, nb and + // % alone)
            assert m == counts[nb], (name, nb)
        assert max(counts[nb] - nb for nb in counts) == most
        assert counts[0] == 0


@pytest.mark.rule("Q8A8-ORD-2")
def test_magnitude_is_per_product() -> None:
    """A correct kernel exceeds a bound with the magnitude per block, and keeps the one per product."""
    qx, qy = np.zeros((2, 32), np.int8), np.zeros((2, 32), np.int8)
    lanes = q8a8.ORDERS["neon-dotprod"].lanes
    qx[0, list(lanes[0] + lanes[1])] = 127
    qy[0, list(lanes[0])] = 127
    qy[0, list(lanes[1])] = -127
    qy[0, lanes[1][-1]] = -126
    x = q8a8.pack(np.array([1135 / 1024, 0], np.float16), qx)
    y = q8a8.pack(np.array([1, 0], np.float16), qy)
    assert q8a8.block_sums(x, y).tolist() == [127, 0]
    computed = float(q8a8.vec_dot(x, y, "neon-dotprod"))
    narrow = ((1 + bound.UNIT_ROUNDOFF) ** (2 + bound.LANE_FOLD_ROUNDINGS) - 1) * Fraction(1135, 1024) * 127
    assert abs(Fraction(computed) - q8a8.exact_dot(x, y)) > 26 * narrow
    assert 0.0125 < bound.fraction_of_bound(computed, x, y) < 0.0135
