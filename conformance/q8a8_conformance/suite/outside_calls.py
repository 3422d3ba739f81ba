"""Calls with values outside the domain: they return, keep to their buffers, and leave no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.messages import NO_OPTIONS, Option
from q8a8_conformance.suite.case_records import VARIES
from q8a8_conformance.suite.kernel_calls import CaseOver
from q8a8_conformance.suite.known_checks import expected_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from q8a8_conformance.inputs.known_calls import Known
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge


class OutsideCalls:
    """Makes calls outside the domain, with guards, and an ordinary one after each.

    Parameters
    ----------
    judge
        Of the case.
    ordinaries
        Calls in the domain, which come by turns after the others; they must give the same as before.
    rules
        The rules broken where a call outside the domain leaves its buffers.
    """

    def __init__(self, judge: Judge, ordinaries: Sequence[Known], rules: tuple[str, ...]) -> None:
        self._judge = judge
        self._rules = rules
        # One that is wrong to begin with is found by cases about values.
        self._ordinaries = [each for each in ordinaries if self._is_right(each)]
        self._options = [guard | _read_only(judge) for guard in _guards(judge)]
        self._made = 0

    def _is_right(self, ordinary: Known) -> bool:
        actual = self._judge.run(ordinary.call)
        return actual == expected_of(self._judge, ordinary, actual)

    def make(self, call: Call, inside: Known | None = None) -> dict[str, bytes]:
        """Make a call, and return its outputs; none where it was refused.

        Parameters
        ----------
        call
            Outside the domain.
        inside
            An ordinary call like it, which comes after it in every second turn.

        Raises
        ------
        CaseOver
            It died or left its buffers, or an ordinary call is wrong after it.
        """
        judge = self._judge
        self._made += 1
        guarded = calls.with_options(call, self._options[self._made % len(self._options)])
        meaning = "leaves its buffers or writes its input"
        result = judge.attempt(guarded, self._rules, meaning, legal=False, plain=call)
        if not judge.records.failed and self._ordinaries:
            turn = self._made // 2 % len(self._ordinaries)
            self._judge_after(inside if inside and self._made % 2 else self._ordinaries[turn])
        if judge.records.failed:
            raise CaseOver
        return {} if result is None else judge.target.outputs(call, result)

    def _judge_after(self, ordinary: Known) -> None:
        """Make an ordinary call right after one outside the domain."""
        judge = self._judge
        after = judge.run(ordinary.call)
        expected = expected_of(judge, ordinary, after)
        if after == expected:
            return
        judge.target.restart()
        if self._is_right(ordinary):
            message = "an ordinary call is wrong after one with values outside the domain"
            judge.fail((VARIES,), message, ordinary.call, expected=expected, actual=after)

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
        if self._is_right(inside):
            # (The calls before may be what it depends on: other functions are called, too.)
            again = self._judge.run(call, legal=False)
            message = "what does not depend on a value outside the domain differs"
            broken = VARIES if again == expected else rule
            self._judge.fail((broken,), message, call, expected=expected, actual=actual)
            if broken == rule:
                self._judge.target.observations.add_outside(call, actual, expected)
        raise CaseOver


def _guards(judge: Judge) -> tuple[Option, ...]:
    """Return the memory options that calls take turns in."""
    has_guards = "guard" in judge.target.hello.capabilities
    return (Option.GUARD_AFTER, Option.GUARD_BEFORE) if has_guards else (NO_OPTIONS,)


def _read_only(judge: Judge) -> Option:
    return Option.READONLY if "readonly" in judge.target.hello.capabilities else NO_OPTIONS
