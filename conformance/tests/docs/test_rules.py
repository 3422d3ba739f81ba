"""Every rule has a check, every check names a rule, and only rules are normative."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.spec.rules import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    """Return the ids in marks of the tests below a folder, each with its files, without importing them."""
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
    """Return the checks of each rule on a kernel: marks of the suite's tests, and golden cases."""
    from q8a8_golden.load import load_cases  # noqa: PLC0415 -- the vectors are read for this test alone

    found = marks_in(docs.parent / "conformance/q8a8_conformance/suite")
    for case in load_cases():
        for name in case.rules:
            found.setdefault(name, set()).add(f"golden case {case.id}")
    return found


@pytest.fixture(scope="module")
def reference_checks(docs: Path) -> dict[str, set[str]]:
    """Return the checks of each rule on the reference: marks of this project's tests."""
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
    """Marks are found wherever pytest allows them; names in other calls are not."""
    (tmp_path / "test_it.py").write_text(f'{source}\nfind("C")\n', encoding="utf-8")
    assert marks_in(tmp_path) == {"A": {"test_it.py"}, "B": {"test_it.py"}}


def test_every_must_on_a_kernel_has_a_check(suite_checks: dict[str, set[str]]) -> None:
    """Each MUST rule of a kernel is checked by the suite or by a golden case."""
    wanted = {rule.id for rule in load_rules() if rule.level == "MUST" and rule.subject == "kernel"}
    assert sorted(wanted - suite_checks.keys()) == []


def test_every_must_on_the_reference_has_a_check(reference_checks: dict[str, set[str]]) -> None:
    """Each MUST rule of the reference is checked by a test of this project."""
    wanted = {rule.id for rule in load_rules() if rule.level == "MUST" and rule.subject == "reference"}
    assert sorted(wanted - reference_checks.keys()) == []


def test_every_check_names_a_rule(
    suite_checks: dict[str, set[str]], reference_checks: dict[str, set[str]]
) -> None:
    """No check names an unknown rule."""
    known = {rule.id for rule in load_rules()}
    for checks in (suite_checks, reference_checks):
        assert {name: where for name, where in checks.items() if name not in known} == {}


def test_every_id_on_a_page_is_a_rule(docs: Path) -> None:
    """Every rule id on the pages and in the code exists."""
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


def test_normative_words_only_in_rules(docs: Path) -> None:
    """The normative words in capitals occur only as levels of rules."""
    for path in sorted((docs / "spec").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines():
            if path.name in {"index.md", "rules.md"} or line.startswith("> **"):
                continue
            # SHOULD is allowed: a sentence may explain why a rule has that level.
            assert not re.search(r"\b(MUST|SHALL|MAY|REQUIRED)\b", line), f"{path.name}: {line}"
