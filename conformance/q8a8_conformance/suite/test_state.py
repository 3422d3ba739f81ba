"""What a kernel leaves behind and keeps from call to call: process, registers, stack, resources, results.

Every result is compared with the specification's: by itself in a plain call first, and a later call's with
the plain call's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs import dot_rows, samples
from q8a8_conformance.inputs.known_calls import mixed
from q8a8_conformance.inputs.versions import FLOAT, versions
from q8a8_conformance.protocol.messages import Buffer, Call, Option, Together
from q8a8_conformance.suite import thread_checks
from q8a8_conformance.suite.judge import RETURNS, Judge
from q8a8_conformance.suite.load_effects import LOADING, describe
from q8a8_conformance.suite.specified import REPEATED, judge_plainly, specimen
from q8a8_conformance.suite.target import NotOfferedError, NotRunError
from q8a8_conformance.suite.two_rows import takes_two_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANY = 13_107
"""Calls of the soak in a row; after five times as many and one more, 16 bits count the same number."""
PERIODS = (65_536, 65_535)
"""Calls after which a count of 16 bits repeats; of one that leaves out zero."""
MILLION = 2**20
"""Dot products of one block that a worker makes which calls by machine code: in a tenth of a second."""
FOR_GROWTH, SLOW_FOR_GROWTH = 4000, 1000
"""Calls in a row after which a descriptor or some bytes kept by each show; of a slow kernel."""
THREADS_FOR_GROWTH = 200
"""Threads that end after a call, one after the other, after which some bytes kept for each show."""
LONG = 301
"""Blocks, or tens of elements, of a row for which a kernel may take other memory than for a short one."""
LONGER = 1030
"""Blocks of a row that usual buffers of a fixed size do not hold."""
SLOW_SOAK = 200
"""Calls in a row of a slow kernel, twice."""
BATCHES, BATCHES_OF_DOT = 5, 8
"""How often so many calls are made in a row: of dot products, a hundred thousand in all."""
EMULATED_BATCHES, EMULATED_BATCHES_OF_DOT = 1, 5
CHANGED = (9, 70)
"""Blocks, or tens of elements, of rows that are changed in place."""
EXCHANGED = 4
"""Blocks that change places with as many others: of 34 bytes, a multiple of eight."""
SHORT = (1, 2, 3, 5, 7, 8, 15, 17, 33, 50, 100, 257, 600)
"""Blocks, or tens of elements, of rows after a long one."""
HARD = 33
"""The same of a call with values of every kind, which is compared with itself."""
BEFORE, ELEMENTS_BEFORE = 5000, 70_000
"""Blocks, or elements, of the long one: longer than usual tiles and buffers."""
PROCESSES = (0, 4, 8)
"""Processes whose results are compared, besides the one that ran so far: threads that their environment asks
for, 0 where it is as it was."""
LENGTHS = (2, 0, 1, 3, 5)
"""Blocks, or tens of elements, of the calls of the soak."""
LENGTHS_OF_DOT = (7, 0, 1, 3, 9)
"""Blocks of dot products in the soak: enough for an order of addition to show."""


def of_each_function(check: str) -> list[object]:
    """Return each function of the ABI as a parameter."""
    return [pytest.param(name, id=f"state/{check}/{name}") for name in samples.functions()]


def calls_of(function: str, counts: Iterable[int]) -> list[Call]:
    """Return a call for each number of blocks; of elements by ten, for the activation quantizer."""
    return [specimen(function, 10 * count if function == requests.ACTIVATION else count) for count in counts]


@pytest.mark.rule("Q8A8-ENV-1", "Q8A8-ENV-9")
def test_loading(judge: Judge) -> None:
    """Report what loading the library and its initializer left changed in the process."""
    if not judge.target.hello.functions:
        raise NotRunError("the kernel offers no function")
    changes = judge.target.hello.loading
    if changes is None:
        raise NotOfferedError(
            "nothing was loaded, or the worker does not compare the process before and after"
        )
    judge.records.executed = True
    for change in changes:
        rule, message = describe(change)
        judge.records.add_without_call((rule,), message)
        if rule == LOADING:
            judge.target.warn(f"{change.when}:{change.what}", "the library", judge.case, message)


@pytest.mark.rule("Q8A8-ENV-5")
@pytest.mark.parametrize("function", of_each_function("convention"))
def test_convention(judge: Judge, function: str) -> None:
    """Call and compare callee-saved registers, direction flag and x87 tag; so does every other call."""
    judge.require(function, "registers")
    for call in calls_of(function, (0, 1, 3, 8, 17, 257)):
        judge.run(call)
    if function == requests.DOT and takes_two_rows(judge):
        judge.run(samples.pair(17))


@pytest.mark.rule("Q8A8-ENV-6", "Q8A8-ENV-10")
@pytest.mark.parametrize("function", of_each_function("process"))
def test_process(judge: Judge, function: str) -> None:
    """Call and compare what belongs to the process; also with values outside the domain."""
    judge.require(function, "state")
    one = next(name for name in samples.functions() if judge.target.offers(name))
    if function == one and not judge.target.is_slow_to_start:
        judge.target.restart()
    message = "differs where errno, the stack below and unused registers are not zero before the call"
    for call in calls_of(function, (0, 1, 33)):
        plain = judge_plainly(judge, call)
        found = judge.run(requests.with_options(call, Option.STATE))
        judge.compare(call, found, plain, (REPEATED,), message)
    judge.run(requests.with_options(outside(function), Option.STATE), legal=False)


def _misaligned(call: Call) -> Call:
    """Return the call with every buffer at the least alignment: a kernel may copy it to a better place."""
    return requests.misaligned(call, {spec.name: spec.alignment for spec in call.spec.buffers})


def outside(function: str) -> Call:
    """Return a call with inputs of NaN, which are outside the domain of every function."""
    call = specimen(function, 32 if function == requests.ACTIVATION else 1)
    nan = {"float": bytes.fromhex("0000c07f"), "void": bytes.fromhex("ff7f")}
    buffers = list(call.buffers)
    for index in call.spec.inputs:
        pattern = nan["float" if call.spec.buffers[index].element == "f32" else "void"]
        size = len(buffers[index].data)
        buffers[index] = Buffer((pattern * size)[:size])
    return replace(call, buffers=tuple(buffers))


@pytest.mark.rule("Q8A8-ENV-7")
@pytest.mark.parametrize("function", of_each_function("kept"))
def test_kept(judge: Judge, function: str) -> None:
    """Call many times in a row, and in threads that end; count descriptors, threads and memory."""
    judge.require(function, "state", "repeat")
    short, long = calls_of(function, (1, LONG))
    slow = thread_checks.is_slow(judge, short)
    judge.run(replace(short, repeat=SLOW_FOR_GROWTH if slow else FOR_GROWTH, options=Option.STATE))
    rest = calls_of(function, (0,)) if slow else [*calls_of(function, (0, 9)), long]
    if "offset" in judge.target.hello.capabilities:
        misaligned = _misaligned(calls_of(function, (9,))[0])
        rest += [misaligned] * (judge.target.probe(misaligned) is not None)  # (Others find what it dies of.)
    if not slow and not judge.target.hello.emulated:
        rest.append(tiled(function, LONGER))
    if not slow and function == requests.DOT and takes_two_rows(judge):
        rest.append(samples.pair(5))
    for call in rest:
        judge.run(replace(call, repeat=SLOW_FOR_GROWTH, options=Option.STATE))
    if not slow and "own-thread" in judge.target.hello.capabilities:
        own_thread = Option.STATE | Option.OWN_THREAD
        judge.run(replace(long, repeat=THREADS_FOR_GROWTH, options=own_thread))
    if not slow and "turns" in judge.target.hello.capabilities:
        turns = Together(other=calls_of(function, (8,))[0])
        judge.run_together(replace(long, repeat=SLOW_FOR_GROWTH, options=Option.STATE, together=turns))
    judge.run(replace(outside(function), repeat=SLOW_FOR_GROWTH, options=Option.STATE), legal=False)


@pytest.mark.rule("Q8A8-ENV-8")
@pytest.mark.parametrize("function", of_each_function("stack"))
def test_stack(judge: Judge, function: str) -> None:
    """Call with short and with very long rows, and measure the stack."""
    judge.require(function, "stack", "state")
    for count in (33, 4097, 65_537):
        judge.run(requests.with_options(tiled(function, count), Option.STATE))
    if function == requests.DOT and takes_two_rows(judge):
        rows = np.repeat(dot_rows.exact_pair(1)[0], 65_537)[np.newaxis].repeat(2, axis=0)
        judge.run(requests.with_options(requests.dot_pair(rows, rows), Option.STATE))


def tiled(function: str, count: int) -> Call:
    """Return a call with so many blocks (32 elements each): those of a short one, over and over."""
    elements = function == requests.ACTIVATION
    one = specimen(function, 32 if elements else 1)
    inputs = {name: data * count for name, data in requests.inputs_of(one).items()}
    return requests.build(function, 32 * count, inputs)


@pytest.mark.rule("Q8A8-ENV-2", "Q8A8-ENV-4")
@pytest.mark.parametrize("function", of_each_function("empty"))
def test_after_empty(judge: Judge, function: str) -> None:
    """Call with no element, then as usual: a lock that the early return has kept shows, in any thread."""
    judge.require(function)
    call, empty = calls_of(function, (3, 0))
    plain = judge_plainly(judge, call)
    judge.run(empty)
    judge.compare(call, judge.run(call), plain, (REPEATED,), "depends on an empty call before")
    hard = mixed(function, HARD).call
    before = judge.run(hard)
    judge.run(empty)
    judge.compare(hard, judge.run(hard), before, (REPEATED,), "depends on an empty call before")
    if "threads" in judge.target.hello.capabilities:
        judge.run(empty)
        judge.attempt(replace(call, threads=2), (RETURNS,), "does not return in another thread")


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize("function", of_each_function("after-long"))
def test_after_long(judge: Judge, function: str) -> None:
    """Call with a long row before each short one: nothing of it may be left."""
    judge.require(function)
    long = tiled(function, ELEMENTS_BEFORE // 32 if function == requests.ACTIVATION else BEFORE)
    hard = mixed(function, HARD).call
    for call in (*calls_of(function, SHORT), hard):
        plain = judge.run(call) if call is hard else judge_plainly(judge, call)
        judge.run(long)
        judge.compare(call, judge.run(call), plain, message="depends on a longer row before")


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize("function", of_each_function("changed"))
def test_changed(judge: Judge, function: str) -> None:
    """Change an input in place, by a byte or an exchange: what was remembered by address, shows.

    So does what was remembered by half a row, by some of its bytes, or by a sum of them.
    """
    judge.require(function)
    for call in calls_of(function, CHANGED):
        judge.run(requests.with_zeros(call))
        judge_plainly(judge, call)
        for edited in edited_in_turn(call):
            judge_plainly(judge, edited)
            if judge.records.failed:
                return


def edited_in_turn(call: Call) -> Iterator[Call]:
    """Yield the call with one of its inputs edited, each time a little more."""
    for index in call.spec.inputs:
        size = len(call.buffers[index].data)
        floats = call.spec.buffers[index].element == "f32"
        unit = FLOAT if floats else 32 * size // call.n
        row = EXCHANGED * (32 * FLOAT if floats else unit)
        for data in versions(bytes(call.buffers[index].data), unit, min(row, size // 3), call.function):
            buffers = list(call.buffers)
            buffers[index] = Buffer(data)
            call = replace(call, buffers=tuple(buffers))
            yield call


@pytest.mark.rule("Q8A8-ENV-2", "Q8A8-ENV-4")
@pytest.mark.parametrize("function", of_each_function("soak"))
def test_soak(judge: Judge, function: str) -> None:
    """Call a hundred thousand times, with few descriptors allowed: the same bytes from first to last."""
    judge.require(function, "repeat")
    options = Option.STATE if "state" in judge.target.hello.capabilities else Option(0)
    calls = soak_inputs(function)
    plain = [judge_plainly(judge, call) for call in calls]
    hard = [
        mixed(function, call.n if function == requests.ACTIVATION else call.n // 32).call for call in calls
    ]
    hard_plain = [judge_plainly(judge, call) for call in hard]
    slow = thread_checks.is_slow(judge, calls[0])
    repeat = SLOW_SOAK if slow else MANY
    (long,) = calls_of(function, (33,))
    after_long = judge_plainly(judge, long)
    judge.run(requests.with_zeros(long))
    for number in range(2 if slow else batches(judge, function)):
        place = number % len(calls)
        many = replace(calls[place], repeat=repeat, options=options)
        judge.compare(calls[place], judge.run(many), plain[place], (REPEATED,), "differs after many calls")
        found = judge.run(hard[place])
        judge.compare(hard[place], found, hard_plain[place], (REPEATED,), "differs after many of its length")
        if number + 1 == len(calls):
            judge.compare(long, judge.run(long), after_long, (REPEATED,), "differs after 65,536 calls")
    for call, expected in zip(calls, plain, strict=True):
        judge.compare(call, judge.run(call), expected, (REPEATED,), "differs after many calls")
    if slow:
        return
    (shortest,) = calls_of(function, (1,))
    for period in PERIODS[: 1 if judge.target.hello.emulated else None]:
        judge.run(requests.with_zeros(long))
        judge.run(replace(shortest, repeat=period - 1, options=options))
        judge.compare(long, judge.run(long), after_long, (REPEATED,), f"differs after {period} calls")
    by_machine_code = "registers" in judge.target.hello.capabilities and not judge.target.hello.emulated
    if function == requests.DOT and by_machine_code:
        judge.run(replace(shortest, repeat=MILLION, options=options))
        for call, expected in zip(calls, plain, strict=True):
            judge.compare(call, judge.run(call), expected, (REPEATED,), "differs after a million calls")


def soak_inputs(function: str) -> list[Call]:
    """Return the calls of the soak; of dot products, some that round."""
    if function in (requests.DOT, requests.DOT_REAL):
        return [samples.sample(function, count) for count in LENGTHS_OF_DOT]
    return calls_of(function, LENGTHS)


def batches(judge: Judge, function: str) -> int:
    """Return how often a fast function is called `MANY` times."""
    if judge.target.hello.emulated:
        return EMULATED_BATCHES_OF_DOT if function == requests.DOT else EMULATED_BATCHES
    return BATCHES_OF_DOT if function == requests.DOT else BATCHES


@pytest.mark.rule("Q8A8-ENV-2")
def test_processes(judge: Judge) -> None:
    """Call in several processes: results depend on no clock, no address and no other first call."""
    offered = [name for name in samples.functions() if judge.target.offers(name)]
    if not offered:
        raise NotRunError("the kernel offers no function")
    options = Option.STATE if "state" in judge.target.hello.capabilities else Option(0)
    calls = [call for name in offered for call in rounding_calls(name)]
    plain = [judge_plainly(judge, call) for call in calls]
    firsts = [specimen(name, 3) for name in offered]
    first_plain = [judge_plainly(judge, call) for call in firsts]
    if judge.target.is_slow_to_start:
        for call, expected in zip(firsts + calls, first_plain + plain, strict=True):
            found = thread_checks.run_elsewhere(judge, thread_checks.ELSEWHERE[0], call)
            if found is not None:
                judge.compare(call, found, expected, message="another process gives other bytes")
        return
    for number, threads in enumerate(PROCESSES[: 2 if judge.target.hello.emulated else None]):
        here = not threads or judge.target.elsewhere(threads) is None
        where = "" if here else f" where the environment asks for {threads} threads"
        if here:
            judge.target.restart()
        order = [(step + number) % len(firsts) for step in range(len(firsts))]
        made = [(firsts[place], first_plain[place], "differs in a first call") for place in order]
        for place, call in enumerate(calls):
            made.append((call, plain[place], "another process gives other bytes"))
        for place, (call, expected, message) in enumerate(made):
            asked = requests.with_options(call, options) if place < len(firsts) else call
            found = judge.run(asked) if here else thread_checks.run_elsewhere(judge, threads, asked)
            if found is None:
                return
            judge.compare(call, found, expected, message=message + where)


def rounding_calls(function: str) -> list[Call]:
    """Return calls whose results show an order of addition; one ordinary call for what adds nothing up."""
    if function not in (requests.DOT, requests.DOT_REAL):
        return [specimen(function, 33)]
    return [samples.sample(function, count) for count in (7, 9, 33, 100, 257, 300)]
