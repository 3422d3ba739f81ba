"""Rules that are not judged in full, known failures, and runs that stop at the first failure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Options, Tested

HERE = Path(__file__).parent
MUTANTS = "py:q8a8_conformance.mutants"
FILES = ("json", "junitxml", "markdown", "html", "badge", "statement", "write-known-failures")
JUDGEMENTS = {"badge", "statement", "write-known-failures"}


@pytest.mark.parametrize(
    ("lacks", "unjudged"),
    [
        ("threads", {"ENV-3"}),
        ("flush", {"ENV-1"}),
        ("fenv", {"ENV-1"}),
        ("repeat", {"ENV-2"}),
        ("offset", {"MEM-2", "MEM-4"}),
        ("guard", {"MEM-1"}),
        ("readonly", {"MEM-3"}),
    ],
)
def test_a_rule_passes_only_if_it_was_seen(
    q8a8_test: Callable[..., Tested], lacks: str, unjudged: set[str]
) -> None:
    """Where the worker lacks a capability, the rules that need it are not run, with the reason."""
    worker = f"{sys.executable} {HERE / 'lacking_worker.py'} {lacks}"
    tested = q8a8_test(f"exec:{worker}", "--rules", "ENV-*,MEM-*", "--case", "*dequantize_row*")
    assert (tested.status, tested.report["verdict"]) == (0, "conforms"), tested.out
    assert unjudged <= tested.rules("not-run")
    for rule in tested.report["rules"]:
        if rule["id"].removeprefix("Q8A8-") in unjudged:
            assert rule["reason"] == f"the worker has no capability {lacks!r}"


def test_one_function_is_not_equal_to_another(q8a8_test: Callable[..., Tested]) -> None:
    """That two quantizers write the same bytes is not judged of a kernel that offers one of them."""
    tested = q8a8_test("py:partial_kernels:OneQuantizer", "--rules", "QNT-8,LAY-1")
    assert (tested.rules("not-run"), tested.rules("pass")) == ({"QNT-8"}, {"LAY-1"})
    assert "the kernel does not offer quantize_row_q8_a8_ref" in tested.out


def test_a_case_that_makes_no_call_has_a_reason(
    q8a8_test: Callable[..., Tested], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that has found nothing to do has not passed."""
    monkeypatch.setattr("q8a8_conformance.suite.test_environment.samples", lambda *_, **__: [])
    tested = q8a8_test("ref", "--case", "environment/repeated/dequantize_row_q8_a8")
    assert (tested.status, tested.report["verdict"]) == (4, "nothing-ran")
    assert tested.report["not_run"] == {"the case made no call": 1}


def test_known_failures_show_in_the_verdict(
    q8a8_test: Callable[..., Tested], folder: Path, report_options: Options
) -> None:
    """A kernel that conforms but for known failures is called that, in every report."""
    known = folder.parent / "known"
    known.write_text("DOT-7 *\n", encoding="utf-8")
    kinds = ("markdown", "html", "badge", "statement")
    words = ("--rules", "DOT-7", "--known-failures", str(known), *report_options(*kinds))
    tested = q8a8_test(f"{MUTANTS}:s_added_if_finite", *words)
    count = len(tested.report["known_failures"])
    assert tested.status == 0
    assert tested.report["verdict"] == "conforms"
    assert f"conforms except for {count} known failures: " in tested.out
    for kind in kinds:
        assert f"conforms except for {count} known failures" in (folder / kind).read_text("utf-8"), kind


@pytest.mark.parametrize("excused", [False, True])
def test_the_first_failure_ends_the_run(
    q8a8_test: Callable[..., Tested], folder: Path, excused: bool
) -> None:
    """With -x nothing runs after the first failure, unless it is known; what did not run has its reason."""
    known = folder / "known"
    known.write_text("DOT-7 *\nDOT-5 *\n" if excused else "# none\n", encoding="utf-8")
    selection = ("--rules", "DOT-5,DOT-7", "--known-failures", str(known))
    tested = q8a8_test(f"{MUTANTS}:s_added_if_finite", *selection, "-x")
    cases = sum(rule["cases"] for rule in tested.report["rules"])
    if excused:
        assert tested.report["complete"]
        assert cases > 2
    else:
        assert (tested.status, tested.report["verdict"], tested.report["complete"]) == (
            1,
            "does-not-conform",
            False,
        )
        assert len({failure["case"] for failure in tested.report["failures"]}) == 1
        assert "the run stopped at the first failure (-x)" in tested.report["not_run"]
        assert "-x" not in tested.report["command"]
