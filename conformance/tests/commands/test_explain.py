"""Rules are explained, with what checks them and what breaks them; and what a diagnosis names."""

from __future__ import annotations

import pytest

from q8a8_conformance.cli import main
from q8a8_conformance.commands.explain import explain, suite_checks
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.spec.rules import load_rules, rules_by_id


@pytest.mark.parametrize("rule", load_rules(), ids=lambda rule: rule.id)
def test_every_rule_is_explained(rule: object) -> None:
    """No rule is without an explanation; those for kernels have a check or a golden case; lines fit."""
    from q8a8_conformance.spec.rules import Rule  # noqa: PLC0415 -- for the type alone

    assert isinstance(rule, Rule)
    lines = list(explain(rule))
    text = "\n".join(lines)
    assert lines[0] == f"{rule.id}: {rule.title}"
    assert max(len(line) for part in lines for line in part.splitlines()) <= 100
    assert "](" not in text
    if rule.subject == "kernel":
        assert "checks of the suite" in text or "golden cases" in text


def test_checks_count_their_cases() -> None:
    """A check's cases are those of its parameters that are about the rule."""
    by_name = {(check.module, check.name): check for check in suite_checks("Q8A8-DOT-10")}
    assert by_name["test_dot", "each_block"].cases == 16
    assert all(check.text for check in by_name.values())
    assert suite_checks("Q8A8-MUL-1") == []


def test_a_rule_names_its_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    """The mistakes of the catalogue that break the rule are listed with what mends them."""
    assert main(["explain", "qnt-4"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    own = [mutant for mutant in MUTANTS.values() if mutant.rule == "Q8A8-QNT-4"]
    assert own
    for mutant in own:
        assert f"{mutant.slug}: {mutant.sentence}" in words
        assert mutant.fix in words
    assert "roundf" in rules_by_id()["Q8A8-QNT-4"].reason


def test_an_unknown_rule_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """There is no such rule: exit status 2, and where to look."""
    assert main(["explain", "QNT-99"]) == 2
    assert "q8a8 rules lists rules" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DOT-1*", "Q8A8-DOT-10: every block once"),
        ("odd-block-lost", "Treat every block once"),
        ("block-not-counted", "A fact, measured by experiments."),
        ("place-unwritten", "nothing is written"),
        ("activations:float32", "keeps its activations so"),
        ("division-half-even", "rounding = half-even"),
        ("torchao", "divisor = 127.5"),
        ("order:avx2", "ggml AVX2 with FMA"),
        ("scalar", "An order of additions, which is free (ORD-1)."),
        ("ggml-ref", "multiply by f32(127/amax)"),
        ("sums-in-double", "formed in double"),
        ("order:neon*", "order:neon-dotprod:"),
    ],
)
def test_what_a_diagnosis_names_is_explained(
    name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rules, causes, facts, orders and recipes are explained by name, and found by a pattern."""
    assert main(["explain", name]) == 0
    assert words in capsys.readouterr().out


def test_a_name_that_is_nearly_right(capsys: pytest.CaptureFixture[str]) -> None:
    """The nearest name is asked back."""
    assert main(["explain", "odd-blok-lost"]) == 2
    assert "did you mean odd-block-lost?" in capsys.readouterr().err
