"""The dot product on rows that are exact by construction: the same bits, whatever a kernel's order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.expected_dot import scalar_bits
from q8a8_conformance.suite.dot_checks import judge_dot

if TYPE_CHECKING:
    from q8a8_conformance.suite.judge import Judge


@pytest.mark.rule("Q8A8-DOT-4", "Q8A8-DOT-10")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"dot/exact/blocks-{nb}") for nb in dot_rows.COUNTS])
def test_exact(judge: Judge, nb: int) -> None:
    """Compute dot products of random rows on which no order can round."""
    judge.require(calls.DOT)
    for seed in range(4):
        judge_dot(judge, *dot_rows.exact_pair(nb, positive=seed == 0, seed=seed), exact=True)


@pytest.mark.rule("Q8A8-DOT-10")
@pytest.mark.parametrize(
    "nb", [pytest.param(nb, id=f"dot/each-block/blocks-{nb}") for nb in (*range(1, 14), 19, 33, 257)]
)
def test_each_block(judge: Judge, nb: int) -> None:
    """Compute dot products in which one block alone counts, each in turn (of long rows, some)."""
    judge.require(calls.DOT)
    for which in range(nb) if nb < 20 else (0, 1, nb // 2, nb - 4, nb - 3, nb - 2, nb - 1):
        judge_dot(judge, *dot_rows.one_block_of(nb, which), exact=True)


@pytest.mark.rule("Q8A8-DOT-4")
@pytest.mark.parametrize(
    "nb",
    [pytest.param(nb, id=f"dot/one-unit/blocks-{nb}") for nb in (2, 3, 5, 8, 9, 17, 33, 65, 129, 257, 1025)],
)
def test_one_unit(judge: Judge, nb: int) -> None:
    """Compute dot products in which one block alone has the last bit, each in turn (of long rows, some)."""
    judge.require(calls.DOT)
    for which in range(nb) if nb < 20 else (0, 1, 31, 32, nb // 2, nb - 2, nb - 1):
        judge_dot(judge, *dot_rows.one_unit_beside(nb, which), exact=True)


@pytest.mark.rule("Q8A8-DOT-1")
@pytest.mark.parametrize(
    "place", [pytest.param(place, id=f"dot/each-place/{place:02}") for place in range(32)]
)
def test_each_place(judge: Judge, place: int) -> None:
    """Compute the single product of edge codes at one place: a wrong lane, sign or saturation shows alone."""
    judge.require(calls.DOT)
    for a in dot_rows.EDGES:
        for b in (-128, 127):
            judge_dot(judge, *dot_rows.one_product(place, a, b), exact=True)


@pytest.mark.rule("Q8A8-DOT-1")
def test_edges(judge: Judge) -> None:
    """Compute dot products of rows full of -128, 127 and their neighbours."""
    judge.require(calls.DOT)
    for x, y in dot_rows.minus_128_pairs():
        judge_dot(judge, x, y, exact=True)


@pytest.mark.rule("Q8A8-DOT-2")
def test_scale_product(judge: Judge) -> None:
    """Compute dot products whose scales' product needs 22 bits, or an exponent no half has."""
    judge.require(calls.DOT)
    for x, y in (*dot_rows.full_mantissas(), *dot_rows.far_scales()):
        judge_dot(judge, x, y, exact=True)


@pytest.mark.rule("Q8A8-DOT-8", "Q8A8-HLF-2", "Q8A8-HLF-3")
def test_scales(judge: Judge) -> None:
    """Compute dot products with negative, subnormal and zero scales of both signs."""
    judge.require(calls.DOT)
    for x, y in dot_rows.signed_scales():
        judge_dot(judge, x, y, exact=True)


@pytest.mark.rule("Q8A8-DOT-5")
def test_empty(judge: Judge) -> None:
    """Compute the dot product of no blocks: +0, whatever was there."""
    judge.require(calls.DOT)
    empty = dot_rows.filled(0, 1)
    for held in (float("nan"), 1.5, -0.0):
        judge.exact(calls.dot(empty, empty, s=calls.float_bytes(held)), {"s": bytes(4)})


@pytest.mark.rule("Q8A8-DOT-7")
def test_overwritten(judge: Judge) -> None:
    """Compute dot products into a float that held something: it is overwritten, not added to."""
    judge.require(calls.DOT)
    for nb in (1, 2, 3, 8):
        x, y = dot_rows.exact_pair(nb, seed=7)
        for held in (0.0, 1.0, -1e30, float("inf"), float("nan"), 1e-40):
            judge.exact(calls.dot(x, y, s=calls.float_bytes(held)), {"s": scalar_bits(x, y)})


@pytest.mark.rule("Q8A8-DOT-12")
def test_strides_ignored(judge: Judge) -> None:
    """Compute single dot products with strides that mean nothing."""
    judge.require(calls.DOT)
    for nb in (1, 2, 5):
        x, y = dot_rows.exact_pair(nb, seed=3)
        call = calls.dot(x, y)
        for bs, bx, by in ((0, 0, 0), (1, 34 * nb, 34 * nb), (7, 2, 34), (1 << 20, 1 << 40, 1 << 33)):
            judge.exact(replace(call, bs=bs, bx=bx, by=by), {"s": scalar_bits(x, y)})


@pytest.mark.rule("Q8A8-LAY-1", "Q8A8-LAY-2", "Q8A8-DOT-10")
def test_layout(judge: Judge) -> None:
    """Compute dot products of blocks that differ in scale and codes: each scale must meet its own codes."""
    judge.require(calls.DOT)
    for nb in (2, 3, 4, 5, 8, 11):
        codes = np.zeros((2, nb, 32), np.int64)
        codes[:, :, 0] = 1
        x = dot_rows.blocks(np.exp2(np.arange(nb) - 4.0), codes[0])
        y = dot_rows.blocks(np.exp2(4.0 - np.arange(nb) % 3), codes[1])
        judge_dot(judge, x, y, exact=True)
