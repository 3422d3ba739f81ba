"""The kills on record, and the mutants that no golden case can show."""

from __future__ import annotations

import contextlib
import os
import platform
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.faults import kills as kills_module
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.faults.kernel import ROWS
from q8a8_conformance.faults.kills import UNSHOWN, MutantKiller
from q8a8_conformance.faults.mutant import Change, build
from q8a8_conformance.mutants import LEGAL, MUTANTS, make
from q8a8_conformance.protocol.session import CallRefused, Session
from q8a8_conformance.results.record import Recorder, Status
from q8a8_conformance.spec.abi import NAMES
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.judge import CaseOver, Judge
from q8a8_conformance.suite.target import NotRunError, Target
from q8a8_conformance.suite.test_golden import call_of
from q8a8_conformance.suite.test_golden import test_golden as judge_golden
from q8a8_golden.conform import conforms
from q8a8_golden.generate.minimal import KILLERS
from q8a8_golden.load import load_cases
from q8a8_lab import native_build
from q8a8_lab.mutation.native import MUTANTS as NATIVE
from q8a8_lab.mutation.native import argv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_golden.cases import Case

CASES = load_cases()
BEYOND_VALUES = ("Q8A8-MEM-", "Q8A8-ENV-", "Q8A8-QNT-11", "Q8A8-MUL-")
"""Rules about memory, environment and inputs outside the domain, and of matrix products: none is golden."""
NOT_IN_THE_SET = (
    "golden cases show it",
    "small terms are lost show it",
    "is in no golden case",
    "are close together",
    "in buffers of their own",
)
"""Reasons of mutants of values: the inputs that show them."""
SHOWN_IN_C = {"over-write-byte", "over-write-lanes", "over-write-block", "over-write-vector"}
"""Mutants in C that write outside their results, into bytes that a case compares."""
IN_C = [
    slug
    for slug, mutant in NATIVE.items()
    if mutant.runs_on(platform.machine())
    and (slug in SHOWN_IN_C or not mutant.rule.startswith(BEYOND_VALUES))
]
"""Mutants in C for this processor whose bug shows in the bytes that one call writes."""
ONE_ROW = "one-row-at-a-time"
"""The legal kernel that does not offer nrc = 2."""


@pytest.fixture(scope="module")
def killer() -> Iterator[MutantKiller]:
    """Yield a killer, for all tests of this module."""
    with MutantKiller() as one:
        yield one


def shown() -> dict[str, set[str]]:
    """Return the functions in which some case kills each mutant, by the kills on record."""
    found: dict[str, set[str]] = defaultdict(set)
    for case in CASES:
        for slug in case.kills:
            found[slug].add(case.function)
    return found


@pytest.mark.parametrize("slug", MUTANTS)
def test_every_mutant_is_killed_by_the_golden_cases_alone_or_no_case_can(slug: str) -> None:
    """Some case kills a mutant in every function that it concerns, but for those in the table."""
    assert shown().get(slug, set()) == (set() if slug in UNSHOWN else {*MUTANTS[slug].functions})


def test_the_table_of_those_that_no_case_shows() -> None:
    """Each is of memory, modes, threads or state, or wrong on inputs alone that the small set lacks."""
    assert set(UNSHOWN) <= set(MUTANTS)
    assert list(UNSHOWN) == sorted(UNSHOWN)
    for slug, reason in UNSHOWN.items():
        assert MUTANTS[slug].rule.startswith(BEYOND_VALUES) or reason.endswith(NOT_IN_THE_SET), reason


def test_the_page_names_those_that_no_case_shows(request: pytest.FixtureRequest) -> None:
    """With the table's reasons, in a table of its own."""
    page = (request.config.rootpath / "docs/vectors.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `") and line.split("`")[1] in MUTANTS]
    assert rows == [f"| `{slug}` | {reason} |" for slug, reason in UNSHOWN.items()]
    assert f"{KILLERS} cases" in page


def test_kills_are_sorted_slugs_of_mutants_of_the_function() -> None:
    """No slug twice, none that is unknown, none of another function."""
    for case in CASES:
        assert list(case.kills) == sorted(set(case.kills))
        assert all(case.function in MUTANTS[slug].functions for slug in case.kills)


def test_a_sample_of_the_kills_on_record(killer: MutantKiller) -> None:
    """Every fortieth case kills now what is on record; `q8a8 vectors check` asks all of them."""
    for case in CASES[::40]:
        assert killer(case) == case.kills, case.id


