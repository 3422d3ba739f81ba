"""Calls of several threads overlap for certain: what they share shows, and locks cost little time."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import NO_OPTIONS, Buffer, Call, Fault, Option, Together
from q8a8_conformance.protocol.session import Session, WorkerCrashed
from q8a8_conformance.worker.native_calls import available
from q8a8_conformance.worker.together import last_of, overlap_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WORKER = (sys.executable, "-m", "q8a8_conformance.worker", "lib")
BLOCKS = 40


def call_of(first: int, *, blocks: int = BLOCKS, threads: int = 1, together: Together | None = None) -> Call:
    """Return a call of the quantizer whose elements begin with a number."""
    row = struct.pack(f"<{32 * blocks}f", *((first + i) % 100 + 1 for i in range(32 * blocks)))
    buffers = (Buffer(row), Buffer(bytes(34 * blocks)))
    return Call("quantize_row_q8_a8", 32 * blocks, buffers, threads=threads, repeat=2, together=together)


@pytest.fixture
def kernel(faulty_library: Path, need: Callable[[object, str], None]) -> Iterator[Callable[[str], Session]]:
    """Return a function that creates sessions with one of the faulty kernels as the quantizer."""
    need(available(), "this C library has no makecontext")
    sessions = []

    def make(name: str) -> Session:
        argv = [*WORKER, str(faulty_library), "--symbol", f"quantize_row_q8_a8={name}"]
        sessions.append(Session(argv, timeout=60))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


@pytest.mark.parametrize("name", ["shares_scratch", "tries_lock", "shares_state"])
@pytest.mark.parametrize("threads", [2, 4])
def test_shared_state_shows_at_once(kernel: Callable[[str], Session], name: str, threads: int) -> None:
    """A call that shares memory with others is wrong in the first attempt."""
    call = call_of(0, threads=threads, together=Together(milliseconds=5, other=call_of(50)))
    result = kernel(name).call(call)
    assert result.faults == Fault.THREAD_RESULT_VARIES
    assert "of y of thread" in result.detail


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="instructions are counted on x86-64 alone")
def test_what_is_shared_for_a_few_instructions_shows(kernel: Callable[[str], Session]) -> None:
    """A thread is stopped after each of its first instructions, so that a plan of another length is used."""
    together = Together(milliseconds=1, other=call_of(50, blocks=BLOCKS // 2))
    assert kernel("keeps_plan").call(call_of(0, threads=2, together=together)).faults == (
        Fault.THREAD_RESULT_VARIES
    )


@pytest.mark.parametrize("name", ["numbers_threads", "numbers_to_64"])
def test_threads_with_the_same_remainder_share(kernel: Callable[[str], Session], name: str) -> None:
    """Among sixteen threads some share what kernels give to every sixteenth, or to every 64th."""
    session = kernel(name)
    for threads, faults in ((4, Fault(0)), (16, Fault.THREAD_RESULT_VARIES)):
        together = Together(milliseconds=5, other=call_of(50))
        assert session.call(call_of(0, threads=threads, together=together)).faults == faults


@pytest.mark.parametrize(
    "name",
    [
        *("good", "takes_lock", "spins", "fills_once", "uses_stack", "starts_thread", "blocks_signals"),
        *("blocks_all_but_faults", "keeps_pool"),
    ],
)
def test_right_kernels_have_no_faults(kernel: Callable[[str], Session], name: str) -> None:
    """A right kernel has no faults, whatever it does about threads."""
    session = kernel(name)
    call, other = call_of(0), call_of(50)
    first = session.call(replace(call, threads=4, together=Together(fresh=3, other=other)))
    alone = [session.call(each).outputs for each in (call, other)]
    assert (first.faults, first.detail) == (0, "")
    # (Sixteen that wait actively take minutes where two processors have other work: the holder seldom runs.)
    for threads in (2, 4 if name == "spins" else 16):
        for options in (NO_OPTIONS, Option.READONLY, Option.GUARD_AFTER, Option.FLUSH):
            made = replace(call, threads=threads, options=options, together=Together(2, other=other))
            result = session.call(made)
            assert (result.faults, result.detail) == (0, "")
            assert result.overlap is not None
            assert [result.outputs, result.overlap.others] == alone
    assert session.starts == 1


def test_overlap_is_measured(kernel: Callable[[str], Session]) -> None:
    """The answer says for how long calls overlapped, and how many were stopped for others."""
    # Time goes by while others have the processor: enough of it for eight stops on a busy machine, too.
    result = kernel("shares_scratch").call(call_of(0, threads=2, together=Together(milliseconds=200)))
    assert result.overlap is not None
    assert result.overlap.nanoseconds > 0
    assert result.overlap.stops >= 8
    assert result.overlap.copies == 0
    assert result.overlap.others == ()


@pytest.mark.parametrize(
    ("spans", "overlap"),
    [
        ([], 0),
        ([(0, 10), (10, 20)], 0),
        ([(0, 10), (5, 20)], 5),
        ([(5, 6), (0, 10), (7, 9)], 3),
        ([(0, 10), (1, 9), (2, 8)], 8),
        ([(0, 10), (1, 4), (2, 12), (11, 15)], 10),
    ],
)
def test_overlap_of_spans(spans: list[tuple[int, int]], overlap: int) -> None:
    """The overlap is the time in which at least two calls are in progress, counted once."""
    assert overlap_of(spans) == overlap


@pytest.mark.parametrize("threads", range(2, 18))
def test_last_one_makes_the_other_call(threads: int) -> None:
    """The last one to write what is shared while a thread is stopped makes another call than that one."""
    for stopped in range(threads):
        last = last_of(stopped, threads)
        assert 0 <= last < threads
        assert last % 2 != stopped % 2


def test_first_calls_in_copies(kernel: Callable[[str], Session]) -> None:
    """A table that is marked before it is filled shows in a copy; the worker's own first call is to come."""
    session = kernel("fills_late")
    for _ in range(2):
        result = session.call(call_of(0, threads=4, together=Together(fresh=4)))
        assert result.faults == Fault.THREAD_RESULT_VARIES
        assert result.overlap is not None
        assert result.overlap.copies > 0
    session = kernel("good")
    result = session.call(call_of(0, together=Together(fresh=2)))
    assert result.faults == 0
    assert result.overlap is not None
    assert result.overlap.copies == 2


