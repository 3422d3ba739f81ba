"""Dot products that are wrong for where, how or when they are called: the condition is measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis import diagnose
from q8a8_conformance.diagnosis.dots import dot_facts, history
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.kernel import DOT
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.inputs.known_calls import square_rows
from q8a8_conformance.mutants import make
from q8a8_conformance.protocol.messages import NO_OPTIONS, Buffer, Option
from q8a8_conformance.results.observations import Failure, Observations

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.run import Finding

    Probe = Callable[[Call], tuple[bytes, ...] | None]

SECONDS = 120.0
RIGHT = make()


def _at(call: Call, *offsets: int, options: Option = NO_OPTIONS) -> Call:
    both = zip(call.buffers, offsets, strict=True)
    return replace(call, buffers=tuple(Buffer(b.data, at) for b, at in both), options=options)


def _where(wrong: object, is_met: Callable[[Call], bool]) -> Probe:
    """Return a kernel that is wrong in calls that meet a condition."""
    return lambda call: replay(wrong if is_met(call) else RIGHT, call)


def _facts(probe: Probe, *made: Call) -> list[Fact]:
    failed = [Failure(call, probe(call) or (), replay(RIGHT, call)) for call in made]
    assert all(one.outputs != one.expected for one in failed)
    facts = dot_facts(DOT, {}, probe, SECONDS, placed={1: failed})
    assert facts[0].explained(failed) == failed
    return facts


def _minus_128(nb: int) -> Call:
    """Return the square of codes of -128, and of other ones."""
    codes = np.random.default_rng(nb).integers(-128, -100, (nb, 32))
    codes[:, :4] = -128
    row = dot_rows.blocks(1.0, codes)
    return calls.dot(row, row)


def test_an_address() -> None:
    """A mistake that shows where y lies at 2 mod 32, in rows of two blocks: the mistake, and where."""
    probe = _where(make("minus-128-sign"), lambda call: call.buffers[2].offset % 32 == 2 and call.n >= 256)
    fact = _facts(probe, _at(_minus_128(9), 4, 6, 34), _at(_minus_128(8), 0, 2, 2))[0]
    assert (fact.cause, fact.rule) == ("minus-128-sign", "Q8A8-DOT-1")
    assert fact.where["under"] == {"buffer": "vy", "modulus": 32, "remainders": [2]}
    assert fact.where["blocks"]["length"] == [{"kind": "from", "least": 8}]


def test_the_end_of_a_page() -> None:
    """A block that straddles the end of a page is found by where the buffer lies."""
    end = 4096 - 256
    probe = _where(make("lane-lost"), lambda call: call.buffers[1].offset < end < call.buffers[1].offset + 34)
    fact = _facts(probe, _at(_minus_128(1), 0, end - 20, 0))[0]
    assert (fact.cause, fact.where["under"]) == ("lane-lost", {"buffer": "vx", "straddles": "a page"})


def test_right_bits_by_address() -> None:
    """Results that are right, and other bits at another address."""
    probe = _where(make("order-avx2"), lambda call: bool(call.buffers[1].offset % 64))
    fact = _facts(probe, _at(calls.dot(*dot_rows.random_pair(40, seed=3)), 0, 6, 0))[0]
    assert (fact.fact, fact.where) == ("bits-vary", {"by": "address", "buffer": "vx"})


def test_flush_modes() -> None:
    """A half that is read through a subnormal float is found under flush-to-zero."""
    row = dot_rows.blocks(2.0**-20, np.full((3, 32), 7))
    call = calls.dot(row, dot_rows.blocks(1.0, np.full((3, 32), 5)))
    probe = _where(make("half-flushed-on-read"), lambda call: bool(call.options & Option.FLUSH))
    fact = _facts(probe, _at(call, 0, 0, 0, options=Option.FLUSH))[0]
    assert (fact.cause, fact.where["under"]) == ("half-through-subnormal-float", {"flush": True})


def _finding(probe: Probe, call: Call) -> Finding:
    """Return what is found about a call that is right elsewhere."""
    observations = Observations()
    (outputs,), (right,) = probe(call) or (b"",), replay(RIGHT, call)
    observations.add_placed(call, {"y": outputs}, {"y": right})
    return diagnose(observations, lambda *_: None, probe=probe)[0]


def test_flush_modes_of_dequantization() -> None:
    """A scale that dequantization reads through a subnormal float is found under flush-to-zero."""
    call = calls.dequantize(dot_rows.blocks(2.0**-20, np.full((3, 32), 7)))
    wrong = make("half-flushed-in-dequantize")
    found = _finding(
        _where(wrong, lambda call: bool(call.options & Option.FLUSH)), _at(call, 0, 0, options=Option.FLUSH)
    )
    assert (found.cause, found.rule) == ("half-through-subnormal-float", "Q8A8-ENV-2")
    assert (found.explained, found.of, found.where["under"]) == (3, 3, {"flush": True})
    assert found.sentence.endswith("A subnormal float on the way is taken for 0 there.")


def test_an_address_of_a_quantizer() -> None:
    """A rounding that is another one where the output lies at 16 mod 32: the step, and where."""
    call = calls.quantize("quantize_row_q8_a8", np.resize([127, 0.5, 1.5, 2.5], 64).astype(np.float32))
    probe = _where(make("round-half-even"), lambda call: call.buffers[1].offset % 32 == 16)
    found = _finding(probe, _at(call, 4, 16))
    assert found.where["under"] == {"buffer": "y", "modulus": 32, "remainders": [16]}
    assert found.sentence.startswith("Where y lies at 16 mod 32: ")
    assert (found.rule, found.fact, found.of) == ("Q8A8-MEM-4", "step", found.explained)


def test_addresses_at_which_different_things_are_wrong() -> None:
    """Elements before a boundary that are not written: where, and what is wrong at one of the addresses."""

    def probe(call: Call) -> tuple[bytes, ...] | None:
        end = -call.buffers[1].offset % 16
        return (bytes(call.buffers[1].data)[:end] + replay(RIGHT, call)[0][end:],)

    call = calls.dequantize(dot_rows.blocks(2.0, np.full((2, 32), 7)))
    observations = Observations()
    for offset in (4, 8, 12):
        placed = _at(call, 0, offset)
        (outputs,), (right,) = probe(placed) or (b"",), replay(RIGHT, call)
        observations.add_placed(placed, {"y": outputs}, {"y": right})
    (found,) = diagnose(observations, lambda *_: None, probe=probe)
    assert found.sentence == (
        "The result is wrong where y lies at 4, 8, 12 mod 16, and right elsewhere. With y at 4 mod 16: "
        "In elements 0 to 2 of the first block: nothing is written."
    )
    assert (found.explained, found.of, found.rule) == (3, 3, "Q8A8-MEM-4")


def test_shared_inputs() -> None:
    """Squares of one row that are wrong, and which of its codes are."""
    rows = square_rows(1, 9, 1)[0]
    _, together = calls.shared_rows(DOT, rows.tobytes(), 32 * 9, 0, 0)
    probe = _where(
        make("minus-128-clamped"),
        lambda call: bool(call.options) and call.buffers[1].offset == call.buffers[2].offset,
    )
    (fact,) = _facts(probe, together)
    assert (fact.fact, fact.rule) == ("wrong-on-shared-inputs", "Q8A8-DOT-4")
    assert fact.where == {"inputs": ["one row"], "least": 1, "codes": [-128]}


def test_two_rows_of_one_pointer() -> None:
    """With two rows at a time and one pointer, x0·y1 that is copied from x1·y0 has its name."""
    matrix = square_rows(4, 3, 1).reshape(-1)
    _, together = calls.shared_rows(DOT, matrix.tobytes(), 32 * 3, 0, 0, bs=2, bx=34 * 3, by=34 * 6)

    def probe(call: Call) -> tuple[bytes, ...] | None:
        s = np.frombuffer(replay(RIGHT, call)[0], "<f4").copy()
        if call.options:
            s[2] = s[1]
        return (s.tobytes(),)

    failed = [Failure(together, probe(together) or (), replay(RIGHT, together))]
    (fact,) = dot_facts(DOT, {}, probe, SECONDS, placed={2: failed})
    assert (fact.cause, fact.rule) == ("same-pointer-symmetric", "Q8A8-DOT-6")
    assert fact.sentence == (
        "With nrc = 2, where vx and vy are equal, the result for x0·y1 is that of x1·y0: "
        "right where bx = by alone."
    )


@pytest.mark.parametrize("least", [0, 100])
def test_calls_before(least: int) -> None:
    """What is kept of the call before at an address, or of a long row, is found by what comes before."""
    last: list[Call] = []

    def probe(call: Call) -> tuple[bytes, ...] | None:
        s = np.frombuffer(replay(RIGHT, call)[0], "<f4").copy()
        if last and (last[0].n >= 32 * least if least else (last[0].n == call.n and last[0] != call)):
            s += 3
        last[:] = [call]
        return (s.tobytes(),)

    call = _minus_128(3)
    failed = [Failure(call, (calls.float_bytes(1.0),), replay(RIGHT, call))]
    (fact,) = dot_facts(DOT, {1: failed}, probe, SECONDS, restart=last.clear)
    assert fact.fact == "depends-on-calls-before"
    assert fact.where["wrong_after"] == ["a long row" if least else "zeros at the same addresses"]
    assert fact.explained(failed) == failed


def test_right_bits_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that changes after many calls is found, and one that differs by process."""
    made = [0]
    start = [0]

    def probe(call: Call) -> tuple[bytes, ...] | None:
        made[0] += call.repeat
        return replay(make("order-avx2") if made[0] > limit or start[0] % 2 else RIGHT, call)

    call = calls.dot(*dot_rows.random_pair(40, seed=3))
    failed = [Failure(call, replay(make("order-avx2"), call), replay(RIGHT, call))]
    monkeypatch.setattr(history, "FAST", 10.0)
    limit = 50_000
    (fact,) = dot_facts(DOT, {1: failed}, probe, SECONDS)
    assert fact.where["by"] == "count"
    limit = 1 << 60
    (fact,) = dot_facts(DOT, {1: failed}, probe, SECONDS, restart=lambda: start.append(start.pop() + 1))
    assert (fact.fact, fact.where) == ("bits-vary", {"by": "process"})
