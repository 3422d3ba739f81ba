"""The harness detects the faults of broken kernels, natively and under QEMU."""

from __future__ import annotations

import platform
import struct
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import Buffer, Call, Fault, Option
from q8a8_conformance.protocol.session import Session, WorkerCrashed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Broken = Callable[..., list[str]]


NAME = "ggml_vec_dot_q8_a8_q8_a8_real"
ROW = bytes([0, 0x3C, 0, 0x3C, *range(32)])
ONE = struct.pack("<f", 1.0)
CPU_LEGS = [None, "max"]

PLAIN = Option(0)
AFTER, BEFORE, READONLY, FLUSH = Option.GUARD_AFTER, Option.GUARD_BEFORE, Option.READONLY, Option.FLUSH
X86 = platform.machine() == "x86_64"


def call(options: Option = PLAIN, threads: int = 1, repeat: int = 1, offset: int = 0) -> Call:
    """Return a call of the v2 dot product over one block."""
    buffers = (Buffer(b"\xee" * 4, offset), Buffer(ROW, offset), Buffer(ROW, offset))
    return Call(NAME, 32, buffers, options=options, threads=threads, repeat=repeat)


@pytest.mark.parametrize("cpu", CPU_LEGS)
@pytest.mark.parametrize(
    ("function", "made", "faults", "detail"),
    [
        ("dot_fine", call(), Fault(0), ""),
        ("dot_fine", call(AFTER | READONLY, threads=3, repeat=4), Fault(0), ""),
        ("dot_raises_flags", call(), Fault(0), ""),
        ("dot_reads_after", call(), Fault(0), None),
        ("dot_writes_after", call(), Fault.WROTE_OUTSIDE, "a byte at s + 4 was written (length 4)"),
        ("dot_writes_after", call(BEFORE), Fault.WROTE_OUTSIDE, "a byte at s + 4 was written (length 4)"),
        ("dot_writes_after", call(offset=60), Fault.WROTE_OUTSIDE, "a byte at s + 4 was written (length 4)"),
        ("dot_writes_before", call(), Fault.WROTE_OUTSIDE, "a byte at s - 4 was written (length 4)"),
        ("dot_writes_before", call(AFTER), Fault.WROTE_OUTSIDE, "a byte at s - 4 was written (length 4)"),
        ("dot_writes_after_input", call(), Fault.WROTE_OUTSIDE, "a byte at vy + 36 was written (length 36)"),
        ("dot_writes_input", call(), Fault.INPUT_WRITTEN, "the input vx was written"),
        ("dot_writes_after", call(threads=2), Fault.WROTE_OUTSIDE, "a byte at s + 4 was written (length 4)"),
        ("dot_rounds_up", call(), Fault.ROUNDING_MODE_CHANGED, "rounding) changed"),
        ("dot_rounds_up", call(threads=2, repeat=2), Fault.ROUNDING_MODE_CHANGED, "rounding) changed"),
        ("dot_toggles_flush", call(), Fault.FLUSH_MODE_CHANGED, "flush to zero) changed"),
        ("dot_toggles_flush", call(FLUSH), Fault.FLUSH_MODE_CHANGED, "flush to zero) changed"),
        ("dot_varies", call(repeat=3), Fault.RESULT_VARIES, "s differs in call 2 of 3"),
        ("dot_varies", call(), Fault(0), ""),
        ("dot_varies_by_thread", call(repeat=3), Fault(0), ""),
        ("dot_varies_by_thread", call(threads=4), Fault.THREAD_RESULT_VARIES, "the threads' outputs differ"),
        ("dot_reads_old_output", call(repeat=3, threads=2), Fault(0), ""),
        ("dot_prints", call(), Fault(0), ""),
    ],
)
def test_faults(
    function: str, made: Call, faults: Fault, detail: str | None, cpu: str | None, broken: Broken
) -> None:
    """Each fault is reported with a detail, and a kernel without a fault has none."""
    with Session(broken(function, cpu)) as session:
        result = session.call(made)
    assert result.faults == faults, result.detail
    if detail is not None:
        assert detail in result.detail
        assert bool(result.detail) == bool(faults)


def shared(options: Option, shift: int) -> Call:
    """Return a call over one block whose inputs share memory, `shift` bytes apart."""
    rows = ROW + ROW
    buffers = (Buffer(b"\xee" * 4), Buffer(rows[:36], 2), Buffer(rows[shift : shift + 36], 2 + shift))
    return Call(NAME, 32, buffers, options=Option.SHARED_INPUTS | options)


@pytest.mark.parametrize("cpu", CPU_LEGS)
def test_shared_inputs(cpu: str | None, broken: Broken) -> None:
    """Inputs in one block of memory are checked as others are; a write to one shows in both."""
    with Session(broken("dot_fine", cpu)) as session:
        for options in (PLAIN, AFTER | READONLY, BEFORE):
            for shift in (0, 36):
                assert session.call(shared(options, shift)).faults == Fault(0)
    with Session(broken("dot_writes_input", cpu)) as session:
        result = session.call(shared(PLAIN, 0))
        assert result.faults == Fault.INPUT_WRITTEN
        with pytest.raises(WorkerCrashed, match="SIGSEGV"):
            session.call(shared(READONLY, 0))
    with Session(broken("dot_writes_after_input", cpu)) as session:
        assert session.call(shared(PLAIN, 36)).faults == Fault.WROTE_OUTSIDE


@pytest.mark.skipif(not X86, reason="few Arm CPUs can trap floating-point exceptions at all")
def test_trap_masks(broken: Broken) -> None:
    """Unmasked exceptions are reported, and masked again."""
    with Session(broken("dot_unmasks_traps")) as session:
        result = session.call(call(repeat=3))
        again = session.call(call())
    assert result.faults == again.faults == Fault.TRAP_MASK_CHANGED
    assert "exception masks) changed" in result.detail