def test_copies_that_differ(kernel: Callable[[str], Session]) -> None:
    """A process's first call that depends on the process is reported; the counter stays where it was."""
    session = kernel("counts_calls")
    assert session.call(call_of(0, together=Together(fresh=2))).faults == Fault.RESULT_VARIES
    assert session.call(replace(call_of(0), repeat=1)).outputs[0][3] == 0


@pytest.mark.parametrize(("name", "how"), [("crashes", "killed by SIGSEGV"), ("exits", "exit status 3")])
def test_end_of_a_copy_ends_the_worker(kernel: Callable[[str], Session], name: str, how: str) -> None:
    """A crash, or an exit, in a copy is one of the worker."""
    session = kernel(name)
    for threads in (1, 4):
        with pytest.raises(WorkerCrashed) as caught:
            session.call(call_of(0, threads=threads, together=Together(fresh=2)))
        assert caught.value.how == how


def test_crash_in_a_stopped_thread(kernel: Callable[[str], Session]) -> None:
    """A fault that no closed page causes ends the worker, with a report of the place."""
    with pytest.raises(WorkerCrashed) as caught:
        kernel("reads_after_later").call(
            replace(call_of(0, threads=4, together=Together(20)), options=Option.GUARD_AFTER)
        )
    assert caught.value.how == "killed by SIGSEGV"
    assert "0 bytes after its end" in caught.value.stderr


def test_other_circumstances(tmp_path: Path) -> None:
    """A sibling of a session has more variables and may have one processor only."""
    (tmp_path / "kernel_of_the_machine.py").write_text(
        "import os\n"
        "class Kernel:\n"
        "    def dequantize_row_q8_a8(self, x, y, k):\n"
        "        y[:2] = len(os.sched_getaffinity(0)), int(os.environ.get('SOME_THREADS', 0))\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    argv = (sys.executable, "-m", "q8a8_conformance.worker", "py", "kernel_of_the_machine:Kernel")
    call = Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)), Buffer(bytes(128))))
    allowed = len(os.sched_getaffinity(0))
    with Session(argv, env={**os.environ, "PYTHONPATH": path}) as session:
        for one, expected in ((False, allowed), (True, 1)):
            with session.sibling({"SOME_THREADS": "3"}, one_processor=one) as sibling:
                assert struct.unpack("<2f", sibling.call(call).outputs[0][:8]) == (expected, 3)
        assert struct.unpack("<2f", session.call(call).outputs[0][:8]) == (allowed, 0)
    assert len(os.sched_getaffinity(0)) == allowed
