"""The report as one HTML file: no scripts, nothing loaded from elsewhere, readable on paper too."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from q8a8_conformance.record import Record, Status
from q8a8_conformance.report import difference, text
from q8a8_conformance.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from q8a8_conformance.report.model import Run

_STYLE = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --dim: #6e7781; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --dim: #8b949e; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.verdict { font-size: 1.3rem; font-weight: 600; border-left: .4rem solid; padding: .4rem 1rem; }
.pass, .conforms { color: var(--good); } .fail, .crashed, .does-not-conform { color: var(--bad); }
.not-run, .nothing-ran { color: var(--dim); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
code, pre { font: .86rem/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; background: #8881; padding: .7rem; border-radius: .3rem; white-space: pre-wrap;
      overflow-wrap: anywhere; }
summary { cursor: pointer; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def render(run: Run) -> str:
    """Give the report as an HTML document."""
    return "\n".join(_page(run)) + "\n"


def _page(run: Run) -> Iterator[str]:
    verdict = run.judgement.verdict
    title = f"Q8_A8: {run.request.sut}"
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"
    yield f'<p class="verdict {verdict.value}">{escape(run.summary())}</p>'
    yield from _facts(run)
    yield from _diagnosis(run)
    yield from _failures(run)
    yield from _rules(run)
    yield "</body></html>"


def _facts(run: Run) -> Iterator[str]:
    cpu = run.hello.get("cpu") or {}
    kernel = run.hello.get("kernel") or {}
    emulated = {True: "emulated", False: "native"}.get(run.hello.get("emulated", ""), "")
    facts = {
        "kernel": " ".join(filter(None, (run.hello.get("name"), run.hello.get("version")))),
        "file": kernel.get("path", ""),
        "sha256": kernel.get("sha256", ""),
        "CPU": " ".join(filter(None, (cpu.get("arch"), emulated, *cpu.get("features", ())))),
        "built by": " ".join(filter(None, (run.hello.get("compiler"), run.hello.get("flags")))),
        "functions": ", ".join(run.hello.get("functions", ())),
        "profile": run.request.profile,
        "verdict": run.judgement.verdict.value
        if run.judgement.verdict is not Verdict.NOTHING_RAN
        else "nothing ran",
        "suite": f"q8a8 {run.version}, vectors {run.manifest}",
        "run": f"{run.started}, {run.seconds:.1f} s, {run.calls} calls in {run.call_seconds:.1f} s",
        "command": run.request.command(),
    }
    yield "<dl>"
    for name, value in facts.items():
        if value:
            yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"
    for warning in run.warnings:
        words = f"{warning.function}: {warning.slug}: {warning.message}"
        yield f'<p class="warning"><b>Warning.</b> {escape(words)}</p>'
    for note in run.notes:
        yield f"<p>{escape(note)}</p>"


def _diagnosis(run: Run) -> Iterator[str]:
    if run.diagnosis:
        yield "<h2>Diagnosis</h2>"
        rows = (
            (f"<code>{escape(f.function)}</code>", f"<code>{escape(f.cause)}</code>", f.explained, f.of,
             escape("; ".join(part for part in (f.fix, f.detail) if part)))
            for f in run.diagnosis
        )  # fmt: skip
        yield from _table(("function", "cause", "explains", "of", "what to do"), rows)


def _failures(run: Run) -> Iterator[str]:
    failures = run.judgement.failures
    if failures or run.judgement.stale:
        yield "<h2>Failures</h2>"
    for record in text.choose(run):
        yield from _failure(run, record)
    if failures:
        yield f"<details><summary>All {len(failures)} failures by rule and case</summary>"
        rows = ((escape(r.rule), f"<code>{escape(r.case)}</code>", escape(r.message)) for r in failures)
        yield from _table(("rule", "case", "message"), rows)
        yield "</details>"
    for entry in run.judgement.stale:
        yield f"<p>Known failure that no longer fails: {escape(str(entry))}</p>"


def _failure(run: Run, record: Record) -> Iterator[str]:
    lines = [record.message]
    if record.evidence:
        lines += [f"{line.label:<5} {line.text}" for line in difference.show(record.evidence)]
    lines += [f"likely cause: {text.describe(finding)}" for finding in text.causes(run, record)]
    lines.append(f"again: {run.again(record)}")
    word = "crashed" if record.status is Status.CRASHED else "fail"
    rules = escape(text.rules_of(run, record))
    yield f'<p><b class="{word}">{rules}</b> <code>{escape(record.case)}</code></p>'
    yield f"<pre>{escape(chr(10).join(lines))}</pre>"


def _rules(run: Run) -> Iterator[str]:
    yield "<h2>Rules</h2>"
    rows = (
        (escape(rule.id), rule.level,
         f'<span class="{rule.status.value}">{rule.status.value}</span>', rule.cases,
         f"{rule.failed}" + (f" ({rule.known} known)" if rule.known else ""), escape(rule.title))
        for rule in run.judgement.rules
    )  # fmt: skip
    yield from _table(("rule", "level", "status", "cases", "failed", "about"), rows)


def _table(head: Iterable[str], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    """Make a table; cells are HTML, numbers stand to the right."""
    yield "<table><thead><tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr></thead><tbody>"
    for row in rows:
        cells = (f'<td class="number">{c}</td>' if isinstance(c, int) else f"<td>{c}</td>" for c in row)
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table>"
