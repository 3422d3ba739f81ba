"""A session survives every worker: each misbehaviour is its own exception, in bounded time and space."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import Buffer, Call, Fault
from q8a8_conformance.protocol.process import STDERR_TAIL, describe_exit
from q8a8_conformance.protocol.session import (
    MAX_FAILED_STARTS,
    MAX_HANGS,
    CallRefused,
    ProtocolViolation,
    Session,
    SessionError,
    WorkerCrashed,
    WorkerHung,
    WorkerUnsupported,
    WorkerUnusable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CALL = Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)), Buffer(bytes(128))))
SERVE = "\nhello()\nwhile True: send(result(receive()))"
SHORT = 0.6
"""Seconds that a test waits for a worker that will not answer."""


def test_calls_and_answers(scripted: Callable[..., Session]) -> None:
    """A worker that behaves is started once and asked many times."""
    session = scripted("hello(version='3')\nwhile True: send(result(receive(), faults=2, detail=b'seen'))")
    assert (session.hello.name, session.hello.version) == ("t", "3")
    for _ in range(20):
        reply = session.call(CALL)
        assert reply.outputs == (bytes(128),)
        assert (reply.faults, reply.detail) == (Fault.WROTE_OUTSIDE, "seen")
    assert (session.starts, session.crashes, session.hangs, session.violations) == (1, 0, 0, 0)


def test_a_refusal_costs_nothing(scripted: Callable[..., Session]) -> None:
    """After a refused call the same worker goes on."""
    session = scripted("hello()\nwhile True: send(b'E' + struct.pack('<I', receive()) + b'not mine')")
    for _ in range(2):
        with pytest.raises(CallRefused, match="not mine"):
            session.call(CALL)
    assert session.starts == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.write(1, b'Hello, world! ' * 1000)", "frame length"),
        ("while True: os.write(1, b'x' * 65536)", "frame length"),
        ("os.write(1, struct.pack('<I', 2**28) + b'H')\ntime.sleep(60)", "frame length 268435456 is not in"),
        ("os.write(1, bytes(4))", "frame length 0"),
        ("send(b'R')", "kind 'R' where 'H' belongs"),
        ("hello(protocol=2)", "protocol 2"),
        ("os.write(1, b'\\3\\0\\0\\0H{}' * 2)", "7 bytes or more after the answer"),
    ],
    ids=["text", "endless", "huge-length", "zero-length", "wrong-kind", "wrong-version", "twice"],
)
def test_bad_starts(scripted: Callable[..., Session], body: str, said: str) -> None:
    """Whatever comes in place of a hello is a violation; after some attempts the worker is given up."""
    session = scripted(body + "\ntime.sleep(60)")
    with pytest.raises(ProtocolViolation, match=said):
        session.call(CALL)
    for _ in range(MAX_FAILED_STARTS - 2):
        with pytest.raises(ProtocolViolation, match=said):
            _ = session.hello
    for _ in range(2):
        with pytest.raises(WorkerUnusable, match=f"{MAX_FAILED_STARTS} times in a row.*{said}"):
            session.call(CALL)
    assert session.starts == MAX_FAILED_STARTS


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("os.write(1, b'Segmentation fault? No! ' * 9)", "frame length"),
        ("while True: os.write(1, b'x' * 65536)", "frame length"),
        ("while True: os.write(1, b'\\1\\0\\0\\0x')", "bytes or more after the answer|kind 'x'"),
        ("os.write(1, struct.pack('<I', 2**28 - 1))", "frame length 268435455 is not in 1"),
        ("send(result(call + 1))", "answer to call 2 where call 1"),
        ("send(result(call)); time.sleep(0.05)", None),
        (
            "out.write(struct.pack('<I', 150) + result(call) * 3); out.flush()",
            "frame length|after the answer",
        ),
        ("send(result(call, bytes(127)))", "127 bytes, the call's has 128"),
        ("send(result(call) + b'x')", "1 bytes after the end"),
        ("send(b'R' + bytes(5))", "result needs 12 bytes"),
        ("hello()", "kind 'H' where 'R' belongs"),
        ("os.close(1); time.sleep(60)", "closed its output and lived on"),
    ],
    ids=[
        "text",
        "endless",
        "endless-frames",
        "huge-length",
        "wrong-id",
        "legal",
        "thrice",
        "short-output",
        "long-frame",
        "cut",
        "hello-again",
        "closed",
    ],
)
def test_bad_answers(scripted: Callable[..., Session], answer: str, said: str | None) -> None:
    """Whatever comes in place of an answer is a violation, and the next call has a new worker."""
    session = scripted(f"hello()\nwhile True:\n    call = receive()\n    {answer}")
    for start in (1, 2):
        if said is None:
            assert session.call(CALL).outputs == (bytes(128),)
            continue
        with pytest.raises(ProtocolViolation, match=said if start == 1 else None):
            session.call(CALL)
        assert session.starts == session.violations == start


def test_a_duplicate_or_late_answer_is_no_answer(scripted: Callable[..., Session]) -> None:
    """An answer that comes when nothing was asked is found before the next call is sent."""
    session = scripted(
        "hello()\nwhile True:\n    call = receive()\n    send(result(call))\n"
        "    time.sleep(0.05); send(result(call))"
    )
    assert session.call(CALL).outputs == (bytes(128),)
    time.sleep(0.2)
    with pytest.raises(ProtocolViolation, match=r"nobody asked for|answer to call 1 where call 2"):
        session.call(CALL)
    assert session.call(CALL).outputs == (bytes(128),)


def test_an_early_answer_is_no_answer(scripted: Callable[..., Session]) -> None:
    """A worker that answers before it has read the call cannot have made it."""
    session = scripted("hello()\ninp.read(4)\nsend(result(1, bytes(2**22)))\ntime.sleep(60)")
    call = Call("dequantize_row_q8_a8", 2**20, (Buffer(bytes(34 * 2**15)), Buffer(bytes(2**22))))
    with pytest.raises(ProtocolViolation, match="before it had read the whole call"):
        session.call(call)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("time.sleep(60)", "no answer came"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", "no answer came"),
        (
            "for byte in struct.pack('<I', 150) + result(1): os.write(1, bytes([byte])); time.sleep(0.1)",
            "bytes came",
        ),
        ("os.write(1, struct.pack('<I', 150))\n    time.sleep(60)", "0 of the answer's 150 bytes came"),
        ("while True: os.write(2, b'x' * 65536)", "no answer came"),
    ],
    ids=["silent", "busy", "drip", "half", "endless-stderr"],
)
def test_hangs(scripted: Callable[..., Session], body: str, said: str) -> None:
    """A worker without a whole answer in time is killed, however busy it looks."""
    session = scripted(f"hello()\nwhile True:\n    call = receive()\n    {body}")
    _ = session.hello
    pid = session._process.pid if session._process else 0
    start = time.monotonic()
    with pytest.raises(WorkerHung, match=f"hung in dequantize_row_q8_a8.*{said}"):
        session.call(CALL, timeout=SHORT)
    assert time.monotonic() - start < SHORT + 2
    assert len(session.stderr_tail) <= STDERR_TAIL
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_slow_start_is_a_hang(scripted: Callable[..., Session]) -> None:
    """The hello has a deadline of its own, a byte at a time included."""
    session = scripted("while True: os.write(1, b'\\1'); time.sleep(0.1)", start_timeout=0.3)
    with pytest.raises(WorkerHung, match="before its hello"):
        _ = session.hello


def test_hanging_ends(scripted: Callable[..., Session]) -> None:
    """After so many hung calls the worker is not started again."""
    session = scripted("hello()\nreceive()\ntime.sleep(60)")
    for _ in range(MAX_HANGS):
        with pytest.raises(WorkerHung):
            session.call(CALL, timeout=0.01)
    with pytest.raises(WorkerUnusable, match=f"{MAX_HANGS} calls hung"):
        session.call(CALL)
    assert session.starts == MAX_HANGS


def test_a_crash_is_named_and_repaired(scripted: Callable[..., Session]) -> None:
    """A crash tells its signal and the worker's last words; the next call has a new worker."""
    session = scripted(
        "hello()\nreceive()\nos.write(2, b'about to die\\n')\nos.kill(os.getpid(), signal.SIGSEGV)\nreceive()"
    )
    for start in (1, 2):
        with pytest.raises(WorkerCrashed, match=r"killed by SIGSEGV.*in dequantize_row_q8_a8") as caught:
            session.call(CALL)
        assert caught.value.how == "killed by SIGSEGV"
        assert "stderr: about to die" in str(caught.value)
        assert session.starts == session.crashes == start