def test_those_that_may_crash_or_hang(killer: MutantKiller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that ends its process, or never returns, is killed by the case that makes it do so."""
    monkeypatch.setattr(kills_module, "TIMEOUT_SECONDS", 0.5)
    for slug in ("infinity-aborts", "crashes-on-63-blocks", "hangs-on-1023-blocks", "over-write-byte"):
        case = next(case for case in CASES if slug in case.kills)
        assert killer.shows(case, slug)
        other = next(each for each in CASES if each.function == case.function and slug not in each.kills)
        assert not killer.shows(other, slug)


def test_nothing_kills_the_specification(killer: MutantKiller) -> None:
    """A kernel without a mistake passes every case: what is killed, is killed for its mistake."""
    assert [case.id for case in CASES if killer.shows(case, "")] == []


def failures(session: InProcessSession | Session, cases: Iterable[Case]) -> Iterator[str]:
    """Yield the golden cases whose bytes a kernel does not give."""
    for case in cases:
        call = call_of(case)
        names = [call.spec.buffers[index].name for index in call.spec.outputs]
        if not conforms(case, dict(zip(names, session.call(call).outputs, strict=True))):
            yield case.id


@pytest.mark.parametrize("slug", LEGAL)
def test_no_legal_kernel_is_killed(slug: str) -> None:
    """A kernel that differs as the specification allows passes every golden case of its functions."""
    cases = [case for case in CASES if case.function in LEGAL[slug].functions]
    if slug == ONE_ROW:
        cases = [case for case in cases if call_of(case).nrc == 1]
    assert list(failures(InProcessSession(lambda: make(slug), NAMES), cases)) == []


def _signed_extreme(x: Array) -> Array:
    """Return the element of the largest magnitude, with its sign."""
    return np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, np.newaxis], axis=1)[:, 0]


@pytest.mark.parametrize(
    "change",
    [
        *(
            Change(f"{slug}: {form}", "Another form of a mutant.", changes)
            for slug, mutant in MUTANTS.items()
            for form, changes in mutant.forms.items()
        ),
        Change("signed-extreme", "amax has a sign.", {"amax": _signed_extreme}, ROWS),
        Change("bx-for-both", "by is not used.", {"strides": lambda _n, bx, _by: (bx, bx)}),
        Change("no-strides", "Rows touch.", {"strides": lambda n, _bx, _by: (n // 32 * 34, n // 32 * 34)}),
    ],
    ids=lambda change: change.slug,
)
def test_other_forms_are_killed(change: Change) -> None:
    """Other forms of the catalogue's mistakes, by which no golden case was chosen, fall to them too."""
    cases = [case for case in CASES if case.function in change.functions]
    assert any(failures(InProcessSession(lambda: build([change]), NAMES), cases))


@pytest.mark.parametrize(
    ("slug", "rules"),
    [
        ("round-half-even", {"QNT-3", "QNT-4", "QNT-10"}),
        ("inverse-of-d", {"QNT-3", "QNT-4"}),
        ("zero-test-on-d", {"QNT-3", "QNT-6"}),
        ("half-saturates-early", {"HLF-1", "HLF-4", "QNT-2"}),
        ("minus-128-sign", {"DOT-1"}),
        ("minus-128-clamped", {"DOT-1"}),
        ("results-exchanged", {"DOT-6", "ORD-2"}),
        ("bs-ignored", {"DOT-6", "ORD-2"}),
        ("half-flushed-on-read", {"DEQ-2", "DOT-8", "HLF-2"}),
        ("dequantize-minus-128", {"DEQ-1", "DEQ-2", "HLF-2"}),
    ],
)
def test_the_cases_that_kill_a_mutant_name_its_rules(slug: str, rules: set[str]) -> None:
    """The rules of the cases that a mutant fails are those that its mistake concerns, and no others."""
    assert {
        rule.removeprefix("Q8A8-") for case in CASES if slug in case.kills for rule in case.rules
    } == rules


@pytest.mark.parametrize("slug", IN_C)
def test_mutants_in_c_are_killed_by_the_golden_cases_alone(slug: str) -> None:
    """The cases were chosen by the mutants in NumPy; those about values in C fall to them as well."""
    try:
        command = argv(slug)
    except native_build.MissingToolError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with Session(command) as session:
        assert any(failures(session, CASES))


def suite_fails(case: Case, slug: str) -> bool | None:
    """Return whether the suite, profile kernel, fails a mutant on one golden case; None where it is not run.

    A mutant that gives for nrc = 2 what it gives for nrc = 1 counts as one that computes one row at a time.
    """
    target = Target(InProcessSession(lambda: make(slug), NAMES), "kernel", 5.0)  # type: ignore[arg-type]  # all that is used
    recorder = Recorder()
    judge = Judge(target, Recipes(target), recorder, case.id, case.rules)
    # (Looking for the cause, the suite tries wrong layouts too, in which a scale may be an infinity.)
    with contextlib.suppress(CaseOver, CallRefused), np.errstate(all="ignore"):
        try:
            judge_golden(judge, case)
        except NotRunError:
            return None
    judge.finish()
    return any(record.status in {Status.FAIL, Status.CRASHED} for record in recorder)


def test_a_kill_is_what_the_suite_fails() -> None:
    """The suite's own judgement of single cases agrees, on mutants of every family."""
    slugs = [slug for slug, mutant in MUTANTS.items() if not mutant.separate_process and slug not in UNSHOWN][
        ::6
    ]
    counted: Counter[bool] = Counter()
    for number, slug in enumerate(slugs):
        cases = [case for case in CASES if case.function in MUTANTS[slug].functions]
        for case in cases[number % 37 :: 37]:
            fails = suite_fails(case, slug)
            if fails is not None:
                assert fails == (slug in case.kills), (slug, case.id)
                counted[fails] += 1
    assert min(counted[True], counted[False]) >= 50
