"""The `lib` worker detects and reports the side effects of faulty kernels, and serves a real library."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import (
    CAPABILITIES,
    NO_OPTIONS,
    Buffer,
    Call,
    Fault,
    Option,
    Together,
)
from q8a8_conformance.protocol.session import CallRefused, Session, WorkerCrashed, WorkerHung, WorkerUnusable
from q8a8_conformance.worker.machine import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

X86 = os.uname().machine == "x86_64"
GUARDS = [NO_OPTIONS, Option.GUARD_AFTER, Option.GUARD_BEFORE]
ROW = struct.pack("<64f", *range(64))
GOOD = bytes(i % 32 for i in range(68))
WORKER = (sys.executable, "-m", "q8a8_conformance.worker", "lib")


def call_of(
    options: Option = NO_OPTIONS, *, threads: int = 1, repeat: int = 1, offsets: tuple[int, int] = (0, 0)
) -> Call:
    """Return a call of the quantizer with two blocks."""
    buffers = (Buffer(ROW, offsets[0]), Buffer(bytes(68), offsets[1]))
    return Call("quantize_row_q8_a8", 64, buffers, options=options, threads=threads, repeat=repeat)


@pytest.fixture
def kernel(faulty_library: Path) -> Iterator[Callable[..., Session]]:
    """Return a function that creates sessions with one of the faulty kernels as the quantizer."""
    sessions = []

    def make(name: str, *more: str) -> Session:
        argv = [*WORKER, str(faulty_library), "--symbol", f"quantize_row_q8_a8={name}", *more]
        sessions.append(Session(argv, timeout=5))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def test_good_kernel_has_no_faults(kernel: Callable[..., Session]) -> None:
    """A good kernel has no faults under any option, repeated and from several threads."""
    session = kernel("good")
    for guard in GUARDS:
        for more in (NO_OPTIONS, Option.READONLY, Option.FLUSH, Option.READONLY | Option.FLUSH):
            for threads, repeat in ((1, 1), (1, 3), (4, 5)):
                reply = session.call(call_of(guard | more, threads=threads, repeat=repeat))
                assert (reply.faults, reply.detail, reply.outputs) == (0, "", (GOOD,))
    for offset in (4, 8, 60, 4092):
        reply = session.call(call_of(offsets=(offset, offset // 2)))
        assert (reply.faults, reply.outputs) == (0, (GOOD,))
    assert session.starts == 1


@pytest.mark.parametrize(("name", "fault"), [("good", Fault(0)), ("rounds_up", Fault.ROUNDING_MODE_CHANGED)])
def test_rows(kernel: Callable[..., Session], name: str, fault: Fault) -> None:
    """Calls on the parts of the buffers are made one after another, each with the length that is given."""
    call = Call("quantize_row_q8_a8", 32, call_of().buffers, options=Option.ROWS, repeat=2)
    reply = kernel(name).call(call)
    assert (reply.faults, reply.outputs) == (fault, (GOOD[:34] + bytes(32 + i % 32 for i in range(34)),))
    with pytest.raises(CallRefused, match="x has 256 bytes, the call needs 384"):
        kernel(name).call(replace(call, repeat=3))


@pytest.mark.parametrize(
    ("name", "fault", "detail"),
    [
        ("writes_after", Fault.WROTE_OUTSIDE, "memory next to y was written, 2 bytes after its end"),
        ("writes_before", Fault.WROTE_OUTSIDE, "memory next to y was written, 3 bytes before its start"),
        ("writes_input", Fault.INPUT_WRITTEN, "byte 5 of x was written"),
        ("rounds_up", Fault.ROUNDING_MODE_CHANGED, "rounding mode changed"),
        ("sets_flush", Fault.FLUSH_MODE_CHANGED, "flush mode changed"),
        ("raises_flags", Fault(0), ""),
    ],
)
def test_faults_of_one_call(kernel: Callable[..., Session], name: str, fault: Fault, detail: str) -> None:
    """A fault is reported with the result of every call and does not change it."""
    session = kernel(name)
    for _ in range(2):
        reply = session.call(call_of())
        assert reply.faults == fault
        assert detail in reply.detail
        assert reply.outputs == (GOOD,)
    assert session.call(call_of(threads=3, repeat=2)).faults == fault
    assert session.starts == 1


@pytest.mark.skipif(not X86, reason="unmasks an exception of MXCSR")
def test_unmasked_trap_is_detected(kernel: Callable[..., Session]) -> None:
    """An unmasked floating-point exception is reported, and the worker goes on."""
    session = kernel("unmasks_traps")
    for _ in range(2):
        assert session.call(call_of()).faults == Fault.TRAP_MASK_CHANGED


def test_varying_results_are_detected(kernel: Callable[..., Session]) -> None:
    """A result that varies between calls is a fault if calls are repeated."""
    session = kernel("counts_calls")
    assert session.call(call_of()).faults == 0
    reply = session.call(call_of(repeat=4))
    assert reply.faults == Fault.RESULT_VARIES
    assert reply.detail == "byte 3 of y varies: 01, then 02 in call 2"
    assert reply.outputs[0][3] == 1
    assert session.call(call_of(threads=4)).faults == Fault.THREAD_RESULT_VARIES


def test_outputs_are_restored_between_calls(kernel: Callable[..., Session]) -> None:
    """Outputs are restored before each repeated call, so that adding to them gives the same result."""
    reply = kernel("accumulates").call(call_of(repeat=5, threads=2))
    assert (reply.faults, reply.outputs[0][0]) == (0, 1)


@pytest.mark.parametrize("name", ["shares_state", "shares_scratch"])
def test_shared_state_needs_threads(kernel: Callable[..., Session], name: str) -> None:
    """Shared static state is a fault with several threads and not with one."""
    session = kernel(name)
    alone = session.call(call_of(repeat=20))
    assert alone.faults == 0
    for _ in range(30):
        reply = session.call(call_of(threads=4, repeat=65))
        if reply.faults:
            break
        assert reply.outputs == alone.outputs
    assert reply.faults == Fault.THREAD_RESULT_VARIES
    assert "of y of thread" in reply.detail


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("reads_after", Option.GUARD_AFTER, "x (256 bytes): 0 bytes after its end"),
        ("reads_before", Option.GUARD_BEFORE, "x (256 bytes): 1 byte before its start"),
        ("writes_after", Option.GUARD_AFTER, "y (68 bytes): 2 bytes after its end"),
        ("writes_before", Option.GUARD_BEFORE, "y (68 bytes): 3 bytes before its start"),
        ("writes_input", Option.READONLY, "x (256 bytes): byte 5, mapped read-only"),
        ("crashes", NO_OPTIONS, "address 0x0"),
    ],
)
def test_invalid_accesses_crash_and_are_located(
    kernel: Callable[..., Session], name: str, options: Option, message: str
) -> None:
    """An access to a guard page or a write to an input crashes the worker, which reports the place."""
    session = kernel(name)
    with pytest.raises(WorkerCrashed) as caught:
        session.call(call_of(options))
    assert caught.value.how == "killed by SIGSEGV"
    assert f"in quantize_row_q8_a8, {message}" in caught.value.stderr
    if X86:
        access = "read" if name.startswith("reads") else "write"
        assert f"SIGSEGV ({access})" in caught.value.stderr


@pytest.mark.parametrize("name", ["reads_after", "reads_before"])
def test_over_reads_need_a_guard(kernel: Callable[..., Session], name: str) -> None:
    """Without a guard page an over-read is not detected."""
    assert kernel(name).call(call_of()).faults == 0


@pytest.mark.parametrize(
    ("name", "how"),
    [("aborts", "killed by SIGABRT"), ("exits", "exit status 3"), ("overflows_stack", "killed by SIGSEGV")],
)
def test_other_crashes(kernel: Callable[..., Session], name: str, how: str) -> None:
    """Any exit of the process is reported, and the next call starts a new worker."""
    session = kernel(name)
    for start in (1, 2):
        with pytest.raises(WorkerCrashed) as caught:
            session.call(call_of())
        assert caught.value.how == how
        assert session.starts == start


def test_corrupted_heap_is_a_crash(kernel: Callable[..., Session]) -> None:
    """A kernel that overwrites the allocator's data crashes the worker, which does not hang."""
    with pytest.raises(WorkerCrashed):
        kernel("corrupts_heap").call(call_of())


