"""Judging calls whose results the specification gives beforehand, at placements of their own."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.suite.accepted_recipes import DESIGN
from q8a8_conformance.suite.placement import describe
from q8a8_conformance.suite.target import NotOfferedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from q8a8_conformance.inputs.known_calls import Known
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.expected_dot import ExpectedDot
    from q8a8_conformance.suite.judge import Judge


def judge_known(judge: Judge, known: Known, placed: Call) -> bool:
    """Make a call at a placement and compare its results; return False where the case has failed by then.

    Where the kernel is wrong without the placement too, nothing is recorded: cases about values find that.

    Parameters
    ----------
    judge
        Of the case.
    known
        The call, plain, and what it must give.
    placed
        The same call, placed.
    """
    actual = judge.run(known.call, at=placed)
    judge.compare(known.call, actual, expected_of(judge, known, actual), at=placed)
    return not judge.records.failed


def judge_each_known(judge: Judge, placed: Iterable[tuple[Known, Call]]) -> None:
    """Make calls, each at a placement of its own, until the case has failed: :func:`judge_known`."""
    for known, call in judge.ahead(placed, itemgetter(1)):
        if not judge_known(judge, known, call):
            return


def expected_of(judge: Judge, known: Known, actual: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return what a call must give: by the specification, or a recipe of ggml's that the profile accepts."""
    function = known.call.function
    if function not in (*requests.QUANTIZERS, requests.ACTIVATION) or judge.recipes.of(function) == DESIGN:
        return known.expected
    x = np.frombuffer(known.call.buffers[0].data, "<f4")
    if function == requests.ACTIVATION:
        return judge.recipes.activation(x, dict(actual)) if x.size else actual
    return {"y": judge.recipes.rows(function, x, actual["y"])}


def require_watchpoints(judge: Judge, function: str) -> None:
    """Raise where accesses beside buffers cannot be counted; pages and canaries judge the same rules."""
    judge.require(function)
    if "watch" not in judge.target.hello.capabilities:
        raise NotOfferedError("accesses are counted of libraries alone, where the system gives watchpoints")


def judge_same_bits(judge: Judge, call: Call, placements: Sequence[Call], expected: ExpectedDot) -> None:
    """Make a dot product that rounds at several placements: the same bits, if each is within the bound.

    Results outside of the bound are wrong for other reasons, which cases about values find.

    Parameters
    ----------
    judge
        Of the case.
    call
        The call, plain.
    placements
        The same call, placed.
    expected
        What its result must be.
    """
    plain = judge.run(call)
    for placed in placements:
        outputs = judge.run(call, at=placed)
        if outputs != plain and expected.holds(plain["s"]) and expected.holds(outputs["s"]):
            judge.target.observations.add_placed(placed, outputs, plain)
            judge.fail(judge.rules, f"other bits {describe(placed)}", call, expected=plain, actual=outputs)
            return
