"""Memory: what a kernel reads, what it writes, and what alignment it needs.

Over-reading is found by guard pages, over-writing by the canary bytes around every buffer and, where it hits
a guard page, by the crash; writing to inputs by comparing them and by mapping them read-only. The values are
hard ones, and what they must give is the specification's: a variant for some alignment may compute otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.inputs.known_calls import counts_of, known, known_pair
from q8a8_conformance.inputs.samples import functions, sample
from q8a8_conformance.protocol.messages import NO_OPTIONS, Call, Option
from q8a8_conformance.results.expected_dot import expected_dot
from q8a8_conformance.suite.known_checks import judge_known, judge_same_bits
from q8a8_conformance.suite.placement import LINE
from q8a8_conformance.suite.two_rows import takes_two_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.inputs.known_calls import Known
    from q8a8_conformance.suite.judge import Judge

MOVED = (1, 2, 8, 37, 130)
"""Block counts whose buffers are moved over a whole line: a page's end lies inside the longest ones."""


def of_each_function(check: str) -> list[object]:
    """Return each function of the ABI as a parameter."""
    return [pytest.param(name, id=f"memory/{check}/{name}") for name in functions()]


def every_length(judge: Judge, function: str) -> Iterator[Known]:
    """Yield a hard call of every length that the kernel takes, and pairs of rows."""
    two_rows = function == requests.DOT and takes_two_rows(judge)
    for count in counts_of(function):
        yield known(function, count)
        if two_rows:
            yield known_pair(count)


def judge_lengths(judge: Judge, function: str, options: Option, offsets: int | None = None) -> None:
    """Judge a hard call of every length with memory options, or with offsets that change from call to call.

    Parameters
    ----------
    judge
        Of the case.
    function
        ABI name.
    options
        Of every call.
    offsets
        The steps by which buffers move on from one call to the next, in units of their alignment.
    """
    for number, each in enumerate(every_length(judge, function)):
        call = requests.with_options(each.call, options)
        if offsets is not None:
            call = requests.misaligned(call, moved(call, 1 + number * offsets))
        if not judge_known(judge, each, call):
            return


def moved(call: Call, number: int) -> dict[str, int]:
    """Return an offset for each buffer: by number they go through all of a line, each in another order."""
    return {
        spec.name: number * step * spec.alignment % LINE
        for spec, step in zip(call.spec.buffers, (1, 5, 13), strict=False)
    }


@pytest.mark.rule("Q8A8-MEM-1")
@pytest.mark.parametrize("guard", [Option.GUARD_AFTER, Option.GUARD_BEFORE], ids=["after", "before"])
@pytest.mark.parametrize("function", of_each_function("over-read"))
def test_over_read(judge: Judge, function: str, guard: Option) -> None:
    """Call with an inaccessible page right after, or right before, every buffer."""
    judge.require(function, "guard")
    judge_lengths(judge, function, guard)


@pytest.mark.rule("Q8A8-MEM-2")
@pytest.mark.parametrize("function", of_each_function("over-write"))
def test_over_write(judge: Judge, function: str) -> None:
    """Call with canary bytes around every buffer, at several distances from a 64-byte boundary."""
    judge.require(function, "offset")
    judge_lengths(judge, function, NO_OPTIONS, offsets=3)


@pytest.mark.rule("Q8A8-MEM-3")
@pytest.mark.parametrize("function", of_each_function("inputs"))
def test_inputs(judge: Judge, function: str) -> None:
    """Call with inputs that are compared afterwards and mapped read-only."""
    judge.require(function, "readonly")
    judge_lengths(judge, function, Option.READONLY)


@pytest.mark.rule("Q8A8-MEM-4")
@pytest.mark.parametrize("function", of_each_function("alignment"))
def test_alignment(judge: Judge, function: str) -> None:
    """Call with buffers at every legal distance from a 64-byte boundary, of each buffer by itself."""
    judge.require(function, "offset")
    sizes = [32 * count for count in MOVED] if function == requests.ACTIVATION else MOVED
    calls = [known(function, count, seed) for seed, count in enumerate(sizes)]
    if function == requests.DOT and takes_two_rows(judge):
        calls += [known_pair(3), known_pair(66)]
    for each in calls:
        for number in range(LINE):
            if not judge_known(judge, each, requests.misaligned(each.call, moved(each.call, number))):
                return


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize(
    "function",
    [pytest.param(name, id=f"memory/same-bits/{name}") for name in (requests.DOT, requests.DOT_REAL)],
)
def test_same_bits(judge: Judge, function: str) -> None:
    """Compute a dot product that rounds at several addresses: the same bits, each within the bound."""
    judge.require(function, "offset")
    for count in (5, 17, 66, 257):
        call = sample(function, count)
        placements = [
            requests.misaligned(
                call, {"vx": 2 * number % LINE, "vy": 26 * number % LINE, "s": number % 16 * 4}
            )
            for number in range(1, 2 * LINE, 9)
        ]
        judge_same_bits(judge, call, placements, expected_dot(*dot_rows.random_pair(count, seed=9)))
