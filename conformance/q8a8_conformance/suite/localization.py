"""Which rules wrong results break: those of the facts that explain them, else those that most failures share.

While a run goes on, a wrong value stands tentatively against every rule that its comparison is about. At the
end of the run, what a measured fact explains breaks the fact's rule. Of the rest, the pattern over all cases
decides (spectrum-based fault localization, with the coefficient of Ochiai: Abreu, Zoeteweij, van Gemund, "On
the accuracy of spectrum-based fault localization", 2007): the rule that most of the failed cases are about,
and fewest of those that passed. It stands for all results that can break it (`excluded`), in whatever case:
one mistake breaks one rule. What is left then has a rule of its own, found in the same way.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.inputs import calls
from q8a8_conformance.results.record import CallData, Record, Recorder, Status, rule_matches
from q8a8_conformance.spec.rules import rules_by_id
from q8a8_conformance.suite.excluded import excluded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.results.observations import Failure, Observations

VALUES = tuple(f"Q8A8-{family}-" for family in ("LAY", "HLF", "QNT", "DEQ", "DOT", "ORD", "MUL"))
NOT_VALUES = frozenset(f"Q8A8-{name}" for name in ("QNT-8", "QNT-11", "DOT-11", "MUL-8", "MUL-9"))
"""Families of rules about values, and those of them that compare results, or are about something else."""


def is_about_values(rules: Collection[str]) -> bool:
    """Return whether what a wrong result breaks among these rules takes more than the result to decide."""
    return any(rule.startswith(VALUES) and rule not in NOT_VALUES for rule in rules)


def localize(
    recorder: Recorder, facts: Sequence[Fact], observations: Observations, wanted: str | None = None
) -> Recorder:
    """Return the records of a run with the rules that are broken in the place of tentative ones.

    Parameters
    ----------
    recorder
        The records.
    facts
        What experiments found.
    observations
        The failed calls.
    wanted
        Pattern of the rules that were asked for; None for all. A failure shows whichever were: where it
        breaks none of them, it stays with those that its comparison is about.
    """
    tentative: dict[str, list[Record]] = defaultdict(list)
    result = Recorder()
    for record in recorder:
        if record.tentative:
            tentative[record.case].append(record)
        else:
            result.add(record)
    if not tentative:
        return result
    failures = [failure for held in observations.failures.values() for failure in held]
    known = _explained(facts, failures)
    by_case: dict[str, list[Failure]] = defaultdict(list)
    for failure in failures:
        if failure.case in tentative:
            by_case[failure.case].append(failure)
    unknown = [
        failure for failure in failures if id(failure) not in known or _is_comparison(known[id(failure)].rule)
    ]
    pattern = _Pattern(recorder, unknown)

    def rules_of(failure: Failure) -> tuple[str, ...]:
        fact = known.get(id(failure))
        if fact is not None and (fact.rule in failure.rules or not _is_comparison(fact.rule)):
            return _with_derived(fact.rule, failure.rules)
        return pattern.rules[id(failure)]

    causes = {key: fact.sentence for key, fact in known.items()}
    for case, records in tentative.items():
        for record in _decided(records, by_case[case], rules_of, causes, wanted):
            result.add(record)
    return result


def _explained(facts: Sequence[Fact], failures: Sequence[Failure]) -> dict[int, Fact]:
    """Return the first fact that explains each failure, by the failure's identity."""
    found: dict[int, Fact] = {}
    for fact in facts:
        left = [one for one in failures if one.call.function == fact.function and id(one) not in found]
        found |= {id(failure): fact for failure in fact.explained(left)}
    return found


def _is_comparison(rule: str) -> bool:
    """Return whether a rule compares two results: which of them is wrong, another rule decides."""
    return len(rules_by_id()[rule].derived_from) > 1


def _with_derived(rule: str, about: Sequence[str]) -> tuple[str, ...]:
    """Return a rule, and those of some others that say the same: they follow from it alone."""
    return rule, *(other for other in about if rules_by_id()[other].derived_from == (rule,))


