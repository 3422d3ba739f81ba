"""What a dequantizer keeps from call to call: a block that is alike takes over what the call before has left.

A call is neutral to another one where their first blocks have nothing in common: no byte of the scale, no
sign, no code. Where failed calls give something else after a neutral one, every call is made after one, so
that the laws of a row show. Then it is tried whether a law goes on in the first block of the next call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.kept import first_of_run
from q8a8_conformance.diagnosis.dequantizers.model import (
    BLOCK,
    FINITE,
    SIZE,
    Dequantizer,
    blocks_of,
    build_row,
    is_alike,
    outputs,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.dequantizers.cases import Cases
    from q8a8_conformance.diagnosis.dequantizers.model import Law
    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult, Failure

    Make = Callable[[Call], tuple[bytes, ...]]

TRIED, PAIRS = 6, 8
"""Failed calls that are made again, and pairs of calls that must all show a law."""

COMPARE_ALL = "Keep nothing between blocks and calls, or compare all that it was made from."

DRAWN, ZEROS = 100_000, 64
"""Pairs of blocks among which those that are alike are looked for, and those with zeros of both signs."""


def neutral(call: Call) -> Call:
    """Return a call on one block that has nothing in common with the first block of another one."""
    row = np.frombuffer(bytes(call.buffers[0].data)[:SIZE], np.uint8)
    other = ~row
    other[1] ^= 0x40 if other[1] & 0x7C == 0x7C else 0
    return build_row(other[np.newaxis])


def depends_on_calls(make: Make, failures: Sequence[Failure]) -> bool:
    """Return whether failed calls give something else after a neutral one."""
    for failure in sorted(failures, key=lambda one: one.call.n)[:TRIED]:
        if failure.call.n:
            make(neutral(failure.call))
            if make(failure.call) != failure.outputs:
                return True
    return False


def goes_on(law: Law, model: Dequantizer, cases: Cases) -> bool:
    """Return whether a law about adjacent blocks that are alike goes on in the next call."""
    key = law.form.data.get("adjacent")
    if not key or law.where.cost:
        return False
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 256, (DRAWN, 2, SIZE)).astype(np.uint8)
    rows[: DRAWN // 2, 1, 2:] = rows[: DRAWN // 2, 0, 2:]
    rows[DRAWN // 4 : DRAWN // 2, 1, 0] = rows[DRAWN // 4 : DRAWN // 2, 0, 0]
    rows[::3, 1, :2] = rows[::3, 0, :2] ^ np.array([0, 0x80], np.uint8)
    rows[:ZEROS, :, :2] = np.array([[0, 0], [0, 0x80]], np.uint8)
    halves = np.ascontiguousarray(rows[:, :, :2]).view("<u2")[:, :, 0]
    count = 0
    for row in rows[FINITE[halves].all(axis=1)]:
        blocks, _ = blocks_of(model, build_row(row), None)
        if first_of_run(blocks, key)[1]:
            continue
        wanted = model.bits(blocks, np.arange(2))[1]
        if np.array_equal(wanted, Dequantizer().bits(blocks, np.arange(2))[1]):
            continue
        cases.make(build_row(row[:1]))
        written = cases.make(build_row(row[1:]))[0]
        if not np.array_equal(np.frombuffer(written, "<u4")[:BLOCK], wanted):
            return False
        count += 1
        if count == PAIRS:
            return True
    return False


def over_calls(fact: Fact, law: Law, model: Dequantizer) -> Fact:
    """Return the fact that a law which goes on in the next call is."""
    key, before = law.form.data["adjacent"], fact.explains

    def explains(result: CallResult) -> bool:
        if result.call.function != fact.function or not result.call.n or before(result):
            return before(result)
        if outputs(Dequantizer(), result.call) == result.outputs:
            return False
        blocks, _ = blocks_of(model, result.call, None)
        given = bytearray(outputs(model, result.call)[0])
        # (The first blocks that are alike have what is left of a call that is not known.)
        end = 4 * BLOCK * int((first_of_run(blocks, key) == 0).sum())
        given[:end] = result.outputs[0][:end]
        return is_alike(model, result, (bytes(given),))

    sentence = f"{fact.sentence.rstrip('.')}; the last block of the call before is one of them."
    return replace(
        fact,
        where={**fact.where, "over_calls": True},
        rule="Q8A8-ENV-2",
        sentence=sentence,
        fix=COMPARE_ALL,
        explains=explains,
    )
