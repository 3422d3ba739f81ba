"""The kernel under test, as the checks see it: a worker that makes one call at a time.

A crash, a hang or a violation of the protocol costs one case; the worker is started again and the rest runs.
Where the kernel is at the other end of a connection (`Target.remote`) and cannot be started again, it is the
connection that broke: nothing more is run.
What deaths may cost in all is limited (`deaths`): the verdict is ``crashed`` by then.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.messages import LOAD_FLUSHING
from q8a8_conformance.protocol.session import (
    CallRefused,
    ProtocolViolation,
    Session,
    SessionError,
    WorkerCrashed,
    WorkerHung,
    WorkerUnusable,
)
from q8a8_conformance.results.bound_use import Margins
from q8a8_conformance.results.observations import Observations
from q8a8_conformance.results.run import Notice
from q8a8_conformance.smoke.starting import ends_kernel, is_dropped
from q8a8_conformance.suite.deaths import CEILING_SECONDS, Deaths, Timeouts

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call, Hello, Overlap, Result
    from q8a8_conformance.results.bias import Bias
    from q8a8_conformance.suite.shares import Findings

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
DIRTY_MEMORY = {"MALLOC_PERTURB_": "129"}
"""A variable by which glibc fills what `malloc` gives: with the bits that 129 has not."""
MAX_PLACED_FAILURES = 6
"""Failures of a function in placed calls after which its ordinary calls are made plainly."""
ENOUGH_WRONG = 4
"""Calls of a function that are wrong in a new process, too, until its values are taken to be wrong."""

SLOW_START_SECONDS = 0.7
"""What a start and the first call may take, until it is avoided to start again."""


class KernelDiedError(Exception):
    """The kernel crashed, hung, or its worker violated the protocol, during one call."""


class RefusedError(Exception):
    """The worker refused a legal call and lives on; the message is its text."""


class NotRunError(Exception):
    """Raised where the case needs what is missing: a function, a capability, a kernel that survives."""


class ConnectionLostError(NotRunError):
    """Raised where the program that reaches the kernel ended, for this call and all later ones."""


class NotOfferedError(NotRunError):
    """Raised where the case is about what a kernel need not have: its rule loses nothing by that."""


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
    remote
        Whether the worker is a program that may reach the kernel over a connection: ``exec:``.

    Attributes
    ----------
    two_rows
        Whether the kernel takes two rows at a time; None until it was found out.
    margins
        Where in the bound the results lie.
    warnings
        Biases within the bound, and what a kernel should not do: no failures.
    calls, call_seconds
        Calls made, and the time spent in them.
    call_seconds_of_last
        The time spent in the last call.
    later
        Outputs of calls that were made late in a process.
    overlap_seconds, stops
        The time in which several threads' calls were in progress, and calls that were stopped in the middle
        for others.
    rules
        The rules that the current case is about.
    wrong_anew
        How many calls of each function were wrong as the first ones of a process, too.
    """

    def __init__(self, session: Session, profile: str, timeout: float, *, remote: bool = False) -> None:
        self.session = session
        self.profile = profile
        self.timeout = timeout
        self.remote = remote
        self.hello: Hello = session.hello
        self.observations = Observations()
        self.margins = Margins()
        self.warnings: list[Bias | Notice] = []
        self.two_rows: bool | None = None
        self.calls = 0
        self.call_seconds = 0.0
        self.overlap_seconds = 0.0
        self.stops = 0
        self.call_seconds_of_last = 0.0
        self.later: dict[Call, tuple[bytes, ...] | None] = {}
        self.rules: tuple[str, ...] = ()
        self.wrong_anew: Counter[str] = Counter()
        self._lost = ""
        self._is_fresh = False
        self._elsewhere: dict[int, Target] = {}
        self._placed_failures: dict[str, int] = {}
        self._deaths = Deaths()
        self._timeouts = Timeouts(timeout)
        self._called: set[str] = set()
        # The functions that the current process has called.

    def offers(self, function: str) -> bool:
        """Return whether the kernel has a function."""
        return function in self.hello.functions

    def require(self, function: str, *capabilities: str) -> None:
        """Raise :class:`NotRunError` where the kernel lacks a function, or the worker a capability."""
        if not self.offers(function):
            raise NotOfferedError(f"the kernel does not offer {function}")
        for capability in capabilities:
            if capability not in self.hello.capabilities:
                raise NotRunError(f"the worker has no capability {capability!r}")

    def is_known_wrong(self, function: str) -> bool:
        """Return whether enough calls of a function were wrong in a new process: to begin one takes long."""
        return self.wrong_anew[function] >= ENOUGH_WRONG

    def call(self, call: Call, *, regardless: bool = False) -> Result:
        """Make one call.

        Parameters
        ----------
        call
            The call.
        regardless
            Whether it is made whatever died before.

        Raises
        ------
        NotRunError
            The function is not offered, its deaths leave no hope for the call or have cost too much, or the
            session does not start the worker again.
        KernelDiedError
            It crashed, hung or violated the protocol; the next call starts the worker again.
        RefusedError
            The worker refused.
        """
        self.require(call.function)
        reason = "" if regardless else self._deaths.reason_against(call, self.rules)
        if reason:
            raise NotRunError(reason)
        return self._make(call)

    def makes(self, call: Call) -> bool:
        """Return whether a call would be made, after those that died."""
        return not self._deaths.reason_against(call, self.rules)

    def _make(self, call: Call) -> Result:
        """Make one call, whatever died before."""
        if self._lost:
            raise ConnectionLostError(self._lost)
        if not self.session.is_running:
            self._called.clear()
        first = call.function not in self._called
        timeout = self._timeouts.of(call, first=first)
        if self._deaths.cost_too_much and self._timeouts.has_hung:
            # (Crashes alone cost more than they may where the machine is busy, and then calls take longer.)
            timeout = min(timeout, CEILING_SECONDS)
        self.calls += 1
        self._is_fresh = False
        if call.together and "overlap" not in self.hello.capabilities:
            call = replace(call, together=None)
        started = time.monotonic()
        try:
            result = self.session.call(call, timeout)
        except CallRefused as error:
            raise RefusedError(error.what) from error
        except WorkerUnusable as error:
            raise NotRunError(error.what) from error
        except (WorkerCrashed, WorkerHung, ProtocolViolation) as error:
            seconds = self._seconds_since(started)
            self._called.clear()
            self._check_connection(error)
            self._add_death(call, seconds, hung=isinstance(error, WorkerHung))
            raise KernelDiedError(str(error)) from error
        finally:
            self.call_seconds_of_last = self._seconds_since(started)
            self.call_seconds += time.monotonic() - started
        self._add_overlap(result.overlap)
        self._called.add(call.function)
        self._timeouts.add_return(call, self.call_seconds_of_last, first=first)
        self._deaths.add_return(call)
        return result

    def _check_connection(self, error: SessionError) -> None:
        """Raise `ConnectionLostError` where what ended is not the kernel, but the way to it."""
        if not self.remote:
            return
        if is_dropped(error):
            self._lost = f"the connection was lost: {error}"
        else:
            try:
                self.session.start()
            except (WorkerCrashed, WorkerHung, ProtocolViolation) as again:
                if not ends_kernel(again):
                    self._lost = f"the connection was lost: {error.what}; then {again}"
            except SessionError:
                return  # The next call has the reason.
        if self._lost:
            raise ConnectionLostError(self._lost) from error

    @property
    def lost(self) -> str:
        """How the connection to the kernel broke, here or elsewhere; empty where it did not."""
        return self._lost or next((each.lost for each in self._elsewhere.values() if each.lost), "")

    def _seconds_since(self, started: float) -> float:
        """Return how long a call took, without the start of its process where there was one."""
        return time.monotonic() - max(started, self.session.ready_at)

    def _add_death(self, call: Call, seconds: float, *, hung: bool) -> None:
        """Take note of a call that died, with what it cost."""
        cost = None
        if hung:
            cost = seconds if self._timeouts.has_hung else 0.0
            self._timeouts.add_hang(call.function)
        # The next process takes about as long to start and to warm up.
        restart = self.session.start_seconds + self._timeouts.warm_up_seconds
        self._deaths.add(call, self.rules, restart, cost)
        if not call.options and call.threads == 1:
            # (A death only in guarded memory or among threads breaks a rule of its own.)
            self.observations.add_death(call, restart + seconds)

    @property
    def is_slow_to_start(self) -> bool:
        """Whether a start and a function's first call take so long that few processes are started.

        One other process then serves for all comparisons between processes.
        """
        return self.session.start_seconds + self._timeouts.warm_up_seconds > SLOW_START_SECONDS

    def add_hang(self, function: str) -> None:
        """Take note of a hang before the run: a call of this function took the whole time limit."""
        self._timeouts.add_hang(function)

    def warn(self, slug: str, function: str, case: str, message: str) -> None:
        """Add a warning, unless there is one with this slug for the function."""
        if not any((each.slug, each.function) == (slug, function) for each in self.warnings):
            self.warnings.append(Notice(slug, function, case, message))

    def add(self, found: Findings) -> None:
        """Take what another process has found out about the same kernel."""
        self.observations.add_all(found.observations)
        self.margins.add_all(found.margins)
        for each in found.warnings:
            if isinstance(each, Notice):
                self.warn(each.slug, each.function, each.case, each.message)
            else:
                self.warnings.append(each)
        self.calls += found.calls
        self.call_seconds += found.call_seconds
        self.overlap_seconds += found.overlap_seconds
        self.stops += found.stops

    def add_placed_failure(self, function: str) -> None:
        """Count a death or a wrong result of a function in an ordinary call that had a placement."""
        self._placed_failures[function] = self._placed_failures.get(function, 0) + 1

    def has_failed_placed(self, function: str) -> bool:
        """Return whether an ordinary call of a function has failed at its placement."""
        return function in self._placed_failures

    def is_placed(self, function: str) -> bool:
        """Return whether ordinary calls of a function get a placement: until it has failed a few."""
        return self._placed_failures.get(function, 0) < MAX_PLACED_FAILURES

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
            What the variables of its environment ask for, 0 for empty ones; with 1 it may run on one
            processor only, with 0 flush modes are set while a library is loaded, and not later, and memory
            from `malloc` is not zero.
        """
        if not isinstance(self.session, Session):
            return None
        if threads not in self._elsewhere:
            environment = dict.fromkeys(THREAD_VARIABLES, str(threads) if threads else "")
            if not threads:
                environment |= {LOAD_FLUSHING: "1", **DIRTY_MEMORY}
            session = self.session.sibling(environment, one_processor=threads == 1)
            try:
                self._elsewhere[threads] = Target(session, self.profile, self.timeout, remote=self.remote)
            except SessionError as error:
                raise NotRunError(f"another worker cannot be started: {error}") from error
        return self._elsewhere[threads]

    def close(self) -> None:
        """End the worker, and those elsewhere."""
        self.session.close()
        for target in self._elsewhere.values():
            target.close()

    def ask_dot(self, function: str, nrc: int, x: Array, y: Array) -> bytes | None:
        """Make a dot product for the diagnosis: rows [nb], or [2, nb] for nrc = 2; None if refused.

        A matrix product quantizes by itself: there are no rows that it could be given.
        """
        if function == calls.MUL_MAT:
            return None
        if nrc == 2:
            call = calls.dot_pair(x, y)
        else:
            call = calls.dot(x, y) if function == calls.DOT else calls.dot_real(x, y)
        outputs = self.probe(call)
        return None if outputs is None else outputs[0]

    def probe(self, call: Call) -> tuple[bytes, ...] | None:
        """Make a call for the diagnosis: its output buffers, or None where it did not return."""
        result = self.result(call)
        return None if result is None else result.outputs

    def result(self, call: Call) -> Result | None:
        """Make a call for the diagnosis, and return all that the worker answers; None as in `probe`."""
        try:
            result = self._make(call)
            self.outputs(call, result)
        except (KernelDiedError, RefusedError, NotRunError):
            return None
        return result

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