def test_an_exit_in_mid_answer_is_a_crash(scripted: Callable[..., Session]) -> None:
    """An answer that breaks off with the worker's exit is a crash, not a violation."""
    session = scripted("hello()\nreceive()\nos.write(1, struct.pack('<I', 150) + b'R')\nos._exit(3)")
    with pytest.raises(WorkerCrashed, match=r"exit status 3.*1 of the answer's 150 bytes came"):
        session.call(CALL)


def test_an_exit_between_calls_is_a_crash(scripted: Callable[..., Session]) -> None:
    """A worker that leaves after its answer is found gone by the next call."""
    session = scripted("hello()\nsend(result(receive()))\nos._exit(4)")
    assert session.call(CALL).outputs == (bytes(128),)
    time.sleep(0.2)
    with pytest.raises(WorkerCrashed, match="exit status 4"):
        session.call(CALL)
    assert session.call(CALL).outputs == (bytes(128),)


def test_a_worker_that_exits_at_once_is_given_up(scripted: Callable[..., Session]) -> None:
    """Starts that fail in a row are counted, reported and not repeated forever."""
    session = scripted("os.write(2, b'no such device\\n')\nos._exit(1)")
    for _ in range(MAX_FAILED_STARTS - 1):
        with pytest.raises(WorkerCrashed, match=r"exit status 1.*before its hello"):
            session.call(CALL)
    for _ in range(3):
        with pytest.raises(WorkerUnusable, match="in a row") as caught:
            session.call(CALL)
        assert "no such device" in str(caught.value)
    assert session.starts == MAX_FAILED_STARTS


