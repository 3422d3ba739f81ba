"""The index of the rules: parsing the pages, and writing ``rules.json`` and the table of all rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from q8a8_conformance.spec.rules import Outcome, Rule, load_rules, rules_by_id
from q8a8_lab.pages import rules_index
from q8a8_lab.pages.rules_index import RuleSyntaxError, parse_page, parse_pages

DOCS = Path(__file__).resolve().parents[4] / "docs"
RULE = """
### Q8A8-QNT-3: the inverse { #q8a8-qnt-3 }

> **MUST** · exact · kernel
>
> `inv` is
> the inverse.

Why.
"""


def test_the_index_is_up_to_date() -> None:
    """`rules.json` and the table of all rules are up to date."""
    old = [path.name for path in rules_index.stale(DOCS)]
    assert not old, f"{', '.join(old)} not up to date; run: {rules_index.COMMAND} --write docs"


def test_the_index_is_the_pages() -> None:
    """The packaged rules equal those parsed from the pages."""
    assert load_rules() == parse_pages(DOCS)
    assert rules_by_id()["Q8A8-QNT-3"].url == "spec/quantization.md#q8a8-qnt-3"


def test_parse() -> None:
    """Each field of a rule is read from its place on the page."""
    (rule,) = parse_page("spec/x.md", RULE)
    assert rule == Rule(
        id="Q8A8-QNT-3",
        level="MUST",
        kind="exact",
        subject="kernel",
        text="`inv` is the inverse.",
        page="spec/x.md",
        anchor="q8a8-qnt-3",
        title="the inverse",
        reason="Why.",
    )


def test_parse_outcomes() -> None:
    """The outcomes of a one-of rule are read with their causes and are not part of its text."""
    page = RULE.replace("exact", "one-of").replace(
        "inverse.\n", "inverse.\n>\n> - `a`: because\n>   of a.\n> - `b`: b.\n"
    )
    (rule,) = parse_page("spec/x.md", page)
    assert rule.text == "`inv` is the inverse."
    assert rule.outcomes == (Outcome("a", "because of a."), Outcome("b", "b."))


def test_parse_sources() -> None:
    """The rules that a rule follows from are read from its tags, on one line or more."""
    page = RULE.replace("kernel", "kernel · follows from Q8A8-QNT-1,\n> Q8A8-MEM-2")
    (rule,) = parse_page("spec/x.md", page)
    assert rule.derived_from == ("Q8A8-QNT-1", "Q8A8-MEM-2")
    assert rule.text == "`inv` is the inverse."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("> **MUST** · exact · kernel", "> **MUST**", "no quote"),
        ("exact · kernel", "exact · kernel · follows from itself", "no quote"),
        ("**MUST**", "**OUGHT**", "level 'OUGHT'"),
        ("exact", "roughly", "kind 'roughly'"),
        ("kernel", "reader", "subject 'reader'"),
        ("exact", "one-of", "two outcomes"),
        ("{ #q8a8-qnt-3 }", "{ #q8a8-qnt-4 }", "anchor"),
        (": the inverse { #q8a8-qnt-3 }", "", "line 2"),
        ("QNT-3: the", "QNT-03: the", "not a rule id"),
        ("Q8A8-QNT-3: the", "Q8A8-XYZ-3: the", "not a rule id"),
        ("> `inv` is\n> the inverse.\n", "", "no text"),
    ],
)
def test_parse_refuses(old: str, new: str, message: str) -> None:
    """A malformed rule is an error that names the place and the cause; it is not skipped."""
    with pytest.raises(RuleSyntaxError, match=message):
        parse_page("spec/x.md", RULE.replace(old, new))


def test_parse_skips_code() -> None:
    """A rule in a fenced code block is an example, not a rule."""
    assert parse_page("x.md", f"```\n{RULE}```\n") == []


def test_reasons_leave_out_what_is_no_text() -> None:
    """A rule's reason leaves out code, tables and boxes, and lines that introduce them."""
    page = """
### Q8A8-QNT-1: a title { #q8a8-qnt-1 }

> **MUST** · exact · kernel
>
> Do it.

Because of this
and that:

```c
int x;
```

|a| is small. These are not:

- one,
  which goes on
- two

| a | b |
| --- | --- |

## Next

Not this.
"""
    (rule,) = parse_page("spec/x.md", page)
    assert rule.reason == "|a| is small. These are not:\n- one, which goes on\n- two"


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        (
            {"a.md": RULE.replace("-3", "-1"), "b.md": RULE.replace("-3", "-1")},
            "is defined on a.md and on b.md",
        ),
        ({"a.md": RULE}, "leaves a gap"),
        ({"a.md": "nothing\n"}, "no page with a rule"),
        (
            {"a.md": RULE.replace("-3", "-1").replace("kernel", "kernel · follows from Q8A8-QNT-2")},
            "Q8A8-QNT-1 follows from Q8A8-QNT-2: not an independent rule",
        ),
        (
            {"a.md": RULE.replace("-3", "-1").replace("kernel", "kernel · follows from Q8A8-QNT-1")},
            "Q8A8-QNT-1 follows from Q8A8-QNT-1: not an independent rule",
        ),
    ],
)
def test_pages_refuse(tmp_path: Path, pages: dict[str, str], message: str) -> None:
    """A duplicate id, a gap in the numbers, an invalid source and a folder without rules are errors."""
    for name, text in pages.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(RuleSyntaxError, match=message):
        parse_pages(tmp_path)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--check fails and names the command to run, --write makes it pass, a bad page is reported."""
    monkeypatch.setattr(rules_index, "JSON_PATH", tmp_path / "rules.json")
    (tmp_path / "spec").mkdir()
    (tmp_path / "spec/a.md").write_text(RULE.replace("-3", "-1"), encoding="utf-8")
    table = tmp_path / rules_index.TABLE_PAGE
    table.write_text("<!-- generated: rules -->\n<!-- end of generated: rules -->\n", encoding="utf-8")
    assert rules_index.main(["--check", str(tmp_path)]) == 1
    assert rules_index.COMMAND in capsys.readouterr().err
    assert rules_index.main(["--write", str(tmp_path)]) == 0
    assert rules_index.main(["--check", str(tmp_path)]) == 0
    assert "[Q8A8-QNT-1](a.md#q8a8-qnt-1) | MUST | exact | kernel | the inverse |" in table.read_text("utf-8")
    table.write_text("no comments\n", encoding="utf-8")
    assert rules_index.main(["--check", str(tmp_path)]) == 1
    assert "comments around" in capsys.readouterr().err
