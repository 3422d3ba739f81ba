"""The statement of conformance: what was judged, where, by what, and how each rule came out.

Everything in it comes from the run. What a worker did not report is marked as such: a statement without
the kernel's hash does not say which kernel it is about.
"""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Hello
from q8a8_conformance.report.markdown import cell
from q8a8_conformance.results.record import Status, count
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.spec.rules import rules_by_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.results.run import Run

NOT_TOLD = "not told by the worker"

_SENTENCES = {
    Verdict.CONFORMS: "No case of a MUST rule failed.",
    Verdict.DOES_NOT_CONFORM: "A case of a MUST rule failed, or a known failure no longer fails.",
    Verdict.CRASHED: "The kernel crashed or hung in a case.",
}
_NOTHING = "No case of a MUST rule ran: nothing is stated."


def render(run: Run) -> str:
    """Return the statement as Markdown."""
    return "\n".join(_lines(run)) + "\n"


def date(run: Run) -> str:
    """Return the date of the statement: that of SOURCE_DATE_EPOCH, if set, else that of the run.

    A SOURCE_DATE_EPOCH that is no number of seconds is passed over: a report is not the place to fail.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdecimal() and len(epoch) < 12:
        return datetime.fromtimestamp(int(epoch), UTC).date().isoformat()
    return run.started[:10]


def _lines(run: Run) -> Iterator[str]:
    verdict = run.judgement.verdict
    yield f"# Statement of conformance to Q8_A8: {run.judgement.words}"
    yield ""
    yield f"{_SENTENCES.get(verdict, _NOTHING)} {_extent(run)}"
    yield ""
    for note in run.notes:
        yield from (f"Note: {cell(note)}.", "")
    yield from ("| | |", "| --- | --- |")
    for name, value in facts(run):
        yield f"| {name} | {cell(value)} |"
    yield ""
    if run.diagnosis:
        yield from ("## Arithmetic", "", "| function | reproduced by | results |", "| --- | --- | --- |")
        for finding in run.diagnosis:
            share = f"{finding.explained} of {finding.of}"
            yield f"| `{finding.function}` | `{cell(finding.cause)}` | {share} |"
        yield ""
    if run.bound:
        yield from ("## Use of the bound", "", "| function | results | outside | largest fraction |")
        yield "| --- | --- | --- | --- |"
        for use in run.bound:
            largest = "none" if use.largest_fraction is None else f"{use.largest_fraction:.2%}"
            yield f"| `{use.function}` | {use.results} | {use.outside} | {largest} |"
        yield ""
    yield from (
        "## Rules",
        "",
        "| rule | level | status | cases | failed | about |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for rule in run.judgement.rules:
        failed = f"{rule.failed}" + (f" ({rule.known} known)" if rule.known else "")
        cells = (rule.id, rule.level, rule.status.value, str(rule.cases), failed, cell(rule.title))
        yield f"| {' | '.join(cells)} |"
    yield from _outside(run)


def facts(run: Run) -> list[tuple[str, str]]:
    """Return what identifies the kernel, the machine, the suite and the run, by name."""
    hello = run.hello or Hello("")
    path, sha256 = (hello.kernel.path, hello.kernel.sha256) if hello.kernel else ("", "")
    emulated = {True: "emulated", False: "native", None: "whether emulated: " + NOT_TOLD}[hello.emulated]
    return [
        ("system under test", run.request.sut),
        ("kernel", " ".join(filter(None, (hello.name, hello.version))) or NOT_TOLD),
        ("file", path or NOT_TOLD),
        ("SHA-256 of the file", sha256 or NOT_TOLD),
        ("functions", ", ".join(hello.functions) or "none"),
        ("CPU", ", ".join(filter(None, (hello.arch or NOT_TOLD, emulated)))),
        ("CPU features", " ".join(hello.features) or NOT_TOLD),
        ("compiler", hello.compiler or NOT_TOLD),
        ("flags", hello.flags or NOT_TOLD),
        ("profile", run.request.profile),
        ("suite", f"q8a8 {run.version}"),
        ("SHA-256 of the golden vectors' manifest", run.manifest),
        ("suite ran on", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        ("date", date(run)),
        ("command", run.request.command()),
    ]


def _extent(run: Run) -> str:
    """Describe how much of the suite the statement rests on."""
    rules = run.judgement.rules
    ran = sum(rule.status is not Status.NOT_RUN for rule in rules)
    words = f"{ran} of {count(len(rules), 'rule')} judged."
    if run.request.rules is not None or run.request.case is not None or not run.complete:
        words = f"**Only a part of the suite was chosen.** {words}"
    if run.judgement.known:
        words += f" {count(len(run.judgement.known), 'failure')} excused as known."
    return words


def _outside(run: Run) -> Iterator[str]:
    """Name what the statement does not cover."""
    silent = [rule for rule in run.judgement.rules if rule.status is Status.NOT_RUN and rule.level == "MUST"]
    if silent:
        yield from ("", f"Not judged here: {', '.join(rule.id for rule in silent)}.")
    reference = [rule.id for rule in rules_by_id().values() if rule.subject == "reference"]
    yield from ("", f"Not about kernels, and not part of this statement: {', '.join(reference)}.")
