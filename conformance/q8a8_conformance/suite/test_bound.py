"""The dot product where orders differ: within the bound, or under ``exact`` the scalar order's bits."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.expected_dot import expected_dot
from q8a8_conformance.suite import absorbing_rows
from q8a8_conformance.suite.dot_checks import judge_dot, judge_products
from q8a8_conformance.suite.two_rows import require_two_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.suite.absorbing_rows import AbsorbingRows
    from q8a8_conformance.suite.judge import Judge

RULES = ("Q8A8-ORD-1", "Q8A8-ORD-2", "Q8A8-DOT-2", "Q8A8-DOT-3")
SEEDS = range(5)


@pytest.mark.rule(*RULES)
@pytest.mark.parametrize("nb", [pytest.param(nb, id=f"dot/bound/blocks-{nb}") for nb in dot_rows.COUNTS])
def test_random(judge: Judge, nb: int) -> None:
    """Compute dot products of rows as a model has them."""
    judge.require(calls.DOT)
    for seed in SEEDS:
        judge_dot(judge, *dot_rows.random_pair(nb, seed=seed), exact=False)


@pytest.mark.rule(*RULES, "Q8A8-DOT-8")
@pytest.mark.parametrize(
    "nb", [pytest.param(nb, id=f"dot/wide-scales/blocks-{nb}") for nb in (1, 2, 3, 8, 33, 64)]
)
def test_wide(judge: Judge, nb: int) -> None:
    """Compute dot products with scales over the whole range of halves."""
    judge.require(calls.DOT)
    for seed in SEEDS:
        judge_dot(judge, *dot_rows.wide_pair(nb, seed=seed), exact=False)


@pytest.mark.rule(*RULES)
@pytest.mark.parametrize(
    "nb", [pytest.param(nb, id=f"dot/cancelling/blocks-{nb}") for nb in (2, 4, 7, 16, 65, 256)]
)
def test_cancelling(judge: Judge, nb: int) -> None:
    """Compute dot products that almost cancel: the bound counts magnitudes, not the small result."""
    judge.require(calls.DOT)
    for seed in SEEDS:
        judge_dot(judge, *dot_rows.cancelling_pair(nb, seed=seed), exact=False)


@pytest.mark.rule(*RULES, "Q8A8-DOT-1")
@pytest.mark.parametrize(
    "nb", [pytest.param(nb, id=f"dot/minus-128/blocks-{nb}") for nb in (1, 2, 3, 4, 8, 31, 64)]
)
def test_minus_128(judge: Judge, nb: int) -> None:
    """Compute dot products of random rows with -128 among their codes."""
    judge.require(calls.DOT)
    for seed in SEEDS:
        judge_dot(judge, *dot_rows.random_pair(nb, seed=seed, low=-128), exact=False)


KINDS = (
    *((absorbing_rows.absorbing, "absorbing", nb) for nb in absorbing_rows.LENGTHS),
    *((absorbing_rows.offset, "offset", nb) for nb in (8, 32, 128)),
    *((absorbing_rows.tiny, "tiny", nb) for nb in (1, 2, 3, 4, 5, 7, 8, 9, 17, 33, 64)),
)
"""Rows on which particular sums leave the bound: how they are made, their name, and their blocks."""


def of_kinds(function: str) -> list[object]:
    """Return each kind of rows as a parameter."""
    return [pytest.param(make, nb, id=f"{function}/{name}/blocks-{nb}") for make, name, nb in KINDS]


@pytest.mark.rule(*RULES)
@pytest.mark.parametrize(("make", "nb"), of_kinds("dot"))
def test_kind(judge: Judge, make: Callable[[int], AbsorbingRows], nb: int) -> None:
    """Compute dot products that lose something each time where more is rounded than the bound allows."""
    judge.require(calls.DOT)
    rows = make(nb)
    for x, y, expected in zip(rows.x, rows.y, rows.products, strict=True):
        call = calls.dot(x, y)
        if not judge_products(judge, call, judge.run(call)["s"], [expected]):
            return


@pytest.mark.rule("Q8A8-ORD-2", "Q8A8-DOT-9")
@pytest.mark.parametrize(("make", "nb"), of_kinds("v2"))
def test_kind_v2(judge: Judge, make: Callable[[int], AbsorbingRows], nb: int) -> None:
    """Compute such dot products of v2 blocks."""
    judge.require(calls.DOT_REAL)
    rows = make(nb)
    for x, y, expected in zip(rows.x, rows.y, rows.products, strict=True):
        call = calls.dot_real(*dot_rows.to_v2(x, y))
        if not judge_products(judge, call, judge.run(call)["s"], [expected]):
            return


@pytest.mark.rule("Q8A8-ORD-2", "Q8A8-DOT-3", "Q8A8-DOT-6")
@pytest.mark.parametrize(("make", "nb"), of_kinds("nrc2"))
def test_kind_two_rows(judge: Judge, make: Callable[[int], AbsorbingRows], nb: int) -> None:
    """Compute two such dot products at once, and those of each other's rows."""
    require_two_rows(judge)
    rows = make(nb)
    for first, second in zip(range(0, len(rows.x) - 1, 2), range(1, len(rows.x), 2), strict=True):
        both = [first, second]
        call = calls.dot_pair(rows.x[both], rows.y[both])
        own = [rows.products[first], replace(rows.products[second], offset=12)]
        others = [
            expected_dot(rows.x[both[i]], rows.y[both[j]], 4 * (2 * j + i))
            for j, i in product((0, 1), (0, 1))
            if i != j
        ]
        if not judge_products(judge, call, judge.run(call)["s"], [*own, *others]):
            return
