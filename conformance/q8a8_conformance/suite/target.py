"""The kernel under test, as the checks see it: a worker that is asked for one call at a time.

What becomes of a kernel that dies ---------------------------------- A crash, a hang or garbage costs one
case; the worker is started again and the rest runs. Each function has `PATIENCE` deaths at the full timeout.
From then on a call of it may take `HASTY` seconds at most, so that a kernel that hangs on every shape does
not hold the suite up for hours. Once it has hung `HANGS` times (fewer than the session stands in all), or
its deaths have cost `BUDGET` seconds, its remaining cases are not run. (They are not needed for the verdict:
it is ``crashed`` by then.)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import (
    CallRefused,
    ProtocolViolation,
    WorkerCrashed,
    WorkerHung,
    WorkerUnusable,
)
from q8a8_conformance.results.bound_use import Margins
from q8a8_conformance.results.observations import Observations

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call, Hello, Result
    from q8a8_conformance.protocol.session import Session
    from q8a8_conformance.results.bias import Drift

Array = NDArray[Any]

PATIENCE = 5
HANGS = 8
HASTY = 1.0
BUDGET = 60.0


class KernelDiedError(Exception):
    """The kernel crashed, hung, or its worker sent garbage, during one call."""


class RefusedError(Exception):
    """The worker refused a legal call and lives on; the message is its text."""


class NotRunError(Exception):
    """What the case needs is not there: a function, a capability, a kernel that survives."""


@dataclass
class Losses:
    """What the deaths of one function have cost so far."""

    deaths: int = 0
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
        Whether the kernel takes two rows at a time; None until somebody asked.
    margins
        Where in the bound the results lie.
    warnings
        What is no failure, but should not go unseen.
    calls, call_seconds
        Calls made, and the time spent in them.
    """

    def __init__(self, session: Session, profile: str, timeout: float) -> None:
        self.session = session
        self.profile = profile
        self.timeout = timeout
        self.hello: Hello = session.hello
        self.observations = Observations()
        self.margins = Margins()
        self.warnings: list[Drift] = []
        self.two_rows: bool | None = None
        self.calls = 0
        self.call_seconds = 0.0
        self._losses: dict[str, Losses] = {}

    def offers(self, function: str) -> bool:
        """Check whether the kernel has a function."""
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
            The function is not offered, its deaths have used up their budget, or the session has given the
            worker up.
        KernelDiedError
            It crashed, hung or sent garbage; the next call starts the worker again.
        RefusedError
            The worker refused.
        """
        self.require(call.function)
        losses = self._losses.setdefault(call.function, Losses())
        if losses.seconds > BUDGET or losses.hangs >= HANGS:
            raise NotRunError(f"{call.function} died {losses.deaths} times and cost {losses.seconds:.0f} s")
        timeout = self.timeout if losses.deaths < PATIENCE else min(self.timeout, HASTY)
        started = time.monotonic()
        self.calls += 1
        try:
            return self.session.call(call, timeout)
        except CallRefused as error:
            raise RefusedError(error.what) from error
        except WorkerUnusable as error:
            raise NotRunError(error.what) from error
        except (WorkerCrashed, WorkerHung, ProtocolViolation) as error:
            losses.deaths += 1
            losses.hangs += isinstance(error, WorkerHung)
            losses.seconds += time.monotonic() - started
            if not call.options and call.threads == 1:
                # (What dies in guarded memory alone, or among threads, breaks a rule that says so.)
                self.observations.add_death(call, time.monotonic() - started)
            raise KernelDiedError(str(error)) from error
        finally:
            self.call_seconds += time.monotonic() - started

    def restart(self) -> None:
        """End the worker: the next call is the first one of a new process."""
        self.session.close()

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
            The worker sent other buffers than it got: garbage.
        """
        spec = call.spec
        lengths = [len(call.buffers[i].data) for i in spec.outputs]
        if [len(data) for data in result.outputs] != lengths:
            raise KernelDiedError("the worker returned output buffers of other lengths than it was given")
        return {spec.buffers[i].name: data for i, data in zip(spec.outputs, result.outputs, strict=True)}
