"""A known-failures file that a run writes excuses that run, and nothing else; what no longer fails shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.cli import main
from q8a8_conformance.results.record import Record, Status
from q8a8_conformance.results.verdict import format_known_failures, read_known_failures

if TYPE_CHECKING:
    from pathlib import Path

ADDS = "py:q8a8_conformance.mutants:s_added_if_finite"
"""Adds its result to what the output held: breaks DOT-7 alone."""


def test_a_written_file_excuses_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Written by one run, read by the next: it passes, and its failures are known; a right kernel fails."""
    known, again = tmp_path / "known", tmp_path / "again"
    rules = ("--rules", "DOT-7,DOT-4")
    assert main(["test", ADDS, *rules, "--write-known-failures", str(known)]) == 1
    entries = read_known_failures(known)
    assert entries
    assert {entry.rule for entry in entries} == {"Q8A8-DOT-7"}
    excused = ("--known-failures", str(known))
    words = ["test", ADDS, *rules, *excused, "--write-known-failures", str(again)]
    assert main(words) == 0
    assert "known failures" in capfd.readouterr().out
    # What is known is still a failure: the file that the second run writes is the same.
    assert read_known_failures(again) == entries
    assert main(["test", "ref", *rules, *excused]) == 1
    assert "no longer fails" in capfd.readouterr().out


@pytest.mark.parametrize("case", ["dot/a", "a b", "x[1]*", "why?", "a#b", "tab\there", "[[]"])
def test_any_case_id_can_be_written(case: str, tmp_path: Path) -> None:
    """An entry covers the case that it was written for, whatever signs its id has."""
    record = Record("Q8A8-DOT-1", case, "", Status.FAIL, "a # message\nof lines")
    path = tmp_path / "known"
    path.write_text(format_known_failures([record, record], "q8a8\ntest"), encoding="utf-8")
    (entry,) = read_known_failures(path)
    assert entry.covers(record)
    assert not entry.covers(Record("Q8A8-DOT-1", "dot/z", "", Status.FAIL))


def test_a_place_that_cannot_be_written_is_usage(capfd: pytest.CaptureFixture[str]) -> None:
    """A path that cannot be written is refused before the suite runs."""
    assert main(["test", "ref", "--write-known-failures", "/nowhere/known"]) == 2
    assert "--write-known-failures /nowhere/known" in capfd.readouterr().err
