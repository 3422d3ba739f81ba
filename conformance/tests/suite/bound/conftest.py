"""What the tests of the bound and the bias share: the suite's own checks on a kernel inside this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest

from q8a8_conformance.inputs.calls import DOT, DOT_REAL, MUL_MAT
from q8a8_conformance.protocol.messages import Call, Fault, Hello, Result
from q8a8_conformance.results.record import Record, Recorder, Status
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.judge import Judge
from q8a8_conformance.suite.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.protocol.session import Session

    Kernel = Callable[[Call], bytes]
    Check = Callable[[Judge], None]


class InProcess:
    """A session without a worker: a function computes ``s`` (``out``) of each call."""

    hello = Hello("in process", functions=(DOT, DOT_REAL, MUL_MAT))
    is_running = True
    start_seconds = ready_at = 0.0

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def call(self, call: Call, _timeout: float) -> Result:
        """Answer."""
        return Result(Fault(0), "", (self._kernel(call),))


@dataclass(frozen=True)
class Judged:
    """What one check found out: its target, and its records that are no pass."""

    target: Target
    failed: tuple[Record, ...]


@pytest.fixture
def judged() -> Callable[[Kernel, Check], Judged]:
    """Return a function that runs one check of the suite on a kernel, by rule ORD-2 alone."""

    def run(kernel: Kernel, check: Check) -> Judged:
        target = Target(cast("Session", InProcess(kernel)), "kernel", 1.0)
        recorder = Recorder()
        judge = Judge(target, Recipes(target), recorder, "a-case", ("Q8A8-ORD-2",))
        check(judge)
        judge.finish()
        assert len(recorder) >= 1
        return Judged(target, tuple(r for r in recorder if r.status is not Status.PASS))

    return run
