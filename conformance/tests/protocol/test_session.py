"""A session survives any worker: each failure has its exception, in bounded time and memory."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import Buffer, Call, Fault
from q8a8_conformance.protocol.process import STDERR_TAIL, WorkerProcess, describe_exit
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
"""Time limit in seconds for a worker that does not answer."""


def test_calls_and_answers(scripted: Callable[..., Session]) -> None:
    """A working worker is started once and called many times."""
    session = scripted("hello(version='3')\nwhile True: send(result(receive(), faults=2, detail=b'seen'))")
    assert (session.hello.name, session.hello.version) == ("t", "3")
    for _ in range(20):
        reply = session.call(CALL)
        assert reply.outputs == (bytes(128),)
        assert (reply.faults, reply.detail) == (Fault.WROTE_OUTSIDE, "seen")
    assert (session.starts, session.crashes, session.hangs, session.violations) == (1, 0, 0, 0)


def test_refusal_keeps_the_worker(scripted: Callable[..., Session]) -> None:
    """After a refused call the same worker is called again."""
    session = scripted("hello()\nwhile True: send(b'E' + struct.pack('<I', receive()) + b'not offered')")
    for _ in range(2):
        with pytest.raises(CallRefused, match="not offered"):
            session.call(CALL)
    assert session.starts == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.write(1, b'Hello, world! ' * 1000)", "frame length"),
        ("while True: os.write(1, b'x' * 65536)", "frame length"),
        ("os.write(1, struct.pack('<I', 2**28) + b'H')\ntime.sleep(60)", "frame length 268435456 is not in"),
        ("os.write(1, bytes(4))", "frame length 0"),
        ("send(b'R')", "kind 'R', expected 'H'"),
        ("hello(protocol=2)", "protocol 2"),
        ("os.write(1, b'\\3\\0\\0\\0H{}' * 2)", "7 bytes or more after the answer"),
    ],
    ids=["text", "endless", "huge-length", "zero-length", "wrong-kind", "wrong-version", "twice"],
)
def test_bad_starts(scripted: Callable[..., Session], body: str, message: str) -> None:
    """Anything but a hello is a violation; after some failed starts the worker is not restarted."""
    session = scripted(body + "\ntime.sleep(60)")
    with pytest.raises(ProtocolViolation, match=message):
        session.call(CALL)
    for _ in range(MAX_FAILED_STARTS - 2):
        with pytest.raises(ProtocolViolation, match=message):
            _ = session.hello
    for _ in range(2):
        with pytest.raises(WorkerUnusable, match=f"{MAX_FAILED_STARTS} times in a row.*{message}"):
            session.call(CALL)
    assert session.starts == MAX_FAILED_STARTS


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("os.write(1, b'Segmentation fault? No! ' * 9)", "frame length"),
        ("while True: os.write(1, b'x' * 65536)", "frame length"),
        ("while True: os.write(1, b'\\1\\0\\0\\0x')", "bytes or more after the answer|kind 'x'"),
        ("os.write(1, struct.pack('<I', 2**28 - 1))", "frame length 268435455 is not in 1"),
        ("send(result(call + 1))", "answer to call 2, expected call 1"),
        ("send(result(call)); time.sleep(0.05)", None),
        (
            "out.write(struct.pack('<I', 150) + result(call) * 3); out.flush()",
            "frame length|after the answer",
        ),
        ("send(result(call, bytes(127)))", "127 bytes, expected 128"),
        ("send(result(call) + b'x')", "1 bytes after the end"),
        ("send(b'R' + bytes(5))", "result needs 12 bytes"),
        ("hello()", "kind 'H', expected 'R'"),
        ("os.close(1); time.sleep(60)", "closed its output without exiting"),
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
def test_bad_answers(scripted: Callable[..., Session], answer: str, message: str | None) -> None:
    """Anything but an answer is a violation, and the next call starts a new worker."""
    session = scripted(f"hello()\nwhile True:\n    call = receive()\n    {answer}")
    for start in (1, 2):
        if message is None:
            assert session.call(CALL).outputs == (bytes(128),)
            continue
        with pytest.raises(ProtocolViolation, match=message if start == 1 else None):
            session.call(CALL)
        assert session.starts == session.violations == start


def test_duplicate_answer_is_a_violation(scripted: Callable[..., Session]) -> None:
    """An answer without a call is detected before the next call is sent."""
    session = scripted(
        "hello()\nwhile True:\n    call = receive()\n    send(result(call))\n"
        "    time.sleep(0.05); send(result(call))"
    )
    assert session.call(CALL).outputs == (bytes(128),)
    time.sleep(0.2)
    with pytest.raises(ProtocolViolation, match=r"without a call|answer to call 1, expected call 2"):
        session.call(CALL)
    assert session.call(CALL).outputs == (bytes(128),)


def test_early_answer_is_a_violation(scripted: Callable[..., Session]) -> None:
    """An answer before the whole call was read is a violation."""
    session = scripted("hello()\ninp.read(4)\nsend(result(1, bytes(2**22)))\ntime.sleep(60)")
    call = Call("dequantize_row_q8_a8", 2**20, (Buffer(bytes(34 * 2**15)), Buffer(bytes(2**22))))
    with pytest.raises(ProtocolViolation, match="before it had read the whole call"):
        session.call(call)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("time.sleep(60)", "no answer received"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", "no answer received"),
        (
            "for byte in struct.pack('<I', 150) + result(1): os.write(1, bytes([byte])); time.sleep(0.1)",
            "bytes received",
        ),
        ("os.write(1, struct.pack('<I', 150))\n    time.sleep(60)", "0 of the answer's 150 bytes received"),
        ("while True: os.write(2, b'x' * 65536)", "no answer received"),
    ],
    ids=["silent", "busy", "drip", "half", "endless-stderr"],
)
def test_hangs(scripted: Callable[..., Session], body: str, message: str) -> None:
    """A worker without a complete answer within the time limit is killed, even if it sends bytes."""
    session = scripted(f"hello()\nwhile True:\n    call = receive()\n    {body}")
    _ = session.hello
    pid = session._process.pid if session._process else 0
    start = time.monotonic()
    with pytest.raises(WorkerHung, match=f"hung in dequantize_row_q8_a8.*{message}"):
        session.call(CALL, timeout=SHORT)
    assert time.monotonic() - start < 30  # the worker would take 60 s or go on for ever
    assert len(session.stderr_tail) <= STDERR_TAIL
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(("share", "hangs"), [(1.0, False), (0.0, True)])
def test_a_busy_machine_is_no_hang(
    scripted: Callable[..., Session], monkeypatch: pytest.MonkeyPatch, share: float, *, hangs: bool
) -> None:
    """What the worker waits for others to run is not its own time."""
    began = time.monotonic()
    waiting = property(lambda _: share * (time.monotonic() - began))
    monkeypatch.setattr(WorkerProcess, "seconds_waiting", waiting)
    session = scripted("hello()\nwhile True:\n    call = receive()\n    time.sleep(1.5); send(result(call))")
    _ = session.hello
    with pytest.raises(WorkerHung) if hangs else nullcontext():
        session.call(CALL, timeout=0.75)


def test_patience_ends(scripted: Callable[..., Session], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that only waits is given up at four times its time limit."""
    monkeypatch.setattr(WorkerProcess, "seconds_waiting", property(lambda _: time.monotonic()))
    session = scripted("hello()\nreceive()\ntime.sleep(60)")
    _ = session.hello
    began = time.monotonic()
    with pytest.raises(WorkerHung):
        session.call(CALL, timeout=0.25)
    assert 1.0 <= time.monotonic() - began < 30