@pytest.mark.parametrize("cpu", CPU_LEGS)
def test_environment_is_restored(cpu: str | None, broken: Broken) -> None:
    """A kernel that toggles the flush bit has the same fault in every call: the modes are restored."""
    with Session(broken("dot_toggles_flush", cpu)) as session:
        details = {session.call(call()).detail for _ in range(3)}
    assert len(details) == 1


@pytest.mark.parametrize("cpu", CPU_LEGS)
def test_flush(cpu: str | None, broken: Broken) -> None:
    """2^-126 / 4 is the subnormal 2^-128 without FLUSH and +0 with it, in that call alone."""
    subnormal = struct.pack("<I", 1 << 21)
    with Session(broken("dot_shows_flush", cpu)) as session:
        results = [session.call(call(options)) for options in (PLAIN, FLUSH, PLAIN, AFTER | FLUSH)]
        by_turns = session.call(call(FLUSH, repeat=3))
    assert [result.outputs[0] for result in results] == [subnormal, bytes(4), subnormal, bytes(4)]
    assert {result.faults for result in results} == {Fault(0)}
    # (One of the modes alone does not flush this one.)
    assert (by_turns.outputs[0], by_turns.faults) == (bytes(4), Fault.RESULT_VARIES)


@pytest.mark.parametrize("cpu", CPU_LEGS)
def test_outputs_are_those_of_the_first_call(cpu: str | None, broken: Broken) -> None:
    """The output of the first repeated call is returned, computed from the bytes sent."""
    with Session(broken("dot_varies", cpu)) as session:
        assert session.call(call(repeat=5)).outputs == (bytes(4),)
    with Session(broken("dot_reads_old_output", cpu)) as session:
        made = Call(NAME, 32, (Buffer(ONE), Buffer(ROW), Buffer(ROW)), repeat=3)
        assert session.call(made).outputs == (struct.pack("<f", 2.0),)


@pytest.mark.parametrize("cpu", CPU_LEGS)
@pytest.mark.parametrize(
    ("function", "options", "signal", "place"),
    [
        ("dot_reads_after", AFTER, "SIGSEGV", "vx + 36 (length 36)"),
        ("dot_reads_before", BEFORE, "SIGSEGV", "vy - 1 (length 36)"),
        ("dot_writes_after", AFTER, "SIGSEGV", "s + 4 (length 4)"),
        ("dot_writes_before", BEFORE, "SIGSEGV", "s - 4 (length 4)"),
        ("dot_writes_input", READONLY, "SIGSEGV", "vx + 3 (length 36, read-only)"),
        ("dot_recurses", PLAIN, "SIGSEGV", None),
        ("dot_traps", PLAIN, "SIGILL", None),
    ],
)
def test_crashes(
    function: str, options: Option, signal: str, place: str | None, cpu: str | None, broken: Broken
) -> None:
    """A crash reports its place in one line and ends the worker by that signal; the next call restarts it."""
    with Session(broken(function, cpu)) as session:
        for _ in range(2):
            with pytest.raises(WorkerCrashed) as caught:
                session.call(call(options))
            assert caught.value.how == f"killed by {signal}"
            lines = [line for line in caught.value.stderr.splitlines() if line.startswith("fault: ")]
            assert len(lines) == 1
            assert lines[0].startswith(f"fault: {signal} at ")
            assert lines[0].endswith(f" in {NAME}")
            assert place is None or lines[0] == f"fault: {signal} at {place} in {NAME}"
        assert session.starts == 2


@pytest.mark.parametrize("cpu", CPU_LEGS)
def test_crash_in_a_thread(cpu: str | None, broken: Broken) -> None:
    """Threads that crash at the same time are one crash, reported once."""
    with Session(broken("dot_reads_after", cpu)) as session:
        for _ in range(5):
            with pytest.raises(WorkerCrashed) as caught:
                session.call(call(AFTER, threads=8))
            assert caught.value.how == "killed by SIGSEGV"
            assert caught.value.stderr.count(f"fault: SIGSEGV at vx + 36 (length 36) in {NAME}\n") == 1


def test_abort(broken: Broken) -> None:
    """A failed assertion in a library is a crash."""
    with Session(broken("dot_aborts")) as session, pytest.raises(WorkerCrashed) as caught:
        session.call(call())
    assert caught.value.how == "killed by SIGABRT"


def test_crash_in_init(broken: Broken, run: Callable[..., subprocess.CompletedProcess[bytes]]) -> None:
    """A crash in a library's initialization is reported before the hello."""
    done = run([*broken("dot_fine"), "--init", "init_crashes"])
    assert (done.returncode, done.stdout) == (-11, b"")
    assert (
        done.stderr.decode()
        == "fault: SIGSEGV at address 0x0 (in no buffer) in the library's initialization\n"
    )


def test_output_of_a_library(broken: Broken) -> None:
    """A library's output, in init and in calls, goes to standard error."""
    with Session([*broken("dot_prints"), "--init", "init_prints"]) as session:
        assert session.call(call()).outputs == (ONE,)
        session.close()
        assert "hello from init" in session.stderr_tail
        assert "hello from a kernel" in session.stderr_tail


@pytest.mark.parametrize("offset", [0, 4, 8, 12, 20, 36, 60, 100])
def test_offsets(offset: int, broken: Broken) -> None:
    """A buffer at an offset has canaries directly beside it."""
    with Session(broken("dot_writes_before")) as session:
        result = session.call(call(offset=offset))
    assert result.faults == Fault.WROTE_OUTSIDE
    assert result.detail == "a byte at s - 4 was written (length 4)"
