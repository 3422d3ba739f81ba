"""Memory: what a kernel reads, what it writes, and what alignment it needs.

Over-reading is found by guard pages, over-writing by the canary bytes around every buffer and, where it hits
a guard page, by the crash; writing to inputs by comparing them and by mapping them read-only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs.samples import functions, pair, sample, samples
from q8a8_conformance.protocol.messages import Call, Option
from q8a8_conformance.suite.two_rows import takes_two_rows

if TYPE_CHECKING:
    from q8a8_conformance.suite.judge import Judge

OVER_READ, OVER_WRITE, INPUT, ALIGNMENT = (f"Q8A8-MEM-{number}" for number in (1, 2, 3, 4))


def of_each_function(check: str) -> list[object]:
    """Return each function of the ABI as a parameter."""
    return [pytest.param(name, id=f"memory/{check}/{name}") for name in functions()]


def calls_of(judge: Judge, function: str) -> list[Call]:
    """Return the sample calls of a function that the kernel takes."""
    return samples(function, two_rows=function == requests.DOT and takes_two_rows(judge))


@pytest.mark.rule("Q8A8-MEM-1")
@pytest.mark.parametrize("guard", [Option.GUARD_AFTER, Option.GUARD_BEFORE], ids=["after", "before"])
@pytest.mark.parametrize("function", of_each_function("over-read"))
def test_over_read(judge: Judge, function: str, guard: Option) -> None:
    """Call with an inaccessible page right after, or right before, every buffer."""
    judge.require(function, "guard")
    where = "past the end" if guard is Option.GUARD_AFTER else "before the beginning"
    for call in calls_of(judge, function):
        judge.run(call)
        if guard is Option.GUARD_AFTER and not survives_alignment(judge, call, ends_at_a_page(call)):
            return
        # A kernel that was just seen to write outside its buffers dies of that.
        rule = OVER_WRITE if judge.has_failed(OVER_WRITE) else OVER_READ
        if (
            judge.attempt(requests.with_options(call, guard), (rule,), f"reads or writes {where} of a buffer")
            is None
        ):
            return


def ends_at_a_page(call: Call) -> dict[str, int]:
    """Return how far from a 64-byte boundary the buffers begin if they end where a page ends."""
    both = zip(call.spec.buffers, call.buffers, strict=True)
    return {spec.name: -len(buffer.data) % 64 for spec, buffer in both}


def survives_alignment(judge: Judge, call: Call, offsets: dict[str, int]) -> bool:
    """Make a call at these distances from a boundary; one that dies needs more alignment than allowed."""
    if "offset" not in judge.target.hello.capabilities:
        return True
    where = ", ".join(f"{name} {offset} bytes off" for name, offset in offsets.items() if offset)
    placed = requests.misaligned(call, offsets)
    return judge.attempt(placed, (ALIGNMENT,), f"needs more alignment than it may: {where}") is not None


@pytest.mark.rule("Q8A8-MEM-2")
@pytest.mark.parametrize("function", of_each_function("over-write"))
def test_over_write(judge: Judge, function: str) -> None:
    """Call with canary bytes around every buffer, at several distances from a 64-byte boundary."""
    judge.require(function, "offset")
    for call in calls_of(judge, function):
        judge.run(call)
        for steps in (1, 5):
            offsets = {buffer.name: steps * buffer.alignment for buffer in call.spec.buffers}
            if not survives_alignment(judge, call, offsets):
                return


@pytest.mark.rule("Q8A8-MEM-3")
@pytest.mark.parametrize("function", of_each_function("inputs"))
def test_inputs(judge: Judge, function: str) -> None:
    """Call with inputs that are compared afterwards, then with inputs mapped read-only."""
    judge.require(function, "readonly")
    for call in calls_of(judge, function):
        judge.run(call)
        if judge.has_failed(INPUT):
            return
        read_only = requests.with_options(call, Option.READONLY)
        if judge.attempt(read_only, (INPUT,), "writes to an input that is mapped read-only") is None:
            return


@pytest.mark.rule("Q8A8-MEM-4")
@pytest.mark.parametrize("function", of_each_function("alignment"))
def test_alignment(judge: Judge, function: str) -> None:
    """Call with buffers at every legal distance from a 32-byte boundary, one at a time and all at once."""
    judge.require(function, "offset")
    calls = [sample(function, count) for count in (3, 4, 37)]
    if function == requests.DOT and takes_two_rows(judge):
        calls.append(pair(3))
    for call in calls:
        expected = judge.run(call)
        buffers = call.spec.buffers
        placements = [
            {buffer.name: offset}
            for buffer in buffers
            for offset in range(buffer.alignment, 32, buffer.alignment)
        ]
        placements += [{buffer.name: steps * buffer.alignment for buffer in buffers} for steps in range(1, 8)]
        for offsets in placements:
            placed = requests.misaligned(call, offsets)
            where = ", ".join(f"{name} {offset} bytes off" for name, offset in offsets.items())
            result = judge.attempt(placed, (ALIGNMENT,), f"needs more alignment than it may: {where}")
            if result is None:
                return
            judge.compare(
                placed, judge.target.outputs(placed, result), expected, message=f"other bytes with {where}"
            )
