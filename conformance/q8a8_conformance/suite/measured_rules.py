"""Rules by measured facts: a failed dot product breaks the rule of the fact that explains it.

While a run goes on, a wrong result is recorded against the rules that probe calls point at. Experiments come
at its end. What a fact explains then stands against the fact's rule alone; the rest stays as it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.attribution.dots import DOTS as VALUE_RULES
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.record import Record, Recorder, Status

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.results.observations import Failure, Observations


def by_facts(
    recorder: Recorder,
    facts: Sequence[Fact],
    observations: Observations,
    planned: Mapping[str, tuple[str, ...]],
) -> Recorder:
    """Return the records of a run, with the rules of facts in the place of probed ones.

    Parameters
    ----------
    recorder
        The records.
    facts
        What experiments found.
    observations
        The failed calls.
    planned
        The rules of each case: one that no result breaks any more has passed.
    """
    failures = {_key_of(failure): failure for held in observations.failures.values() for failure in held}
    result = Recorder()
    passed: list[Record] = []
    for record in recorder:
        fact = _fact_of(record, facts, failures)
        if fact is None or fact.rule == record.rule:
            result.add(record)
            continue
        result.add(replace(record, rule=fact.rule))
        if record.rule in planned.get(record.case, ()):
            passed.append(replace(record, status=Status.PASS, message="", call=None))
    for record in passed:
        result.add(record)
    return result


def _fact_of(record: Record, facts: Sequence[Fact], failures: Mapping[Hashable, Failure]) -> Fact | None:
    """Return the fact that explains a record's call; None where it is about something else."""
    call = record.call
    if record.status is not Status.FAIL or call is None or record.rule not in VALUE_RULES:
        return None
    key = (
        call.function,
        tuple(sorted(call.args.items())),
        tuple(call.inputs.values()),
        tuple(call.actual.values()),
    )
    failure = failures.get(key)
    if failure is None:
        return None
    return next((fact for fact in facts if fact.function == call.function and fact.explains(failure)), None)


def _key_of(failure: Failure) -> Hashable:
    call = failure.call
    arguments = tuple(sorted(calls.arguments_of(call).items()))
    return call.function, arguments, tuple(calls.inputs_of(call).values()), failure.outputs