def test_slow_start_is_a_hang(scripted: Callable[..., Session]) -> None:
    """The hello has its own time limit, which single bytes do not extend."""
    # A length of 1000, and its bytes: on a busy machine, too, where waiting does not count, time is up first.
    begun = "os.write(1, b'\\xe8\\3\\0\\0')"
    session = scripted(f"{begun}\nwhile True: os.write(1, b'\\1'); time.sleep(0.1)", start_timeout=0.3)
    with pytest.raises(WorkerHung, match="before its hello"):
        _ = session.hello


def test_too_many_hangs(scripted: Callable[..., Session]) -> None:
    """After `MAX_HANGS` hung calls the worker is not restarted."""
    session = scripted("hello()\nreceive()\ntime.sleep(60)")
    for _ in range(MAX_HANGS):
        with pytest.raises(WorkerHung):
            session.call(CALL, timeout=0.01)
    with pytest.raises(WorkerUnusable, match=f"{MAX_HANGS} calls hung"):
        session.call(CALL)
    assert session.starts == MAX_HANGS


def test_crash(scripted: Callable[..., Session]) -> None:
    """A crash reports its signal and the worker's standard error; the next call starts a new worker."""
    session = scripted(
        "hello()\nreceive()\nos.write(2, b'about to die\\n')\nos.kill(os.getpid(), signal.SIGSEGV)\nreceive()"
    )
    for start in (1, 2):
        with pytest.raises(WorkerCrashed, match=r"killed by SIGSEGV.*in dequantize_row_q8_a8") as caught:
            session.call(CALL)
        assert caught.value.how == "killed by SIGSEGV"
        assert "stderr: about to die" in str(caught.value)
        assert session.starts == session.crashes == start


def test_exit_within_an_answer_is_a_crash(scripted: Callable[..., Session]) -> None:
    """An answer truncated by the worker's exit is a crash, not a violation."""
    session = scripted("hello()\nreceive()\nos.write(1, struct.pack('<I', 150) + b'R')\nos._exit(3)")
    with pytest.raises(WorkerCrashed, match=r"exit status 3.*1 of the answer's 150 bytes received"):
        session.call(CALL)


def test_exit_between_calls_is_a_crash(scripted: Callable[..., Session]) -> None:
    """The exit of a worker after its answer is detected by the next call."""
    session = scripted("hello()\nsend(result(receive()))\nos._exit(4)")
    assert session.call(CALL).outputs == (bytes(128),)
    time.sleep(0.2)
    with pytest.raises(WorkerCrashed, match="exit status 4"):
        session.call(CALL)
    assert session.call(CALL).outputs == (bytes(128),)


