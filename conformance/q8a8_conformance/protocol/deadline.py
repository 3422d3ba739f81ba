"""Time limits that do not run while this process, or a worker of it, waits for a processor.

What a search finds within its time is then the same on a busy machine as on an idle one: only later. Where
the processor itself is slow, or another guest of its host has a part of it, limits are longer (`measure`).
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

import numpy as np

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

PIECES, PIECE, SLOWEST = 15, 0.0015, 3.0
"""Pieces of work that are timed, how many seconds one takes on a machine for which limits are meant, and how
much longer they may be elsewhere."""

_pace = 1.0
"""How much longer limits are here, as `measure` found last: one number of the whole process, for there is one
machine, and deadlines are made where nothing is handed to them."""

_WORKERS: WeakSet[Waits] = WeakSet()
_ended = 0.0


def measure() -> None:
    """Make the limits from now on as long as this machine needs, by the time that pieces of work take."""
    global _pace  # noqa: PLW0603 -- one machine: see `_pace`
    _pace = min(max(statistics.median(_piece() for _ in range(PIECES)) / PIECE, 1.0), SLOWEST)


def _piece() -> float:
    """Return the seconds of processor time that some operations on small arrays take: searches make such."""
    started, a, total = time.thread_time(), np.arange(256, dtype=np.float32), 0
    for i in range(400):
        total += int(np.abs(a * np.float32(i)).argmax()) ^ hash((i, total))
        a.view(np.int32)[:8].tobytes()
    return time.thread_time() - started


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
    """Return seconds on the clock of time limits: that of `clock`, which a slow machine's lags behind."""
    return in_limits(clock())


def in_limits(seconds: float) -> float:
    """Return how many of a limit's seconds so many of this machine are."""
    return seconds / (slowness * _pace)


class Deadline:
    """A time limit.

    Parameters
    ----------
    seconds
        What an idle machine would take.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds * slowness * _pace
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
