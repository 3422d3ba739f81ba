"""The rules: their form on the pages, the index made of them, and a check for each."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.spec import rules
from q8a8_conformance.spec.rules import RuleSyntaxError, load_rules, parse_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULE = """
### Q8A8-QNT-3: the inverse { #q8a8-qnt-3 }

> **MUST** · exact · kernel
>
> `inv` is
> the inverse.

Why.
"""
ID = re.compile(r"Q8A8-[A-Z]+-[0-9]+")
SUFFIXES = {".py", ".c", ".h"}


def names_in(node: ast.expr) -> Iterator[str]:
    """Yield the ids in a decorator or a list of marks: the strings given to any `mark.rule(...)`."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("mark.rule"):
            for argument in ast.walk(call):
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def marks_in(folder: Path) -> dict[str, set[str]]:
    """Return the ids that tests below a folder are marked with, each with the files; read, not imported."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            marked: list[ast.expr] = []
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                marked += node.decorator_list
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                marked.append(node.value)
            for name in (name for expression in marked for name in names_in(expression)):
                found.setdefault(name, set()).add(path.relative_to(folder).as_posix())
    return found


@pytest.fixture(scope="module")
def suite_checks(docs: Path) -> dict[str, set[str]]:
    """Return who checks which rule on a kernel: marks of the suite's tests, and golden cases."""
    from q8a8_golden.load import load_cases  # noqa: PLC0415 -- the vectors are read for this test alone

    found = marks_in(docs.parent / "conformance/q8a8_conformance/suite")
    for case in load_cases():
        for name in case.rules:
            found.setdefault(name, set()).add(f"golden case {case.id}")
    return found


@pytest.fixture(scope="module")
def reference_checks(docs: Path) -> dict[str, set[str]]:
    """Return who checks which rule on the reference: marks of this project's own tests."""
    return marks_in(docs.parent / "conformance/tests")


@pytest.mark.parametrize(
    "source",
    [
        '@pytest.mark.rule("A", "B")\ndef test_x(): ...',
        '@pytest.mark.rule("A")\n@pytest.mark.rule("B")\nclass TestX: ...',
        'pytestmark = [pytest.mark.slow, pytest.mark.rule("A", "B")]',
        'pytestmark: list[object] = [mark.rule("A"), mark.rule("B")]',
        '@pytest.mark.parametrize("x", [pytest.param(1, marks=mark.rule("A", "B"))])\ndef test_x(x): ...',
    ],
)
def test_marks_are_found(tmp_path: Path, source: str) -> None:
    """A mark counts wherever pytest takes one; a name in any other call does not."""
    (tmp_path / "test_it.py").write_text(f'{source}\nfind("C")\n', encoding="utf-8")
    assert marks_in(tmp_path) == {"A": {"test_it.py"}, "B": {"test_it.py"}}


def test_the_index_is_up_to_date(docs: Path) -> None:
    """rules.json and the table of all rules are what the pages say."""
    old = [path.name for path in rules.stale(docs)]
    assert not old, f"{', '.join(old)} not up to date; run: {rules.REGENERATE}"


def test_the_index_is_the_pages(docs: Path) -> None:
    """The packaged index gives the very rules that parsing the pages gives."""
    assert load_rules() == rules.parse_pages(docs)
    assert rules.rules_by_id()["Q8A8-QNT-3"].url == "spec/quantization.md#q8a8-qnt-3"


def test_every_must_on_a_kernel_has_a_check(suite_checks: dict[str, set[str]]) -> None:
    """Each rule that a kernel MUST keep is checked by the suite or by a golden case."""
    wanted = {rule.id for rule in load_rules() if rule.level == "MUST" and rule.subject == "kernel"}
    assert sorted(wanted - suite_checks.keys()) == []


def test_every_must_on_the_reference_has_a_check(reference_checks: dict[str, set[str]]) -> None:
    """Each rule that the reference MUST keep is checked by a test of this project."""
    wanted = {rule.id for rule in load_rules() if rule.level == "MUST" and rule.subject == "reference"}
    assert sorted(wanted - reference_checks.keys()) == []


def test_every_check_names_a_rule(
    suite_checks: dict[str, set[str]], reference_checks: dict[str, set[str]]
) -> None:
    """No check names a rule that no page has."""
    known = {rule.id for rule in load_rules()}
    for checks in (suite_checks, reference_checks):
        assert {name: where for name, where in checks.items() if name not in known} == {}