def test_crash_in_a_thread(kernel: Callable[..., Session]) -> None:
    """A fault in a thread, in the first or a later call, is a crash."""
    for name in ("crashes", "reads_after_later"):
        with pytest.raises(WorkerCrashed) as caught:
            kernel(name).call(call_of(Option.GUARD_AFTER, threads=4, repeat=50))
        assert caught.value.how == "killed by SIGSEGV"
        assert "SIGSEGV" in caught.value.stderr


def test_hang(kernel: Callable[..., Session]) -> None:
    """A kernel in an endless loop is killed, also in threads."""
    session = kernel("hangs")
    for threads in (1, 3):
        with pytest.raises(WorkerHung):
            session.call(call_of(threads=threads), timeout=0.3)


def test_printing_kernel(kernel: Callable[..., Session]) -> None:
    """A kernel's standard output goes to standard error, and its standard input is empty."""
    session = kernel("prints")
    for _ in range(3):
        assert session.call(call_of()).outputs == (GOOD,)
    session.close()
    assert session.stderr_tail == "hello from the kernel, -1\n" * 3


@pytest.mark.skipif(not X86, reason="uses an aligned load of SSE")
def test_required_alignment_is_detected(kernel: Callable[..., Session]) -> None:
    """A kernel that needs 16-byte alignment faults at a 4-byte offset."""
    session = kernel("needs_alignment")
    assert session.call(call_of(offsets=(16, 0))).faults == 0
    with pytest.raises(WorkerCrashed):
        session.call(call_of(offsets=(4, 0)))


