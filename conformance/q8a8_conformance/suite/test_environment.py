"""The floating-point environment, repetition, threads, and that every call returns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs.known_calls import known, mixed, subnormal_scales
from q8a8_conformance.inputs.samples import beside, call_of, functions, other_values, sample, samples
from q8a8_conformance.protocol.messages import Together
from q8a8_conformance.suite import thread_checks
from q8a8_conformance.suite.judge import RETURNS, Judge
from q8a8_conformance.suite.two_rows import require_two_rows, takes_two_rows

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call

REPEATED = "Q8A8-ENV-2"
THREADS = 4
ROUNDS = 25
PARALLEL = 33_000
"""Blocks of a row that a kernel may share among the processors: over 2^20 elements."""
"""How often each thread calls at least."""
MILLISECONDS = 8
"""How long threads call at least, for each number of threads."""
SUBNORMAL = (33, 1025)
"""Blocks, or elements, of calls in a process that had flush modes set while it loaded the library."""
WITH_PRODUCT = (requests.QUANTIZERS[1], requests.ACTIVATION, requests.DOT)
"""Functions of whose memory a product may have a part."""
HARD = ((257, 3), (33, 5))
"""Blocks, or elements, and seeds of calls that another recipe makes otherwise, after each other function."""
TWO_ROWS = "two-rows"
PAIRS = pytest.param(TWO_ROWS, id="environment/threads/nrc2")


def of_each_function(check: str) -> list[object]:
    """Return each function of the ABI as a parameter."""
    return [pytest.param(name, id=f"environment/{check}/{name}") for name in functions()]


@pytest.mark.rule("Q8A8-ENV-1")
@pytest.mark.parametrize("function", of_each_function("modes"))
def test_modes(judge: Judge, function: str) -> None:
    """Call and compare rounding mode, flush bits and exception masks; also with flush bits set before.

    That is both of them, and each alone; and once the x87 unit has another precision.
    """
    judge.require(function, "fenv")
    flush = "flush" in judge.target.hello.capabilities
    if not flush:
        judge.leave_out("Q8A8-ENV-1", "the worker has no capability 'flush'")
    for call in samples(function, two_rows=function == requests.DOT and takes_two_rows(judge)):
        judge.run(call)
        if flush:
            judge.attempt(requests.flushing(call), (RETURNS,), "does not return where flush-to-zero is set")


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize("function", of_each_function("repeated"))
def test_repeated(judge: Judge, function: str) -> None:
    """Make the same call several times in a row: the same bytes."""
    judge.require(function, "repeat")
    for call in samples(function):
        judge.run(replace(call, repeat=5))


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize("function", of_each_function("order"))
def test_order(judge: Judge, function: str) -> None:
    """Make calls in one order, then in the opposite one, another function's in between: the same bytes.

    The other's is on the same elements, where it takes some. After each call comes one with zeros in the same
    places, for kernels that remember by address.
    """
    judge.require(function)
    calls = [each for call in samples(function) for each in (call, requests.with_zeros(call))]
    every = (*functions(), requests.MUL_MAT)
    others = [name for name in every if name != function and judge.target.offers(name)]
    first = [judge.run(call) for call in calls]
    for place in reversed(range(len(calls))):
        if others:
            judge.run(beside(others[place // 2 % len(others)], calls[place]))
        judge.compare(
            calls[place], judge.run(calls[place]), first[place], message="depends on the calls before"
        )
    for hard in (known(function, *each).call for each in HARD):
        before = judge.run(hard)
        for name in others:
            judge.run(beside(name, hard))
            judge.compare(hard, judge.run(hard), before, message=f"depends on a call of {name} before")


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize("function", of_each_function("first"))
def test_first(judge: Judge, function: str) -> None:
    """Make a process's first call: the same bytes as later."""
    judge.require(function)
    call = sample(function, 33)
    if judge.target.is_slow_to_start:
        later = judge.run(call)
        elsewhere = thread_checks.run_elsewhere(judge, thread_checks.ELSEWHERE[0], call)
        if elsewhere is None:
            return
        first = elsewhere
    else:
        later = thread_checks.later(judge, call)
        judge.target.restart()
        first, _ = judge.run_together(replace(call, together=Together(fresh=2)))
        hard = mixed(function, 33).call  # (The copies have made the call: this process has not.)
        both = judge.run(hard), judge.run(hard)
        thread_checks.compare(judge, hard, *both, "the first call of a process gives other bytes")
    thread_checks.compare(judge, call, first, later, "the first call of a process gives other bytes")


