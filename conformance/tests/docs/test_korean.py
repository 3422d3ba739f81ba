"""The Korean pages: which lag, and whether they say what the English ones say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from q8a8_lab.pages import korean
from q8a8_lab.pages.translation import differences

ROOT = Path(__file__).parents[3]
ENGLISH = """\
# Title

## The scale

> A scale is `f16(d)`, 34 bytes ([rule](spec/layout.md#q8a8-lay-1)).

| a | b |
| --- | --- |
| `x` | 2⁻²⁴ |

```python
y = 1  # one
```
"""
KOREAN = """\
# 제목

## 스케일 { #the-scale }

> 스케일은 34바이트 `f16(d)`입니다([규칙](spec/layout.md#q8a8-lay-1)).

| 가 | 나 |
| --- | --- |
| `x` | 2⁻²⁴ |

```python
y = 1  # 하나
```
"""
MUST_HAVE = {
    "README.md",
    "docs/index.md",
    "docs/judge-your-kernel.md",
    "docs/errata.md",
    "docs/model/claims.md",
}
NAMES = ("docs/page.md", "docs-ko/page.md")


def compared(text: str) -> list[str]:
    """Return what differs between the English example and a Korean text."""
    return differences(ENGLISH, text, NAMES, {"docs/spec/layout.md"})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with one English page and its translation."""
    for folder, text in (("docs", ENGLISH), ("docs-ko", korean.accept(KOREAN, ENGLISH, "docs/page.md"))):
        (tmp_path / folder / "spec").mkdir(parents=True)
        (tmp_path / folder / "page.md").write_text(text, encoding="utf-8")
    (tmp_path / "docs/spec/layout.md").write_text("# Layout\n", encoding="utf-8")
    text = korean.accept("# 레이아웃\n", "# Layout\n", "docs/spec/layout.md")
    (tmp_path / "docs-ko/spec/layout.md").write_text(text, encoding="utf-8")
    return tmp_path


def test_no_page_lags_or_differs() -> None:
    """Every Korean page translates the English page as it is now, with its rules, numerals and code."""
    found = korean.report(ROOT)
    assert not found, "\n".join([*found, f"what to do: {korean.COMMAND} --help"])


def test_every_specification_page_is_korean() -> None:
    """The specification, the guide, the errata and the claims are there in Korean."""
    have = {pair.english for pair in korean.pairs(ROOT)}
    spec = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/spec").glob("*.md")}
    missing = sorted((spec | MUST_HAVE) - have)
    assert not missing


MUST_HAVE = {
    "README.md",
    "docs/index.md",
    "docs/judge-your-kernel.md",
    "docs/errata.md",
    "docs/model/claims.md",
}


def test_equal_pages() -> None:
    """A translation with its own words and comments is equal."""
    assert compared(KOREAN) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("34바이트", "36바이트", "numerals"),
        ("`f16(d)`", "`f32(d)`", "names in code"),
        ("| 2⁻²⁴ |", "| 2⁻²⁵ |", "cells"),
        ("| `x` |", "| `y` |", "cells"),
        ("y = 1", "y = 2", "code blocks"),
        ("#q8a8-lay-1", "#q8a8-lay-2", "links"),
        ("spec/layout.md", "../spec/layout.html", "links"),  # past the Korean page
        ("{ #the-scale }", "{ #scale }", "headings"),
        ("## 스케일 { #the-scale }\n", "", "headings"),
    ],
)
def test_differences_are_found(old: str, new: str, said: str) -> None:
    """Each kind of difference is named."""
    found = compared(KOREAN.replace(old, new))
    assert any(said in sentence for sentence in found), found


def test_rules_are_compared() -> None:
    """A rule with another level differs."""
    rule = "### Q8A8-LAY-1: the block {{ #q8a8-lay-1 }}\n\n> **{}** · exact · kernel\n>\n> It is so.\n"
    found = differences(rule.format("MUST"), rule.format("SHOULD"), NAMES)
    assert [sentence.partition(":")[0] for sentence in found] == ["rules differ"]


def test_a_changed_page_lags(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the English page is reported with the new digest, until it is accepted or marked."""
    monkeypatch.chdir(checkout)
    assert korean.main([]) == 0
    changed = ENGLISH.replace("A scale is", "The scale is")
    (checkout / "docs/page.md").write_text(changed, encoding="utf-8")
    (said,) = korean.report(checkout)
    assert "docs-ko/page.md lags" in said
    assert korean.digest(changed) in said
    assert korean.main(["--lags", "docs-ko/page.md"]) == 0
    assert korean.NOTE in (checkout / "docs-ko/page.md").read_text(encoding="utf-8")
    assert korean.main(["--accept", "docs-ko/page.md"]) == 0
    text = (checkout / "docs-ko/page.md").read_text(encoding="utf-8")
    assert text == korean.accept(KOREAN, changed, "docs/page.md")


def test_links_follow_translations(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--write` turns links to the Korean page if there is one, and to the English site's page if not."""
    monkeypatch.chdir(checkout)
    shutil.move(checkout / "docs-ko/spec/layout.md", checkout / "layout.md")
    assert korean.main([]) == 1
    assert korean.main(["--write"]) == 0
    assert "](../spec/layout.html#q8a8-lay-1)" in (checkout / "docs-ko/page.md").read_text(encoding="utf-8")
    shutil.move(checkout / "layout.md", checkout / "docs-ko/spec/layout.md")
    assert korean.main([]) == 1
    assert korean.main(["--write"]) == 0
    assert "](spec/layout.md#q8a8-lay-1)" in (checkout / "docs-ko/page.md").read_text(encoding="utf-8")
