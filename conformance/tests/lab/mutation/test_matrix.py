"""The kill matrix: the page holds what the suite finds, and the command reports what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.mutants import LEGAL, MUTANTS
from q8a8_conformance.results.record import full_id
from q8a8_lab.mutation import __main__, page

if TYPE_CHECKING:
    from q8a8_lab.mutation.page import Results

PAGE = Path(__file__).parents[4] / "docs" / "mutants.md"
JUDGED = ("over-read-byte", "dequantize-minus-128", "half-infinite-on-read", "dequantize-tail-lost")
"""Mutants of dequantization alone, which are judged in seconds; the first one in a worker."""


def committed() -> Results:
    """Read the numbers in the page's matrices; legal kernels fail nothing."""
    found: Results = {slug: {} for slug in LEGAL}
    rules: list[str] = []
    for line in PAGE.read_text("utf-8").splitlines():
        first, *cells = [cell.strip("* ") for cell in line.strip("|").split("|")]
        if first == "mutant":
            rules = [] if "what it does" in cells else [full_id(cell) for cell in cells]
        elif first.strip("`") in MUTANTS and len(cells) == len(rules):
            numbers = zip(rules, cells, strict=True)
            found[first.strip("`")] = {rule: int(number) for rule, number in numbers if number}
    return found


def test_the_page_is_up_to_date() -> None:
    """From the page's own numbers the command writes the page: every other word comes from the catalogue."""
    assert PAGE.read_text("utf-8") == page.render(committed()), page.REGENERATE


def test_the_numbers_are_those_of_the_suite(tmp_path: Path) -> None:
    """Judged now, some mutants fail as many cases of each rule as the page says."""
    results = tmp_path / "results.json"
    assert __main__.main([*JUDGED, "--json", str(results)]) == 0
    judged = json.loads(results.read_text("utf-8"))
    assert judged == {slug: committed()[slug] for slug in JUDGED}, page.REGENERATE


def test_the_command_takes_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From good results it writes the page and ends with 0; from others it reports what is wrong."""
    results = committed()
    held, written = tmp_path / "results.json", tmp_path / "page.md"
    held.write_text(json.dumps(results), "utf-8")
    assert __main__.main(["--results", str(held), "--markdown", str(written)]) == 0
    assert written.read_text("utf-8") == PAGE.read_text("utf-8")
    slug, other, *_ = MUTANTS
    legal = next(iter(LEGAL))
    results |= {slug: {}, other: {"Q8A8-LAY-9": 1}, legal: {"Q8A8-DOT-1": 2}}
    held.write_text(json.dumps(results), "utf-8")
    assert __main__.main(["--results", str(held)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{slug} survives",
        f"{other} breaks {MUTANTS[other].rule}, and fails Q8A8-LAY-9",
        f"{legal} is legal and fails Q8A8-DOT-1",
    ]


@pytest.mark.parametrize("arguments", [["no-such-mutant"], ["over-read-byte", "--markdown", "page.md"]])
def test_usage(arguments: list[str]) -> None:
    """A slug that nothing has, and a page about a few, are refused."""
    assert __main__.main(arguments) == 2
