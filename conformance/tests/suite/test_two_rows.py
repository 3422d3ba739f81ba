"""Which kernels are recognized as computing one row at a time, and which fail with nrc = 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import DOT
from q8a8_conformance.mutants import make
from q8a8_conformance.protocol.messages import Fault, Hello, Result
from q8a8_conformance.protocol.session import ProtocolViolation, WorkerCrashed, WorkerHung
from q8a8_conformance.results.record import Recorder, Status
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.judge import CaseOver, Judge
from q8a8_conformance.suite.target import NotRunError, Target
from q8a8_conformance.suite.two_rows import takes_two_rows
from q8a8_lab.mutation.judging import cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call


class First:
    """Writes s[0] alone with nrc = 2: x0·y0, and a little more if asked to."""

    def __init__(self, more: float) -> None:
        self._right, self._more = make(), more

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Compute the first rows' product only."""
        del bs, bx, by
        self._right.ggml_vec_dot_q8_a8_q8_a8(n, s, 0, vx, 0, vy, 0, 1)
        if nrc == 2:
            s[:1] += np.float32(self._more)


class Session(InProcessSession):
    """A worker that answers right with nrc = 1, and with a given function otherwise."""

    def __init__(self, answer: Callable[[Call], Result]) -> None:
        super().__init__(make, [DOT])
        self.hello = Hello("t", functions=(DOT,))
        self._answer = answer

    def call(self, call: Call, timeout: float | None = None) -> Result:
        """Answer a call."""
        return super().call(call, timeout) if call.nrc == 1 else self._answer(call)


def judged(session: object, name: str) -> list[tuple[str, Status]]:
    """Run one case, and give what became of its rules."""
    target = Target(session, "kernel", 1.0)  # type: ignore[arg-type]  # all of a session that it uses
    recorder = Recorder()
    case = next(case for case in cases() if case.name == name)
    judge = Judge(target, Recipes(target), recorder, case.name, case.rules)
    try:
        case.check(judge=judge, **case.parameters)
    except CaseOver:
        judge.finish()
    except NotRunError as reason:
        judge.not_run(reason)
    else:
        judge.finish()
    return [(record.rule, record.status) for record in recorder]


def raising(error: Exception) -> Callable[[Call], Result]:
    """Return a function that raises an error in place of an answer."""

    def answer(call: Call) -> Result:
        del call
        raise error

    return answer


def test_the_first_row_alone_and_right_is_one_row_at_a_time() -> None:
    """The cases of a kernel that ignores nrc are not run."""
    assert judged(InProcessSession(lambda: First(0.0), [DOT]), "nrc2/exact/blocks-3") == [
        ("Q8A8-DOT-6", Status.NOT_RUN)
    ]


def test_the_first_row_alone_and_wrong_is_a_failure() -> None:
    """What is wrong with nrc = 2 alone does not pass for one row at a time."""
    assert ("Q8A8-DOT-6", Status.FAIL) in judged(
        InProcessSession(lambda: First(1.0), [DOT]), "nrc2/exact/blocks-3"
    )


@pytest.mark.parametrize(
    ("answer", "one_row"),
    [
        (raising(WorkerCrashed("an assert", "")), True),
        (raising(WorkerHung("no answer", "")), False),
        (raising(ProtocolViolation("garbage", "")), False),
        (lambda _call: Result(Fault(0), "", ()), False),
        (lambda _call: Result(Fault(0), "", (b"1234",)), False),
        (lambda call: Result(Fault(0), "", (bytes(call.buffers[call.spec.outputs[0]].data),)), True),
    ],
    ids=["crash", "hang", "garbage", "no output", "a short output", "nothing written"],
)
def test_other_answers(answer: Callable[[Call], Result], one_row: bool) -> None:
    """Only a refusal, the end of the process, or an untouched output means one row at a time."""
    session = Session(answer)
    target = Target(session, "kernel", 1.0)  # type: ignore[arg-type]  # as above
    judge = Judge(target, Recipes(target), Recorder(), "t", ())
    assert takes_two_rows(judge) is not one_row
    found = judged(session, "nrc2/exact/blocks-3")
    assert (("Q8A8-DOT-6", Status.NOT_RUN) in found) is one_row
    assert any(status in {Status.CRASHED, Status.FAIL} for _, status in found) is not one_row


def test_another_order_is_no_inexactness() -> None:
    """Under the profile exact a kernel that adds otherwise fails the rule of the order, with -128 too."""
    for name in ("dot/minus-128/blocks-31", "dot/bound/blocks-33"):
        target = Target(InProcessSession(lambda: make("order-neon"), [DOT]), "exact", 1.0)  # type: ignore[arg-type]  # as above
        recorder = Recorder()
        case = next(case for case in cases() if case.name == name)
        judge = Judge(target, Recipes(target), recorder, case.name, case.rules)
        case.check(judge=judge, **case.parameters)
        judge.finish()
        assert {record.rule for record in recorder if record.status is Status.FAIL} == {"Q8A8-DOT-3"}
