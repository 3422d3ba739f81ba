"""One case of the suite: makes calls, compares results, and leaves a record for each rule that it judges.

A check gets a :class:`Judge` as its argument and says what must hold, without assertions of its own::

    @pytest.mark.rule("Q8A8-DOT-5")
    def test_empty_row(judge):
        judge.exact(requests.dot(EMPTY, EMPTY), {"s": bytes(4)})

Whatever a worker reports besides values (an input written, a rounding mode left changed) is recorded against
the rule it breaks, whichever case it came up in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from q8a8_conformance.attribution import quantizers
from q8a8_conformance.attribution.probes import Trial
from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.random_inputs import Random
from q8a8_conformance.protocol.messages import Call, Fault, Result
from q8a8_conformance.results.record import Evidence, Record, Recorder, Status, rule_matches, short_id
from q8a8_conformance.suite.accepted_recipes import DESIGN, Recipes
from q8a8_conformance.suite.target import KernelDiedError, NotRunError, RefusedError, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_conformance.inputs.random_inputs import Source

Example = TypeVar("Example")

RETURNS = "Q8A8-ENV-4"
"""The rule that every legal call returns: broken by each death, besides the rules of the case."""
OWN_SIGNS = ("Q8A8-MEM-", "Q8A8-ENV-")
"""Rules that have signs of their own: the death of an ordinary call is none, it leaves them unjudged."""

FAULT_RULES: Mapping[Fault, tuple[str, str]] = {
    Fault.INPUT_WRITTEN: ("Q8A8-MEM-3", "an input was written to"),
    Fault.WROTE_OUTSIDE: ("Q8A8-MEM-2", "bytes outside the buffers were written"),
    Fault.ROUNDING_MODE_CHANGED: ("Q8A8-ENV-1", "the rounding mode was left changed"),
    Fault.FLUSH_MODE_CHANGED: (
        "Q8A8-ENV-1",
        "the flush-to-zero or denormals-are-zero bits were left changed",
    ),
    Fault.TRAP_MASK_CHANGED: ("Q8A8-ENV-1", "the exception masks were left changed"),
    Fault.RESULT_VARIES: ("Q8A8-ENV-2", "the same call gave other bytes"),
    Fault.THREAD_RESULT_VARIES: ("Q8A8-ENV-3", "calls from several threads at once gave other bytes"),
}


class CaseOver(Exception):  # noqa: N818 (no error of the program: the case has said what there is to say)
    """Ends a case early; everything about it has been recorded."""


class MismatchError(Exception):
    """A failed property, on its way out of Hypothesis with the records that tell of it."""

    def __init__(self, records: tuple[Record, ...]) -> None:
        super().__init__(records[0].message)
        self.records = records


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
        self._wanted = wanted
        self.target = target
        self.recipes = recipes
        self.case = case
        self.rules = rules
        self._recorder = recorder
        self._function = ""
        self._executed = False
        self._cut_short = False
        self._bad: dict[str, Record] = {}
        self._trial = False

    # What a check asks for.

    def require(self, function: str, *capabilities: str) -> None:
        """Leave the case as not run unless the kernel has the function and the worker the capabilities."""
        self._function = function
        self.target.require(function, *capabilities)

    def run(self, call: Call, *, legal: bool = True) -> dict[str, bytes]:
        """Make a call that must return, and give its output buffers by ABI name.

        Parameters
        ----------
        call
            The call.
        legal
            Whether the inputs are inside the domain. Outside it no value is wrong, and a worker may refuse
            (the buffers are then missing); the rest still holds.

        Raises
        ------
        CaseOver
            The kernel died or refused: recorded against the case's rules and Q8A8-ENV-4.
        NotRunError
            The function is not there.
        """
        self._function = call.function
        try:
            result = self.target.call(call)
            outputs = self.target.outputs(call, result)
        except KernelDiedError as error:
            self._record(Status.CRASHED, (*self._about_results(), RETURNS), str(error), call)
            raise CaseOver from error
        except RefusedError as error:
            if not legal:
                # Outside the domain, to refuse is a way to return: Q8A8-QNT-12 asks it of the reference.
                self._executed = True
                return {}
            self._record(
                Status.FAIL,
                (*self._about_results(), RETURNS),
                f"the kernel refused a legal call: {error}",
                call,
            )
            raise CaseOver from error
        self._executed = True
        self._look_at_faults(call, result)
        if legal:
            self.target.observations.add_call(call, outputs)
            self._look_for_minus_128(call, outputs)
        return outputs

    def attempt(
        self, call: Call, rules: tuple[str, ...], message: str, *, legal: bool = True
    ) -> Result | None:
        """Make a call under conditions that some rules promise to survive.

        Parameters
        ----------
        call
            A call that returns when made plainly.
        rules
            The rules broken if it dies now.
        message
            What a death means: "read or wrote past the end of a buffer".
        legal
            As in :meth:`run`.

        Returns
        -------
        Result or None
            None where it died or was refused; recorded.
        """
        self._function = call.function
        try:
            result = self.target.call(call)
        except KernelDiedError as error:
            self._record(Status.CRASHED, rules, f"{message}: {error}", call)
            return None
        except RefusedError as error:
            if legal:
                self._record(Status.FAIL, rules, f"{message}: refused: {error}", call)
            return None
        self._executed = True
        self._look_at_faults(call, result)
        return result

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
    ) -> bool:
        """Record a failure where buffers differ; give whether they are equal.

        ``rules`` are those the comparison is about: the case's, unless given. ``in_bound`` says that a dot
        product's inputs leave something to round.
        """
        if all(actual[name] == data for name, data in expected.items()):
            return True
        self.target.observations.add_failure(call, actual, expected)
        rules = self.rules if rules is None else rules
        trial = Trial(call, self._ask, in_bound)
        blamed = quantizers.blamed(call.function, rules, calls.inputs_of(call), expected, actual, trial)
        if self._wanted is not None and not any(rule_matches(rule, self._wanted) for rule in blamed):
            # Nobody asked for the rules that it breaks; it must not go unseen for that.
            blamed = rules
        self._record(Status.FAIL, blamed, message, call, expected, actual)
        return False

    def quantized_row(self, call: Call, expected: Mapping[str, bytes] | None = None) -> bytes:
        """Judge one row of a row quantizer, and give the blocks that the kernel gave.

        Parameters
        ----------
        call
            Of one of `requests.QUANTIZERS`, with elements in the domain.
        expected
            The specification's buffers, where they are known from elsewhere than the reference.
        """
        x = np.frombuffer(call.buffers[0].data, "<f4")
        size = x.size // 32 * 34
        actual = self.run(call)
        y = actual["y"][:size]
        self.target.observations.add_row(call.function, x, y)
        if expected is None or self.recipes.of(call.function) != DESIGN:
            # Whatever of the buffer no block fills keeps its poison.
            expected = {"y": self.recipes.rows(call.function, x, y) + bytes(call.buffers[1].data)[size:]}
        self.compare(call, actual, expected)
        return y

    def quantized_activation(self, call: Call, expected: Mapping[str, bytes] | None = None) -> None:
        """Judge one activation vector with elements in the domain; as :meth:`quantized_row`."""
        x = np.frombuffer(call.buffers[0].data, "<f4")
        actual = self.run(call)
        self.target.observations.add_activation(call.function, x, actual["output"][: x.size], actual["scale"])
        if expected is None or (x.size and self.recipes.of(call.function) != DESIGN):
            expected = self.recipes.activation(x, actual)
        self.compare(call, actual, expected)

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
        self._record(Status.FAIL, rules, message, call, expected, actual)

    def examples(
        self, make: Callable[[Source], Example], check: Callable[[Example], object], count: int = 100
    ) -> None:
        """Look for an example that fails a check, and record the simplest one found.

        Parameters
        ----------
        make
            Makes an example of numbers from a source (`q8a8_conformance.inputs.random_inputs`).
        check
            Judges an example.
        count
            Examples to try, the same in every run. Where one fails, Hypothesis looks for the simplest. A
            death ends it all: shrinking a crash would cost a restart for each try.
        """
        over: list[BaseException] = []

        def body(example: Example) -> None:
            if over:
                return
            self._trial = True
            try:
                check(example)
            except (CaseOver, NotRunError) as error:
                over.append(error)
            finally:
                self._trial = False

        try:
            for number in range(count):
                body(make(Random(self.case, number)))
        except MismatchError as error:
            self._simplest(make, body, error)
        if over:
            raise over[0]

    def _simplest(
        self, make: Callable[[Source], Example], body: Callable[[Example], None], failed: MismatchError
    ) -> None:
        """Record the simplest example that fails; the one that did where the search finds none."""
        from q8a8_conformance.suite.minimize import FlakyError, search  # noqa: PLC0415 (Hypothesis is slow to import)

        try:
            search(make, body)
        except MismatchError as error:
            failed = error
        except FlakyError:
            self._keep(self._make(Status.FAIL, "Q8A8-ENV-2", "the same call failed once and passed once"))
            return
        for record in failed.records:
            self._keep(record)

    def has_failed(self, rule: str) -> bool:
        """Say whether the case has failed a rule by now."""
        return rule in self._bad

    # What the plugin asks for.

    def finish(self) -> tuple[Record, ...]:
        """Leave a record for each rule of the case; give the failed ones."""
        for record in self._bad.values():
            self._recorder.add(record)
        status = Status.PASS if self._executed and not self._cut_short else Status.NOT_RUN
        for rule in self.rules:
            if rule not in self._bad:
                self._recorder.add(self._make(status, rule, ""))
        return tuple(self._bad.values())

    def not_run(self, message: str) -> None:
        """Record that the case did not run, for every rule that has not failed by now."""
        for rule in self.rules:
            if rule not in self._bad:
                self._recorder.add(self._make(Status.NOT_RUN, rule, message))
        for record in self._bad.values():
            self._recorder.add(record)

    def internal_error(self, message: str) -> None:
        """Record that the check itself broke: no verdict may rest on it."""
        for rule in self.rules:
            self._keep(self._make(Status.FAIL, rule, f"error in the suite: {message}"))

    # Inside.

    def _ask(self, call: Call) -> dict[str, bytes] | None:
        """Make a call that tells what a failure is about; it is no part of the case."""
        try:
            return self.target.outputs(call, self.target.call(call))
        except (KernelDiedError, RefusedError, NotRunError):
            return None

    def _about_results(self) -> tuple[str, ...]:
        """Give the rules that an ordinary call's death speaks against; the others are cut short."""
        self._cut_short = True
        return tuple(rule for rule in self.rules if not rule.startswith(OWN_SIGNS))

    def _make(self, status: Status, rule: str, message: str, evidence: Evidence | None = None) -> Record:
        return Record(rule, self.case, self._function, status, message, evidence)

    def _keep(self, record: Record) -> None:
        held = self._bad.get(record.rule)
        if held is None or (record.status is Status.CRASHED and held.status is Status.FAIL):
            self._bad[record.rule] = record

    def _record(
        self,
        status: Status,
        rules: tuple[str, ...],
        message: str,
        call: Call,
        expected: Mapping[str, bytes] | None = None,
        actual: Mapping[str, bytes] | None = None,
    ) -> None:
        evidence = Evidence(
            call.function,
            calls.arguments_of(call),
            calls.inputs_of(call),
            dict(expected or {}),
            dict(actual or {}),
        )
        records = tuple(self._make(status, rule, message, evidence) for rule in dict.fromkeys(rules))
        if self._trial and status is Status.FAIL:
            raise MismatchError(records)
        for record in records:
            self._keep(record)

    def _look_at_faults(self, call: Call, result: Result) -> None:
        for fault, (rule, message) in FAULT_RULES.items():
            if fault in result.faults:
                detail = f": {result.detail}" if result.detail else ""
                self._record(Status.FAIL, (rule,), message + detail, call)

    def _look_for_minus_128(self, call: Call, outputs: Mapping[str, bytes]) -> None:
        """Q8A8-QNT-5: no result holds -128, whatever the case is about (under a recipe of ggml's it may)."""
        if call.function not in (*calls.QUANTIZERS, calls.ACTIVATION):
            return
        if self.recipes.of(call.function) != DESIGN:
            return
        if call.function in calls.QUANTIZERS:
            y = outputs["y"]
            found = any(128 in y[start + 2 : start + 34] for start in range(0, len(y), 34))
        else:
            found = 128 in outputs["output"]
        if found:
            self._record(Status.FAIL, ("Q8A8-QNT-5",), "a code is -128", call, None, outputs)


def describe(records: tuple[Record, ...]) -> str:
    """Say in one line which rules a case failed, and why."""
    return "; ".join(f"{short_id(record.rule)} {record.status}: {record.message}" for record in records)
