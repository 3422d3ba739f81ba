"""The floating-point environment, repetition, threads, and that every call returns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs.samples import functions, sample, samples
from q8a8_conformance.protocol.messages import Option
from q8a8_conformance.suite.judge import RETURNS, Judge
from q8a8_conformance.suite.two_rows import takes_two_rows

REPEATED, THREADED = "Q8A8-ENV-2", "Q8A8-ENV-3"
THREADS = 4
ROUNDS = 25
"""How often each thread calls: enough for a race to show."""


def of_each_function(check: str) -> list[object]:
    """Return each function of the ABI as a parameter."""
    return [pytest.param(name, id=f"environment/{check}/{name}") for name in functions()]


@pytest.mark.rule("Q8A8-ENV-1")
@pytest.mark.parametrize("function", of_each_function("modes"))
def test_modes(judge: Judge, function: str) -> None:
    """Call and compare rounding mode, flush bits and exception masks; also with the flush bits set before."""
    judge.require(function, "fenv")
    flush = "flush" in judge.target.hello.capabilities
    if not flush:
        judge.leave_out("Q8A8-ENV-1", "the worker has no capability 'flush'")
    for call in samples(function, two_rows=function == requests.DOT and takes_two_rows(judge)):
        judge.run(call)
        if flush:
            flushing = requests.with_options(call, Option.FLUSH)
            judge.attempt(flushing, (RETURNS,), "does not return where flush-to-zero is set")


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

    After each call comes one with zeros in the same places, for kernels that remember by address.
    """
    judge.require(function)
    calls = [each for call in samples(function) for each in (call, requests.with_zeros(call))]
    others = [name for name in functions() if name != function and judge.target.offers(name)]
    first = [judge.run(call) for call in calls]
    for place in reversed(range(len(calls))):
        if others:
            judge.run(sample(others[place % len(others)], 5))
        judge.compare(
            calls[place], judge.run(calls[place]), first[place], message="depends on the calls before"
        )


@pytest.mark.rule("Q8A8-ENV-2", "Q8A8-ENV-3")
@pytest.mark.parametrize("function", of_each_function("first"))
def test_first(judge: Judge, function: str) -> None:
    """Make a process's first call, from several threads if it can be: the same bytes as later."""
    judge.require(function)
    threads = THREADS if "threads" in judge.target.hello.capabilities else 1
    if threads == 1:
        judge.leave_out(THREADED, "the worker has no capability 'threads'")
    call = sample(function, 33)
    for name in functions():
        if judge.target.offers(name):
            judge.run(sample(name, 5))
    later = judge.run(call)
    judge.target.restart()
    first = judge.run(replace(call, threads=threads))
    if threads > 1 and (first != later or judge.has_failed(THREADED)):
        judge.target.restart()
        alone = judge.run(call)
        judge.compare(call, first, alone, (THREADED,), "other bytes where threads make the first call")
        first = alone
    judge.compare(call, first, later, (REPEATED,), "the first call of a process gives other bytes")


@pytest.mark.rule("Q8A8-ENV-3")
@pytest.mark.parametrize("function", of_each_function("threads"))
def test_threads(judge: Judge, function: str) -> None:
    """Call from four threads at once, many times: the same bytes everywhere, and as from one thread."""
    judge.require(function, "threads")
    for call in (sample(function, 33), sample(function, 257)):
        alone = judge.run(call)
        together = judge.run(replace(call, threads=THREADS, repeat=ROUNDS))
        judge.compare(call, together, alone, message="other bytes while several threads call")


@pytest.mark.rule("Q8A8-ENV-4")
@pytest.mark.parametrize("function", of_each_function("returns"))
def test_returns(judge: Judge, function: str) -> None:
    """Call with every length up to 72 blocks (or elements), some long ones, and with zeros."""
    judge.require(function)
    judge.run(requests.with_zeros(sample(function, 3)))
    for count in (*range(73), 95, 127, 128, 129, 255, 256, 257, 511, 512, 1023, 1024, 1025):
        judge.run(sample(function, count))
