"""A run in two processes: the same outcomes as in one, and nothing is lost where one of them ends."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.suite.shares import LONG_CASES, Helper, divide
from q8a8_lab.mutation.judging import cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Tested


def test_divide() -> None:
    """Cases of a check, and those alone in theirs, go to the processes in turn; long ones by their time."""
    assert divide(((check, "") for check in "aabbbcdee"), 2) == [0, 1, 0, 1, 0, 0, 1, 0, 1]
    assert divide(((check, "") for check in "abcd"), 3) == [0, 1, 2, 0]
    assert divide([], 2) == []
    long = [("a", "mul-mat/joint"), ("a", "mul-mat/exact/1"), ("a", "mul-mat/exact/2"), ("b", "flush/dot")]
    assert divide([*long, *long[-1:]], 2) == [0, 0, 1, 1, 1]


def test_long_cases_exist() -> None:
    """Every pattern of long cases matches one of the suite."""
    assert [
        pattern for pattern in LONG_CASES if not fnmatch.filter([case.name for case in cases()], pattern)
    ] == []


def outcomes(tested: Tested) -> object:
    """Return what must not depend on the number of processes."""
    report = tested.report
    kept = ("verdict", "rules", "failures", "not_run")
    # (How many examples a search for a smaller one makes depends on what the process has done before.)
    diagnosis = sorted((each["function"], each["cause"]) for each in report["diagnosis"])
    return tested.status, {key: report.get(key) for key in kept}, diagnosis


@pytest.mark.parametrize(
    ("sut", "rules", "jobs"),
    [
        ("py:q8a8_conformance.mutants:minus_128_sign", "DOT-1", "2"),
        ("py:partial_kernels:OneQuantizer", "QNT-8,LAY-1", "3"),
    ],
)
def test_the_same_outcomes(q8a8_test: Callable[..., Tested], sut: str, rules: str, jobs: str) -> None:
    """Rules, failures and causes are those of a run in one process, in the same order."""
    alone, shared = (q8a8_test(sut, "--rules", rules, "--jobs", number) for number in ("1", jobs))
    assert outcomes(shared) == outcomes(alone)


def test_a_process_that_ends(q8a8_test: Callable[..., Tested], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one has no result there is no verdict: the run is broken, and says what to do."""
    monkeypatch.setattr(Helper, "findings", lambda _: None)
    tested = q8a8_test("ref", "--rules", "DEQ-*", "--jobs", "2")
    assert tested.status == 70
    assert "with --jobs 1 there is none" in tested.out
