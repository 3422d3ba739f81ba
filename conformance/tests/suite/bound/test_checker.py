"""The suite's checker of the bound, from both sides: the very code that judges kernels, on every bound case.

A kernel that answers with the last float inside passes; with the first float outside it fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from q8a8_conformance.suite import test_golden
from q8a8_golden.cases import Bound, Case
from q8a8_golden.load import load_cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

    Run = Callable[[Callable[[Call], bytes], Callable[[Judge], None]], Any]

pytestmark = pytest.mark.rule("Q8A8-ORD-2")

CASES = [pytest.param(case, id=case.id) for case in load_cases() if isinstance(case.outcome, Bound)]


def answer(case: Case, place: int, patterns: list[int]) -> Callable[[Call], bytes]:
    """Return a kernel that answers a case with the scalar order's bits, but for one result with a pattern."""
    s = bytearray(case.expected()[case.output])
    assert isinstance(case.outcome, Bound)
    offset = case.outcome.results[place].offset
    s[offset : offset + 4] = patterns[place].to_bytes(4, "little")
    return lambda _: bytes(s)


@pytest.mark.parametrize("side", [0, 1], ids=["below", "above"])
@pytest.mark.parametrize("case", CASES)
def test_the_checker_is_right_on_both_sides(judged: Run, case: Case, side: int) -> None:
    """For each result of each bound case: inside is accepted, one float further is rejected."""
    assert isinstance(case.outcome, Bound)
    results = case.outcome.results
    inside = [result.edges.inside[side] for result in results]
    outside = [result.edges.outside[side] for result in results]

    def check(judge: Judge) -> None:
        test_golden.test_golden(judge, case)

    for place in range(len(results)):
        assert judged(answer(case, place, inside), check).failed == ()
        failed = judged(answer(case, place, outside), check).failed
        assert failed
        assert "the bound is" in failed[0].message
