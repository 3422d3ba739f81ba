"""A certificate as Markdown or HTML, rendered from its JSON data."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from q8a8_conformance.report import html
from q8a8_conformance.report.markdown import cell
from q8a8_conformance.results.record import short_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERDICTS: Mapping[str, str] = {
    "certified": "every point of these domains was compared, and every result is right",
    "part": "a part of the domains was asked for: every point of it was compared, and every result is right",
    "mismatch": "a result is wrong",
    "crashed": "the kernel crashed, hung, or gave no answer",
    "incomplete": "points are missing",
    "nothing-ran": "nothing was compared",
}
"""The meaning of each verdict of a certificate."""

_HEAD = ("domain", "rules", "points", "compared", "result", "seconds")
_STYLES = {"certified": "conforms", "part": "conforms", "mismatch": "does-not-conform", "crashed": "crashed"}
_RESULT_STYLES = {"equal": "pass", "mismatch": "fail", "crashed": "crashed"}


def markdown(document: Mapping[str, Any]) -> str:
    """Return a certificate as Markdown."""
    return "\n".join(_markdown(document)) + "\n"


def _markdown(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {document['verdict']}: {cell(document['sut'])}"
    yield from ("", f"{VERDICTS[document['verdict']].capitalize()}.", "")
    yield from (f"| {' | '.join(_HEAD)} |", f"| {' | '.join(['---'] * len(_HEAD))} |")
    for domain in document["domains"]:
        rules = ", ".join(map(short_id, domain["rules"]))
        counts = f"{domain['points']:,} | {domain['count']:,} | {domain['result']} | {domain['seconds']:,.1f}"
        yield f"| `{cell(domain['name'])}` | {rules} | {counts} |"
    yield ""
    for domain in document["domains"]:
        if lines := list(_wrong(domain)):
            yield from (f"**{cell(domain['name'])}**", "", "````text")
            yield from (line.replace("````", "''''") for line in lines)
            yield from ("````", "")
    yield from ("| what | |", "| --- | --- |")
    for name, value in _facts(document):
        if value:
            yield f"| {name} | {cell(value)} |"


def html_page(document: Mapping[str, Any]) -> str:
    """Return a certificate as an HTML document."""
    return html.page(f"{document['verdict']} · Q8_A8 certificate: {document['sut']}", _body(document))


def _body(document: Mapping[str, Any]) -> Iterator[str]:
    verdict = document["verdict"]
    yield f'<header><h1>{escape(document["sut"])}</h1><p class="about">Q8_A8 certificate'
    yield f" · {escape(document['started'][:10])}</p></header>"
    yield f'<p class="verdict {_STYLES.get(verdict, "nothing-ran")}"><b>{escape(verdict)}</b> '
    yield f"{escape(VERDICTS[verdict])}</p>"
    yield '<h2 id="domains">Domains</h2>'
    yield from html.table(_HEAD, (_row(domain) for domain in document["domains"]))
    for domain in document["domains"]:
        if lines := list(_wrong(domain)):
            yield f"<article><h3>{escape(domain['name'])}</h3>"
            yield f"<pre>{escape(chr(10).join(lines))}</pre></article>"
    yield '<h2 id="run">Kernel and run</h2>'
    yield from html.facts(_facts(document))


def _row(domain: Mapping[str, Any]) -> tuple[object, ...]:
    style = _RESULT_STYLES.get(domain["result"], "not-run")
    return (
        f"<code>{escape(domain['name'])}</code>",
        escape(", ".join(map(short_id, domain["rules"]))),
        int(domain["points"]),
        int(domain["count"]),
        f'<span class="{style}">{escape(domain["result"])}</span>',
        f"{domain['seconds']:,.1f}",
    )


def _wrong(domain: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines about a domain's first wrong result, and its message."""
    if wrong := domain["mismatch"]:
        yield f"point {wrong['point']}: {wrong['given']}"
        yield f"expected {wrong['expected']}"
        yield f"got      {wrong['got']}"
    if domain["message"]:
        yield from domain["message"].splitlines()


def _facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    kernel, cpu = document["kernel"], document["cpu"]
    shard = document.get("shard")
    emulated = {True: "emulated", False: "native"}.get(document.get("emulated", ""), "")
    return [
        ("kernel", " ".join(filter(None, (kernel.get("name"), kernel.get("version"))))),
        ("SHA-256", kernel["sha256"]),
        *((f"file {name}", value) for name, value in kernel.get("files", {}).items()),
        ("options", " ".join(document.get("options", ()))),
        ("CPU", ", ".join(filter(None, (cpu.get("arch"), emulated, cpu.get("model"))))),
        ("built by", " ".join(filter(None, (document.get("compiler"), document.get("flags"))))),
        ("expected results", document["truth_sha256"]),
        ("suite", f"q8a8 {document['suite']}, NumPy {document['numpy']}, Python {document['python']}"),
        ("shard", f"{shard[0]} of {shard[1]}" if shard and shard[1] > 1 else ""),
        ("sample", f"about {document['sample']} points a domain" if document.get("sample") else ""),
        ("merged from", f"{document['merged']} certificates" if document.get("merged") else ""),
        ("run", f"{document['started']}, {document['seconds']:,.1f} s"),
    ]
