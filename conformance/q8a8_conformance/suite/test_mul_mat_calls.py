"""The matrix product's memory, environment and state: what the rules for every function ask, in few calls.

All products are exact by construction, so that one result is right, whatever the kernel's order.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import calls, dot_rows, mul_mat_rows
from q8a8_conformance.inputs.known_calls import Known, known_product
from q8a8_conformance.inputs.samples import beside, functions
from q8a8_conformance.inputs.versions import versions
from q8a8_conformance.protocol.messages import NO_OPTIONS, Option, Together
from q8a8_conformance.results.expected_product import matrices_of
from q8a8_conformance.suite import thread_checks
from q8a8_conformance.suite.case_records import VARIES
from q8a8_conformance.suite.known_checks import judge_known, require_watchpoints
from q8a8_conformance.suite.matrix_checks import judge_again
from q8a8_conformance.suite.placement import LINE
from q8a8_conformance.suite.target import NotRunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

SHAPES = (
    *((1, 1, 0), (3, 2, 0), (0, 4, 1), (4, 0, 1), (1, 1, 1), (2, 1, 2), (1, 3, 1), (4, 4, 2), (5, 3, 3)),
    *((7, 8, 5), (8, 5, 7), (9, 16, 4), (16, 9, 3), (17, 2, 9), (3, 17, 1), (33, 7, 2), (2, 33, 8)),
    *((65, 2, 33), (1, 9, 129), (9, 1, 65)),
)
"""m, n and blocks of a row."""

LARGE = (33, 17, 9)
"""A shape for which a kernel may have several threads of its own."""
MANY = 1000
"""Calls in a row after which what each keeps shows."""
KEPT_EMPTY = ((0, 3, 65), (3, 0, 65), (3, 2, 0), (0, 0, 65))
"""Shapes for which a kernel may return early."""
PERIODS, FAST_SECONDS = (65_536, 65_535), 4e-6
"""Calls after which a count of sixteen bits repeats; seconds for the smallest product of a fast kernel, the
round trip of a message included."""
MANY_VECTORS = (5, 66, 3)
"""A shape with more rows of x than a table of one entry for each may have."""
MANY_ROWS, FAST_ROWS_SECONDS = ((1, 200_000, 1), (1_700_000, 1, 0), (1, 1_700_000, 0)), 1e-3
"""Shapes whose rows or columns take 6 MiB of a stack where each takes a few bytes; seconds for a part
of them with a kernel that is given these."""
FEW = 1000
"""Rows that are repeated where there are many."""
AFTER = tuple((1 + 4 * nb % 7, 1 + 3 * nb % 5, nb) for nb in (*range(1, 18), 31, 33))
"""Shapes of products after one of longer rows."""
PACKED = ((1024, 1, 33), (64, 5, 65))
"""Shapes of products with so many weights that a kernel may keep them in another form."""
ROUNDS, MILLISECONDS = 5, 8
"""How often each thread calls, and for how long threads do, at least."""


def known(shape: tuple[int, int, int], seed: int = 0) -> Known:
    """Return an exact product of a shape, and what it must give."""
    return known_product(*mul_mat_rows.exact(*shape, seed))


@pytest.mark.rule("Q8A8-MEM-1")
@pytest.mark.parametrize(
    "guard",
    [
        pytest.param(Option.GUARD_AFTER, id="mul-mat/over-read/after"),
        pytest.param(Option.GUARD_BEFORE, id="mul-mat/over-read/before"),
    ],
)
def test_over_read(judge: Judge, guard: Option) -> None:
    """Call with an inaccessible page right after, or right before, every buffer, and read-only inputs."""
    judge.require(calls.MUL_MAT, "guard")
    read_only = Option.READONLY if "readonly" in judge.target.hello.capabilities else NO_OPTIONS
    for shape in SHAPES:
        each = known(shape)
        if not judge_known(judge, each, calls.with_options(each.call, guard | read_only)):
            return


@pytest.mark.rule("Q8A8-MEM-1", "Q8A8-MEM-2")
def test_watched(judge: Judge) -> None:
    """Call while accesses to the bytes next to every buffer are counted: they need not fault."""
    require_watchpoints(judge, calls.MUL_MAT)
    for shape in SHAPES:
        each = known(shape)
        if not judge_known(judge, each, calls.with_options(each.call, Option.WATCHED)):
            return


@pytest.mark.rule("Q8A8-MEM-2", "Q8A8-MEM-4")
def test_places(judge: Judge) -> None:
    """Call with canary bytes around every buffer, each at several distances from a 64-byte boundary."""
    judge.require(calls.MUL_MAT, "offset")
    for number, shape in enumerate(SHAPES):
        each = known(shape)
        for step in (1, 7, 18):
            offsets = {"w": 2 * step * (number + 1), "x": 4 * step * number, "out": 4 * (number + 5 * step)}
            placed = calls.misaligned(each.call, {name: at % LINE for name, at in offsets.items()})
            if not judge_known(judge, each, placed):
                return


@pytest.mark.rule("Q8A8-MEM-3")
def test_inputs(judge: Judge) -> None:
    """Call with inputs that are compared afterwards and mapped read-only."""
    judge.require(calls.MUL_MAT, "readonly")
    for shape in SHAPES:
        each = known(shape, 1)
        if not judge_known(judge, each, calls.with_options(each.call, Option.READONLY)):
            return


@pytest.mark.rule("Q8A8-ENV-1", "Q8A8-ENV-2")
def test_flush(judge: Judge) -> None:
    """Call with flush-to-zero set, also on subnormal scales: the same results, and the modes stay."""
    judge.require(calls.MUL_MAT, "fenv", "flush")
    for each in (*map(known, SHAPES), *_subnormal((5, 3, 3)), *_subnormal((9, 17, 2))):
        if not judge_known(judge, each, calls.flushing(each.call)):
            return


@cache
def _subnormal(shape: tuple[int, int, int]) -> tuple[Known, ...]:
    """Return exact products of a shape, all scales of w or of x being subnormal halves, or nearly so."""
    w, x = mul_mat_rows.exact(*shape)
    small = dot_rows.blocks(w["weight_scale"] * np.float16(2.0**-16), w["weight_qs"])
    return known_product(small, x), known_product(w, x * np.float32(2.0**-16))


@pytest.mark.rule("Q8A8-ENV-2")
def test_changed(judge: Judge) -> None:
    """Call in turn with other matrices at the same addresses: nothing is remembered by address or shape."""
    judge.require(calls.MUL_MAT)
    first, *others = (known((17, 5, 4), seed) for seed in range(4))
    shapes = [
        known(shape) for shape in ((17, 1, 4), (1, 5, 4), (33, 9, 9), (5, 17, 4), (2, 2, 2), (17, 5, 0))
    ]
    mixed = [
        _mixed(*pair) for other in others for pair in ((first.call, other.call), (other.call, first.call))
    ]
    edited = [each for shape in ((17, 5, 4), (64, 2, 20)) for each in _edited(known(shape))]
    turns = [each for other in (*others, *mixed, *shapes) for each in (first, other, other)]
    # (Of 2^20 weights and more: kernels pack them once, for all later calls.)
    packed = [_mixed(known(shape, seed).call, known(shape).call) for shape in PACKED for seed in range(2)]
    for each in (*turns, first, *edited, *packed):
        if not judge_again(judge, each, each.call, "depends on the calls before"):
            return
    for name in filter(judge.target.offers, functions()):
        judge.run(beside(name, first.call))
        if not judge_again(judge, first, first.call, f"depends on a call of {name} before"):
            return


def _mixed(one: Call, two: Call) -> Known:
    """Return the product of one call's w and another's x, exact as theirs are."""
    return known_product(matrices_of(one)[0], matrices_of(two)[1])


def _edited(product: Known) -> Iterator[Known]:
    """Yield a product, and it with w or x edited, each time a little more; each as exact as it."""
    yield product
    w, x = matrices_of(product.call)
    for data in versions(w.tobytes(), w.itemsize, w.strides[0]):
        w = np.frombuffer(data, w.dtype).reshape(w.shape)
        yield known_product(w, x)
    for data in versions(x.tobytes(), x.itemsize, x.strides[0]):
        x = np.frombuffer(data, x.dtype).reshape(x.shape)
        yield known_product(w, x)


@pytest.mark.rule("Q8A8-ENV-2")
@pytest.mark.parametrize(
    "threads",
    [
        *(pytest.param(n, id=f"mul-mat/machine/threads-{n}") for n in thread_checks.ELSEWHERE),
        pytest.param(thread_checks.EMPTY, id="mul-mat/machine/threads-empty"),
    ],
)
def test_machine(judge: Judge, threads: int) -> None:
    """Multiply in another process, with another number of threads or processors: the same bytes."""
    judge.require(calls.MUL_MAT)
    products = [known(shape) for shape in ((17, 5, 4), (1, 9, 129), (33, 7, 2), (9, 16, 4))]
    products += [known_product(*mul_mat_rows.saturating(*shape)) for shape in ((8, 5, 3), (1, 1, 16))]
    products += [known_product(*mul_mat_rows.picked(33, 9, 3))]
    products += _subnormal(LARGE) if threads == thread_checks.EMPTY else ()
    for each in products:
        expected = judge.run(each.call)
        found = thread_checks.run_elsewhere(judge, threads, each.call)
        if found is None or expected != each.expected:
            return  # Others find what is wrong here, too.
        message = f"other bytes in a process whose environment {thread_checks.asks_for(threads)}"
        judge.compare(each.call, found, expected, message=message)


@pytest.mark.rule("Q8A8-ENV-2", "Q8A8-ENV-7", "Q8A8-ENV-6", "Q8A8-ENV-10")
def test_many(judge: Judge) -> None:
    """Call many times in a row, and compare the process, its resources and the results.

    A small product is made so often that a count of sixteen bits ends, if that takes no time.
    """
    judge.require(calls.MUL_MAT, "state", "repeat")
    # (What comes after many calls has scales and elements of every kind.)
    last, small = known_product(*mul_mat_rows.picked(9, 4, 9)), known((1, 1, 1))
    judge.run(last.call)
    fast = not thread_checks.is_slow(judge, small.call, FAST_SECONDS, 2 * MANY)
    more = 5 * MANY if fast else MANY
    plan = ((5, 3, 2), MANY), ((33, 1, 9), MANY), ((1, 17, 3), MANY), ((70, 1, 1), more), ((65, 33, 4), 2)
    for shape, repeat in plan:
        each = known(shape)
        many = replace(each.call, options=Option.STATE, repeat=repeat)
        judge_again(judge, each, many, "differs after many calls")
    if "turns" in judge.target.hello.capabilities:
        turns = Together(other=known((5, 3, 2)).call)
        many = replace(known((9, 4, 5)).call, options=Option.STATE, repeat=MANY, together=turns)
        judge.run_together(many)
    for shape in KEPT_EMPTY:
        judge.run(replace(known(shape).call, options=Option.STATE, repeat=MANY))
    w, x = mul_mat_rows.exact(3, 2, 2)
    x = x.copy()
    x[:, 5] = np.nan, np.inf
    judge.run(replace(calls.mul_mat(w, x), options=Option.STATE, repeat=MANY), legal=False)
    if fast:
        for period, each in product(PERIODS, (last, known(MANY_VECTORS))):
            judge.run(calls.with_zeros(each.call))
            judge_again(judge, small, replace(small.call, repeat=period - 1), "differs after many calls")
            judge_again(judge, each, each.call, f"differs after {period} calls")


@pytest.mark.rule("Q8A8-ENV-2", "Q8A8-ENV-3")
def test_first(judge: Judge) -> None:
    """Make a process's first product, from one thread and from several, one of them stopped in the middle.

    Then with flush modes set, and without them.
    """
    judge.require(calls.MUL_MAT, "overlap")
    both = known((17, 5, 9)), known((17, 5, 9), 1)
    if judge.target.is_slow_to_start:
        raise NotRunError("a process takes too long to start")
    judge.target.restart()
    first, _ = judge.run_together(replace(both[0].call, together=Together(fresh=2)))
    if first != both[0].expected:
        if judge.run(both[0].call) == both[0].expected:
            message = "the first call of a process gives other bytes"
            judge.fail((VARIES,), message, both[0].call, expected=both[0].expected, actual=first)
        return
    judge.target.restart()
    together = Together(fresh=thread_checks.copies(judge.target), other=both[1].call)
    found = judge.run_together(replace(both[0].call, threads=4, together=together))
    for each, actual in zip(both, found, strict=True):
        message = "other bytes where threads make the first call"
        judge.compare(each.call, actual, each.expected, ("Q8A8-ENV-3",), message)
    if "flush" in judge.target.hello.capabilities and not judge.records.failed:
        judge.target.restart()  # (The copies have made the calls: this process has not.)
        for each in _subnormal(LARGE):
            judge.run(each.call, at=calls.flushing(each.call))
        for each in _subnormal(LARGE):
            judge_again(judge, each, each.call, "depends on flush modes of a process's first calls")


@pytest.mark.rule("Q8A8-ENV-5", "Q8A8-ENV-8")
def test_registers_and_stack(judge: Judge) -> None:
    """Call with few and with many rows, and long ones; registers are compared, the stack is measured."""
    judge.require(calls.MUL_MAT, "registers", "stack", "state")
    for shape in ((1, 1, 0), (5, 3, 2), (17, 33, 9), (3, 2, 4097), (2, 8193, 8)):
        judge.run(calls.with_options(known(shape).call, Option.STATE))
    if not thread_checks.is_slow(judge, known((1, 1000, 1)).call, FAST_ROWS_SECONDS, 3):
        for m, n, nb in MANY_ROWS:
            w, x = mul_mat_rows.exact(min(m, FEW), min(n, FEW), nb)
            call = calls.mul_mat(np.tile(w, (-(-m // FEW), 1))[:m], np.tile(x, (-(-n // FEW), 1))[:n])
            judge.run(calls.with_options(call, Option.STATE))


@pytest.mark.rule("Q8A8-ENV-2")
def test_after_infinities(judge: Judge) -> None:
    """Multiply long rows full of infinities before each short product: nothing of them may be left."""
    judge.require(calls.MUL_MAT)
    w, x = mul_mat_rows.exact(19, 18, 40)
    spoiled = dot_rows.blocks(np.full(w.shape, np.inf), w["weight_qs"]), np.full_like(x, np.inf)
    for shape in AFTER:
        each = known(shape)
        for outside in ((spoiled[0], x), (w, spoiled[1])):
            judge.run(calls.mul_mat(*outside), legal=False)
            if not judge_again(judge, each, each.call, "depends on a product of infinities before"):
                return


@pytest.mark.rule("Q8A8-ENV-3")
def test_threads(judge: Judge) -> None:
    """Call from 2, 4 and 16 threads at once, every other one with other matrices: as from one thread."""
    judge.require(calls.MUL_MAT, "threads")
    edges = known_product(*mul_mat_rows.picked(33, 5, 4))
    plan = (
        (2, edges, known((17, 5, 4), 1)),
        (4, known((33, 16, 33)), known((9, 7, 12), 1)),
        (16, known((7, 1, 9)), known((5, 3, 2), 1)),
        # (Long rows, of which a thread may keep more to its end.)
        (2, known((1, 1, 1025)), known((3, 2, 257), 1)),
    )
    for threads, *both in plan:
        alone = [judge.run(each.call) for each in both]
        if any(dict(each.expected) != made for each, made in zip(both, alone, strict=True)):
            return  # Wrong with one thread, too.
        together = Together(MILLISECONDS, other=both[1].call)
        found = judge.run_together(replace(both[0].call, threads=threads, repeat=ROUNDS, together=together))
        for each, actual in zip(both, found, strict=True):
            if actual:
                message = "other bytes while several threads call"
                judge.compare(each.call, actual, each.expected, message=message)


@pytest.mark.rule("Q8A8-ENV-4")
def test_returns(judge: Judge) -> None:
    """Call with NaN everywhere, and with shapes of no rows and no elements: every call returns."""
    judge.require(calls.MUL_MAT)
    for shape in ((1, 1, 1), (5, 3, 2), (17, 9, 4)):
        call = known(shape).call
        buffers = list(call.buffers)
        for index, pattern in zip(call.spec.inputs, ("ff7f", "0000c07f"), strict=True):
            size = len(buffers[index].data)
            buffers[index] = replace(buffers[index], data=(bytes.fromhex(pattern) * size)[:size])
        judge.run(replace(call, buffers=tuple(buffers)), legal=False)
        judge_again(judge, known((5, 3, 2)), known((5, 3, 2)).call, "depends on a call with NaN before")
    after = known_product(*mul_mat_rows.picked(9, 4, 5))
    for shape in ((0, 0, 0), (0, 5, 3), (5, 0, 3), (0, 0, 3), (3, 2, 0)):
        judge.run(known(shape).call)
        if not judge_again(judge, after, after.call, "depends on an empty product before"):
            return
