"""Rows that absorb small terms: legal orders stay inside the bound, the sums that "Proofs" names do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import q8a8
from q8a8_conformance.suite import absorbing_rows, test_bound

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array

    Parts = Callable[[Array, Array], Array]

pytestmark = pytest.mark.rule("Q8A8-ORD-2")

F32 = np.float32


def _products(qx: Array, qy: Array) -> Array:
    return qx.astype(np.int64) * qy


def quarters(qx: Array, qy: Array) -> Array:
    """Return the sums of four parts of each block."""
    return np.asarray(_products(qx, qy).reshape(-1, 4, 8).sum(axis=2))


def halves(qx: Array, qy: Array) -> Array:
    """Return the sums of two parts of each block."""
    return np.asarray(_products(qx, qy).reshape(-1, 2, 16).sum(axis=2))


def bytes_of_sums(qx: Array, qy: Array) -> Array:
    """Return the upper and the lower byte of each block's sum."""
    sums = _products(qx, qy).sum(axis=1)
    return np.stack([sums - sums % 256, sums % 256], axis=1)


def nibbles(qx: Array, qy: Array) -> Array:
    """Return the sums of the upper and of the lower nibbles of x."""
    low = qx.astype(np.int64) % 16
    return np.stack([_products(qx - low, qy).sum(axis=1), (low * qy).sum(axis=1)], axis=1)


def in_parts(x: Array, y: Array, parts: Parts) -> bytes:
    """Add the parts of each block to one accumulator, one by one."""
    d = x["weight_scale"].astype(F32) * y["weight_scale"].astype(F32)
    terms = parts(x["weight_qs"], y["weight_qs"]).astype(F32) * d[:, np.newaxis]
    return bytes(np.add.accumulate(np.append(F32(0), terms))[-1].tobytes())


@pytest.mark.parametrize(("make", "name", "nb"), [kind for kind in test_bound.KINDS if kind[2] <= 300])
@pytest.mark.parametrize("order", sorted(q8a8.ORDERS))
def test_every_order_is_inside(
    make: Callable[[int], absorbing_rows.AbsorbingRows], name: str, nb: int, order: str
) -> None:
    """No order of the catalogue leaves the bound on any of these rows."""
    del name
    rows = make(nb)
    results = q8a8.vec_dot(rows.x, rows.y, order)
    assert all(each.holds(bytes(s.tobytes())) for each, s in zip(rows.products, results, strict=True))


@pytest.mark.parametrize(
    ("parts", "nb"),
    [(_products, 40), (quarters, 40), (halves, 300), (bytes_of_sums, 300), (nibbles, 300)],
)
def test_parts_of_blocks_are_outside(parts: Parts, nb: int) -> None:
    """A kernel that adds parts of a block on their own leaves the bound on some of the rows."""
    rows = absorbing_rows.absorbing(nb)
    inside = [
        each.holds(in_parts(x, y, parts)) for x, y, each in zip(rows.x, rows.y, rows.products, strict=True)
    ]
    assert not all(inside)
    assert any(inside)


@pytest.mark.parametrize(("period", "turn", "nb"), [(2, 1, 300), (2, 0, 300), (4, 3, 300), (8, 5, 700)])
def test_one_block_of_some_towards_zero(period: int, turn: int, nb: int) -> None:
    """A kernel that truncates in one block of two, four or eight alone leaves the bound."""
    rows = absorbing_rows.absorbing(nb)

    def truncated(x: Array, y: Array) -> bytes:
        d = x["weight_scale"].astype(F32) * y["weight_scale"].astype(F32)
        total = F32(0)
        for b, term in enumerate(_products(x["weight_qs"], y["weight_qs"]).sum(axis=1).astype(F32) * d):
            exact = float(total) + float(term)
            total = F32(exact)
            if b % period == turn and abs(float(total)) > abs(exact):
                total = np.nextafter(total, F32(0))
        return bytes(total.tobytes())

    inside = [each.holds(truncated(x, y)) for x, y, each in zip(rows.x, rows.y, rows.products, strict=True)]
    assert not all(inside)


@pytest.mark.parametrize(("group", "nb"), [(4, 300), (8, 700)])
def test_aligned_terms_are_outside(group: int, nb: int) -> None:
    """A kernel that aligns the sum and some terms, with one more bit than a float has, leaves the bound."""
    rows = absorbing_rows.absorbing(nb)

    def aligned(x: Array, y: Array) -> bytes:
        d = x["weight_scale"].astype(F32) * y["weight_scale"].astype(F32)
        terms = _products(x["weight_qs"], y["weight_qs"]).sum(axis=1).astype(F32) * d
        total = 0.0
        for start in range(0, nb, group):
            added = np.append(total, terms[start : start + group].astype(np.float64))
            unit = np.exp2(np.floor(np.log2(np.abs(added).max())) - 24)
            value = np.trunc(added / unit).sum() * unit
            last = np.exp2(np.floor(np.log2(abs(value))) - 23)
            total = float(np.trunc(value / last) * last)
        return F32(total).tobytes()

    inside = [each.holds(aligned(x, y)) for x, y, each in zip(rows.x, rows.y, rows.products, strict=True)]
    assert not all(inside)


def test_the_bound_where_one_term_is_large() -> None:
    """The bound on these rows is less than (nb + 64)·h times 1 + 2^-9, as the proof has it."""
    for nb in absorbing_rows.LENGTHS:
        for each in absorbing_rows.absorbing(nb).products:
            assert each.bound < (nb + 64) * absorbing_rows.HALF_ULP * (1 + 2.0**-9)


def test_offsets_are_outside() -> None:
    """A kernel that adds 128 to small codes, and takes it off in a second float sum, leaves the bound."""
    rows = absorbing_rows.offset(32)

    def with_offset(x: Array, y: Array) -> bytes:
        d = x["weight_scale"].astype(F32) * y["weight_scale"].astype(F32)
        qx, qy = x["weight_qs"].astype(np.int64), y["weight_qs"].astype(np.int64)
        sums: list[Any] = [((qx + 128) * qy).sum(axis=1), 128 * qy.sum(axis=1)]
        first, second = (np.add.accumulate(s.astype(F32) * d)[-1] for s in sums)
        return bytes((first - second).tobytes())

    inside = [each.holds(with_offset(x, y)) for x, y, each in zip(rows.x, rows.y, rows.products, strict=True)]
    assert not any(inside[:2])