@pytest.mark.parametrize(
    ("status", "error"), [(77, WorkerUnsupported), (2, WorkerUnusable)], ids=["no-feature", "usage"]
)
def test_final_exits(scripted: Callable[..., Session], status: int, error: type[SessionError]) -> None:
    """Exit 77 and exit 2 before the hello are believed at once, with their reason, and not retried."""
    session = scripted(f"os.write(2, b'needs i8mm\\n')\nos._exit({status})")
    for _ in range(2):
        with pytest.raises(error, match="needs i8mm"):
            _ = session.hello
    assert session.starts == 1


def test_a_missing_command_is_unusable() -> None:
    """A command that does not exist is said to be so."""
    for _ in range(2):
        with (
            Session(["/no/such/harness"]) as session,
            pytest.raises(WorkerUnusable, match="/no/such/harness"),
        ):
            session.call(CALL)


def test_another_kernel_after_a_restart_is_refused(scripted: Callable[..., Session], tmp_path: Path) -> None:
    """A worker that comes back as another kernel ends the session: its results would be mixed up."""
    mark = f"{tmp_path}/mark"
    session = scripted(
        f"hello(name='b' if os.path.exists({mark!r}) else 'a')\nopen({mark!r}, 'w').close()\n"
        "receive()\nos._exit(1)"
    )
    with pytest.raises(WorkerCrashed):
        session.call(CALL)
    with pytest.raises(WorkerUnusable, match="another kernel"):
        session.call(CALL)


def test_children_that_keep_the_pipes_do_not_hide_an_exit(scripted: Callable[..., Session]) -> None:
    """The worker's exit is seen though a child of it holds its output open, and the child is killed."""
    session = scripted(
        "hello()\nreceive()\nchild = os.fork()\nif not child: time.sleep(60)\n"
        "os.write(2, b'child %d\\n' % child)\nos._exit(5)",
    )
    start = time.monotonic()
    with pytest.raises(WorkerCrashed, match="exit status 5") as caught:
        session.call(CALL)
    assert time.monotonic() - start < 2
    child = int(caught.value.stderr.split()[-1])
    deadline = time.monotonic() + 2
    while _is_running(child):
        assert time.monotonic() < deadline, "the child lives"
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    """Whether a process lives and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_full_pipes_do_not_lock_up(scripted: Callable[..., Session]) -> None:
    """A worker that writes megabytes of standard error before it reads a large call is served."""
    session = scripted(
        "hello()\nos.write(2, b'x' * 3_000_000)\ncall = receive()\nos.write(2, b'y' * 3_000_000)\n"
        "send(result(call, bytes(2**22)))\nreceive()",
    )
    call = Call("dequantize_row_q8_a8", 2**20, (Buffer(bytes(34 * 2**15)), Buffer(bytes(2**22))))
    assert session.call(call).outputs == (bytes(2**22),)
    assert session.stderr_tail == "y" * STDERR_TAIL


def test_closing_leaves_nothing_behind(scripted: Callable[..., Session]) -> None:
    """A worker that ignores 'quit' and the end of its input is killed when the session closes."""
    session = scripted("hello()\nwhile True: time.sleep(1)")
    _ = session.hello
    pid = session._process.pid if session._process else 0
    session.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    session.close()


def test_an_interrupt_ends_the_worker(scripted: Callable[..., Session]) -> None:
    """An interrupted call leaves no worker behind whose answer the next call would take for its own."""
    session = scripted(SERVE)
    assert session.call(CALL).outputs == (bytes(128),)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session._guarded(interrupt, "x")
    assert session.call(CALL).outputs == (bytes(128),)
    assert session.starts == 2


def test_a_call_too_large_is_the_callers_error(scripted: Callable[..., Session]) -> None:
    """A call over the frame limit is a ValueError before anything is sent."""
    session = scripted(SERVE)
    with pytest.raises(ValueError, match="too large"):
        session.call(Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)), Buffer(bytes(2**28)))))
    assert session.call(CALL).outputs == (bytes(128),)
    assert session.starts == 1


def test_a_call_without_its_buffers_is_the_callers_error(scripted: Callable[..., Session]) -> None:
    """A call must have as many buffers as its function, or there is nothing to judge the answer by."""
    with pytest.raises(ValueError, match="1 buffers, dequantize_row_q8_a8 takes 2"):
        scripted(SERVE).call(Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)),)))


def test_exit_descriptions() -> None:
    """Signals have names, also when a shell reports them."""
    assert describe_exit(-11) == "killed by SIGSEGV"
    assert describe_exit(132) == "exit status 132: killed by SIGILL"
    assert describe_exit(3) == "exit status 3"


def test_many_restarts_leak_nothing() -> None:
    """Descriptors and memory stay as they were through many workers."""
    argv = [sys.executable, "-S", "-E", "-c", "import os; os.write(1, bytes(100))"]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(12):
        with Session(argv) as session, pytest.raises(ProtocolViolation):
            _ = session.hello
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2**21
