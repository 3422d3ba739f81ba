"""The page on what a kernel computes is up to date."""

from __future__ import annotations

from pathlib import Path

from q8a8.order import ORDERS
from q8a8_lab.pages import reveal

PAGE = Path(__file__).parents[4] / "docs" / "reveal.md"


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    """What the command writes is what the page holds; every order is on it."""
    reveal.main(["--markdown", str(tmp_path / "page.md")])
    written = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == written, f"run: {reveal.COMMAND}"
    assert [name for name in ORDERS if f"`{name}`" not in written] == []
