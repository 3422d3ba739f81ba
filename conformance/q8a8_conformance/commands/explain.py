"""``q8a8 explain NAME``: a rule with its reason, checks and mistakes; a cause, fact, order or recipe."""

from __future__ import annotations

import inspect
import pkgutil
import re
import textwrap
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module, util
from typing import TYPE_CHECKING, Any

from q8a8_conformance.commands import explain_causes
from q8a8_conformance.commands.options import OK, print_lines, usage_error
from q8a8_conformance.results.record import count, full_id, rule_matches, short_id
from q8a8_conformance.spec.rules import rules_by_id
from q8a8_conformance.spec.suggest import did_you_mean
from q8a8_golden.load import load_cases

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from q8a8_conformance.commands.options import Subparsers
    from q8a8_conformance.spec.rules import Rule

WIDTH = 100
SHOWN_CASES = 5
"""Golden cases that are named; the rest are counted."""


@dataclass(frozen=True)
class Check:
    """A check of the suite: module and name, how many cases it has, the first line of its docstring."""

    module: str
    name: str
    cases: int
    text: str


def add_parser(subparsers: Subparsers) -> None:
    """Add ``explain`` to the command line."""
    parser = subparsers.add_parser(
        "explain",
        help="explain a rule, or what a diagnosis names: a cause, a fact, an order, a recipe",
        description="Print one rule: its text and reason, the checks and golden cases that judge it, and the "
        "mistakes that break it. Or what a report's diagnosis names: a cause, a fact, an order, a recipe. "
        "Of several that a pattern matches, a line each.",
    )
    parser.add_argument("name", metavar="NAME", help="Q8A8-QNT-3, QNT-3, 'DOT-*', order:avx2, odd-block-lost")
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Print what is known by a name, or a line for each that a pattern matches; 2 where there is none."""
    rules, topics = rules_by_id(), explain_causes.topics()
    word = str(options.name)
    if full_id(word.upper()) in rules:
        print_lines(explain(rules[full_id(word.upper())]))
        return OK
    # (A fact about products has its format behind a colon: activations:float32.)
    known = (word, f"order:{word}", f"recipe:{word}", word.partition(":")[0])
    found = {name: topics[name] for name in known if name in topics}
    if found:
        for number, (name, paragraphs) in enumerate(found.items()):
            print_lines([*[""] * (number > 0), *explain_causes.explain_topic(name, paragraphs)])
        return OK
    lines = [f"{rule.id}: {rule.title}" for rule in rules.values() if rule_matches(rule.id, word.upper())]
    lines += [f"{name}: {topics[name][-1]}" for name in topics if fnmatchcase(name, word)]
    if not lines:
        names = [*rules, *map(short_id, rules), *topics]
        near = did_you_mean(word, names) or did_you_mean(full_id(word.upper()), rules)
        return usage_error(f"there is no rule, cause, order or recipe {word}; q8a8 rules lists rules{near}")
    print_lines(textwrap.shorten(line, WIDTH, placeholder=" …") for line in lines)
    return OK


def explain(rule: Rule) -> Iterator[str]:
    """Yield the lines that explain a rule."""
    yield f"{rule.id}: {rule.title}"
    yield f"{rule.level}, outcome {rule.kind}, binds the {rule.subject}"
    if rule.derived_from:
        sources = ", ".join(short_id(source) for source in rule.derived_from)
        yield textwrap.fill(f"follows from {sources}: whatever breaks it breaks one of these too", WIDTH)
    yield ""
    yield from _paragraphs(rule.text)
    for outcome in rule.outcomes:
        yield textwrap.fill(f"- {outcome.name}: {outcome.cause}", WIDTH, subsequent_indent="  ")
    if rule.reason:
        yield from ("", "why:")
        yield from _paragraphs(rule.reason)
    yield from ("", f"in the documentation: {rule.url}")
    if rule.subject == "kernel":
        yield f"judged by: q8a8 test SUT --rules {short_id(rule.id)}"
    yield from _checks(rule)
    yield from _golden(rule)
    yield from _mutants(rule)


def _paragraphs(text: str) -> Iterator[str]:
    """Fold Markdown to the width of a page, a line of `text` a paragraph; of a link the words alone."""
    for paragraph in text.splitlines():
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)
        hanging = "  " if words.startswith("- ") else ""
        yield textwrap.fill(words, WIDTH, subsequent_indent=hanging, break_on_hyphens=False)


def _checks(rule: Rule) -> Iterator[str]:
    checks = suite_checks(rule.id)
    if checks:
        yield from ("", f"checks of the suite ({count(sum(check.cases for check in checks), 'case')}):")
    for check in checks:
        cases = f" ({check.cases} cases)" if check.cases > 1 else ""
        words = f"  {check.module}.{check.name}{cases}: {check.text}"
        yield textwrap.fill(words, WIDTH, subsequent_indent="    ")


def suite_checks(rule: str) -> list[Check]:
    """Return the suite's checks of a rule, golden cases apart; none where pytest is not installed."""
    if util.find_spec("pytest") is None:
        return []
    suite = import_module("q8a8_conformance.suite")
    found = []
    for info in pkgutil.iter_modules(suite.__path__):
        if not info.name.startswith("test_") or info.name == "test_golden":
            continue
        module = import_module(f"{suite.__name__}.{info.name}")
        everywhere = _as_list(getattr(module, "pytestmark", []))
        for name, test in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("test_") or test.__module__ != module.__name__:
                continue
            count = _count([*everywhere, *_as_list(getattr(test, "pytestmark", []))], rule)
            if count:
                text = (inspect.getdoc(test) or "").partition("\n")[0]
                found.append(Check(info.name, name.removeprefix("test_"), count, text))
    return found


def _as_list(marks: Any) -> list[Any]:  # noqa: ANN401 (pytest takes one mark or a list)
    return list(marks) if isinstance(marks, list | tuple) else [marks]


def _count(marks: list[Any], rule: str) -> int:
    """Count the cases of a check that are about a rule: its parameters may carry rules of their own."""
    named = any(rule in mark.args for mark in marks if mark.name == "rule")
    total = 1
    for mark in marks:
        if mark.name == "parametrize":
            values = list(mark.args[1])
            total *= sum(named or _about(value, rule) for value in values)
            named = True
    return total if named else 0


def _about(value: Any, rule: str) -> bool:  # noqa: ANN401 (a parameter of pytest's, or any value)
    return any(mark.name == "rule" and rule in mark.args for mark in getattr(value, "marks", ()))


def _golden(rule: Rule) -> Iterator[str]:
    cases = [case for case in load_cases() if rule.id in case.rules]
    if cases:
        first = ", the first of them" if len(cases) > SHOWN_CASES else ""
        yield from ("", f"golden cases ({len(cases)}){first}:")
    for case in cases[:SHOWN_CASES]:
        yield textwrap.fill(f"  {case.id}: {case.why}", WIDTH, subsequent_indent="    ")


def _mutants(rule: Rule) -> Iterator[str]:
    """Yield the known mistakes that break the rule, each with the sentence that mends it."""
    catalogue = import_module("q8a8_conformance.faults.catalogue")
    mutants = [mutant for mutant in catalogue.MUTANTS.values() if full_id(mutant.rule) == rule.id]
    if mutants:
        yield from ("", f"mistakes that break it ({len(mutants)}):")
    for mutant in mutants:
        yield textwrap.fill(f"  {mutant.slug}: {mutant.sentence}", WIDTH, subsequent_indent="    ")
        if mutant.fix:
            yield textwrap.fill(f"    → {mutant.fix}", WIDTH, subsequent_indent="      ")
