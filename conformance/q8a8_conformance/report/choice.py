"""Which failures a report shows in full: few, each with a cause or a rule that the others do not have.

A kernel with one mistake fails hundreds of cases that all look alike. For a reader they differ in the likely
cause and in the rule that is broken, so one failure is shown for each of those. The rest are counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8_conformance.results.record import Record, Status, short_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.results.run import Finding, Run

SHOWN_FAILURES = 5
"""Failures that are shown in full, at most."""


@dataclass(frozen=True)
class Candidate:
    """A case that failed some rules for one reason, represented by its first record."""

    record: Record
    rules: frozenset[str]
    reasons: frozenset[str]

    @property
    def size(self) -> int:
        """Bytes of its inputs: the fewer, the easier to read."""
        call = self.record.call
        return sum(map(len, call.inputs.values())) if call else 0


def choose(run: Run, *, every: bool = False) -> list[Record]:
    """Choose the failures to show, at most :data:`SHOWN_FAILURES`, or every failed case once.

    First the simplest of each cause (a crash is a cause of its own, and comes first), then the simplest of
    those that break most rules which no other has shown. A case that failed several rules is shown once.
    """
    left = _candidates(run)
    if every:
        return [candidate.record for candidate in left]
    chosen: list[Candidate] = []
    for candidate in left:
        seen = frozenset[str]().union(*(c.reasons for c in chosen))
        if len(chosen) < SHOWN_FAILURES and candidate.reasons - seen:
            chosen.append(candidate)
    while len(chosen) < SHOWN_FAILURES:
        shown = frozenset[str]().union(*(c.rules for c in chosen))
        best = max(left, key=lambda c: len(c.rules - shown), default=None)
        if best is None or not best.rules - shown:
            break
        chosen.append(best)
    return [candidate.record for candidate in chosen]


def _candidates(run: Run) -> list[Candidate]:
    """Return the failed cases, crashes first, then the simplest first."""
    held: dict[tuple[str, str], list[Record]] = {}
    for record in run.judgement.failures:
        held.setdefault((record.case, record.message), []).append(record)
    candidates = [
        Candidate(records[0], frozenset(r.rule for r in records), _reasons(run, records[0]))
        for records in held.values()
    ]
    return sorted(candidates, key=lambda c: (c.record.status is not Status.CRASHED, c.size))


def _reasons(run: Run, record: Record) -> frozenset[str]:
    """Return possible reasons of a failure: the causes that the diagnosis names, a crash, or none known."""
    if record.status is Status.CRASHED:
        return frozenset({f"crash: {record.function}"})
    return frozenset(finding.cause for finding in causes(run, record)) or frozenset({"unknown"})


def hidden(run: Run, shown: Sequence[Record]) -> str:
    """Return how many failed cases are not shown, and what they failed; empty where there are none."""
    cases = {record.case for record in shown}
    rest = [record for record in run.judgement.failures if record.case not in cases]
    if not rest:
        return ""
    count = len({record.case for record in rest})
    counts = Counter(short_id(record.rule) for record in rest)
    names = ", ".join(f"{rule} {number}" for rule, number in counts.most_common(8))
    more = ", …" if len(counts) > 8 else ""
    return f"{count} more failed case{'s' if count > 1 else ''} ({names}{more})"


def rules_of(run: Run, shown: Record) -> str:
    """Return every rule that a shown case failed for the same reason, by short id."""
    return ", ".join(
        short_id(r.rule) for r in run.judgement.failures if (r.case, r.message) == (shown.case, shown.message)
    )


def causes(run: Run, record: Record) -> list[Finding]:
    """Return the findings that explain a failed record's call and name something to fix.

    Of facts about anything but values it is the rule that tells which failures they explain.
    """
    found = [f for f in run.diagnosis if f.function == record.function and f.fix]
    if record.cause is None:
        return [f for f in found if not f.rule or f.rule == record.rule]
    return [f for f in found if f.sentence == record.cause]


def wrong(run: Run) -> list[Finding]:
    """Return what is wrong with the kernel, as far as it is known, and what is not explained."""
    return [f for f in run.diagnosis if f.fix or f.smallest is not None]


def describe(finding: Finding) -> str:
    """Describe a finding in one line."""
    share = f"explains {finding.explained} of {finding.of} results"
    parts = [f"{finding.cause} ({share}{f', {finding.detail}' if finding.detail else ''})", finding.fix]
    return ": ".join(part for part in parts if part)
