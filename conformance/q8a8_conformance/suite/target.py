"""The kernel under test, as the checks see it: a worker that makes one call at a time.

A crash, a hang or a violation of the protocol costs one case; the worker is started again and the rest runs.
The first `DEATHS_AT_FULL_TIMEOUT` deaths of a function may take the full timeout. From then on its calls have
`SHORT_TIMEOUT_SECONDS` at most, so that a kernel that hangs on every shape does not hold the suite up for
hours. Once it has hung `MAX_HANGS` times (fewer than the session allows in all), or its deaths have cost
`MAX_DEATH_SECONDS`, its remaining cases are not run: the verdict is ``crashed`` by then.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import (
    CallRefused,
    ProtocolViolation,
    Session,
    WorkerCrashed,
    WorkerHung,
    WorkerUnusable,
)
from q8a8_conformance.results.bound_use import Margins
from q8a8_conformance.results.observations import Observations

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call, Hello, Overlap, Result
    from q8a8_conformance.results.bias import Bias

Array = NDArray[Any]

DEATHS_AT_FULL_TIMEOUT = 5
MAX_HANGS = 8
SHORT_TIMEOUT_SECONDS = 1.0
MAX_DEATH_SECONDS = 60.0
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TBB_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "GOMAXPROCS",
    "JULIA_NUM_THREADS",
    "GGML_NUM_THREADS",
    "GGML_N_THREADS",
    "LLAMA_ARG_THREADS",
    "NUM_THREADS",
)
"""Variables by which libraries take a number of threads."""


class KernelDiedError(Exception):
    """The kernel crashed, hung, or its worker violated the protocol, during one call."""


class RefusedError(Exception):
    """The worker refused a legal call and lives on; the message is its text."""


class NotRunError(Exception):
    """Raised where the case needs what is missing: a function, a capability, a kernel that survives."""


@dataclass
class Deaths:
    """The deaths of one function so far, those of them that were hangs, and the time they took."""

    count: int = 0
    hangs: int = 0
    seconds: float = 0.0


class Target:
    """A started worker with what the checks need to know about it.

    Parameters
    ----------
    session
        The connection, already started.
    profile
        ``exact``, ``kernel`` or ``ggml``.
    timeout
        Seconds that one call may take.

    Attributes
    ----------
    two_rows
        Whether the kernel takes two rows at a time; None until it was found out.
    margins
        Where in the bound the results lie.
    warnings
        Biases within the bound: no failures.
    calls, call_seconds
        Calls made, and the time spent in them.
    call_seconds_of_last
        The time spent in the last call.
    later
        Outputs of calls that were made late in a process.
    overlap_seconds, stops
        The time in which several threads' calls were in progress, and calls that were stopped in the middle
        for others.
    """

    def __init__(self, session: Session, profile: str, timeout: float) -> None:
        self.session = session
        self.profile = profile
        self.timeout = timeout
        self.hello: Hello = session.hello
        self.observations = Observations()
        self.margins = Margins()
        self.warnings: list[Bias] = []
        self.two_rows: bool | None = None
        self.calls = 0
        self.call_seconds = 0.0
        self.overlap_seconds = 0.0
        self.stops = 0
        self.call_seconds_of_last = 0.0
        self.later: dict[Call, tuple[bytes, ...] | None] = {}
        self._is_fresh = False
        self._elsewhere: dict[int, Target] = {}
        self._deaths: dict[str, Deaths] = {}

    def offers(self, function: str) -> bool:
        """Return whether the kernel has a function."""
        return function in self.hello.functions

    def require(self, function: str, *capabilities: str) -> None:
        """Raise :class:`NotRunError` where the kernel lacks a function, or the worker a capability."""
        if not self.offers(function):
            raise NotRunError(f"the kernel does not offer {function}")
        for capability in capabilities:
            if capability not in self.hello.capabilities:
                raise NotRunError(f"the worker has no capability {capability!r}")

    def call(self, call: Call) -> Result:
        """Make one call.

        Raises
        ------
        NotRunError
            The function is not offered, its deaths have cost too much, or the session does not start
            the worker again.
        KernelDiedError
            It crashed, hung or violated the protocol; the next call starts the worker again.
        RefusedError
            The worker refused.
        """
        self.require(call.function)
        deaths = self._deaths.setdefault(call.function, Deaths())
        if deaths.seconds > MAX_DEATH_SECONDS or deaths.hangs >= MAX_HANGS:
            raise NotRunError(f"{call.function} died {deaths.count} times and cost {deaths.seconds:.0f} s")
        full = deaths.count < DEATHS_AT_FULL_TIMEOUT
        timeout = self.timeout if full else min(self.timeout, SHORT_TIMEOUT_SECONDS)
        started = time.monotonic()
        self.calls += 1
        self._is_fresh = False
        if call.together and "overlap" not in self.hello.capabilities:
            call = replace(call, together=None)
        try:
            result = self.session.call(call, timeout)
            self._add_overlap(result.overlap)
            return result  # noqa: TRY300 -- an else block would be far away
        except CallRefused as error:
            raise RefusedError(error.what) from error
        except WorkerUnusable as error:
            raise NotRunError(error.what) from error
        except (WorkerCrashed, WorkerHung, ProtocolViolation) as error:
            deaths.count += 1
            deaths.hangs += isinstance(error, WorkerHung)
            deaths.seconds += time.monotonic() - started
            if not call.options and call.threads == 1:
                # (A death only in guarded memory or among threads breaks a rule of its own.)
                self.observations.add_death(call, time.monotonic() - started)
            raise KernelDiedError(str(error)) from error
        finally:
            self.call_seconds_of_last = time.monotonic() - started
            self.call_seconds += self.call_seconds_of_last

    def _add_overlap(self, overlap: Overlap | None) -> None:
        if overlap:
            self.overlap_seconds += overlap.nanoseconds / 1e9
            self.stops += overlap.stops
            self._is_fresh = overlap.copies > 0

    def restart(self) -> None:
        """End the worker: the next call is the first one of a new process."""
        if not self._is_fresh:
            self.session.close()

    def elsewhere(self, threads: int) -> Target | None:
        """Return the kernel in another process, the same for every call; None where there can be none.

        Parameters
        ----------
        threads
            What the variables of its environment ask for; with 1 it may run on one processor only.
        """
        if not isinstance(self.session, Session):
            return None
        if threads not in self._elsewhere:
            environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
            session = self.session.sibling(environment, one_processor=threads == 1)
            self._elsewhere[threads] = Target(session, self.profile, self.timeout)
        return self._elsewhere[threads]

    def close(self) -> None:
        """End the worker, and those elsewhere."""
        self.session.close()
        for target in self._elsewhere.values():
            target.close()

    def ask_dot(self, function: str, nrc: int, x: Array, y: Array) -> bytes | None:
        """Make a dot product for the diagnosis: rows [nb], or [2, nb] for nrc = 2; None if refused."""
        if nrc == 2:
            call = calls.dot_pair(x, y)
        else:
            call = calls.dot(x, y) if function == calls.DOT else calls.dot_real(x, y)
        outputs = self.probe(call)
        return None if outputs is None else outputs[0]

    def probe(self, call: Call) -> tuple[bytes, ...] | None:
        """Make a call for the diagnosis: its output buffers, or None where it did not return."""
        try:
            return tuple(self.outputs(call, self.call(call)).values())
        except (KernelDiedError, RefusedError, NotRunError):
            return None

    def outputs(self, call: Call, result: Result) -> dict[str, bytes]:
        """Name a result's buffers.

        Raises
        ------
        KernelDiedError
            The worker sent buffers of other lengths than it got.
        """
        spec = call.spec
        lengths = [len(call.buffers[i].data) for i in spec.outputs]
        if [len(data) for data in result.outputs] != lengths:
            raise KernelDiedError("the worker returned output buffers of other lengths than it was given")
        return {spec.buffers[i].name: data for i, data in zip(spec.outputs, result.outputs, strict=True)}
