"""Both workers detect what kernels leave behind, in calls and when loaded; the harness under QEMU too."""

from __future__ import annotations

import platform
import struct
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import Buffer, Call, Fault, Option
from q8a8_conformance.protocol.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., Session]

NAME = "ggml_vec_dot_q8_a8_q8_a8_real"
ROW = bytes([0, 0x3C, 0, 0x3C, *range(32)])
ONE = struct.pack("<f", 1.0)
CALL = Call(NAME, 32, (Buffer(b"\xee" * 4), Buffer(ROW), Buffer(ROW)))
X86 = platform.machine() == "x86_64"
WORKERS = ["python", "harness", "emulated"]
X86_WORKERS = ["python", "harness"] if X86 else []
"""The workers on this machine, if the one in Python can check registers here."""


@pytest.fixture
def start(harness: Callable[..., list[str]], built: Callable[[str], Path]) -> Iterator[Start]:
    """Return a function that starts a worker with a function of tests/stateful.c."""
    sessions = []

    def make(
        worker: str, function: str = "dot_fine", *flags: str, env: dict[str, str] | None = None
    ) -> Session:
        emulated = worker == "emulated"
        library = built("aarch64" if emulated else "native") / "lib" / "libq8a8-stateful.so"
        if worker == "python":
            argv = [sys.executable, "-m", "q8a8_conformance.worker", "lib", str(library)]
        else:
            argv = [*harness("", "max" if emulated else None), "--lib", str(library)]
        sessions.append(Session([*argv, "--symbol", f"{NAME}={function}", *flags], env=env))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def with_state(repeat: int = 1) -> Call:
    """Return the call with the option to compare the process."""
    return replace(CALL, options=Option.STATE, repeat=repeat)


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize(
    ("function", "repeat", "fault", "detail"),
    [
        ("dot_fine", 1, Fault(0), ""),
        ("dot_fine", 2000, Fault(0), ""),
        ("dot_blocks_signal", 1, Fault.PROCESS_CHANGED, "signal-mask"),
        ("dot_ignores_signal", 1, Fault.PROCESS_CHANGED, "signal-handlers"),
        ("dot_sets_locale", 1, Fault.PROCESS_CHANGED, "locale: was"),
        ("dot_changes_directory", 1, Fault.PROCESS_CHANGED, "working-directory: was"),
        ("dot_sets_umask", 1, Fault.PROCESS_CHANGED, "is 177"),
        ("dot_sets_usual_umask", 1, Fault.PROCESS_CHANGED, "was 027, is 022"),
        ("dot_sets_thread_locale", 1, Fault.PROCESS_CHANGED, "locale: was"),
        ("dot_sets_usual_locale", 1, Fault.PROCESS_CHANGED, "locale: was"),
        ("dot_limits", 1, Fault.PROCESS_CHANGED, "resource-limits"),
        ("dot_confines", 1, Fault.PROCESS_CHANGED, "cpu-affinity"),
        ("dot_prints", 1, Fault.OUTPUT_OR_THREAD, "4 bytes were written"),
        ("dot_starts_thread", 1, Fault.OUTPUT_OR_THREAD, "1 more than before"),
        ("dot_opens", 1, Fault(0), ""),
        ("dot_opens", 2000, Fault.RESOURCES_KEPT, "descriptors"),
        ("dot_opens_once", 2000, Fault(0), ""),
        ("dot_allocates", 2000, Fault.RESOURCES_KEPT, "allocated memory"),
        ("dot_maps", 2000, Fault.RESOURCES_KEPT, "mapped memory"),
        ("dot_allocates_once", 2000, Fault(0), ""),
    ],
)
def test_what_a_call_leaves(
    start: Start, worker: str, function: str, repeat: int, fault: Fault, detail: str
) -> None:
    """A call with STATE reports what it left changed, and what many calls keep."""
    reply = start(worker, function).call(with_state(repeat))
    assert reply.outputs == (ONE,)
    assert reply.faults == fault, reply.detail
    assert detail in reply.detail


@pytest.mark.parametrize("worker", WORKERS)
def test_an_earlier_call_counts(start: Start, worker: str) -> None:
    """A change by a call without STATE is reported by the next one with it, once."""
    session = start(worker, "dot_changes_directory")
    assert session.call(CALL).faults == Fault(0)
    reply = session.call(with_state())
    assert reply.faults == Fault.PROCESS_CHANGED
    assert "working-directory" in reply.detail
    assert session.call(with_state()).faults == Fault(0)


@pytest.mark.parametrize(
    ("worker", "function", "detail"),
    [
        *(
            (worker, "dot_clobbers", "callee-saved registers were changed: rbx, r12")
            for worker in X86_WORKERS
        ),
        *((worker, "dot_sets_direction", "the direction flag was left set") for worker in X86_WORKERS),
        *((worker, "dot_uses_mmx", "the x87 registers were left in use") for worker in X86_WORKERS),
        ("emulated", "dot_clobbers", "callee-saved registers were changed: x21, d9"),
    ],
)
def test_the_calling_convention(start: Start, worker: str, function: str, detail: str) -> None:
    """Every call reports what it broke of the calling convention, whatever its options are."""
    session = start(worker, function)
    for call in (CALL, with_state(), replace(CALL, repeat=3)):
        reply = session.call(call)
        assert (reply.outputs, reply.faults) == ((ONE,), Fault.CONVENTION_BROKEN)
        assert detail in reply.detail


@pytest.mark.parametrize("worker", [*X86_WORKERS, "emulated"])
def test_stack(start: Start, worker: str) -> None:
    """Calls with STATE measure the stack; four megabytes may be used, in any call."""
    reply = start(worker, "dot_uses_stack").call(with_state())
    assert (reply.outputs, reply.faults) == ((ONE,), Fault.STACK_EXCEEDED)
    assert "stack" in reply.detail
    session = start(worker, "dot_uses_some_stack")
    for call in (CALL, with_state(), replace(CALL, repeat=2)):
        assert session.call(call).faults == Fault(0)


@pytest.mark.parametrize("worker", WORKERS)
def test_loading(start: Start, worker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hello reports what loading and the initializer left changed; calls have the modes from before."""
    assert start(worker).hello.loading == ()
    monkeypatch.setenv("Q8A8_TEST_LOADING", "1")
    session = start(worker, "dot_fine", "--init", "initialize")
    changes = session.hello.loading
    assert changes is not None
    assert {change.what for change in changes if change.when == "load"} == {
        "rounding-mode",
        "flush-mode",
        "signal-mask",
        "signal-handlers",
        "locale",
        "working-directory",
        "umask",
        "resource-limits",
        "cpu-affinity",
        "standard-output",
        "threads",
        "descriptors",
    }
    assert [change.what for change in changes if change.when == "init"] == ["flush-mode", "signal-mask"]
    assert session.call(with_state()).faults == Fault(0)
    assert "a banner" in session.stderr_tail
