"""Ctrl-C, SIGTERM and SIGHUP as a `KeyboardInterrupt`, which a run turns into the verdict ``interrupted``.

A signal may come at any moment, and an exception that it raises may be lost where Python ignores exceptions.
So the signals are counted as well, and whoever waits for the end of a run asks for their number.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType

AGAIN_SECONDS = 1.0
"""Seconds after which a further signal means that what the first one left to be done takes too long."""

# (Windows has no SIGHUP.)
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """Handles the signals while it is entered; in a thread other than the main one it does nothing.

    A signal that is ignored (nohup, a job in the background of a script) stays ignored.

    Parameters
    ----------
    last
        Whether the program ends when it is left: signals are ignored from then on, because what the program
        has reported can no longer be changed.

    Attributes
    ----------
    count
        Signals that came. One raises `KeyboardInterrupt` unless another came less than `AGAIN_SECONDS`
        before: who presses Ctrl-C three times in a row wants the program to end, and gets its reports.
    """

    def __init__(self, *, last: bool = False) -> None:
        self.count = 0
        self._last = last
        self._held = False
        self._last_time = -AGAIN_SECONDS
        self._before: dict[int, signal.Handlers | object] = {}

    def __enter__(self) -> Self:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):
                    self._before[number] = before
                    signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        """Handle the signals as before, or no more."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._last else handler)  # type: ignore[arg-type]  # from getsignal
        self._before = {}

    def hold(self) -> None:
        """Count a first signal without raising, until :meth:`release`: an import must not be cut in two."""
        self._held = True

    def release(self) -> None:
        """Raise `KeyboardInterrupt` for signals from now on, and for one that came before."""
        self._held = False
        if self.count:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        now = time.monotonic()
        if now - self._last_time < AGAIN_SECONDS:
            return
        self._last_time = now
        if not self._held or self.count > 1:
            raise KeyboardInterrupt
