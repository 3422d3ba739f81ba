"""A comparison of two reports as one HTML file."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from q8a8_conformance.report import comparison, html

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.results.comparison import Comparison, RuleChange

_COLOURS = {"better": "pass", "worse": "fail", "other": "warning"}
_STATUS_COLOURS = {"pass": "pass", "fail": "fail", "crashed": "crashed", "not-run": "not-run"}


def render(found: Comparison) -> str:
    """Return the comparison as an HTML document."""
    return html.page(f"Q8_A8: {found.a.sut} and {found.b.sut}", _body(found))


def _body(found: Comparison) -> Iterator[str]:
    yield "<header><h1>Two kernels, or two versions, side by side</h1>"
    yield '<p class="about">Q8_A8 conformance</p></header>'
    verdict = "conforms" if found.same else "differs"
    yield f'<p class="verdict {verdict}">{escape(comparison.conclusion(found))}</p>'
    for words in found.warnings:
        yield f'<p class="warning"><b>Warning.</b> {escape(words)}</p>'
    rows = ((escape(name), *map(_value, (a, b))) for name, a, b in comparison.facts(found))
    yield from html.table(("", "A", "B"), rows)
    if found.rules:
        yield '<h2 id="rules">Rules that differ</h2>'
        yield from html.table(("rule", "A", "B", "in B", "cases"), (_rule(rule) for rule in found.rules))
    if found.diagnosis:
        yield '<h2 id="diagnosis">Diagnosis</h2>'
        causes = (
            (f"<code>{escape(name)}</code>", *(", ".join(map(_value, side)) or "none" for side in both))
            for name, both in found.diagnosis.items()
        )
        yield from html.table(("function", "A", "B"), causes)
    if found.bound:
        yield '<h2 id="bound">The largest fraction of the bound that was used</h2>'
        used = (
            (f"<code>{escape(name)}</code>", *map(comparison.fraction, both))
            for name, both in found.bound.items()
        )
        yield from html.table(("function", "A", "B"), used)


def _value(words: str) -> str:
    """Show a name, a path or a verdict; verdicts in their colours."""
    style = words if words in {"conforms", "does-not-conform", "crashed", "nothing-ran"} else ""
    return f'<code class="{style}">{escape(words)}</code>' if words else ""


def _rule(rule: RuleChange) -> tuple[str, ...]:
    statuses = (
        f'<span class="{_STATUS_COLOURS.get(status, "dim")}">{escape(comparison.status(rule, side))}</span>'
        for side, status in (("a", rule.a), ("b", rule.b))
    )
    change = f'<span class="{_COLOURS[rule.change]}">{escape(rule.change)}</span>'
    cases = "<br>".join(map(escape, comparison.cases(rule)))
    return escape(rule.id), *statuses, change, cases
