"""How long a diagnosis may take: for the experiments on each function, on all, and for shrinking inputs."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis import shrink
from q8a8_conformance.protocol.deadline import Deadline, in_limits, measure, time_used
from q8a8_conformance.protocol.messages import NO_FAULTS, Result
from q8a8_conformance.protocol.session import CallRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.protocol.messages import Call

    Probe = Callable[[Call], tuple[bytes, ...] | None]

SHRINK_SECONDS = 2.0
"""Seconds for making all inputs smaller."""

FACT_CALLS = 12_000
"""Calls for the experiments on a function that is no dot product."""

FACT_SECONDS, ALL_SECONDS, LEAST_SECONDS = 8.0, 4.0, 0.6
"""Seconds of an idle machine for the experiments on a function at most, on all functions at least, and what
each function has in any case."""

RUN_SECONDS = 16.5
"""Seconds after the beginning of a run within which its experiments are made, if `ALL_SECONDS` are left."""

STOPPED = "the search was stopped: its time was up"


class Limits:
    """What is left of the time for the diagnosis of one run, and the facts that were found.

    Parameters
    ----------
    restart
        Ends the kernel's process: the next call is the first one of a new one.
    elapsed
        Seconds that the run has taken before: the less there is left, the less is tried.

    Attributes
    ----------
    facts
        What was found so far.
    """

    def __init__(self, restart: Callable[[], object] | None = None, elapsed: float = 0.0) -> None:
        self.facts: list[Fact] = []
        self.restart = restart
        measure()
        self._shrink = SHRINK_SECONDS
        self._end = time_used() + max(ALL_SECONDS, RUN_SECONDS - in_limits(elapsed))
        self._end_of_function = self._end

    def begin(self, pending: int) -> None:
        """Begin with one of some functions that are left.

        The first of several has twice the share of each other one: what it does not use is theirs.
        """
        now = time_used()
        share = (self._end - now) * 2 / (pending + 1)
        self._end_of_function = now + max(LEAST_SECONDS, min(FACT_SECONDS, share))

    @property
    def experiments(self) -> float:
        """How many seconds further experiments on this function may take."""
        return max(LEAST_SECONDS / 2, self._end_of_function - time_used())

    @contextmanager
    def shrinking(self, seconds: float = shrink.SECONDS) -> Iterator[float]:
        """Yield how long an input may be made smaller, and subtract what it took."""
        started = time_used()
        yield max(min(seconds, self._shrink), 0.0)
        self._shrink -= time_used() - started


def seconds_left(session: object) -> float:
    """Return how much time experiments with a session have."""
    return session.seconds_left if isinstance(session, Probing) else math.inf


class Probing:
    """The kernel as a session for experiments, for a limited time."""

    def __init__(self, probe: Probe, seconds: float = FACT_SECONDS) -> None:
        self._probe = probe
        self._deadline = Deadline(seconds)
        self._end = time_used() + seconds
        self._left = FACT_CALLS
        self.is_late = False

    @property
    def seconds_left(self) -> float:
        """What is left of the time, in seconds of an idle machine."""
        return max(0.0, self._end - time_used())

    def call(self, call: Call, timeout: float | None = None) -> Result:
        """Make a call.

        Raises
        ------
        CallRefused
            It does not return, or the time is up.
        """
        del timeout
        self._left -= 1
        self.is_late = self.is_late or self._left < 0 or self._deadline.has_passed
        outputs = None if self.is_late else self._probe(call)
        if outputs is None:
            raise CallRefused(STOPPED if self.is_late else "the call does not return")
        return Result(NO_FAULTS, "", outputs)
