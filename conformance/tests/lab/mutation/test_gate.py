"""The gate: every mutant fails its rule, every rule's checks are needed, no legal kernel fails.

The suite's cases are run in two processes of their own, without a worker between them and the mutant but for
those that may crash. A mutant's run ends as soon as its rule fails; the matrix of all rules that each
mutant breaks is made by ``python -m q8a8_lab.mutation`` and takes minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8 import ORDERS
from q8a8_conformance.faults.kernel import DOTS
from q8a8_conformance.mutants import LEGAL, MUTANTS
from q8a8_conformance.spec.rules import load_rules
from q8a8_lab.mutation.isolating import EQUIVALENT, ISOLATING, NATIVE, allowed
from q8a8_lab.mutation.pool import judge_all, judged

if TYPE_CHECKING:
    from q8a8_lab.mutation.judging import Judged

PROOFS = Path(__file__).parents[4] / "docs" / "proofs.md"
DERIVED = {rule.id: rule.derived_from for rule in load_rules()}
VALUES_OF_PRODUCTS = {f"Q8A8-MUL-{number}" for number in (4, 5, 6, 7)}
KERNEL = {rule.id for rule in load_rules() if rule.subject == "kernel"}
MUST = [
    rule.id
    for rule in load_rules()
    if rule.subject == "kernel" and rule.level == "MUST" and rule.id not in NATIVE
]


@pytest.fixture(scope="module")
def caught(isolated: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Judge every other mutant until a result is wrong in a case about its rule; return what may be broken.

    (Which rule is, facts decide: the tests of the diagnosis hold these against the catalogue. What is wrong
    with the values of a matrix product the pattern over all of its cases decides.)
    """
    others = [slug for slug in MUTANTS if slug not in isolated]
    products = [slug for slug in others if MUTANTS[slug].rule in VALUES_OF_PRODUCTS]
    rows = [slug for slug in others if slug not in products]
    return isolated | judge_all(rows, "caught") | judge_all(products, "cases")


@pytest.fixture(scope="module")
def isolated() -> dict[str, frozenset[str]]:
    """Judge the mutants of `ISOLATING` by all cases; return the rules that failed."""
    return judge_all(list(dict.fromkeys(ISOLATING.values())), "cases")


@pytest.fixture(scope="module")
def legal() -> dict[str, Judged]:
    """Judge every legal kernel by all cases about values."""
    return {each.slug: each for each in judged(list(LEGAL), "values")}


@pytest.mark.parametrize("slug", MUTANTS)
def test_every_mutant_is_caught(caught: dict[str, frozenset[str]], slug: str) -> None:
    """Under the default profile the mutant fails at least the rule that it breaks."""
    assert MUTANTS[slug].rule in caught[slug]


@pytest.mark.parametrize("rule", MUST)
def test_every_rule_has_a_mutant_of_its_own(isolated: dict[str, frozenset[str]], rule: str) -> None:
    """A mutant fails the rule and no other; a rule that follows from others fails with one of these."""
    failed = isolated[ISOLATING[rule]]
    assert rule in failed
    assert failed <= allowed(rule)
    assert bool(DERIVED[rule]) == bool(failed & set(DERIVED[rule]))


def test_few_rules_follow_from_others() -> None:
    """Only the four rules that the page "Proofs" derives follow from others; one of them is equivalent."""
    derived = {rule for rule, sources in DERIVED.items() if sources}
    assert derived == {"Q8A8-DEQ-3", "Q8A8-DOT-3", "Q8A8-QNT-8", "Q8A8-QNT-10"}
    assert all(DERIVED[other] == (rule,) for rule, other in EQUIVALENT.items())
    text = PROOFS.read_text("utf-8").partition("## Rules that follow from others")[2]
    assert all(f"[{rule.removeprefix('Q8A8-')}]" in text for rule in derived)


@pytest.mark.parametrize("slug", LEGAL)
def test_no_legal_kernel_is_called_broken(legal: dict[str, Judged], slug: str) -> None:
    """A kernel that differs from the reference as the specification allows fails nothing."""
    assert not legal[slug].failed


@pytest.mark.parametrize("order", [name for name in ORDERS if not name.startswith(("i8mm", "scalar"))])
def test_every_order_is_named(legal: dict[str, Judged], order: str) -> None:
    """A kernel that adds in an order of the catalogue is said to, and in no other, whatever the function."""
    causes = legal[f"order-{order}"].causes
    assert {function: causes[function] for function in DOTS} == dict.fromkeys(DOTS, (f"order:{order}",))


def test_every_rule_has_a_mutant() -> None:
    """There is a mutant for every rule that binds kernels, and one that isolates it."""
    assert {mutant.rule for mutant in MUTANTS.values()} >= set(MUST)
    assert set(ISOLATING) == set(MUST)
    assert set(ISOLATING.values()) <= set(MUTANTS)


@pytest.mark.parametrize("slug", MUTANTS)
def test_every_mutant_is_described(slug: str) -> None:
    """A mutant has a slug, a sentence, a fix, and a rule that exists; no legal kernel has its slug."""
    mutant = MUTANTS[slug]
    assert slug == slug.lower().replace("_", "-").replace(" ", "-")
    assert mutant.sentence.endswith(".")
    assert mutant.fix.endswith(".")
    assert mutant.rule in KERNEL
    assert slug not in LEGAL
