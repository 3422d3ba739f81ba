"""The records of one case: how it came out for each rule, the most severe outcome kept."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.inputs import calls
from q8a8_conformance.results.record import CallData, Record, Recorder, Status, short_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from q8a8_conformance.protocol.messages import Call

RETURNS = "Q8A8-ENV-4"
"""The rule that every legal call returns: broken by each death, besides the rules of the case."""

VARIES = "Q8A8-ENV-2"
"""The rule that the same call gives the same bits."""

NOT_ABOUT_RESULTS = ("Q8A8-MEM-", "Q8A8-ENV-")
"""Families of rules that the death of an ordinary call leaves unjudged: they are broken by other signs."""


class ExampleFailedError(Exception):
    """An example of a property test failed.

    Parameters
    ----------
    message
        What failed.
    records
        What describes it.
    """

    def __init__(self, message: str, records: tuple[Record, ...]) -> None:
        super().__init__(message)
        self.records = records


class CaseRecords:
    """Collects the records of one case, and hands them to the run's recorder at its end.

    Parameters
    ----------
    recorder
        Of the run.
    case
        The case's id.
    rules
        The rules that the case judges, by full id.

    Attributes
    ----------
    function
        The ABI function that the case is about; its last call's.
    executed
        Whether a call has returned.
    """

    def __init__(self, recorder: Recorder, case: str, rules: tuple[str, ...]) -> None:
        self.case = case
        self.rules = rules
        self.function = ""
        self.executed = False
        self._recorder = recorder
        self._cut_short = ""
        self._raising = False
        self._failed: dict[str, Record] = {}
        self._left_out: dict[str, str] = {}

    def add(
        self,
        status: Status,
        rules: tuple[str, ...],
        message: str,
        call: Call,
        *,
        expected: Mapping[str, bytes] | None = None,
        actual: Mapping[str, bytes] | None = None,
        tentative: bool = False,
    ) -> None:
        """Record a failure or a crash with the call's data, against rules: tentatively (`Record`), or not.

        Raises
        ------
        ExampleFailedError
            Instead of recording a failure, inside of :meth:`raising_failures`.
        """
        data = CallData(
            call.function,
            calls.arguments_of(call),
            calls.inputs_of(call),
            dict(expected or {}),
            dict(actual or {}),
        )

        made = (self._make(status, rule, message, data) for rule in dict.fromkeys(rules))
        records = tuple(replace(record, tentative=tentative) for record in made)
        if self._raising and status is Status.FAIL:
            raise ExampleFailedError(message, records)
        for record in records:
            self.keep(record)

    def add_without_call(self, rules: tuple[str, ...], message: str) -> None:
        """Record a failure of some rules that no call showed."""
        for rule in rules:
            self.keep(self._make(Status.FAIL, rule, message))

    def add_no_result(self, status: Status, message: str, call: Call) -> None:
        """Record that an ordinary call did not return a result: it died, or was refused.

        That breaks Q8A8-ENV-4 and, unless the case is about this rule, the case's rules about results; the
        others stay unjudged.
        """
        self._cut_short = message
        about_results = (rule for rule in self.rules if not rule.startswith(NOT_ABOUT_RESULTS))
        self.add(status, (RETURNS,) if RETURNS in self.rules else (*about_results, RETURNS), message, call)

    def add_varying(self, call: Call | None = None) -> None:
        """Record that an example, or a call, failed once and passed once."""
        message = "the same call failed once and passed once"
        if call is None:
            self.keep(self._make(Status.FAIL, VARIES, message))
        else:
            self.add(Status.FAIL, (VARIES,), message, call)

    def add_internal_error(self, message: str) -> None:
        """Record that the check itself broke: no verdict may rest on it."""
        for rule in self.rules:
            self.keep(self._make(Status.FAIL, rule, f"error in the suite: {message}"))

    def keep(self, record: Record) -> None:
        """Keep a failed record, unless the rule has one as severe: tentative, failed or crashed."""
        held = self._failed.get(record.rule)
        if held is None or _severity(record) > _severity(held):
            self._failed[record.rule] = record

    def has_failed(self, rule: str) -> bool:
        """Return whether the case has failed a rule so far."""
        return rule in self._failed

    @property
    def failed(self) -> bool:
        """Whether the case has failed any rule so far."""
        return bool(self._failed)

    @contextmanager
    def raising_failures(self) -> Iterator[None]:
        """Raise :class:`ExampleFailedError` instead of recording a failure; a crash is recorded."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def leave_out(self, rule: str, message: str) -> None:
        """Leave a rule of the case as not run, unless it fails: what it promises is not seen here."""
        self._left_out[rule] = message

    def finish(self) -> tuple[Record, ...]:
        """Hand over a record for each rule of the case; return the failed ones."""
        if self._cut_short:
            return self._hand_over(Status.NOT_RUN, f"an ordinary call returned no result: {self._cut_short}")
        if not self.executed:
            return self._hand_over(Status.NOT_RUN, "the case made no call")
        return self._hand_over(Status.PASS, "")

    def not_run(self, message: str, *, offered: bool = True) -> None:
        """Hand over the records of a case that did not run: for each rule that has not failed so far.

        Parameters
        ----------
        message
            Why it did not run.
        offered
            Whether its rules stay unjudged for that; see :class:`~q8a8_conformance.results.record.Record`.
        """
        self._hand_over(Status.NOT_RUN, message, offered=offered)

    def _hand_over(self, otherwise: Status, message: str, *, offered: bool = True) -> tuple[Record, ...]:
        failed = tuple(self._failed.values())
        for record in failed:
            self._recorder.add(record)
        for rule in self.rules:
            if rule in self._failed:
                continue
            if otherwise is Status.PASS and rule in self._left_out:
                self._recorder.add(self._make(Status.NOT_RUN, rule, self._left_out[rule]))
            else:
                self._recorder.add(self._make(otherwise, rule, message, offered=offered))
        return failed

    def _make(
        self, status: Status, rule: str, message: str, data: CallData | None = None, *, offered: bool = True
    ) -> Record:
        return Record(rule, self.case, self.function, status, message, data, offered)


def _severity(record: Record) -> tuple[bool, bool]:
    return record.status is Status.CRASHED, not record.tentative


def describe(records: tuple[Record, ...]) -> str:
    """Return in one line which rules a case failed, and why."""
    return "; ".join(f"{short_id(record.rule)} {record.status}: {record.message}" for record in records)
