"""How long a diagnosis may take: for the experiments on each function, on all, and for shrinking inputs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis import shrink
from q8a8_conformance.protocol.deadline import Deadline, clock
from q8a8_conformance.protocol.messages import NO_FAULTS, Result
from q8a8_conformance.protocol.session import CallRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.protocol.messages import Call

    Probe = Callable[[Call], tuple[bytes, ...] | None]

SHRINK_SECONDS = 2.0
"""Seconds for making all inputs smaller."""

FACT_CALLS = 6000
"""Calls for the experiments on a function that is no dot product."""

FACT_SECONDS, ALL_SECONDS, LEAST_SECONDS = 8.0, 9.0, 2.5
"""Seconds of an idle machine for the experiments on a function, and on all; what each one has in any case."""

STOPPED = "the search was stopped: its time was up"


class Limits:
    """What is left of the time for the diagnosis of one run, and the facts that were found."""

    def __init__(self, facts: list[Fact], restart: Callable[[], object] | None) -> None:
        self.facts = facts
        self.restart = restart
        self._shrink = SHRINK_SECONDS
        self._begun = clock()

    @property
    def experiments(self) -> float:
        """How many seconds the experiments on the next function may take."""
        left = ALL_SECONDS - (clock() - self._begun)
        return max(LEAST_SECONDS, min(FACT_SECONDS, left))

    @contextmanager
    def shrinking(self, seconds: float = shrink.SECONDS) -> Iterator[float]:
        """Yield how long an input may be made smaller, and subtract what it took."""
        started = clock()
        yield max(min(seconds, self._shrink), 0.0)
        self._shrink -= clock() - started


class Probing:
    """The kernel as a session for experiments, for a limited time."""

    def __init__(self, probe: Probe, seconds: float = FACT_SECONDS) -> None:
        self._probe = probe
        self._deadline = Deadline(seconds)
        self._left = FACT_CALLS
        self.is_late = False

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
