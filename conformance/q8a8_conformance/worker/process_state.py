"""What a kernel must leave as it is in its process, besides memory and the floating-point environment.

`ProcessState` is read before and after: around loading the library, around its initializer, and around the
calls that the runner asks it for (`Option.STATE`). What belongs to one thread is read in the calling thread.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Fault, LoadChange
from q8a8_conformance.worker.stopping import sleeps

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from q8a8_conformance.worker.fenv import FloatingPoint

_LC_ALL = 6
_SIGACTION_SIZE, _FLAGS_AT = 256, 8 + 128
_NAP_SECONDS = 5e-5
_THREAD_END_SECONDS = 0.1
"""How long a thread that was joined may still be listed, if all threads sleep."""
_BUSY_THREAD_SECONDS = 2.0
"""How long it may be listed in any case."""
MANY = 8
"""So many descriptors or threads more after many calls are no longer what a first call sets up."""
MANY_CALLS = 1000
_UNUSUAL_UMASK = 0o027
_LIBC = ctypes.PyDLL(None)
_LIBC.setlocale.restype = ctypes.c_char_p
_USELOCALE, _DUPLOCALE = (getattr(_LIBC, name, None) for name in ("uselocale", "duplocale"))
_GLOBAL_LOCALE = ctypes.c_void_p(-1).value
for _function in filter(None, (_USELOCALE, _DUPLOCALE)):
    _function.restype, _function.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
_FAULT_NAMES = {
    Fault.ROUNDING_MODE_CHANGED: "rounding-mode",
    Fault.FLUSH_MODE_CHANGED: "flush-mode",
    Fault.TRAP_MASK_CHANGED: "trap-masks",
}


def _handlers() -> dict[str, bytes]:
    """Return each signal's handler, mask and flags, as the C library has them.

    (Of the mask's 128 bytes it fills those of the system's 64 signals, and leaves the rest as it was.)
    """
    space = ctypes.create_string_buffer(_SIGACTION_SIZE)
    found = {}
    for number in range(1, signal.NSIG):
        if _LIBC.sigaction(number, None, space) == 0:
            found[_signal_name(number)] = space.raw[:16] + space.raw[_FLAGS_AT : _FLAGS_AT + 4]
    return found


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _umask() -> str:
    old = os.umask(0o077)
    os.umask(old)
    return f"{old:03o}"


def _locale() -> str:
    """Return the process's locale, and which one the thread has of its own, if it has."""
    name = (_LIBC.setlocale(_LC_ALL, None) or b"").decode("utf-8", "replace")
    own = _USELOCALE(None) if _USELOCALE else _GLOBAL_LOCALE
    return name if own == _GLOBAL_LOCALE else f"{name}, in this thread {own:#x}"


def make_unusual() -> None:
    """Give the process a file mode mask, and this thread a locale, that are not the usual ones."""
    os.umask(_UNUSUAL_UMASK)
    if _USELOCALE and _DUPLOCALE:
        _USELOCALE(_DUPLOCALE(_GLOBAL_LOCALE))


def _limits() -> dict[str, tuple[int, int]]:
    names = (name for name in dir(resource) if name.startswith("RLIMIT_"))
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "removed"


