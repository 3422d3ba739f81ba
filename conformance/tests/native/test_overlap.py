"""The harness's calls of several threads overlap, natively and under QEMU; first calls are made in copies."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import NO_OPTIONS, Buffer, Call, Fault, Option, Together
from q8a8_conformance.protocol.session import CallRefused, Session, WorkerCrashed

if TYPE_CHECKING:
    from collections.abc import Callable

    Broken = Callable[..., list[str]]

NAME = "ggml_vec_dot_q8_a8_q8_a8_real"
CPU_LEGS = [None, "max"]


def call(
    first: int = 0, *, threads: int = 1, options: Option = NO_OPTIONS, together: Together | None = None
) -> Call:
    """Return a call of the v2 dot product over three blocks, whose codes begin with a number."""
    row = b"".join(bytes([0, 0x3C, 0, 0x3C, *range(first + block, first + block + 32)]) for block in range(3))
    buffers = (Buffer(b"\xee" * 4), Buffer(row), Buffer(row))
    return Call(NAME, 96, buffers, options=options, threads=threads, repeat=2, together=together)


def dot(first: int) -> bytes:
    """Return the result of `call`."""
    return struct.pack("<f", sum((first + b + j) ** 2 for b in range(3) for j in range(32)))


@pytest.mark.parametrize("cpu", CPU_LEGS)
@pytest.mark.parametrize("threads", [2, 16])
def test_two_calls_at_once(cpu: str | None, threads: int, harness: Callable[..., list[str]]) -> None:
    """Threads make two calls in turns, both results come back, and the overlap is measured."""
    with Session(harness("scalar", cpu)) as session:
        for options in (NO_OPTIONS, Option.READONLY, Option.GUARD_BEFORE | Option.FLUSH):
            together = Together(milliseconds=3, other=call(40))
            result = session.call(call(threads=threads, options=options, together=together))
            assert (result.faults, result.detail, result.outputs) == (0, "", (dot(0),))
            assert result.overlap is not None
            assert result.overlap.others == (dot(40),)
            assert result.overlap.stops >= 4
            assert 0 < result.overlap.nanoseconds < 10**10


@pytest.mark.parametrize("cpu", CPU_LEGS)
def test_a_kernel_may_block_signals(cpu: str | None, broken: Broken) -> None:
    """A kernel that blocks all signals is stopped by no fault, which would end the process."""
    with Session(broken("dot_blocks_signals", cpu)) as session:
        for _ in range(2):
            result = session.call(call(threads=4, together=Together(milliseconds=3, other=call(40))))
            assert (result.faults, result.detail, result.outputs) == (0, "", (dot(0),))


@pytest.mark.parametrize("cpu", CPU_LEGS)
def test_copies(cpu: str | None, broken: Broken) -> None:
    """The first call is made in copies: what a copy counts is not counted here."""
    with Session(broken("dot_varies", cpu)) as session:
        result = session.call(replace(call(together=Together(fresh=3)), repeat=1))
        assert (result.faults, result.outputs) == (0, (bytes(4),))
        assert result.overlap is not None
        assert result.overlap.copies == 3
        assert session.call(replace(call(), repeat=1)).outputs == (bytes(4),)
    with Session(broken("dot_varies_by_thread", cpu)) as session:
        result = session.call(call(threads=4, together=Together(fresh=3)))
        assert result.faults == Fault.THREAD_RESULT_VARIES
        assert result.overlap is not None
        assert result.overlap.copies == 1


def test_crash_in_a_copy(broken: Broken) -> None:
    """A crash in a copy is one of the harness, reported once."""
    with Session(broken("dot_traps")) as session, pytest.raises(WorkerCrashed) as caught:
        session.call(call(together=Together(fresh=2)))
    assert caught.value.how == "killed by SIGILL"
    assert caught.value.stderr.count("fault: ") == 1


def test_refusals(harness: Callable[..., list[str]]) -> None:
    """The other call is checked as the first one is."""
    with Session(harness("scalar")) as session:
        for other, message in (
            (replace(call(), n=33), "is not a multiple of 32"),
            (replace(call(), n=128), "has 108 bytes, the call needs 144"),
        ):
            with pytest.raises(CallRefused, match=message):
                session.call(call(threads=2, together=Together(1, other=other)))
        assert session.starts == 1
