"""Memory: what a kernel reads, what it writes, and what alignment it needs.

Over-reading is found by guard pages, and by watchpoints where it keeps to the buffer's own page. Over-writing
is found by the canary bytes around every buffer; where it puts back what was there, by watchpoints; where it
hits a guard page, by the crash. Writing to inputs is found by comparing them and by mapping them read-only.
The values are hard ones, and what they must give is the specification's: a variant for some alignment may
compute otherwise.
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
from q8a8_conformance.spec.abi import get_function
from q8a8_conformance.suite.known_checks import judge_each_known, judge_same_bits, require_watchpoints
from q8a8_conformance.suite.placement import LINE
from q8a8_conformance.suite.two_rows import takes_two_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from q8a8_conformance.inputs.known_calls import Known
    from q8a8_conformance.suite.judge import Judge

MOVED = (2, 37, 130)
"""Block counts whose buffers are moved over a whole line: a page's end lies inside the longest ones."""

BEFORE = (*range(34), 63, 64, 65, 127, 128, 129, 257, 1025)
"""Lengths with an inaccessible page before the buffers: every remainder by 32, and long rows."""

AWKWARD = (*range(10), 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257, 1025)
"""Lengths of those checks whose conditions other calls of every length meet as well."""


WATCHED = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65, 129)
"""Lengths of calls beside which accesses are counted."""


def of_each_function(check: str) -> list[object]:
    """Return each function of the ABI as a parameter."""
    return [pytest.param(name, id=f"memory/{check}/{name}") for name in functions()]


def of_lengths(judge: Judge, function: str, counts: Iterable[int]) -> Iterator[Known]:
    """Yield a hard call of each length, and with pairs of rows where the kernel takes them."""
    two_rows = function == requests.DOT and takes_two_rows(judge)
    for count in counts:
        yield known(function, count)
        if two_rows:
            yield known_pair(count)


def at_distance(call: Call, number: int) -> Call:
    """Return a call with an offset for each buffer: by number all of a line, each in another order."""
    offsets = {
        spec.name: number * step * spec.alignment % LINE
        for spec, step in zip(call.spec.buffers, (1, 5, 13), strict=False)
    }
    return requests.misaligned(call, offsets)


@pytest.mark.rule("Q8A8-MEM-1")
@pytest.mark.parametrize("guard", [Option.GUARD_AFTER, Option.GUARD_BEFORE], ids=["after", "before"])
@pytest.mark.parametrize("function", of_each_function("over-read"))
def test_over_read(judge: Judge, function: str, guard: Option) -> None:
    """Call with an inaccessible page right after, or right before, every buffer, and read-only inputs."""
    judge.require(function, "guard")
    read_only = Option.READONLY if "readonly" in judge.target.hello.capabilities else NO_OPTIONS
    counts = counts_of(function) if guard is Option.GUARD_AFTER else BEFORE
    hard = of_lengths(judge, function, counts)
    judge_each_known(judge, ((each, requests.with_options(each.call, guard | read_only)) for each in hard))


@pytest.mark.rule("Q8A8-MEM-2")
@pytest.mark.parametrize("function", of_each_function("over-write"))
def test_over_write(judge: Judge, function: str) -> None:
    """Call with canary bytes around every buffer, at several distances from a 64-byte boundary."""
    judge.require(function, "offset")
    hard = enumerate(of_lengths(judge, function, AWKWARD))
    judge_each_known(judge, ((each, at_distance(each.call, 1 + 3 * number)) for number, each in hard))


@pytest.mark.rule("Q8A8-MEM-1", "Q8A8-MEM-2")
@pytest.mark.parametrize("function", of_each_function("watched"))
def test_watched(judge: Judge, function: str) -> None:
    """Call while accesses to the bytes next to every buffer are counted: they need not fault."""
    require_watchpoints(judge, function)
    hard = of_lengths(judge, function, WATCHED)
    judge_each_known(judge, ((each, requests.with_options(each.call, Option.WATCHED)) for each in hard))


@pytest.mark.rule("Q8A8-MEM-3")
@pytest.mark.parametrize("function", of_each_function("inputs"))
def test_inputs(judge: Judge, function: str) -> None:
    """Call with inputs that are compared afterwards and mapped read-only."""
    judge.require(function, "readonly")
    hard = of_lengths(judge, function, AWKWARD)
    judge_each_known(judge, ((each, requests.with_options(each.call, Option.READONLY)) for each in hard))


@pytest.mark.rule("Q8A8-MEM-4")
@pytest.mark.parametrize("function", of_each_function("alignment"))
def test_alignment(judge: Judge, function: str) -> None:
    """Call with buffers at every legal distance from a 64-byte boundary, of each buffer by itself."""
    judge.require(function, "offset")
    sizes = [32 * count for count in MOVED] if function == requests.ACTIVATION else MOVED
    calls = [known(function, count, seed) for seed, count in enumerate(sizes)]
    if function == requests.DOT and takes_two_rows(judge):
        calls += [known_pair(3), known_pair(66)]
    distances = range(LINE // min(buffer.alignment for buffer in get_function(function).buffers))
    placed = ((each, at_distance(each.call, number)) for each in calls for number in distances)
    judge_each_known(judge, placed)


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