def test_worker_that_exits_at_once(scripted: Callable[..., Session]) -> None:
    """Consecutive failed starts are counted, and end in `WorkerUnusable`."""
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
    """Exit 77 and exit 2 before the hello are final: reported with their reason, not retried."""
    session = scripted(f"os.write(2, b'needs i8mm\\n')\nos._exit({status})")
    for _ in range(2):
        with pytest.raises(error, match="needs i8mm"):
            _ = session.hello
    assert session.starts == 1


def test_missing_command_is_unusable() -> None:
    """A command that does not exist is unusable, and the error names it."""
    for _ in range(2):
        with (
            Session(["/no/such/harness"]) as session,
            pytest.raises(WorkerUnusable, match="/no/such/harness"),
        ):
            session.call(CALL)


def test_another_kernel_after_a_restart_is_refused(scripted: Callable[..., Session], tmp_path: Path) -> None:
    """A restarted worker that reports another kernel ends the session."""
    mark = f"{tmp_path}/mark"
    session = scripted(
        f"hello(name='b' if os.path.exists({mark!r}) else 'a')\nopen({mark!r}, 'w').close()\n"
        "receive()\nos._exit(1)"
    )
    with pytest.raises(WorkerCrashed):
        session.call(CALL)
    with pytest.raises(WorkerUnusable, match="another kernel"):
        session.call(CALL)


def test_exit_with_children_that_keep_the_pipes(scripted: Callable[..., Session]) -> None:
    """The worker's exit is detected although a child holds its pipes open, and the child is killed."""
    session = scripted(
        "hello()\nreceive()\nchild = os.fork()\nif not child: time.sleep(60)\n"
        "os.write(2, b'child %d\\n' % child)\nos._exit(5)",
    )
    start = time.monotonic()
    with pytest.raises(WorkerCrashed, match="exit status 5") as caught:
        session.call(CALL)
    assert time.monotonic() - start < 30  # the child keeps the pipes open for 60 s
    child = int(caught.value.stderr.split()[-1])
    deadline = time.monotonic() + 30
    while _is_running(child):
        assert time.monotonic() < deadline, "the child was not killed"
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_full_pipes_do_not_deadlock(scripted: Callable[..., Session]) -> None:
    """A worker may write megabytes to standard error before it reads a large call."""
    session = scripted(
        "hello()\nos.write(2, b'x' * 3_000_000)\ncall = receive()\nos.write(2, b'y' * 3_000_000)\n"
        "send(result(call, bytes(2**22)))\nreceive()",
    )
    call = Call("dequantize_row_q8_a8", 2**20, (Buffer(bytes(34 * 2**15)), Buffer(bytes(2**22))))
    assert session.call(call).outputs == (bytes(2**22),)
    assert session.stderr_tail == "y" * STDERR_TAIL


def test_closing_kills_the_worker(scripted: Callable[..., Session]) -> None:
    """A worker that ignores 'quit' and the end of its input is killed when the session is closed."""
    session = scripted("hello()\nwhile True: time.sleep(1)")
    _ = session.hello
    pid = session._process.pid if session._process else 0
    session.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    session.close()


def test_interrupt_ends_the_worker(scripted: Callable[..., Session]) -> None:
    """An interrupted call ends the worker, so that the next call cannot read its answer."""
    session = scripted(SERVE)
    assert session.call(CALL).outputs == (bytes(128),)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session._guarded(interrupt, "x")
    assert session.call(CALL).outputs == (bytes(128),)
    assert session.starts == 2


def test_too_large_call_is_a_value_error(scripted: Callable[..., Session]) -> None:
    """A call over the frame limit raises ValueError before anything is sent."""
    session = scripted(SERVE)
    with pytest.raises(ValueError, match="too large"):
        session.call(Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)), Buffer(bytes(2**28)))))
    assert session.call(CALL).outputs == (bytes(128),)
    assert session.starts == 1


def test_wrong_number_of_buffers_is_a_value_error(scripted: Callable[..., Session]) -> None:
    """A call with a wrong number of buffers raises ValueError."""
    with pytest.raises(ValueError, match="1 buffers, dequantize_row_q8_a8 takes 2"):
        scripted(SERVE).call(Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)),)))


def test_exit_descriptions() -> None:
    """Signals are reported by name, also from a shell's exit status."""
    assert describe_exit(-11) == "killed by SIGSEGV"
    assert describe_exit(132) == "exit status 132: killed by SIGILL"
    assert describe_exit(3) == "exit status 3"


def test_many_restarts_leak_no_descriptors() -> None:
    """The number of open descriptors is the same after many workers."""
    argv = [sys.executable, "-S", "-E", "-c", "import os; os.write(1, bytes(100))"]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(12):
        with Session(argv) as session, pytest.raises(ProtocolViolation):
            _ = session.hello
    assert len(list(Path("/proc/self/fd").iterdir())) == before
