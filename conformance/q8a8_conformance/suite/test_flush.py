"""Flush-to-zero set by the caller: every specified result stays the same (Q8A8-ENV-2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.inputs.known_calls import known, known_pair, subnormal_pair, subnormal_scales
from q8a8_conformance.inputs.samples import functions, sample
from q8a8_conformance.results.expected_dot import expected_dot
from q8a8_conformance.suite.accepted_recipes import DESIGN
from q8a8_conformance.suite.known_checks import judge_known, judge_same_bits
from q8a8_conformance.suite.matrix_checks import judge_again
from q8a8_conformance.suite.target import NotOfferedError
from q8a8_conformance.suite.two_rows import takes_two_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.inputs.known_calls import Known
    from q8a8_conformance.suite.judge import Judge

COUNTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 64, 65, 129, 257, 1025)
"""Block counts, or 32 times as many elements of an activation vector."""
AFTER = (33, 1025)
"""The same of calls without flush modes, after those with them."""
DOTS = (requests.DOT, requests.DOT_REAL)


def calls_of(judge: Judge, function: str) -> Iterator[Known]:
    """Yield calls whose scales are subnormal, and hard ones."""
    two_rows = function == requests.DOT and takes_two_rows(judge)
    for number, count in enumerate(COUNTS):
        size = max(1, 32 * count - number % 4) if function == requests.ACTIVATION else count
        for kind in range(3 if function in DOTS else 1):
            yield subnormal_scales(function, size, kind)
            if two_rows:
                yield subnormal_pair(count, kind)
    for count in (3, 33, 257):
        yield known(function, count)
        if two_rows:
            yield known_pair(count)


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize("function", [pytest.param(name, id=f"flush/{name}") for name in functions()])
def test_flush(judge: Judge, function: str) -> None:
    """Call with flush-to-zero set: the results that the specification gives, and those of other modes."""
    judge.require(function, "flush")
    if function in requests.QUANTIZERS and judge.recipes.of(function) != DESIGN:
        # Codes of subnormal elements follow from an infinite inverse, or from an amax of 0 where modes flush;
        # their scale is 0 either way, so that no value is another.
        raise NotOfferedError("by a recipe of ggml's the codes of subnormal elements depend on flush modes")
    if not judge.target.is_slow_to_start:
        # Of a process's first call: what tables are made with in it, stays.
        judge.target.restart()
    for each in calls_of(judge, function):
        if not judge_known(judge, each, requests.flushing(each.call)):
            return
    if function in DOTS:
        for count in (5, 66):
            call = sample(function, count)
            expected = expected_dot(*dot_rows.random_pair(count, seed=9))
            judge_same_bits(judge, call, [requests.flushing(call)], expected)
    for after in (subnormal_scales(function, count) for count in AFTER):
        judge_again(judge, after, after.call, "depends on flush modes of a process's first calls")
