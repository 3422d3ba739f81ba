"""The command that judges mutants, and the page about them."""

from __future__ import annotations

import json
from pathlib import Path

from q8a8_conformance.mutants import LEGAL, MUTANTS
from q8a8_lab.mutation import __main__, page

PAGE = Path(__file__).parents[4] / "docs" / "mutants.md"
JUDGED = ("over-read-byte", "dequantize-minus-128", "half-infinite-on-read", "dequantize-tail-lost")
"""Mutants of dequantization alone, which are judged in seconds; the first one in a worker."""


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    """The page is what the command writes from the catalogue."""
    written = tmp_path / "page.md"
    assert __main__.main(["--markdown", str(written)]) == 0
    assert PAGE.read_text("utf-8") == written.read_text("utf-8"), page.REGENERATE


def test_mutants_fail_their_rule(tmp_path: Path) -> None:
    """The command counts the cases that fail, by rule; the mutant's own rule is the first of them."""
    results = tmp_path / "results.json"
    assert __main__.main([*JUDGED, "--json", str(results)]) == 0
    judged = json.loads(results.read_text("utf-8"))
    assert {slug: max(failed, key=failed.get) for slug, failed in judged.items()} == {
        slug: MUTANTS[slug].rule for slug in JUDGED
    }


def test_complaints() -> None:
    """What survives, fails another rule, or is legal and fails is complained about."""
    slug, legal = next(iter(MUTANTS)), next(iter(LEGAL))
    assert __main__.complaint(slug, {}) == f"{slug} survives"
    assert (
        __main__.complaint(slug, {"Q8A8-LAY-9": 1})
        == f"{slug} breaks {MUTANTS[slug].rule}, and fails Q8A8-LAY-9"
    )
    assert __main__.complaint(legal, {"Q8A8-DOT-1": 2}) == f"{legal} is legal and fails Q8A8-DOT-1"
    assert __main__.complaint(slug, {MUTANTS[slug].rule: 1}) == __main__.complaint(legal, {}) == ""


def test_usage() -> None:
    """A slug that nothing has is refused."""
    assert __main__.main(["no-such-mutant"]) == 2
