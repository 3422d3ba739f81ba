"""Calls with values outside the domain: they return, keep to their buffers, and leave no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.messages import Option
from q8a8_conformance.suite.case_records import VARIES
from q8a8_conformance.suite.kernel_calls import CaseOver
from q8a8_conformance.suite.known_checks import expected_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.inputs.known_calls import Known
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge


class OutsideCalls:
    """Makes calls outside the domain, plainly and with guards, and an ordinary one after each.

    Parameters
    ----------
    judge
        Of the case.
    ordinary
        A call in the domain; it must give the same after each of the others.
    rules
        The rules broken where a call outside the domain leaves its buffers.
    """

    def __init__(self, judge: Judge, ordinary: Known, rules: tuple[str, ...]) -> None:
        self._judge = judge
        self._ordinary = ordinary
        self._rules = rules
        before = judge.run(ordinary.call)
        # Where it is wrong to begin with, cases about values find that.
        self._is_right = before == expected_of(judge, ordinary, before)
        self._guarded = Option(0)
        for capability, option in (("guard", Option.GUARD_AFTER), ("readonly", Option.READONLY)):
            if capability in judge.target.hello.capabilities:
                self._guarded |= option

    def make(self, call: Call) -> dict[str, bytes]:
        """Make a call, and return its outputs; none where it was refused.

        Raises
        ------
        CaseOver
            It left its buffers, or the ordinary call is wrong after it.
        """
        judge = self._judge
        outputs = judge.run(call, legal=False)
        if self._guarded:
            guarded = calls.with_options(call, self._guarded)
            judge.attempt(guarded, self._rules, "leaves its buffers or writes its input", legal=False)
        if self._is_right and not judge.records.failed:
            after = judge.run(self._ordinary.call)
            expected = expected_of(judge, self._ordinary, after)
            if after != expected:
                message = "an ordinary call is wrong after one with values outside the domain"
                judge.fail((VARIES,), message, self._ordinary.call, expected=expected, actual=after)
                judge.target.restart()
        if judge.records.failed:
            raise CaseOver
        return outputs

    def compare(
        self, call: Call, actual: dict[str, bytes], expected: Mapping[str, bytes], inside: Known, rule: str
    ) -> None:
        """Record a failure of a rule where the specified bytes of an output differ.

        Parameters
        ----------
        call
            That was made.
        actual, expected
            Output buffers by ABI name; unspecified bytes are expected as they are.
        inside
            The same call without the value outside the domain: where the kernel is wrong on it, too, nothing
            is recorded.
        rule
            The rule broken.

        Raises
        ------
        CaseOver
            Bytes differ.
        """
        if actual == expected:
            return
        ordinary = self._judge.run(inside.call)
        if ordinary == expected_of(self._judge, inside, ordinary):
            message = "what does not depend on a value outside the domain differs"
            self._judge.fail((rule,), message, call, expected=expected, actual=actual)
        raise CaseOver