def test_every_id_on_a_page_is_a_rule(docs: Path) -> None:
    """Prose, in the pages and in the code, refers to rules that exist."""
    known = {rule.id for rule in load_rules()}
    root = docs.parent
    code = [root / part for part in ("refimpl", "golden", "conformance/q8a8_conformance", "native_check")]
    sources = list(docs.rglob("*.md"))
    sources += [path for folder in code for path in folder.rglob("*") if path.suffix in SUFFIXES]
    unknown = {
        f"{path.relative_to(root)}: {name}"
        for path in sources
        if "build" not in path.parts
        for name in ID.findall(path.read_text(encoding="utf-8"))
        if name not in known
    }
    assert not unknown


def test_normative_words_stand_in_rules_alone(docs: Path) -> None:
    """MUST, SHOULD and MAY in capitals are the levels of rules; no sentence outside a rule binds anybody."""
    for path in sorted((docs / "spec").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines():
            if path.name in {"index.md", "rules.md"} or line.startswith("> **"):
                continue
            # A sentence may say why a rule has the level that it has.
            assert not re.search(r"\b(MUST|SHALL|MAY|REQUIRED)\b", line), f"{path.name}: {line}"


def test_parse() -> None:
    """A rule's parts come out of the page."""
    (rule,) = parse_page("spec/x.md", RULE)
    assert rule == rules.Rule(
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
    """The outcomes of a one-of rule, each with its cause, are no part of its text."""
    page = RULE.replace("exact", "one-of").replace(
        "inverse.\n", "inverse.\n>\n> - `a`: because\n>   of a.\n> - `b`: b.\n"
    )
    (rule,) = parse_page("spec/x.md", page)
    assert rule.text == "`inv` is the inverse."
    assert rule.outcomes == (rules.Outcome("a", "because of a."), rules.Outcome("b", "b."))


def test_parse_sources() -> None:
    """What a rule follows from stands behind its tags, on one line or more."""
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
        ("QNT-3: the", "QNT-03: the", "no rule id"),
        ("Q8A8-QNT-3: the", "Q8A8-XYZ-3: the", "no rule id"),
        ("> `inv` is\n> the inverse.\n", "", "no text"),
    ],
)
def test_parse_refuses(old: str, new: str, message: str) -> None:
    """A rule in any other form is an error that says where and what, not a rule that goes unseen."""
    with pytest.raises(RuleSyntaxError, match=message):
        parse_page("spec/x.md", RULE.replace(old, new))


def test_parse_skips_code() -> None:
    """An example of the form, in a fence, is no rule."""
    assert parse_page("x.md", f"```\n{RULE}```\n") == []


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ({"a.md": RULE.replace("-3", "-1"), "b.md": RULE.replace("-3", "-1")}, "stands on a.md and on b.md"),
        ({"a.md": RULE}, "leaves a gap"),
        ({"a.md": "nothing\n"}, "no page with a rule"),
        (
            {"a.md": RULE.replace("-3", "-1").replace("kernel", "kernel · follows from Q8A8-QNT-2")},
            "Q8A8-QNT-1 follows from Q8A8-QNT-2: no rule of its own",
        ),
        (
            {"a.md": RULE.replace("-3", "-1").replace("kernel", "kernel · follows from Q8A8-QNT-1")},
            "Q8A8-QNT-1 follows from Q8A8-QNT-1: no rule of its own",
        ),
    ],
)
def test_pages_refuse(tmp_path: Path, pages: dict[str, str], message: str) -> None:
    """An id that stands twice, a missing number, a false source and a folder without rules are errors."""
    for name, text in pages.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(RuleSyntaxError, match=message):
        rules.parse_pages(tmp_path)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--check fails with the command that regenerates, --write makes it pass, a bad page is told."""
    monkeypatch.setattr(rules, "_JSON_PATH", tmp_path / "rules.json")
    (tmp_path / "spec").mkdir()
    (tmp_path / "spec/a.md").write_text(RULE.replace("-3", "-1"), encoding="utf-8")
    table = tmp_path / rules.TABLE_PAGE
    table.write_text("<!-- generated: rules -->\n<!-- end of generated: rules -->\n", encoding="utf-8")
    assert rules.main(["--check", str(tmp_path)]) == 1
    assert rules.REGENERATE in capsys.readouterr().err
    assert rules.main(["--write", str(tmp_path)]) == 0
    assert rules.main(["--check", str(tmp_path)]) == 0
    assert "[Q8A8-QNT-1](a.md#q8a8-qnt-1) | MUST | exact | kernel | the inverse |" in table.read_text("utf-8")
    table.write_text("no comments\n", encoding="utf-8")
    assert rules.main(["--check", str(tmp_path)]) == 1
    assert "comments around" in capsys.readouterr().err
