"""The kill matrix: its page names every kernel there is, and the command says what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.mutants import LEGAL, MUTANTS
from q8a8_lab.mutation import __main__, page
from q8a8_lab.mutation.alone import ALONE

if TYPE_CHECKING:
    from q8a8_lab.mutation.page import Results

PAGE = Path(__file__).parents[4] / "docs" / "mutants.md"


def perfect() -> Results:
    """Give results as they should be: each mutant fails its rule, no legal kernel anything."""
    return {slug: {mutant.rule: 3} for slug, mutant in MUTANTS.items()} | {slug: {} for slug in LEGAL}


def without_counts(text: str) -> list[str]:
    """Give the lines of the page that do not depend on the suite's cases: all but the matrices."""
    matrices = re.compile(r"\n\| mutant \| [A-Z]{3}-.*?\n\n", re.DOTALL)
    return matrices.sub("\n\n", text + "\n").split("\n")


def test_the_page_is_up_to_date() -> None:
    """But for the numbers in the matrices, the page is what the command writes."""
    text = PAGE.read_text("utf-8")
    assert without_counts(text) == without_counts(page.render(perfect())), page.REGENERATE
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \|(.*\*\*\d+\*\*.*)\|$", text, re.MULTILINE))
    assert list(rows) == list(MUTANTS), page.REGENERATE
    assert not any("**0**" in row for row in rows.values())


def test_the_page_has_every_rule_and_kernel() -> None:
    """The page has a row for each mutant, each legal kernel and each rule's own mutant."""
    text = page.render(perfect())
    for slug in (*MUTANTS, *LEGAL, *ALONE.values()):
        assert f"| `{slug}` |" in text


def test_the_command_takes_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From good results it writes the page and ends with 0; from others it says what is wrong."""
    results = perfect()
    held, written = tmp_path / "results.json", tmp_path / "page.md"
    held.write_text(json.dumps(results), "utf-8")
    assert __main__.main(["--results", str(held), "--markdown", str(written)]) == 0
    assert written.read_text("utf-8") == page.render(results)
    slug, *others = MUTANTS
    legal = next(iter(LEGAL))
    results |= {slug: {}, others[0]: {"Q8A8-LAY-9": 1}, legal: {"Q8A8-DOT-1": 2}}
    held.write_text(json.dumps(results), "utf-8")
    assert __main__.main(["--results", str(held)]) == 1
    out = capsys.readouterr().out
    assert f"{slug} survives" in out
    assert f"{others[0]} breaks {MUTANTS[others[0]].rule}, and is blamed on Q8A8-LAY-9" in out
    assert f"{legal} is legal and fails Q8A8-DOT-1" in out


def test_the_command_judges(tmp_path: Path) -> None:
    """Named kernels are judged, one that crashes too, and their results written."""
    results = tmp_path / "results.json"
    assert __main__.main(["over-read-byte", "dequantize-minus-128", "--json", str(results)]) == 0
    assert set(json.loads(results.read_text("utf-8"))) == {"over-read-byte", "dequantize-minus-128"}


@pytest.mark.parametrize("arguments", [["no-such-mutant"], ["over-read-byte", "--markdown", "page.md"]])
def test_usage(arguments: list[str]) -> None:
    """A slug that nothing has, and a page about a few, are refused."""
    assert __main__.main(arguments) == 2
