"""Time limits that do not run while this process, or a worker of it, waits for a processor.

What a search finds within its time is then the same on a busy machine as on an idle one: only later.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Iterable


class Waits(Protocol):
    """A process that knows how long it was ready to run while others ran."""

    @property
    def seconds_waiting(self) -> float:
        """Those seconds so far; 0 where the system does not say."""


slowness = 1.0
"""How much longer everything may take than the limits say: a test that asks what is found sets it, so that a
slow machine finds the same."""

_WORKERS: WeakSet[Waits] = WeakSet()
_ended = 0.0


def begin(worker: Waits) -> None:
    """Count what a worker of this process waits, from now on."""
    _WORKERS.add(worker)


def end(worker: Waits) -> None:
    """Keep what a worker has waited: it is about to end."""
    global _ended  # noqa: PLW0603 -- of the process, as the clock is
    if worker in _WORKERS:
        _ended += worker.seconds_waiting
        _WORKERS.discard(worker)


def seconds_waiting(tasks: Iterable[Path]) -> float:
    """Return the seconds that a task was ready to run while others ran; of several the most, 0 if unknown."""
    most = 0
    for task in tasks:
        try:
            most = max(most, int((task / "schedstat").read_bytes().split()[1]))
        except (OSError, ValueError, IndexError):
            continue
    return most / 1e9


def clock() -> float:
    """Return seconds on a clock that stands still while this process or one of its workers waits."""
    own = seconds_waiting([Path("/proc/self")])
    return time.monotonic() - own - _ended - sum(worker.seconds_waiting for worker in _WORKERS)


def time_used() -> float:
    """Return seconds on the clock of time limits: that of `clock`, which a slow machine's may lag behind."""
    return clock() / slowness


class Deadline:
    """A time limit.

    Parameters
    ----------
    seconds
        What an idle machine would take.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds * slowness
        self._waited = time.monotonic() - clock()

    @property
    def has_passed(self) -> bool:
        """Whether the time is up."""
        if time.monotonic() < self._end:  # whatever was waited
            return False
        waited = time.monotonic() - clock()
        self._end += max(0.0, waited - self._waited)
        self._waited = waited
        return time.monotonic() >= self._end