@pytest.mark.rule("Q8A8-ENV-3")
@pytest.mark.parametrize("function", of_each_function("first-threads"))
def test_first_threads(judge: Judge, function: str) -> None:
    """Make a process's first calls from several threads, one of them stopped in the middle: as from one."""
    judge.require(function, "threads")
    call, other = sample(function, 33), mixed(function, 33).call
    alone = []
    for each in (call, other):
        if judge.target.is_slow_to_start:
            alone.append(judge.run(each))
            continue
        judge.target.restart()
        alone.append(judge.run_together(replace(each, together=Together(fresh=2)))[0])
    if judge.has_failed(REPEATED):  # with one thread, too
        return
    judge.target.restart()
    together = Together(fresh=thread_checks.copies(judge.target), other=other)
    asked = replace(call, threads=THREADS, together=together)
    for each, first, expected in zip((call, other), judge.run_together(asked), alone, strict=True):
        message = "other bytes where threads make the first call"
        thread_checks.compare(judge, each, first, expected, message, asked)


@pytest.mark.rule("Q8A8-ENV-3")
@pytest.mark.parametrize("function", [*of_each_function("threads"), PAIRS])
def test_threads(judge: Judge, function: str) -> None:
    """Call from 2, 4 and 16 threads at once: the same bytes everywhere, and as from one thread.

    Every other thread makes another call: with other values, of another length, or of another function.
    """
    rows = 1 + (function == TWO_ROWS)
    if rows == 2:
        require_two_rows(judge)
        function = requests.DOT
    judge.require(function, "threads")
    others = [name for name in functions() if name != function and judge.target.offers(name)]
    another = others[functions().index(function) % len(others)] if others else function
    if function in WITH_PRODUCT and judge.target.offers(requests.MUL_MAT):
        another = requests.MUL_MAT
    long = 5000 if function == requests.ACTIVATION else 1025
    plan: tuple[tuple[int, Call, Call], ...] = (
        (2, mixed(function, 33, rows).call, other_values(function, 33, rows)),
        (2, call_of(function, 65, rows), other_values(another, 40)),
        # Both are long: what keeps long rows alone in shared memory keeps both there.
        (4, call_of(function, long, rows), other_values(function, long + 7, rows)),
        (16, call_of(function, 65, rows), other_values(function, 40, rows)),
    )
    if "overlap" not in judge.target.hello.capabilities:
        plan = ((THREADS, *plan[0][1:]), (THREADS, call_of(function, 257, rows), plan[0][2]))
    for threads, call, other in plan:
        alone = [judge.run(each) for each in (call, other)]
        # Long rows, of four threads, have more places to stop at.
        together = Together(MILLISECONDS * (3 if threads == THREADS else 1), other=other)
        asked = replace(call, threads=threads, repeat=ROUNDS, together=together)
        for each, actual, expected in zip((call, other), judge.run_together(asked), alone, strict=True):
            message = "other bytes while several threads call"
            thread_checks.compare(judge, each, actual, expected, message, asked)


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize("function", of_each_function("machine"))
def test_machine(judge: Judge, function: str) -> None:
    """Call in other processes, with one processor and other numbers of threads: the same bytes."""
    judge.require(function)
    calls = [call_of(function, 33), call_of(function, 257)]
    if function == requests.DOT and not (
        judge.target.hello.emulated or thread_checks.is_slow(judge, call_of(function, 257))
    ):
        calls.append(call_of(function, PARALLEL))
    calls += [mixed(function, count).call for count in (5, 34)]
    if function == requests.DOT and takes_two_rows(judge):
        calls += [call_of(function, 33, 2), mixed(function, 17, 2).call]
    here = [judge.run(call) for call in calls]
    numbers = (*thread_checks.ELSEWHERE, thread_checks.EMPTY)
    for number in numbers[: 1 if judge.target.is_slow_to_start else None]:
        if number == thread_checks.EMPTY:
            small = [subnormal_scales(function, count).call for count in SUBNORMAL]
            calls, here = calls + small, here + [judge.run(call) for call in small]
        for call, expected in zip(calls, here, strict=True):
            actual = thread_checks.run_elsewhere(judge, number, call)
            if actual is None:
                return
            message = f"other bytes in a process whose environment {thread_checks.asks_for(number)}"
            thread_checks.compare(judge, call, actual, expected, message)
    thread_checks.judge_modes_of_loading(judge)