def test_flush_reaches_the_kernel(kernel: Callable[..., Session]) -> None:
    """FLUSH flushes subnormals in that call alone, in every thread."""
    session = kernel("reports_flush")
    assert [session.call(call_of(o)).outputs[0][0] for o in (NO_OPTIONS, Option.FLUSH, NO_OPTIONS)] == [
        2,
        1,
        2,
    ]
    assert session.call(call_of(Option.FLUSH, threads=2)).faults == 0


def test_init_is_called_once_before(kernel: Callable[..., Session]) -> None:
    """The initializer has run before the first call."""
    assert kernel("reports_setup").call(call_of()).outputs[0][0] == 2
    assert kernel("reports_setup", "--init", "setup").call(call_of()).outputs[0][0] == 1


def test_arguments_arrive(faulty_library: Path) -> None:
    """All arguments of the longest signature are passed correctly, from Python and in chains."""
    argv = [*WORKER, str(faulty_library), "--symbol", "ggml_vec_dot_q8_a8_q8_a8=reports_arguments"]
    floats, rows = Buffer(bytes(4 * 20)), (Buffer(bytes([11]) * 300), Buffer(bytes([13]) * 300))
    with Session(argv) as session:
        for threads, repeat in ((1, 1), (1, 3), (4, 70)):
            call = Call(
                "ggml_vec_dot_q8_a8_q8_a8", 64, (floats, *rows), 8, 68, 100, 2, NO_OPTIONS, threads, repeat
            )
            reply = session.call(call)
            assert (reply.faults, reply.detail) == (0, "")
            assert struct.unpack_from("<7f", reply.outputs[0]) == (64, 8, 68, 100, 2, 11, 13)


def test_hello(kernel: Callable[..., Session], faulty_library: Path) -> None:
    """The hello names functions, capabilities, the machine, the compiler and the library's hash."""
    hello = kernel("good").hello
    assert hello.name == faulty_library.name
    assert hello.functions == ("quantize_row_q8_a8",)
    assert set(hello.capabilities) == set(CAPABILITIES) - (set() if X86 else {"registers", "stack"})
    assert hello.loading == ()
    assert hello.arch == os.uname().machine
    assert hello.kernel is not None
    assert hello.kernel.sha256 == sha256_of(faulty_library)
    assert "GCC" in (hello.compiler or "") or "clang" in (hello.compiler or "")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)), Buffer(bytes(128)))), "is not offered"),
        (
            Call("quantize_row_q8_a8", 64, (Buffer(ROW), Buffer(bytes(67)))),
            "y has 67 bytes, the call needs 68",
        ),
        (Call("quantize_row_q8_a8", -32, (Buffer(ROW), Buffer(bytes(68)))), "n = -32"),
        (call_of(Option.GUARD_AFTER | Option.GUARD_BEFORE), "exclude each other"),
        (call_of(offsets=(70000, 0)), "offset 70000 is over 65536"),
    ],
)
def test_impossible_calls_are_refused(kernel: Callable[..., Session], call: Call, message: str) -> None:
    """An invalid call is refused, and the worker goes on."""
    session = kernel("good")
    with pytest.raises(CallRefused, match=message):
        session.call(call)
    assert session.call(call_of()).outputs == (GOOD,)
    assert session.starts == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lib", "/no/such.so"], "there is no file /no/such.so"),
        (["lib", __file__], "cannot load .*invalid ELF header"),
        (["lib", "LIBRARY", "--symbol", "x=good"], "x is not an ABI function; they are quantize_row"),
        (["lib", "LIBRARY", "--symbol", "quantize_row_q8_a8"], "write ABI_NAME=EXPORTED_NAME"),
        (["lib", "LIBRARY", "--symbol", "quantize_row_q8_a8=bad"], "libfaulty.so exports no bad"),
        (["lib", "LIBRARY", *["--symbol", "quantize_row_q8_a8=good"] * 2], "given twice"),
        (["lib", "LIBRARY", "--init", "start"], "--init start: libfaulty.so exports no start"),
        (["lib"], "required: path"),
    ],
)
def test_unusable_command_lines(faulty_library: Path, arguments: list[str], message: str) -> None:
    """A worker that cannot serve its command line reports the reason, and is not restarted."""
    words = [str(faulty_library) if word == "LIBRARY" else word for word in arguments]
    argv = [sys.executable, "-m", "q8a8_conformance.worker", *words]
    with Session(argv) as session, pytest.raises(WorkerUnusable, match=message):
        _ = session.hello


