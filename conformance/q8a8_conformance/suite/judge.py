"""One case of the suite, as a check sees it: it makes calls and compares results.

A check takes a :class:`Judge` as its argument and states what must hold, without assertions::

    @pytest.mark.rule("Q8A8-DOT-5")
    def test_empty_row(judge):
        judge.exact(calls.dot(EMPTY, EMPTY), {"s": bytes(4)})

What a result must be is in `quantizer_checks` and `dot_checks`, the search of property tests in `examples`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from q8a8_conformance.inputs import calls
from q8a8_conformance.results.record import Record, Recorder, Status, rule_matches
from q8a8_conformance.suite import placement
from q8a8_conformance.suite.accepted_recipes import DESIGN
from q8a8_conformance.suite.case_records import RETURNS, CaseRecords
from q8a8_conformance.suite.kernel_calls import OVER_WRITE, CaseOver, KernelCalls
from q8a8_conformance.suite.localization import is_about_values
from q8a8_conformance.suite.placement import Difference
from q8a8_conformance.suite.target import NotOfferedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from q8a8_conformance.protocol.messages import Call, Result
    from q8a8_conformance.suite.accepted_recipes import Recipes
    from q8a8_conformance.suite.target import NotRunError, Target

DOTS = (calls.DOT, calls.DOT_REAL)

Item = TypeVar("Item")

KEPT = 8
"""Wrong results of one case that are kept for the diagnosis: a further one seldom shows another fault."""

__all__ = ["RETURNS", "CaseOver", "Judge"]


class Judge:
    """Judges one case.

    Parameters
    ----------
    target
        The kernel under test.
    recipes
        What quantizers are compared with.
    recorder
        Takes the records.
    case
        The case's id.
    rules
        The rules that the case judges, by full id.
    wanted
        Pattern of the rules that were asked for; None for all.

    Attributes
    ----------
    records
        The outcomes of the case so far.
    """

    def __init__(
        self,
        target: Target,
        recipes: Recipes,
        recorder: Recorder,
        case: str,
        rules: tuple[str, ...],
        wanted: str | None = None,
    ) -> None:
        self.target = target
        target.rules = rules
        self.recipes = recipes
        self.case = case
        self.rules = rules
        self.records = CaseRecords(recorder, case, rules)
        self._calls = KernelCalls(target, recipes, self.records)
        self._wanted = wanted
        self._kept: Counter[tuple[str, ...]] = Counter()

    def require(self, function: str, *capabilities: str) -> None:
        """Leave the case as not run unless the kernel has the function and the worker the capabilities."""
        self._calls.require(function, *capabilities)

    def ahead(self, items: Iterable[Item], call_of: Callable[[Item], Call]) -> Iterator[Item]:
        """Yield items whose calls are made in turn: :meth:`KernelCalls.ahead`."""
        return self._calls.ahead(items, call_of)

    def each(
        self, items: Iterable[Item], call_of: Callable[[Item], Call]
    ) -> Iterator[tuple[Item, dict[str, bytes]]]:
        """Make ordinary calls in turn, many by one message: :meth:`KernelCalls.each`."""
        return self._calls.each(items, call_of)

    def run(self, call: Call, *, legal: bool = True, at: Call | None = None) -> dict[str, bytes]:
        """Make a call that must return: :meth:`KernelCalls.run`."""
        return self._calls.run(call, legal=legal, at=at)

    def run_together(self, call: Call) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Make a call with `Call.together`: :meth:`KernelCalls.run_together`."""
        return self._calls.run_together(call)

    def record_faults(self, call: Call, result: Result) -> None:
        """Record what a call did besides its results, in another process too."""
        self._calls.record_faults(call, result)

    def attempt(
        self,
        call: Call,
        rules: tuple[str, ...],
        message: str,
        *,
        legal: bool = True,
        plain: Call | None = None,
    ) -> Result | None:
        """Make a call under conditions that some rules promise to survive: :meth:`KernelCalls.attempt`."""
        return self._calls.attempt(call, rules, message, legal=legal, plain=plain)

    def aligned(self, call: Call) -> Call:
        """Return a call whose buffers begin at 64-byte boundaries, where kernels may have a way of their own.

        (One line further on, so that it is no plain call, which gets a placement.) The call itself where the
        worker cannot.
        """
        able = "offset" in self.target.hello.capabilities
        at = {buffer.name: placement.LINE for buffer in call.spec.buffers}
        return calls.misaligned(call, at) if able else call

    def exact(self, call: Call, expected: Mapping[str, bytes], rules: tuple[str, ...] | None = None) -> None:
        """Make a call whose output buffers must hold exactly these bytes."""
        self.compare(call, self.run(call), expected, rules)

    def compare(
        self,
        call: Call,
        actual: Mapping[str, bytes],
        expected: Mapping[str, bytes],
        rules: tuple[str, ...] | None = None,
        message: str = "the result differs",
        *,
        in_bound: bool = False,
        at: Call | None = None,
    ) -> bool:
        """Record a failure where buffers differ; return whether they are equal.

        Where they are right as soon as the call is made without its placement, that is what is recorded.

        Parameters
        ----------
        call
            That was made.
        actual, expected
            Output buffers by ABI name; those in `expected` are compared.
        rules
            What the comparison is about: the case's rules, unless given; none where it may be any about
            values. Which of them a wrong value breaks is decided at the end of the run (`localization`).
        message
            What it means if they differ.
        in_bound
            Whether a product's inputs leave something to round.
        at
            The call as it was placed, where the case places it.
        """
        if all(actual[name] == data for name, data in expected.items()):
            return True
        alone = self._calls.alone(call, actual)
        if alone is not None:
            if all(alone[name] == data for name, data in expected.items()):
                return True
            actual = alone
        about = self.rules if rules is None else rules
        placed = at is not None and at != call
        if self._kept[about] >= KEPT:
            if not placed:
                self.target.observations.add_failure(call, actual, expected)
            return False
        recipe = self.recipes.of(call.function) if call.function == calls.MUL_MAT else DESIGN
        difference = Difference(call, about, message, expected, in_bound=in_bound, recipe=recipe)
        if self._by_placement(difference, actual, at):
            self._kept[about] += 1
            return False
        tentative = not about or is_about_values(about)
        if OVER_WRITE in about and not _differs_behind(call, actual, expected):
            # The bytes behind the results are as they were: it is the values.
            about, tentative = tuple(rule for rule in about if rule != OVER_WRITE), True
        self.target.observations.add_failure(call, actual, expected, self.case, about, message)
        self.records.add(
            Status.FAIL,
            about or self.rules,
            message,
            call,
            expected=expected,
            actual=actual,
            tentative=tentative,
        )
        self._kept[about] += 1
        return False

    def _selected(self, broken: tuple[str, ...], rules: tuple[str, ...]) -> tuple[str, ...]:
        """Return the rules that a result breaks, or those of the comparison where none of them was asked for.

        A failure must show, whichever rules were selected.
        """
        if self._wanted is None or any(rule_matches(rule, self._wanted) for rule in broken):
            return broken
        return rules

    def _by_placement(self, difference: Difference, actual: Mapping[str, bytes], at: Call | None) -> bool:
        """Record a difference that a call's placement explains; return whether nothing is left to record."""
        call = difference.call
        placed = at or self._calls.placed(call)
        if placed is call:
            return False
        if at is None:
            self.target.add_placed_failure(call.function)
        if not self._is_right(difference, call):
            # Wrong at any place: where the case is about places, others record that.
            return at is not None
        if self._is_right(difference, placed):
            self.records.add_varying(call)
            return at is not None
        self.target.observations.add_placed(placed, actual, difference.expected)
        apart = placement.unshared(placed)
        if apart is not placed and not self._is_right(difference, apart):
            placed = apart
        message = f"{difference.message} {placement.describe(placed)}, not without"
        broken = placement.broken_rules(placed, difference.rules)
        broken = self._selected(broken, difference.rules)
        self.records.add(Status.FAIL, broken, message, call, expected=difference.expected, actual=actual)
        return True

    def _is_right(self, difference: Difference, call: Call) -> bool:
        """Return whether a call at another placement returns, and is right."""
        made = self._calls.probe(call)
        return made is not None and difference.is_right(made, self.target.profile)

    def fail(
        self,
        rules: tuple[str, ...],
        message: str,
        call: Call,
        *,
        expected: Mapping[str, bytes] | None = None,
        actual: Mapping[str, bytes] | None = None,
    ) -> None:
        """Record a failure."""
        self.records.add(Status.FAIL, rules, message, call, expected=expected, actual=actual)

    def has_failed(self, rule: str) -> bool:
        """Return whether the case has failed a rule so far."""
        return self.records.has_failed(rule)

    def finish(self) -> tuple[Record, ...]:
        """End the case: leave a record for each of its rules; return the failed ones."""
        return self.records.finish()

    def leave_out(self, rule: str, message: str) -> None:
        """Leave a rule of the case as not run, unless it fails: what it promises is not seen here."""
        self.records.leave_out(rule, message)

    def not_run(self, reason: NotRunError) -> None:
        """End the case as not run, for each rule that has not failed so far."""
        self.records.not_run(str(reason), offered=not isinstance(reason, NotOfferedError))


def _differs_behind(call: Call, actual: Mapping[str, bytes], expected: Mapping[str, bytes]) -> bool:
    """Return whether bytes behind the results of a quantizer or of dequantization differ."""
    sizes = {
        "output": call.n,
        "scale": 2,
        "y": 4 * call.n if call.function == calls.DEQUANTIZE else call.n // 32 * 34,
    }
    return any(
        actual[name][sizes.get(name, 0) :] != data[sizes.get(name, 0) :] for name, data in expected.items()
    )
