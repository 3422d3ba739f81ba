"""Failed dot products break the rules of the facts that explain them."""

from __future__ import annotations

from q8a8_conformance.diagnosis.facts import Fact
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.observations import Observations
from q8a8_conformance.results.record import CallData, Record, Recorder, Status
from q8a8_conformance.suite.measured_rules import by_facts

WRONG, RIGHT = b"\1\0\0\0", bytes(4)


def test_a_fact_decides_the_rule() -> None:
    """A record that a fact explains stands against its rule, its old rule passes; any other stays."""
    call = calls.dot(*dot_rows.exact_pair(1))
    observations = Observations()
    observations.add_failure(call, {"s": WRONG}, {"s": RIGHT})
    data = CallData(calls.DOT, calls.arguments_of(call), calls.inputs_of(call), {"s": RIGHT}, {"s": WRONG})
    unknown = CallData(calls.DOT, {}, {}, {}, {"s": WRONG})
    recorder = Recorder()
    recorder.add(Record("Q8A8-DOT-4", "case", calls.DOT, Status.FAIL, "differs", data))
    recorder.add(Record("Q8A8-DOT-10", "same", calls.DOT, Status.FAIL, "differs", data))
    recorder.add(Record("Q8A8-DOT-4", "other", calls.DOT, Status.FAIL, "differs", unknown))
    recorder.add(Record("Q8A8-MEM-1", "case", calls.DOT, Status.FAIL, "reads", data))
    fact = Fact(calls.DOT, "lost", {}, "Q8A8-DOT-10", "s", "f", explains=lambda _: True)
    found = by_facts(recorder, [fact], observations, {"case": ("Q8A8-DOT-4",)})
    assert {(one.rule, one.case): one.status for one in found} == {
        ("Q8A8-DOT-10", "case"): Status.FAIL,
        ("Q8A8-DOT-4", "case"): Status.PASS,
        ("Q8A8-DOT-10", "same"): Status.FAIL,
        ("Q8A8-DOT-4", "other"): Status.FAIL,
        ("Q8A8-MEM-1", "case"): Status.FAIL,
    }
