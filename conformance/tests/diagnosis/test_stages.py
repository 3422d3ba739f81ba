"""One mistake, or two, in what is made of a block: each of them is a fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.faults.kernel import DOT

from .dot_calls import FourResults, facts_about, own, scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array

    # Codes of x and of y, int64 [nb, 32], and scales float64 [nb] -> terms [nb].
    Terms = Callable[[Array, Array, Array, Array], Array]


def _wrapped(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    off = (128 * qy.sum(axis=1) + 32768) % 65536 - 32768
    return np.asarray((((qx + 128) * qy).sum(axis=1) - off) * dx * dy)


def _of_the_wrong_row(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    return np.asarray((((qx + 128) * qy).sum(axis=1) - 128 * qx.sum(axis=1)) * dx * dy)


def _without_the_last_quarter(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    return np.asarray(((qx * (qy + 128)).sum(axis=1) - 128 * qx[:, :24].sum(axis=1)) * dx * dy)


def _skipped(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    return np.asarray((qx * qy).sum(axis=1) * qx[:, :8].any(axis=1) * dx * dy)


def _typo_and_sign(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    met = qy.copy()
    met[:, 13] = qy[:, 12]
    return np.asarray((qx * met).sum(axis=1) * dx * np.abs(dy))


def _saturated_and_cut(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    return np.asarray(np.clip((qx * qy).sum(axis=1), -32768, 32767) * dx * (np.trunc(dy * 65536) / 65536))


def _element_of_odd_blocks_and_cut(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    met = qy.copy()
    met[1::2, 31] = qy[1::2, 30]
    return np.asarray((qx * met).sum(axis=1) * dx * (np.trunc(dy * 65536) / 65536))


def _first_is_zero(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    return np.asarray((qx * qy).sum(axis=1) * (qy[:, 0] != 0) * dx * dy)


def _negative_lost(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    return np.asarray(np.maximum((qx * qy).sum(axis=1), 0) * dx * dy)


def _zero_is_one_and_negative_halved(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    sums = (qx * qy).sum(axis=1)
    return np.asarray(np.where(sums < 0, sums / 2, sums) * dx * np.where(dy == 0, 1, dy))


def _large_sums_twice(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    sums = (qx * qy).sum(axis=1)
    return np.asarray(np.where(np.abs(sums) >= 65536, 2 * sums, sums) * dx * dy)


def _halves_joined_by_or(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    x = qx.copy()
    x[:, 2::4][qx[:, 1::4] < 0] = -1
    x[:, 3::4][qx[:, 1::4] < 0] = -1
    return np.asarray((x * qy).sum(axis=1) * dx * dy)


def _without_a_bias_in_the_tail(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    tail = np.arange(len(dx)) >= len(dx) // 4 * 4
    return np.asarray((qx * qy).sum(axis=1) * dx * dy * np.where(tail, 2.0**-112, 1))


def _first_vector_twice(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    of = qx * qy
    of[: len(dx) // 8 * 8, 16:] = of[: len(dx) // 8 * 8, :16]
    return np.asarray(of.sum(axis=1) * dx * dy)


def _nibbles_of_odd_elements(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    x = qx.copy()
    x[:, 1::2] = np.trunc(x[:, 1::2] / 16).astype(int) * 16 + (x[:, 1::2] & 15)
    return np.asarray((x * qy).sum(axis=1) * dx * dy)


def _quads_in_halves(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    with np.errstate(over="ignore"):
        quads = (qx * qy).reshape(-1, 8, 4).sum(axis=-1).astype(np.float16).astype(np.float64)
    return np.asarray(quads.sum(axis=1) * dx * dy)


def _quads_one_by_one(of: Array) -> Array:
    sums = np.zeros((len(of), 8), np.float16)
    for product in np.moveaxis(of.reshape(-1, 8, 4), -1, 0).astype(np.float16):
        sums = sums + product
    return sums.astype(np.float64)


def _quads_run_in_halves(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(_quads_one_by_one(qx * qy).sum(axis=1) * dx * dy)


def _eights_in_pairs_of_halves(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    sums = (qx * qy).reshape(-1, 4, 8).astype(np.float16)
    with np.errstate(over="ignore", invalid="ignore"):
        while sums.shape[-1] > 1:
            sums = sums[..., ::2] + sums[..., 1::2]
        return np.asarray(sums.astype(np.float64).sum(axis=(1, 2)) * dx * dy)


def _borrowed_of_even_elements(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    of = qx * qy
    return np.asarray((of.sum(axis=1) - (of[:, ::2].sum(axis=1) < 0)) * dx * dy)


def _borrowed_by_odd_blocks(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    sums = (qx * qy).sum(axis=1)
    even = sums[: len(sums) // 2 * 2 : 2]
    sums[1::2] -= even < 0
    return np.asarray(sums * dx * dy)


def _borrowed_by_odd_elements(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    x = qx.copy()
    x[:, 1::2] -= qx[:, ::2] < 0
    return np.asarray((x * qy).sum(axis=1) * dx * dy)


def _offset_pairs_wrap(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    pairs = ((qx + 128) * qy).reshape(-1, 16, 2).sum(axis=-1).astype(np.int16).astype(np.int64)
    return np.asarray((pairs.sum(axis=1) - 128 * qy.sum(axis=1)) * dx * dy)


def _more_where_both_are_negative(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    more = ((qx < 0) & (qy < 0))[:, 1::2].sum(axis=1)
    return np.asarray(((qx * qy).sum(axis=1) + more) * dx * dy)


def _first_of_both_is_zero(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    counted = (qx[:, 0] != 0) | (qy[:, 0] != 0)
    return np.asarray((qx * qy).sum(axis=1) * dx * dy * counted)


def _at_two_places(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    x, y, nb = qx.copy(), qy.copy(), len(qx)
    x[1::2] = np.maximum(x[1::2], -127)
    if nb % 2:
        y[-1] %= 256
    return np.asarray((x * y).sum(axis=1) * dx * dy)


def _next_scale_of_even_rows(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    of_y = dy.copy()
    if len(dy) and not len(dy) % 2:
        of_y[:-1] = dy[1:]
    return np.asarray((qx * qy).sum(axis=1) * dx * of_y)


def _wrapped_and_last_lost(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    nb = len(dx)
    return _wrapped(qx, qy, dx, dy)[: nb - (nb % 2 and nb > 1)]


def _last_two_exchanged(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    order = np.arange(len(dx))
    order[-2:] = order[-2:][::-1]
    return np.asarray((qx * qy[order]).sum(axis=1) * dx * dy[order])


def _equal_scales_skipped(qx: Array, qy: Array, dx: Array, dy: Array) -> Array:
    return np.asarray((qx * qy).sum(axis=1) * dx * dy * ((dx != dy) | (np.arange(len(dx)) == 0)))


OFFSET = "128 is added to the codes of x, and"
WRAPPED = f"{OFFSET} what is taken off for it, 128 times the sum of y's codes, is kept in 16 bits and wraps."
TAKES = "takes y's codes and scale from block"

KERNELS: dict[str, tuple[Terms, set[str]]] = {
    "correction-wraps": (
        _wrapped,
        {WRAPPED},
    ),
    "correction-of-x": (
        _of_the_wrong_row,
        {f"{OFFSET} 128 times the sum of x's codes is taken off, not of y's."},
    ),
    "correction-left-out": (
        _without_the_last_quarter,
        {"128 times the sum of codes 24 to 31 of x is added to a block's sum."},
    ),
    "skipped": (_skipped, {"A block is not counted where x's elements 0 to 7 are all zero."}),
    "typo-and-sign": (
        _typo_and_sign,
        {"X's element 13 meets y's element 12.", "The sign of y's scale is lost."},
    ),
    "negative-lost": (_negative_lost, {"A block's sum is counted as 0 where it is negative."}),
    "nibbles-of-odd-elements": (
        _nibbles_of_odd_elements,
        {"x's negative codes that are no multiple of 16 are read as 16 more in odd elements."},
    ),
    "quads-in-halves": (_quads_in_halves, {"Sums of four consecutive products are rounded to a half."}),
    "quads-run-in-halves": (
        _quads_run_in_halves,
        {
            (
                "Products, and sums of four consecutive products after each product that is added, "
                "are rounded to a half."
            )
        },
    ),
    "eights-in-pairs-of-halves": (
        _eights_in_pairs_of_halves,
        {
            (
                "Products, and sums of eight consecutive products after each two that are added, "
                "are rounded to a half."
            )
        },
    ),
    "borrowed-of-even-elements": (
        _borrowed_of_even_elements,
        {"The sum of products of even elements is one less where it is negative."},
    ),
    "borrowed-by-odd-blocks": (
        _borrowed_by_odd_blocks,
        {"In every odd block: its sum is one less where that of block b - 1 is negative."},
    ),
    "borrowed-by-odd-elements": (
        _borrowed_by_odd_elements,
        {"In odd elements, x is read as one less where x's element j - 1 is negative."},
    ),
    "offset-pairs-wrap": (
        _offset_pairs_wrap,
        {"128 is added to the codes of x: sums of pairs of products are kept in 16 bits and wrap."},
    ),
    "more-where-both-are-negative": (
        _more_where_both_are_negative,
        {"In odd elements, the product of negative x and negative y is one more."},
    ),
    "first-of-both-is-zero": (
        _first_of_both_is_zero,
        {"A block is not counted where x's and y's element 0 are zero."},
    ),
    "at-two-places": (
        _at_two_places,
        {
            "In every odd block: -128 is read as -127 (a code of x).",
            "In the last block where nb is odd: y's codes are read as unsigned.",
        },
    ),
    "next-scale-of-even-rows": (
        _next_scale_of_even_rows,
        {"Where nb is even, every block but the last takes y's scale from block b + 1."},
    ),
    "wrapped-and-last-lost": (
        _wrapped_and_last_lost,
        {
            WRAPPED,
            "Where nb >= 3 and nb is odd, the last block is left out.",
        },
    ),
    "last-two-exchanged": (
        _last_two_exchanged,
        {
            f"Where nb >= 2, the last block {TAKES} b - 1; the block before the last {TAKES} b + 1.",
        },
    ),
    "equal-scales-skipped": (
        _equal_scales_skipped,
        {"Where both scales of block b are equal, in every block from block 1 on, it is left out."},
    ),
    "first-is-zero": (_first_is_zero, {"A block is not counted where y's element 0 is zero."}),
    "element-of-odd-blocks-and-cut": (
        _element_of_odd_blocks_and_cut,
        {
            "In every odd block: x's element 31 meets y's element 30.",
            "Y's scales below 2^-6 are cut to a multiple of 2^-16.",
        },
    ),
    "zero-is-one-and-negative-halved": (
        _zero_is_one_and_negative_halved,
        {"A block's sum is counted half where it is negative.", "Y's scales of zero are read as 1."},
    ),
    "halves-joined-by-or": (
        _halves_joined_by_or,
        {
            (
                "In elements j where j mod 4 is 2 or 3, x is read as -1 "
                "where x's element j - j % 4 + 1 is negative."
            )
        },
    ),
    "without-a-bias-in-the-tail": (
        _without_a_bias_in_the_tail,
        {
            "In the blocks beyond a multiple of 4: each term is 2^-112 times as large as it should be.",
        },
    ),
    "first-vector-twice": (
        _first_vector_twice,
        {
            (
                "In the blocks up to the last multiple of 8: elements 16 to 31 of a block are not counted; "
                "elements 0 to 15 are counted twice."
            )
        },
    ),
    "large-sums-twice": (
        _large_sums_twice,
        {"Sums of a block from 2^16 on are taken as twice as large."},
    ),
    "saturated-and-cut": (
        _saturated_and_cut,
        {
            "A block's sum is kept in int16 with saturation.",
            "Y's scales below 2^-6 are cut to a multiple of 2^-16.",
        },
    ),
}
"""The terms of blocks, and the sentences of all facts."""


@pytest.mark.parametrize("name", KERNELS)
def test_each_is_a_fact(name: str) -> None:
    """Nothing else is said, and together the facts explain every failed call."""
    terms, sentences = KERNELS[name]

    def result(_nrc: int, number: int, rows: list[Array]) -> float:
        x, y = own(number, rows)
        qx, qy = x["weight_qs"].astype(np.int64), y["weight_qs"].astype(np.int64)
        with np.errstate(invalid="ignore"):
            return float(terms(qx, qy, scale(x), scale(y)).sum())

    facts, failures = facts_about(DOT, FourResults(result))
    assert {fact.sentence for fact in facts} == sentences
    assert all(any(fact.explains(failure) for fact in facts) for failure in failures)
