"""A comparison of two reports, written as text, Markdown or JSON; `comparison_html` writes HTML."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from q8a8_conformance.report.markdown import cell
from q8a8_conformance.results.record import count, short_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.results.comparison import Comparison, RuleChange

FORMAT = 1
SHOWN_CASES = 3
"""Cases of a rule that are named; the rest are counted."""

_MARKS = {"better": "+", "worse": "-", "other": "~"}


def as_json(found: Comparison) -> str:
    """Return the comparison as JSON text, as ``schemas/comparison.json`` describes it."""
    return json.dumps(document(found), indent=1, ensure_ascii=False) + "\n"


def document(found: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON data."""
    return {
        "format": FORMAT,
        "same": found.same,
        "sides": [asdict(found.a), asdict(found.b)],
        "warnings": list(found.warnings),
        "rules": [
            {**asdict(rule), "new_failures": list(rule.new_failures), "mended": list(rule.mended)}
            for rule in found.rules
        ],
        "diagnosis": [
            {"function": name, "a": list(a), "b": list(b)} for name, (a, b) in found.diagnosis.items()
        ],
        "bound": [{"function": name, "a": a, "b": b} for name, (a, b) in found.bound.items()],
    }


def text(found: Comparison) -> str:
    """Return the comparison for a terminal; what a report brought along cannot steer it."""
    return "".join(f"{plain(line)}\n" for line in _text(found))


def plain(line: str) -> str:
    """Replace what is not printable: a report may be from anywhere."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)


def _text(found: Comparison) -> Iterator[str]:
    rows = [("", "A", "B"), *facts(found)]
    wide, first = (max(len(row[place]) for row in rows) for place in (0, 1))
    for name, a, b in rows:
        yield f"{name:<{wide}}  {a:<{first}}  {b}".rstrip()
    yield from (f"warning: {words}" for words in found.warnings)
    if found.rules:
        yield from ("", "rules that differ (+ better, - worse in B)")
    for rule in found.rules:
        yield f"  {_MARKS[rule.change]} {rule.id:<12} {status(rule, 'a'):<14} {status(rule, 'b')}".rstrip()
        yield from (f"      {line}" for line in cases(rule))
    if found.diagnosis:
        yield from ("", "diagnosis")
    for name, (causes_a, causes_b) in found.diagnosis.items():
        yield f"  {name}: {', '.join(causes_a) or 'none'} → {', '.join(causes_b) or 'none'}"
    if found.bound:
        yield from ("", "the largest fraction of the bound that was used")
    for name, (used_a, used_b) in found.bound.items():
        yield f"  {name}: {fraction(used_a)} → {fraction(used_b)}"
    yield from ("", conclusion(found))


def facts(found: Comparison) -> list[tuple[str, str, str]]:
    """Return the facts of both sides: name, A's, B's."""
    a, b = found.a, found.b
    rows = [
        ("report", a.file, b.file),
        ("sut", a.sut, b.sut),
        ("kernel", a.kernel, b.kernel),
        ("sha256", a.sha256[:16], b.sha256[:16]),
        ("profile", a.profile, b.profile),
        ("verdict", a.verdict, b.verdict),
    ]
    return [row for row in rows if row[1] or row[2]]


def status(rule: RuleChange, side: str) -> str:
    """Return the status of a rule on one side, ``a`` or ``b``, with the number of failed cases."""
    word, failed = (rule.a, rule.failed_a) if side == "a" else (rule.b, rule.failed_b)
    count = f" ({failed})" if failed else ""
    return f"{word}{count}" if word else "no such rule"


def cases(rule: RuleChange) -> Iterator[str]:
    """Yield which cases fail in B alone, and which in A alone."""
    for word, names in (("fails now", rule.new_failures), ("mended", rule.mended)):
        if names:
            more = f" and {len(names) - SHOWN_CASES} more" if len(names) > SHOWN_CASES else ""
            yield f"{word}: {', '.join(names[:SHOWN_CASES])}{more}"


def fraction(used: float | None) -> str:
    """Return a fraction of the bound in digits."""
    return "none" if used is None else f"{used:.4f}"


def conclusion(found: Comparison) -> str:
    """Describe in a sentence whether the two agree, and in what they do not."""
    if found.same:
        return "the two agree: verdict, rules and diagnosis"
    counts = {word: sum(rule.change == word for rule in found.rules) for word in _MARKS}
    parts = [f"{count(number, 'rule')} {word}" for word, number in counts.items() if number]
    if found.a.verdict != found.b.verdict:
        parts.insert(0, f"{found.a.verdict} → {found.b.verdict}")
    if found.diagnosis:
        parts.append("another diagnosis")
    if not parts:
        return f"nothing can be compared: neither judges its kernel ({found.a.verdict})"
    return f"the two differ: {', '.join(parts)}"


def markdown(found: Comparison) -> str:
    """Return the comparison as Markdown."""
    return "\n".join(_markdown(found)) + "\n"


def _markdown(found: Comparison) -> Iterator[str]:
    yield f"## {cell(conclusion(found))}"
    yield from ("", "| | A | B |", "| --- | --- | --- |")
    for name, a, b in facts(found):
        yield f"| {name} | {cell(a)} | {cell(b)} |"
    yield ""
    for words in found.warnings:
        yield f"- ⚠️ {cell(words)}"
    if found.rules:
        yield from (
            "",
            "### Rules that differ",
            "",
            "| rule | A | B | in B | cases |",
            "| --- | --- | --- | --- | --- |",
        )
    for rule in found.rules:
        which = cell("; ".join(cases(rule)))
        statuses = " | ".join(status(rule, side) for side in "ab")
        yield f"| {short_id(rule.id)} | {statuses} | {rule.change} | {which} |"
    if found.diagnosis:
        yield from ("", "### Diagnosis", "", "| function | A | B |", "| --- | --- | --- |")
    for name, (causes_a, causes_b) in found.diagnosis.items():
        both = " | ".join(cell(", ".join(causes) or "none") for causes in (causes_a, causes_b))
        yield f"| `{cell(name)}` | {both} |"
    if found.bound:
        yield from (
            "",
            "### The largest fraction of the bound",
            "",
            "| function | A | B |",
            "| --- | --- | --- |",
        )
    for name, (used_a, used_b) in found.bound.items():
        yield f"| `{cell(name)}` | {fraction(used_a)} | {fraction(used_b)} |"
