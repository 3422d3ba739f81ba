"""Calls with values outside the domain: they return, keep to their buffers, and leave no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.messages import NO_OPTIONS, Option
from q8a8_conformance.suite.case_records import VARIES
from q8a8_conformance.suite.kernel_calls import CaseOver
from q8a8_conformance.suite.known_checks import expected_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.inputs.known_calls import Known
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge


EVERY = 3
"""An ordinary call comes after one of so many: the guards go by twos, so that it comes after each of them."""


class OutsideCalls:
    """Makes calls outside the domain, with guards, and an ordinary one after every third.

    Parameters
    ----------
    judge
        Of the case.
    ordinary
        A call in the domain; it must give the same after the others.
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
        self._options = [guard | _read_only(judge) for guard in _guards(judge)]
        self._made = 0

    def make(self, call: Call) -> dict[str, bytes]:
        """Make a call, and return its outputs; none where it was refused.

        Raises
        ------
        CaseOver
            It died or left its buffers, or the ordinary call is wrong after it.
        """
        judge = self._judge
        self._made += 1
        guarded = calls.with_options(call, self._options[self._made % len(self._options)])
        meaning = "leaves its buffers or writes its input"
        result = judge.attempt(guarded, self._rules, meaning, legal=False, plain=call)
        if self._is_right and not judge.records.failed and self._made % EVERY == 1:
            after = judge.run(self._ordinary.call)
            expected = expected_of(judge, self._ordinary, after)
            if after != expected:
                message = "an ordinary call is wrong after one with values outside the domain"
                judge.fail((VARIES,), message, self._ordinary.call, expected=expected, actual=after)
                judge.target.restart()
        if judge.records.failed:
            raise CaseOver
        return {} if result is None else judge.target.outputs(call, result)

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


def _guards(judge: Judge) -> tuple[Option, ...]:
    """Return the memory options that calls take turns in."""
    has_guards = "guard" in judge.target.hello.capabilities
    return (Option.GUARD_AFTER, Option.GUARD_BEFORE) if has_guards else (NO_OPTIONS,)


def _read_only(judge: Judge) -> Option:
    return Option.READONLY if "readonly" in judge.target.hello.capabilities else NO_OPTIONS
