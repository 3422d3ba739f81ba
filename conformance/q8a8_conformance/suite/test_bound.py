"""The dot product where orders differ: within the bound, or under ``exact`` the scalar order's bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.suite.dot_checks import judge_dot

if TYPE_CHECKING:
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
