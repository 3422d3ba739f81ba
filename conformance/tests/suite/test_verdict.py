"""Records become rule results and a verdict; known failures are excused, and stale ones are not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.results.record import Record, Recorder, Status, rule_matches, worst
from q8a8_conformance.results.verdict import (
    KnownFailure,
    KnownFailuresError,
    Verdict,
    judge,
    read_known_failures,
)
from q8a8_conformance.spec.rules import Rule

if TYPE_CHECKING:
    from pathlib import Path

MUST, SHOULD = (
    Rule(f"Q8A8-DOT-{n}", level, "exact", "kernel", "", "", "", title="")
    for n, level in ((1, "MUST"), (11, "SHOULD"))
)
RULES = (MUST, SHOULD)


def record(status: Status, rule: Rule = MUST, case: str = "dot/a") -> Record:
    """Return a record of one case."""
    return Record(rule.id, case, "ggml_vec_dot_q8_a8_q8_a8", status)


def test_the_worst_outcome_of_a_case_is_kept() -> None:
    """A case that reports twice on a rule counts once, by its worst report."""
    recorder = Recorder()
    for status in (Status.PASS, Status.FAIL, Status.PASS):
        recorder.add(record(status))
    assert [r.status for r in recorder] == [Status.FAIL]
    assert worst([]) is Status.NOT_RUN
    assert worst([Status.FAIL, Status.CRASHED, Status.PASS]) is Status.CRASHED


@pytest.mark.parametrize(
    ("records", "verdict", "exit_status"),
    [
        ([record(Status.PASS)], Verdict.CONFORMS, 0),
        ([record(Status.PASS), record(Status.FAIL, case="dot/b")], Verdict.DOES_NOT_CONFORM, 1),
        ([record(Status.FAIL), record(Status.CRASHED, case="dot/b")], Verdict.CRASHED, 3),
        ([record(Status.NOT_RUN)], Verdict.NOTHING_RAN, 4),
        ([], Verdict.NOTHING_RAN, 4),
        ([record(Status.PASS), record(Status.FAIL, SHOULD)], Verdict.CONFORMS, 0),
    ],
)
def test_verdicts(records: list[Record], verdict: Verdict, exit_status: int) -> None:
    """Each verdict follows from the records, and has its exit status."""
    judgement = judge(records, RULES)
    assert judgement.verdict is verdict
    assert judgement.verdict.exit_status == exit_status


@pytest.mark.parametrize(
    ("ending", "exit_status"), [(Verdict.NOT_REACHED, 5), (Verdict.BROKEN, 70), (Verdict.INTERRUPTED, 130)]
)
def test_a_run_without_a_judgement(ending: Verdict, exit_status: int) -> None:
    """How a run ended comes before what its cases show; it is no judgement."""
    for status in (Status.PASS, Status.FAIL, Status.CRASHED):
        judgement = judge([record(status)], RULES, ending=ending)
        assert (judgement.verdict, judgement.words) == (ending, ending.value)
        assert not ending.is_judgement
        assert ending.exit_status == exit_status


def test_a_rule_passes_if_all_its_cases_ran() -> None:
    """A case that was left out leaves its rule unjudged, but for what a kernel need not offer."""
    left_out = Record(MUST.id, "dot/b", "", Status.NOT_RUN, "no capability")
    judgement = judge([record(Status.PASS), left_out], RULES)
    assert judgement.verdict is Verdict.NOTHING_RAN
    assert (judgement.rules[0].status, judgement.rules[0].cases) == (Status.NOT_RUN, 1)
    assert judgement.rules[0].reason == "no capability"
    assert judgement.rules[1].reason == "no case of this rule was selected"
    judgement = judge([record(Status.PASS), replace(left_out, offered=False)], RULES)
    assert (judgement.verdict, judgement.rules[0].status) == (Verdict.CONFORMS, Status.PASS)
    judgement = judge([record(Status.FAIL), left_out], RULES)
    assert (judgement.rules[0].status, judgement.rules[0].reason) == (Status.FAIL, "")


def test_rules_count_their_cases() -> None:
    """A rule's result counts what ran and what failed; a rule without a case is not run."""
    judgement = judge(
        [record(Status.PASS), record(Status.FAIL, case="dot/b"), record(Status.NOT_RUN, case="dot/c")], RULES
    )
    must, should = judgement.rules
    assert (must.status, must.cases, must.failed) == (Status.FAIL, 2, 1)
    assert (should.status, should.cases, should.failed) == (Status.NOT_RUN, 0, 0)


def test_known_failures_are_excused() -> None:
    """A listed failure does not count, and is shown as known."""
    known = (KnownFailure("Q8A8-DOT-1", "dot/b*", 1),)
    judgement = judge([record(Status.PASS), record(Status.FAIL, case="dot/b1")], RULES, known)
    assert judgement.verdict is Verdict.CONFORMS
    assert judgement.words == "conforms except for 1 known failure"
    assert (judgement.rules[0].failed, judgement.rules[0].known) == (1, 1)
    assert not judgement.stale


def test_stale_known_failures_fail() -> None:
    """An entry whose cases all pass, or that names none, is a failure; one whose cases did not run is not."""
    passing, unheard_of = KnownFailure("Q8A8-DOT-1", "dot/a", 1), KnownFailure("DOT-1", "dot/z", 2)
    judgement = judge([record(Status.PASS)], RULES, (passing, unheard_of))
    assert judgement.verdict is Verdict.DOES_NOT_CONFORM
    assert judgement.stale == (passing, unheard_of)
    assert judge([record(Status.PASS)], RULES, (unheard_of,), everything_ran=False).stale == ()
    assert judge([record(Status.NOT_RUN)], RULES, (passing,)).stale == ()
    both = KnownFailure("Q8A8-DOT-1", "dot/*", 1)
    half = [record(Status.PASS), record(Status.NOT_RUN, case="dot/b")]
    assert judge(half, RULES, (both,)).stale == ()


def test_known_failures_files_are_read(tmp_path: Path) -> None:
    """Comments and blank lines are skipped, short ids are completed."""
    path = tmp_path / "known"
    path.write_text(
        "# ours\n\nDOT-1 dot/minus-128/*  # maddubs\nQ8A8-QNT-4 quantize/ties\n", encoding="utf-8"
    )
    assert read_known_failures(path) == (
        KnownFailure("Q8A8-DOT-1", "dot/minus-128/*", 3, "maddubs"),
        KnownFailure("Q8A8-QNT-4", "quantize/ties", 4),
    )


@pytest.mark.parametrize("text", ["DOT-1\n", "DOT-1 a b\n"])
def test_malformed_known_failures_are_refused(tmp_path: Path, text: str) -> None:
    """A line that has not two fields is named."""
    path = tmp_path / "known"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KnownFailuresError, match="line 1"):
        read_known_failures(path)
    with pytest.raises(KnownFailuresError, match="none: No such file or directory"):
        read_known_failures(tmp_path / "none")


def test_patterns_match_short_and_full_ids() -> None:
    """A rule is chosen by its full id, its short one, a pattern, or one of several."""
    assert rule_matches("Q8A8-QNT-3", "QNT-*")
    assert rule_matches("Q8A8-QNT-3", "Q8A8-QNT-3")
    assert rule_matches("Q8A8-QNT-3", "DOT-1, QNT-3")
    assert not rule_matches("Q8A8-QNT-3", "QNT-1")
