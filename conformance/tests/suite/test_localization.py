"""Which rules wrong results break: of a fact that explains them, or by the pattern over all cases."""

from __future__ import annotations

import pytest

from q8a8_conformance.diagnosis.facts import Fact
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.observations import Observations
from q8a8_conformance.results.record import Record, Recorder, Status
from q8a8_conformance.suite.localization import localize

WRONG, RIGHT = {"s": b"\1\0\0\0"}, {"s": bytes(4)}
PRODUCTS, EXACT, COUNT = ("Q8A8-DOT-1", "Q8A8-DOT-4", "Q8A8-DOT-10")


class Recorded:
    """Records and failures of some cases."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.observations = Observations()

    def fail(self, case: str, *rules: str, nb: int = 1) -> None:
        """Add a case with one wrong result."""
        call = calls.dot(*dot_rows.exact_pair(nb))
        self.observations.add_failure(call, WRONG, RIGHT, case, rules, "differs")
        for rule in rules:
            record = Record(rule, case, calls.DOT, Status.FAIL, "differs", tentative=True)
            self.recorder.add(record)

    def succeed(self, case: str, *rules: str) -> None:
        """Add a case that passed."""
        for rule in rules:
            self.recorder.add(Record(rule, case, calls.DOT, Status.PASS))

    def broken(self, *facts: Fact, wanted: str | None = None) -> set[tuple[str, str]]:
        """Return the rules that cases break, with the cases; no record is tentative any more."""
        found = list(localize(self.recorder, facts, self.observations, wanted))
        assert not any(record.tentative for record in found)
        failed = [record for record in found if record.status is Status.FAIL]
        assert all(record.call is None or record.call.actual == WRONG for record in failed)
        return {(record.case, record.rule) for record in failed}


@pytest.fixture
def recorded() -> Recorded:
    """Two failed cases about the same two rules, one of which passes elsewhere."""
    recorded = Recorded()
    recorded.fail("a", PRODUCTS, EXACT)
    recorded.fail("b", PRODUCTS, EXACT, nb=3)
    recorded.succeed("c", EXACT)
    return recorded


def test_the_rule_that_passes_nowhere(recorded: Recorded) -> None:
    """Without a fact, failures break the rule that no case passes, and not the other."""
    assert recorded.broken() == {("a", PRODUCTS), ("b", PRODUCTS)}
    records = localize(recorded.recorder, (), recorded.observations)
    assert {record.case for record in records if record.status is Status.PASS} == {"a", "b", "c"}


def test_one_mistake_breaks_one_rule(recorded: Recorded) -> None:
    """A failure in a case about another rule stands against the one that most failures fit, if it can."""
    recorded.fail("d", COUNT, nb=2)
    assert recorded.broken() == {(case, PRODUCTS) for case in "abd"}


def test_what_cannot_break_the_rule() -> None:
    """A result that cannot break that rule, as one block none about many, has a rule of its own."""
    recorded = Recorded()
    recorded.fail("a", COUNT, nb=2)
    recorded.fail("b", COUNT, nb=3)
    recorded.fail("c", PRODUCTS)
    recorded.succeed("d", PRODUCTS)
    assert recorded.broken() == {("a", COUNT), ("b", COUNT), ("c", PRODUCTS)}


def test_equal_patterns_are_all_named() -> None:
    """Rules that nothing distinguishes are all broken."""
    recorded = Recorded()
    recorded.fail("a", PRODUCTS, EXACT)
    assert recorded.broken() == {("a", PRODUCTS), ("a", EXACT)}


def test_a_fact_decides(recorded: Recorded) -> None:
    """What a fact explains breaks its rule, whatever the case is about; the rest goes by the pattern."""
    fact = Fact(
        "lost", {}, COUNT, "s", "f", "", function=calls.DOT, explains=lambda result: result.call.n == 96
    )
    assert recorded.broken(fact) == {("a", PRODUCTS), ("b", COUNT)}


def test_a_rule_that_follows() -> None:
    """A rule that follows from the broken one is broken with it, where the case is about it."""
    recorded = Recorded()
    recorded.fail("a", "Q8A8-DOT-3", "Q8A8-ORD-2")
    fact = Fact("lost", {}, "Q8A8-ORD-2", "s", "f", "", function=calls.DOT, explains=lambda _: True)
    assert recorded.broken(fact) == {("a", "Q8A8-DOT-3"), ("a", "Q8A8-ORD-2")}


def test_what_was_not_asked_for(recorded: Recorded) -> None:
    """A failure that breaks none of the rules that were asked for stands under those of its case."""
    assert recorded.broken(wanted="DOT-4") == {(case, rule) for case in "ab" for rule in (PRODUCTS, EXACT)}


def test_definite_failures_stay() -> None:
    """A record that is not tentative stays as it is."""
    recorded = Recorded()
    recorded.fail("a", PRODUCTS)
    recorded.recorder.add(Record("Q8A8-MEM-1", "a", calls.DOT, Status.FAIL, "reads"))
    assert recorded.broken() == {("a", PRODUCTS), ("a", "Q8A8-MEM-1")}
