"""The pages about dynamic, weight-only and LLM.int8() quantization say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from q8a8.methods import affine, dynamic, llm_int8, weight_only

ROOT = Path(__file__).parents[3]
PAGES = {"DYN": "dynamic.md", "WON": "weight-only.md", "LI8": "llm-int8.md"}
RANGES = {
    "DYN": r"DYN-(\d+) to DYN-(\d+)",
    "WON": r"WON-(\d+) to WON-(\d+)",
    "LI8": r"LI8-(\d+) to LI8-(\d+)",
}


def page(name: str) -> str:
    """Read a page."""
    return (ROOT / "docs" / "methods" / name).read_text("utf-8")


def cited(prefix: str, texts: list[str]) -> set[str]:
    """Collect the rules that texts name, ranges spelled out."""
    rules = set()
    for text in texts:
        rules |= set(re.findall(rf"{prefix}-\d+", text))
        for first, last in re.findall(RANGES[prefix], text):
            rules |= {f"{prefix}-{number}" for number in range(int(first), int(last) + 1)}
    return rules


def rows(text: str) -> dict[str, list[str]]:
    """Collect the rows of all tables, by the name in backquotes that begins them."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line[:3] == "| `"
    ]
    return {line[0].strip("`"): line for line in lines}


@pytest.mark.parametrize("prefix", PAGES)
def test_rules_are_followed_and_tested(prefix: str) -> None:
    """Code and tests cite the rules of the page, all of them; each has its number and its anchor."""
    headings = re.findall(rf"^### ({prefix}-\d+): .* {{ #(.*) }}$", page(PAGES[prefix]), re.MULTILINE)
    rules = [rule for rule, _ in headings]
    assert rules == [f"{prefix}-{number}" for number in range(1, len(rules) + 1)]
    assert [anchor for _, anchor in headings] == [rule.lower() for rule in rules]
    code = sorted((ROOT / "refimpl" / "q8a8" / "methods").glob("*.py"))
    tests = [path for path in (ROOT / "conformance" / "tests").glob("*/test_*.py") if path != Path(__file__)]
    for kind in (code, tests):
        assert cited(prefix, [path.read_text("utf-8") for path in kind]) == set(rules)


def test_rule_tables() -> None:
    """Each arithmetic has a row with its codes, levels and inverse on one of the pages."""
    tables = {**rows(page("dynamic.md")), **rows(page("weight-only.md"))}
    for name, rule in affine.RULES.items():
        row = tables[name]
        if rule.high > 7:
            assert row[1] == f"{rule.low} … {rule.high}".replace("-", "−")
            row = row[1:]
        assert float(row[1]) == rule.levels
        assert ("x / s" in row[3]) == (rule.inverse == "x/s")
        assert ("f32(1/s)" in row[3]) == (rule.inverse == "x*(1/s)")
        assert bool(row[4]) != rule.symmetric


def test_named_choices() -> None:
    """Rescale orders, ways back, group sizes and the threshold of the pages are the code's."""
    text = page("dynamic.md")
    assert all(f"`{order}`" in text for order in dynamic.RESCALES)
    text = page("llm-int8.md")
    tables = rows(text)
    for name, way in llm_int8.DEQUANTIZATIONS.items():
        assert tables[name][1].replace("·", "*").replace(" ", "") == way.order
    assert f"{llm_int8.THRESHOLD} itself is one" in text
    text = page("weight-only.md")
    assert all(f"\n| {group} | 4." in text for group in weight_only.GROUPS)