def test_library_without_abi_functions(faulty_library: Path) -> None:
    """A library without any ABI function is served and offers nothing."""
    with Session([*WORKER, str(faulty_library)]) as session:
        assert session.hello.functions == ()


def test_start_is_fast(kernel: Callable[..., Session]) -> None:
    """A worker starts in under half a second (best of five), as each crash costs a start."""
    times = []
    for _ in range(5):
        session = kernel("good")
        session.start()
        times.append(session.start_seconds)  # without what it waited for others
        session.close()
    assert min(times) < 0.5


def _ggml() -> Path | None:
    """Return the ggml library of pywhispercpp, if installed."""
    for entry in sys.path:
        for found in Path(entry).glob("pywhispercpp.libs/libggml-cpu-*.so*"):
            return found
    return None


def test_real_ggml(need: Callable[[object, str], None]) -> None:
    """Functions of ggml are called through a symbol map, under guards, with the right results."""
    need(_ggml(), "pywhispercpp is not installed")
    names = {
        "quantize_row_q8_a8": "quantize_row_q8_0",
        "quantize_row_q8_a8_ref": "quantize_row_q8_0_ref",
        "dequantize_row_q8_a8": "dequantize_row_q8_0",
        "ggml_vec_dot_q8_a8_q8_a8": "ggml_vec_dot_q8_0_q8_0",
    }
    symbols = [word for name, export in names.items() for word in ("--symbol", f"{name}={export}")]
    guarded = Option.GUARD_AFTER | Option.READONLY
    # amax 127 makes the scale 1, so that integers are their own codes; and Σ j² for j = 1..32 is 11440.
    values = [float(j) for j in range(1, 32)]
    row = struct.pack("<32f", *values, 127.0)
    block = struct.pack("<e32b", 1.0, *range(1, 32), 127)
    with Session([*WORKER, str(_ggml()), *symbols, "--init", "ggml_cpu_init"]) as session:
        assert set(session.hello.functions) == set(names)
        for name in ("quantize_row_q8_a8", "quantize_row_q8_a8_ref"):
            reply = session.call(Call(name, 32, (Buffer(row), Buffer(bytes(34))), options=guarded))
            assert (reply.faults, reply.outputs) == (0, (block,))
        call = Call("dequantize_row_q8_a8", 32, (Buffer(block), Buffer(bytes(128))), options=guarded)
        assert session.call(call).outputs == (row,)
        dot = Call(
            "ggml_vec_dot_q8_a8_q8_a8", 32, (Buffer(bytes(4)), Buffer(block), Buffer(block)), options=guarded
        )
        assert session.call(dot).outputs == (struct.pack("<f", 11440 - 32**2 + 127**2),)
        assert session.starts == 1


def test_what_the_other_call_writes_outside_is_told_as_its_own(kernel: Callable[..., Session]) -> None:
    """Of calls by turns the damage is told with the function that has done it."""
    session = kernel("good", "--symbol", "quantize_row_q8_a8_ref=writes_after")
    call = call_of(repeat=1000)
    other = replace(call_of(), function="quantize_row_q8_a8_ref")
    reply = session.call(replace(call, together=Together(other=other)))
    assert reply.faults == Fault.WROTE_OUTSIDE
    assert reply.detail == "in quantize_row_q8_a8_ref: memory next to y was written, 2 bytes after its end"
