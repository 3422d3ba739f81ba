"""Placements of calls: legal, the same in every run, and told apart where one makes a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.inputs.known_calls import exact_rows, known, known_pair, square_rows
from q8a8_conformance.inputs.samples import functions
from q8a8_conformance.protocol.messages import CAPABILITIES, Option
from q8a8_conformance.suite import placement

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call


def shared(options: Option) -> Call:
    """Return a dot product of two rows of a matrix in one block of memory."""
    matrix = square_rows(2, 3)
    _, together = calls.shared_rows(calls.DOT, matrix.tobytes(), 96, 0, 102)
    return calls.with_options(together, together.options | options)


@pytest.mark.parametrize("function", functions())
def test_placements_are_legal_and_of_every_kind(function: str) -> None:
    """Offsets are multiples of the alignment, at most one guard is set, and a call has one placement."""
    options, offsets = set(), set()
    for count in range(40):
        call = known(function, count).call
        placed = placement.place("case", call, CAPABILITIES)
        assert placed == placement.place("case", call, CAPABILITIES)
        assert placed.options & placement.GUARDS != placement.GUARDS
        options.add(placed.options)
        for spec, buffer in zip(placed.spec.buffers, placed.buffers, strict=True):
            assert buffer.offset % spec.alignment == 0
            offsets.add(buffer.offset % placement.LINE)
        assert placement.place("case", placed, CAPABILITIES) is placed or placed == call
        assert placement.place("case", call, ()) == call
    assert len(options) > 3
    assert len(offsets) > 10


def test_properties_of_a_placement() -> None:
    """A placement's properties are tried one by one: inputs, alignment, guards; sharing before guards."""
    call = known(calls.DOT, 3).call
    both = calls.with_options(call, Option.GUARD_AFTER | Option.READONLY)
    assert [each.rule for each in placement.properties(call, both, CAPABILITIES)] == [
        "Q8A8-MEM-3", "Q8A8-MEM-4", "Q8A8-MEM-1",
    ]  # fmt: skip
    before = calls.with_options(call, Option.GUARD_BEFORE)
    assert [each.rule for each in placement.properties(call, before, CAPABILITIES)] == ["Q8A8-MEM-1"]
    flushing = calls.with_options(call, Option.FLUSH)
    assert [each.rule for each in placement.properties(call, flushing, CAPABILITIES)] == ["Q8A8-ENV-4"]
    together = list(placement.properties(call, shared(Option.GUARD_AFTER), CAPABILITIES))
    assert [each.rule for each in together] == ["Q8A8-MEM-4", "Q8A8-ENV-4", "Q8A8-MEM-1"]


def test_placements_are_described() -> None:
    """A placement is described as the condition of a sentence."""
    call = known(calls.DOT, 1).call
    assert placement.describe(call) == "at a 64-byte boundary"
    assert placement.describe(calls.misaligned(call, {"vx": 6})) == "with vx 6 bytes off"
    guarded = calls.with_options(call, Option.GUARD_BEFORE | Option.READONLY)
    assert placement.describe(guarded) == "with all buffers at the start of a page and with read-only inputs"
    assert placement.describe(calls.with_options(call, Option.FLUSH)) == "where flush-to-zero is set"
    assert placement.describe(shared(Option(0))) == "with vy 102 bytes behind vx"


def test_copies_of_shared_inputs_are_aligned_alike() -> None:
    """Without sharing, inputs lie at the same distances from a boundary, whatever a guard decides."""
    assert [buffer.offset for buffer in placement.unshared(shared(Option(0))).buffers] == [0, 0, 102]
    after = placement.unshared(shared(Option.GUARD_AFTER))
    assert [buffer.offset for buffer in after.buffers] == [0, -204 % 64, 102 + -204 % 64]
    before = placement.unshared(shared(Option.GUARD_BEFORE))
    assert [buffer.offset for buffer in before.buffers] == [0, 0, 102]
    assert not after.options
    call = known(calls.DOT, 1).call
    assert placement.unshared(call) is call


def test_hard_calls_are_exact() -> None:
    """No order can round on the rows of hard dot products, and none of their sums is zero."""
    for count in (1, 2, 31, 130, 1025):
        x, y = exact_rows(count, 2)
        assert all(dot_rows.is_exact(one, other) for one in x for other in y)
        rows = square_rows(3, count)
        assert all(dot_rows.is_exact(one, other) for one in rows for other in rows)
        results = np.frombuffer(known_pair(count).expected["s"], np.float32)
        assert results[0] != 0
