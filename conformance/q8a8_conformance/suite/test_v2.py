"""The dot product over 36-byte blocks: x's ``weight_scale``, y's ``activation_scale``, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.expected_dot import scalar_bits
from q8a8_conformance.suite.dot_checks import judge_dot

if TYPE_CHECKING:
    from q8a8_conformance.suite.judge import Judge

COUNTS = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 33, 64, 127, 255, 256, 257)
UNUSED = (0x0000, 0x7E00, 0xFE01, 0x7C01, 0x7C00, 0xFC00, 0x3C00)
"""Bits of a half that a reader must ignore: +0, quiet and signalling NaNs, infinities, one."""


@pytest.mark.rule("Q8A8-DOT-9", "Q8A8-LAY-3")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"v2/exact/blocks-{nb}") for nb in COUNTS])
def test_exact(judge: Judge, nb: int) -> None:
    """Compute dot products on which no order can round."""
    judge.require(calls.DOT_REAL)
    for seed in range(4):
        judge_dot(judge, *dot_rows.to_v2(*dot_rows.exact_pair(nb, positive=seed == 0, seed=seed)), exact=True)


@pytest.mark.rule("Q8A8-LAY-3")
def test_layout(judge: Judge) -> None:
    """Compute dot products of blocks that each count alone; scales and codes differ in every byte."""
    judge.require(calls.DOT_REAL)
    for nb in (1, 2, 5):
        for which in range(nb):
            x, y = dot_rows.one_block_of(nb, which)
            x["weight_scale"], y["weight_scale"] = 2.0**-7, 2.0**9
            judge_dot(judge, *dot_rows.to_v2(x, y), exact=True)


@pytest.mark.rule("Q8A8-LAY-5")
@pytest.mark.parametrize("unused", [pytest.param(u, id=f"v2/unused-{u:04x}") for u in UNUSED])
def test_unused(judge: Judge, unused: int) -> None:
    """Compute dot products of blocks whose other scale holds anything at all."""
    judge.require(calls.DOT_REAL)
    for nb in (1, 2, 3, 8):
        judge_dot(judge, *dot_rows.to_v2(*dot_rows.exact_pair(nb, seed=5), unused=unused), exact=True)


@pytest.mark.rule("Q8A8-ORD-2", "Q8A8-DOT-9")
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"v2/bound/blocks-{nb}") for nb in COUNTS])
def test_bound(judge: Judge, nb: int) -> None:
    """Compute dot products of rows as a model has them."""
    judge.require(calls.DOT_REAL)
    for seed in range(5):
        judge_dot(judge, *dot_rows.to_v2(*dot_rows.random_pair(nb, seed=seed)), exact=False)


@pytest.mark.rule("Q8A8-DOT-1")
def test_edges(judge: Judge) -> None:
    """Compute dot products of rows full of -128, 127 and their neighbours."""
    judge.require(calls.DOT_REAL)
    for x, y in dot_rows.minus_128_pairs():
        judge_dot(judge, *dot_rows.to_v2(x, y), exact=True)


@pytest.mark.rule("Q8A8-DOT-9", "Q8A8-DOT-2", "Q8A8-DOT-8")
def test_scales(judge: Judge) -> None:
    """Compute dot products with scales of 11 bits, far apart, negative, subnormal and zero."""
    judge.require(calls.DOT_REAL)
    for x, y in (*dot_rows.full_mantissas(), *dot_rows.far_scales(), *dot_rows.signed_scales()):
        judge_dot(judge, *dot_rows.to_v2(x, y), exact=True)


@pytest.mark.rule("Q8A8-DOT-9", "Q8A8-DOT-10")
@pytest.mark.parametrize(
    "nb", [pytest.param(nb, id=f"v2/each-block/blocks-{nb}") for nb in (1, 2, 3, 5, 8, 11)]
)
def test_each_block(judge: Judge, nb: int) -> None:
    """Compute dot products in which one block alone counts, each in turn."""
    judge.require(calls.DOT_REAL)
    for which in range(nb):
        judge_dot(judge, *dot_rows.to_v2(*dot_rows.one_block_of(nb, which)), exact=True)


@pytest.mark.rule("Q8A8-DOT-9", "Q8A8-DOT-5")
def test_empty(judge: Judge) -> None:
    """Compute dot products of no blocks: +0, whatever was there."""
    judge.require(calls.DOT_REAL)
    x, y = dot_rows.to_v2(*dot_rows.exact_pair(0))
    for held in (1.0, float("inf"), float("nan")):
        judge.exact(calls.dot_real(x, y, s=calls.float_bytes(held)), {"s": bytes(4)})


@pytest.mark.rule("Q8A8-DOT-9", "Q8A8-DOT-7")
def test_overwritten(judge: Judge) -> None:
    """Compute dot products into floats that held something."""
    judge.require(calls.DOT_REAL)
    x, y = dot_rows.to_v2(*dot_rows.exact_pair(3, seed=2))
    for held in (1.0, float("inf"), float("nan")):
        judge.exact(calls.dot_real(x, y, s=calls.float_bytes(held)), {"s": scalar_bits(x, y)})