def _decided(
    records: Sequence[Record],
    failures: Iterable[Failure],
    rules_of: Callable[[Failure], tuple[str, ...]],
    causes: Mapping[int, str],
    wanted: str | None,
) -> Iterable[Record]:
    """Return what stands in the place of the tentative records of a case."""
    broken: dict[str, Record] = {}
    for failure in failures:
        rules = rules_of(failure)
        if wanted is not None and not any(rule_matches(rule, wanted) for rule in rules):
            rules = failure.rules
        for rule in rules:
            if rule not in broken:
                broken[rule] = _failed(records[0], rule, failure, causes.get(id(failure), ""))
    passed = (record for record in records if record.rule not in broken)
    return [
        *broken.values(),
        *(replace(record, status=Status.PASS, message="", call=None, tentative=False) for record in passed),
    ]


def _failed(tentative: Record, rule: str, failure: Failure, cause: str) -> Record:
    names = [failure.call.spec.buffers[index].name for index in failure.call.spec.outputs]
    data = CallData(
        failure.call.function,
        calls.arguments_of(failure.call),
        calls.inputs_of(failure.call),
        dict(zip(names, failure.expected, strict=True)),
        dict(zip(names, failure.outputs, strict=True)),
    )
    return replace(tentative, rule=rule, message=failure.message, call=data, tentative=False, cause=cause)


class _Pattern:
    """Which cases passed and failed, by function and rule, and which rules wrong results break by that.

    Parameters
    ----------
    records
        All of the run.
    unknown
        The failures that no fact explains.

    Attributes
    ----------
    rules
        Of each of these failures, by its identity: the rules that it breaks; several that fit alike.
    """

    def __init__(self, records: Recorder, unknown: Sequence[Failure]) -> None:
        self._failed: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._passed: dict[tuple[str, str], set[str]] = defaultdict(set)
        cases = {failure.case for failure in unknown}
        for record in records:
            key = record.function, record.rule
            if record.tentative and record.case in cases:
                self._failed[key].add(record.case)
            elif (
                record.status is Status.PASS
            ):  # (What a fact explains speaks neither for a rule nor against it.)
                self._passed[key].add(record.case)
        self.rules: dict[int, tuple[str, ...]] = {}
        for function in dict.fromkeys(failure.call.function for failure in unknown):
            self._decide(function, [one for one in unknown if one.call.function == function])

    def _decide(self, function: str, failures: list[Failure]) -> None:
        """Find the rules that a function's failures break, the one that most of them fit first."""
        about = [rule for name, rule in self._failed if name == function]
        single = [rule for rule in about if is_about_values([rule]) and not _is_comparison(rule)]
        without = {id(failure): excluded(failure) for failure in failures}
        while failures:
            fits = {
                rule: [one for one in failures if rule not in without[id(one)]] for rule in single or about
            }
            scores = {rule: self._ochiai(function, rule, some) for rule, some in fits.items()}
            best = max(scores.values(), default=0.0)
            if not best:
                break
            rules = tuple(rule for rule, score in scores.items() if math.isclose(score, best))
            decided = {id(one) for rule in rules for one in fits[rule]}
            for one in failures:
                if id(one) in decided:
                    fit = [rule for rule in rules if rule not in without[id(one)]]
                    self.rules[id(one)] = tuple(fit)
            failures = [one for one in failures if id(one) not in decided]
        for one in failures:
            self.rules[id(one)] = one.rules or tuple(about)

    def _ochiai(self, function: str, rule: str, fits: Sequence[Failure]) -> float:
        """Return failed(r) / sqrt(failed(r) + passed(r)), but for the count of all failed cases.

        Cases that failed are those about the rule with a result that can break it.
        """
        failed = len(self._failed[function, rule] & {one.case for one in fits})
        return failed / math.sqrt(failed + len(self._passed[function, rule])) if failed else 0.0
