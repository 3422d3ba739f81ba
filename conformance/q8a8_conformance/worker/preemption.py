"""Frequent preemption, so that the calls of several threads interleave.

The system switches threads every few milliseconds, and starts a second thread long after the first one's
short call has ended. So a timer interrupts the process every 50 microseconds, in whichever thread is running,
and the signal's handler is the C function `sched_yield`: the kernel under test is preempted in the middle of
its work. On a busy two-core machine a race that showed in 17 of 40 runs showed in 38 with this.
"""

from __future__ import annotations

import ctypes
import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_INTERVAL_NS = 50_000
_CLOCK_MONOTONIC = 1
_SA_RESTART = 0x1000_0000


class _SigAction(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_uint32),
        ("restorer", ctypes.c_void_p),
    )


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("padding", ctypes.c_uint8 * 48),
    )


class Preemption:
    """A context manager that preempts threads often; it does nothing where the system has no timers.

    The thread that creates it never receives the signals. Each thread to be preempted calls `admit`.
    """

    def __init__(self) -> None:
        self._library = ctypes.PyDLL(None)
        self._timer = ctypes.c_void_p()
        self._signal = signal.SIGRTMAX - 3
        signal.pthread_sigmask(signal.SIG_BLOCK, {self._signal})
        handler = ctypes.cast(self._library.sched_yield, ctypes.c_void_p).value
        action = _SigAction(handler, flags=_SA_RESTART)
        self._library.sigaction(self._signal, ctypes.byref(action), None)
        event = _SigEvent(number=self._signal)
        create = getattr(self._library, "timer_create", None)  # in another library before glibc 2.34
        self._works = create is not None and (
            create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)) == 0
        )

    def __enter__(self) -> Self:
        """Start the timer."""
        self._set(_INTERVAL_NS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the timer."""
        self._set(0)

    def admit(self) -> None:
        """Make the calling thread receive the signals."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {self._signal})

    def _set(self, nanoseconds: int) -> None:
        if self._works:
            times = (ctypes.c_long * 4)(0, nanoseconds, 0, nanoseconds)  # interval, first; seconds, rest
            self._library.timer_settime(self._timer, 0, times, None)