@contextmanager
def _spare_descriptors() -> Iterator[None]:
    """Allow a few descriptors more: a kernel may have used up all that there were."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft + MANY, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def count_descriptors() -> int:
    """Return how many descriptors are open; 0 where the system does not list them."""
    return _count("/proc/self/fd")


def count_threads() -> int:
    """Return how many threads the process has; 0 where the system does not list them."""
    return _count("/proc/self/task")


def _ready_threads() -> int:
    """Return how many threads of the process do not sleep."""
    return sum(not sleeps(int(task.name)) for task in Path("/proc/self/task").iterdir())


def join(thread: threading.Thread) -> None:
    """Wait for a thread's end, and until the system lists it no more: `Thread.join` is a moment too early.

    A process is copied, and its threads are counted, only where there are no others.
    """
    thread.join()
    while Path(f"/proc/self/task/{thread.native_id}").exists():
        time.sleep(_NAP_SECONDS)


def _count(folder: str) -> int:
    try:
        return sum(1 for _ in Path(folder).iterdir())
    except OSError:
        return 0


def output_size() -> int:
    """Return how many bytes were written to standard output, a file in memory; what was buffered too."""
    if sys.stdout:
        sys.stdout.flush()
    _LIBC.fflush(None)
    return os.fstat(1).st_size


@dataclass(frozen=True)
class ProcessState:
    """The state of the process and of the calling thread, at one time.

    Attributes
    ----------
    settings
        What must not change, by slug; each value is comparable, those that are dicts by their entries.
    output, threads, descriptors
        Bytes of standard output; numbers of threads and of descriptors.
    """

    settings: dict[str, object]
    output: int
    threads: int
    descriptors: int

    @classmethod
    def read(cls) -> ProcessState:
        """Read the current state."""
        blocked = sorted(_signal_name(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        settings: dict[str, object] = {
            "signal-mask": ", ".join(blocked) or "no signal blocked",
            "signal-handlers": _handlers(),
            "locale": _locale(),
            "working-directory": _working_directory(),
            "umask": _umask(),
            "resource-limits": _limits(),
            "cpu-affinity": sorted(os.sched_getaffinity(0)),
        }
        with _spare_descriptors():
            return cls(settings, output_size(), count_threads(), count_descriptors())

    def changes(self, after: ProcessState) -> dict[str, str]:
        """Return which settings another state has changed, and how."""
        pairs = ((name, old, after.settings[name]) for name, old in self.settings.items())
        return {name: _describe(old, new) for name, old, new in pairs if old != new}

    def threads_left(self) -> int:
        """Return how many threads there are more now.

        A thread that has ended may still be listed, for long on a busy machine: ready to run, not asleep.
        """
        start = last = time.monotonic()
        with _spare_descriptors():
            while (more := count_threads() - self.threads) > 0:
                time.sleep(0.001)
                now = time.monotonic()
                if _ready_threads() > 1:  # (this one is)
                    last = now
                if now - last > _THREAD_END_SECONDS or now - start > _BUSY_THREAD_SECONDS:
                    break
        return max(more, 0)

    def earlier_faults(self, after: ProcessState) -> tuple[Fault, list[str]]:
        """Compare settings with a state before the present call; the worker itself changes limits."""
        texts = [
            f"{name}, in an earlier call: {text}"
            for name, text in self.changes(after).items()
            if name != "resource-limits"
        ]
        return Fault.PROCESS_CHANGED if texts else Fault(0), texts

    def faults(self, after: ProcessState, calls: int) -> tuple[Fault, list[str]]:
        """Compare with the state after so many calls; return the faults, and a text for each."""
        found, texts = Fault(0), []
        for name, text in self.changes(after).items():
            found |= Fault.PROCESS_CHANGED
            texts.append(f"{name}: {text}")
        if after.output > self.output:
            found |= Fault.OUTPUT_OR_THREAD
            texts.append(f"standard output: {after.output - self.output} bytes were written")
        threads = self.threads_left()
        if threads:
            found |= Fault.OUTPUT_OR_THREAD
            texts.append(f"threads: {threads} more than before")
        descriptors = after.descriptors - self.descriptors
        for number, name in ((threads, "threads"), (descriptors, "descriptors")):
            if number >= MANY and calls >= MANY_CALLS:
                found |= Fault.RESOURCES_KEPT
                texts.append(f"{number} more {name} after {calls} calls")
        return found, texts


def _describe(old: object, new: object) -> str:
    """Describe a change; of dicts, the entries that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return ", ".join(name for name in old if old[name] != new.get(name))
    return f"was {old}, is {new}"


class LoadWatch:
    """Compares the process before and after each step of loading a kernel.

    The floating-point environment is set back after each step, so that the calls are judged by themselves.

    Parameters
    ----------
    floating_point
        Access to the floating-point environment, where its layout is known.
    flush
        Whether flush modes are set until `end`.
    """

    def __init__(self, floating_point: FloatingPoint | None, *, flush: bool = False) -> None:
        self._floating_point = floating_point
        self._own = self._modes = floating_point.save() if floating_point else None
        if floating_point and self._own and flush:
            self._modes = floating_point.flushing(self._own)
            floating_point.restore(self._modes)
        self._state = ProcessState.read()
        self._found: list[LoadChange] = []

    @property
    def found(self) -> tuple[LoadChange, ...]:
        """What was left changed so far."""
        return tuple(self._found)

    def compare(self, when: str) -> None:
        """Note what has changed since the last comparison: ``load`` or ``init``."""
        if self._floating_point and self._modes is not None:
            faults, text = self._floating_point.compare(self._modes, self._floating_point.save())
            self._floating_point.restore(self._modes)
            for fault, name in _FAULT_NAMES.items():
                if fault in faults:
                    self._note(when, name, text)
        before, after = self._state, ProcessState.read()
        for name, text in before.changes(after).items():
            self._note(when, name, text)
        if after.output > before.output:
            self._note(when, "standard-output", f"{after.output - before.output} bytes were written")
        if threads := before.threads_left():
            self._note(when, "threads", f"{threads} more than before")
        if after.descriptors > before.descriptors:
            self._note(when, "descriptors", f"{after.descriptors - before.descriptors} more than before")
        self._state = after

    def end(self) -> None:
        """Set the floating-point environment back that there was before all steps."""
        if self._floating_point and self._own:
            self._floating_point.restore(self._own)

    def _note(self, when: str, what: str, detail: str) -> None:
        self._found.append(LoadChange(when, what, detail))


def set_stack_limit(size: int) -> None:
    """Let the main thread's stack grow to so many bytes, as far as the system allows it, and no further."""
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


@contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """Allow only so many descriptors more than are open: a kernel that leaks them finds the limit soon."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count_descriptors() + more
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (wanted if soft == resource.RLIM_INFINITY else min(wanted, soft), hard)
    )
    try:
        yield
    finally:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
