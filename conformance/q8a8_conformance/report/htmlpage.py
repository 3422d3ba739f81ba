"""The report as one HTML file: no scripts, nothing loaded from elsewhere, readable on paper too."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from q8a8_conformance.protocol.messages import Hello
from q8a8_conformance.report import choice, difference, plots, smallest, trees
from q8a8_conformance.report.html import facts, page, table
from q8a8_conformance.results.record import Record, Status, count, lengths, short_id
from q8a8_conformance.spec.rules import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.results.run import Finding, Run, Smallest

LISTED = 500
"""Failures in the list of all of them; a kernel that fails more has one mistake, or none to name."""


def render(run: Run) -> str:
    """Return the report as an HTML document."""
    return page(f"{run.judgement.words} · Q8_A8: {run.request.sut}", _body(run))


def _body(run: Run) -> Iterator[str]:
    verdict = run.judgement.verdict
    yield f'<header><h1>{escape(run.request.sut)}</h1><p class="about">Q8_A8 conformance'
    yield f" · profile {escape(run.request.profile)} · {escape(run.started[:10])}</p></header>"
    yield f'<p class="verdict {verdict.value}"><b>{escape(run.judgement.words)}</b> '
    yield f"{escape(run.basis())}</p>"
    yield from _chips(run)
    for stage in run.setup:
        hint = f" → {escape(stage.hint)}" if stage.hint else ""
        yield f'<p class="warning"><b>Setup.</b> {escape(f"{stage.name}: {stage.message}")}{hint}</p>'
    for warning in run.warnings:
        words = f"{warning.function}: {warning.slug}: {warning.message}"
        yield f'<p class="warning"><b>Warning.</b> {escape(words)}</p>'
    yield from (f"<p>{escape(note)}</p>" for note in run.notes)
    yield from _diagnosis(run)
    yield from _failures(run)
    yield from _bound(run)
    yield from _rules(run)
    yield from _facts(run)


def _chips(run: Run) -> Iterator[str]:
    """Yield a mark for each rule, in its colour: the whole result at a glance."""
    yield '<p class="chips">'
    for rule in run.judgement.rules:
        words = escape(f"{rule.id}: {rule.title}: {rule.status.value}", quote=True)
        yield (
            f'<a class="chip {rule.status.value}" href="#{escape(rule.id.lower(), quote=True)}" '
            f'title="{words}">{escape(short_id(rule.id))}</a>'
        )
    yield "</p>"


def _facts(run: Run) -> Iterator[str]:
    hello = run.hello or Hello("")
    emulated = {True: "emulated", False: "native", None: ""}[hello.emulated]
    known = {
        "kernel": " ".join(filter(None, (hello.name, hello.version))),
        "file": hello.kernel.path if hello.kernel else "",
        "SHA-256": hello.kernel.sha256 if hello.kernel else "",
        "CPU": ", ".join(filter(None, (hello.arch, emulated))),
        "CPU features": " ".join(hello.features),
        "built by": " ".join(filter(None, (hello.compiler, hello.flags))),
        "functions": ", ".join(hello.functions),
        "suite": f"q8a8 {run.version}",
        "vectors": run.manifest,
        "run": f"{run.started}, {run.seconds:.1f} s, {count(run.calls, 'call')} in {run.call_seconds:.1f} s",
        "command": run.request.command(),
    }
    yield '<h2 id="run">This run</h2>'
    yield from facts(known.items())


def _diagnosis(run: Run) -> Iterator[str]:
    if not run.diagnosis:
        return
    yield '<h2 id="diagnosis">Diagnosis</h2>'
    rows = (
        (
            f"<code>{escape(f.function)}</code>",
            f'<code class="{"fail" if f.fix else ""}">{escape(f.cause)}</code>',
            f"{f.explained} of {f.of}",
            escape(" ".join(f"{part.rstrip('.')}." for part in (f.fix, f.detail) if part)),
        )
        for f in run.diagnosis
    )
    yield from table(("function", "cause", "explains", "what to do"), rows)
    for finding in run.diagnosis:
        if finding.revealed is not None:
            yield from _tree(finding.function, finding.revealed)
        if finding.smallest is not None:
            yield from _smallest(finding, finding.smallest)
        if "map" in finding.where:
            yield f"<h3>{escape(finding.function)}: which codes of x meet which of y</h3>"
            yield f"<pre>{escape(chr(10).join(map_lines(finding.where['map'])))}</pre>"


def map_lines(rows: Sequence[Sequence[int]]) -> list[str]:
    """Return a line for each element of x: how often each element of y is counted with it, a point for 0."""
    return [
        f"x[{j:2}]  " + "".join(str(times) if times else "·" for times in row) for j, row in enumerate(rows)
    ]


def _tree(function: str, revealed: Mapping[str, Any]) -> Iterator[str]:
    """Yield the trees of an order that was revealed, one for each range of lengths."""
    for order in revealed["orders"]:
        span = lengths(order["first"], order["last"])
        words = f"{function}, {span}: the additions of {count(order['blocks'], 'block')}"
        yield f"<figure><figcaption>{escape(words)}. {escape(order['description'])}</figcaption>"
        yield trees.nested_svg(order["tree"], words) if order["tree"] else ""
        yield "</figure>"


def _smallest(finding: Finding, found: Smallest) -> Iterator[str]:
    """Yield the smallest failing input, with the differing bits drawn."""
    yield f"<article><h3>{escape(smallest.heading(finding))}</h3>"
    number = difference.first(found.call)
    if number is not None:
        yield f'<p class="dim">{escape(number.words)}, bit by bit</p>'
        yield plots.bits(number.kind, number.want, number.got)
    yield f"<pre>{escape(chr(10).join(smallest.lines(found)))}</pre></article>"


def _failures(run: Run) -> Iterator[str]:
    failures = run.judgement.failures
    if failures or run.judgement.stale:
        yield '<h2 id="failures">Failures</h2>'
    for entry in run.judgement.stale:
        yield f'<p class="fail">Known failure that no longer fails: {escape(str(entry))}</p>'
    shown = choice.choose(run)
    for record in shown:
        yield from _failure(run, record)
    rest = choice.hidden(run, shown)
    if rest:
        yield f"<details><summary>{escape(rest)}: all failures by rule and case</summary>"
        rows = (
            (escape(short_id(r.rule)), f"<code>{escape(r.case)}</code>", escape(r.message))
            for r in failures[:LISTED]
        )
        yield from table(("rule", "case", "message"), rows)
        if len(failures) > LISTED:
            yield f"<p>… and {len(failures) - LISTED} more; the JSON report has them all.</p>"
        yield "</details>"


def _failure(run: Run, record: Record) -> Iterator[str]:
    word = "crashed" if record.status is Status.CRASHED else "fail"
    rules = escape(choice.rules_of(run, record))
    yield f'<article><h3><span class="{word}">{rules}</span> <code>{escape(record.case)}</code></h3>'
    yield f"<p>{escape(record.message)}</p>"
    number = difference.first(record.call) if record.call else None
    if number is not None:
        yield f'<p class="dim">{escape(number.words)}, bit by bit</p>'
        yield plots.bits(number.kind, number.want, number.got)
    for finding in choice.causes(run, record):
        yield f"<p><b>Likely cause:</b> {escape(choice.describe(finding))}</p>"
    if record.call:
        lines = (f"{line.label:<5} {line.text}" for line in difference.show(record.call))
        yield f"<pre>{escape(chr(10).join(lines))}</pre>"
    yield f'<p class="dim">again: <code>{escape(run.again(record))}</code></p></article>'


def _bound(run: Run) -> Iterator[str]:
    """Yield a plot for each function whose results were judged by the bound."""
    drawn = [(use, plots.bound(use)) for use in run.bound]
    if not drawn:
        return
    yield '<h2 id="bound">Where in the bound the results lie</h2>'
    yield (
        '<p class="dim">Above, the whole bound (Q8A8-ORD-2) with what the kernel used of it; below, that '
        "part enlarged. Rounding errors of a legal kernel centre on zero and stay far inside.</p>"
    )
    for use, picture in drawn:
        words = f"{count(use.results, 'result')}, {use.outside} outside"
        if use.largest_fraction is not None:
            words += f"; at most {use.largest_fraction:.2%} of the bound inside, in {use.worst}"
        style = "fail" if use.outside else "dim"
        yield f'<figure><figcaption><code>{escape(use.function)}</code> <span class="{style}">'
        yield f"{escape(words)}</span></figcaption>{picture}</figure>"


def _rules(run: Run) -> Iterator[str]:
    yield '<h2 id="rules">Rules</h2>'
    texts = {rule.id: rule.text for rule in load_rules()}
    rows = (
        (
            f'<span id="{escape(rule.id.lower(), quote=True)}">{escape(rule.id)}</span>',
            rule.level,
            f'<span class="{rule.status.value}">{rule.status.value}</span>',
            rule.cases,
            f"{rule.failed}" + (f" ({rule.known} known)" if rule.known else ""),
            f"<details><summary>{escape(rule.title)}</summary>{escape(texts.get(rule.id, ''))}</details>",
        )
        for rule in run.judgement.rules
    )
    yield from table(("rule", "level", "status", "cases", "failed", "about"), rows)
    reasons = run.not_run()
    if reasons:
        yield "<p>Cases that did not run:</p><ul>"
        yield from (f"<li>{count}: {escape(reason)}</li>" for reason, count in reasons.items())
        yield "</ul>"
