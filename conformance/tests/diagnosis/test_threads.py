"""Calls of several threads: what is shared, from how many threads and which length on, and first calls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis.dots.threads import of_threads
from q8a8_conformance.inputs.calls import DEQUANTIZE, DOT
from q8a8_conformance.inputs.samples import call_of, other_values
from q8a8_conformance.protocol.messages import NO_FAULTS, Fault, Result, Together

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.dots.threads import Ask
    from q8a8_conformance.protocol.messages import Call

RIGHT, WRONG = (b"\0\0\0\0",), (b"\1\0\0\0",)


def _asked(threads: int, other: Call | None = None, *, fresh: int = 0) -> Call:
    together = Together(8, fresh=fresh, other=other or other_values(DOT, 33))
    return replace(call_of(DOT, 33), threads=threads, together=together)


def _kernel(is_wrong: Callable[[Call], bool]) -> Ask:
    """Return a kernel whose other threads' results differ in some calls of several threads."""

    def ask(call: Call) -> Result:
        wrong = call.threads > 1 and is_wrong(call)
        fault = Fault.THREAD_RESULT_VARIES if wrong else NO_FAULTS
        return Result(fault, "byte 0 of s varies: 00, then 01" if wrong else "", RIGHT)

    return ask


def _is_beside_another(call: Call) -> bool:
    other = call.together.other if call.together else None
    return other is not None and other.buffers != call.buffers


def test_scratch_memory() -> None:
    """Rows of four blocks and more lie in memory that every pair of threads shares."""
    fact = of_threads(
        [_asked(16), _asked(2)], _kernel(lambda call: call.n >= 128 and _is_beside_another(call))
    )
    assert fact is not None
    assert (fact.fact, fact.rule, fact.cause) == ("shared-by-threads", "Q8A8-ENV-3", "")
    assert fact.where == {"threads": 2, "beside": DOT, "least": 4}
    assert [one.call.n for one in fact.evidence] == [128, 1056]
    assert "byte 0 of s varies" in fact.evidence[0].text


def test_slots() -> None:
    """Eight slots for any number of threads: five threads are right, and nine are not."""
    fact = of_threads([_asked(16)], _kernel(lambda call: call.threads > 8 and _is_beside_another(call)))
    assert fact is not None
    assert (fact.where["threads"], fact.where["right_with"]) == (9, 5)


def test_another_function() -> None:
    """Memory that two functions share shows beside a call of the other one alone."""
    other = other_values(DEQUANTIZE, 40)
    fact = of_threads([_asked(2, other)], _kernel(_is_beside_another))
    assert fact is not None
    assert (fact.where["beside"], "least" in fact.where) == (DEQUANTIZE, False)


def test_a_race() -> None:
    """What goes wrong beside the same call is no memory for a row; a changed first result is shown."""
    fact = of_threads([_asked(4)], _kernel(lambda _: True))
    assert fact is not None
    assert (fact.fact, fact.where) == ("race-between-threads", {"threads": 2, "beside": "the same call"})


def test_memory_of_the_first_thread() -> None:
    """A table that the first call fills for its own thread makes calls of the others wrong."""

    def ask(call: Call) -> Result:
        varies = call.together is not None
        detail = f"byte 0 of y of thread 1 ({DEQUANTIZE}) varies: 00, then 01" if varies else ""
        if call.threads == 1 or call.function != DEQUANTIZE:
            return Result(Fault.THREAD_RESULT_VARIES if call.threads > 1 else NO_FAULTS, detail, RIGHT)
        return Result(Fault.THREAD_RESULT_VARIES if varies else NO_FAULTS, detail, WRONG)

    for asked in (_asked(4, other_values(DEQUANTIZE, 3)), replace(call_of(DEQUANTIZE, 3), threads=4)):
        fact = of_threads([asked], ask)
        assert fact is not None
        assert (fact.fact, fact.function) == ("prepared-in-one-thread", DEQUANTIZE)
        assert [one.call.threads for one in fact.evidence] == [2]


def test_first_calls() -> None:
    """What is wrong in first calls of a process alone takes a new process for each of them."""
    restarts: list[int] = []

    def ask(call: Call) -> Result:
        fresh = call.together and call.together.fresh
        return Result(NO_FAULTS, "", WRONG if fresh and call.threads > 1 and restarts else RIGHT)

    assert of_threads([_asked(4, fresh=6)], ask) is None
    fact = of_threads([_asked(4, fresh=6)], ask, lambda: restarts.append(1))
    assert fact is not None
    assert fact.fact == "race-of-first-calls"
    assert (fact.evidence[0].expected, fact.evidence[0].actual) == (RIGHT, WRONG)


def test_what_is_not_wrong_again() -> None:
    """A call that is right each time it is made again has no cause."""
    assert of_threads([_asked(2)], _kernel(lambda _: False)) is None
