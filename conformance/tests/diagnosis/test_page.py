"""The page of causes is up to date."""

from __future__ import annotations

from pathlib import Path

from q8a8_conformance.diagnosis.causes import FIXES
from q8a8_conformance.mutants import MUTANTS
from q8a8_lab.pages import causes

PAGE = Path(__file__).parents[3] / "docs" / "diagnosis.md"


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    """What the command writes is what the page holds; the page names the command."""
    causes.main(["--markdown", str(tmp_path / "page.md")])
    written = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == written, f"run: {causes.COMMAND}"


def test_the_page_names_every_cause() -> None:
    """Every cause that the diagnosis can give has its line."""
    text = causes.render()
    slugs = [slug for slug in MUTANTS if slug not in causes.STATEFUL]
    assert [cause for cause in (*FIXES, *slugs) if f"`{cause}`" not in text] == []
