"""The report as JUnit XML, for CI servers: a test suite a rule, a test case a case."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from q8a8_conformance.report import difference
from q8a8_conformance.results.record import Record, Status

if TYPE_CHECKING:
    from q8a8_conformance.results.run import Run

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(run: Run) -> str:
    """Return the report as XML text."""
    known = {(record.rule, record.case) for record in run.judgement.known}
    root = ET.Element("testsuites", name=f"q8a8 {run.request.sut}", time=f"{run.seconds:.3f}")
    for rule in run.judgement.rules:
        records = [record for record in run.records if record.rule == rule.id]
        if not records:
            records = [Record(rule.id, "no case", "", Status.NOT_RUN, rule.reason)]
        suite = ET.SubElement(root, "testsuite", name=rule.id, timestamp=run.started)
        for record in records:
            _case(run, suite, record, known=(record.rule, record.case) in known)
        _count(suite)
    if not run.judgement.verdict.is_judgement:
        # Skipped cases alone are a success to a CI server.
        suite = ET.SubElement(root, "testsuite", name="run", timestamp=run.started)
        case = ET.SubElement(suite, "testcase", classname="run", name="verdict")
        error = ET.SubElement(case, "error", message=_clean(run.summary()))
        error.text = _clean("\n".join(f"{s.name}: {s.message}\n  → {s.hint}" for s in run.setup))
        _count(suite)
    if run.judgement.stale:
        suite = ET.SubElement(root, "testsuite", name="known failures", timestamp=run.started)
        for entry in run.judgement.stale:
            case = ET.SubElement(suite, "testcase", classname=entry.rule, name=entry.cases)
            ET.SubElement(case, "failure", message=f"no longer fails: {entry}")
        _count(suite)
    _count(root)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(run: Run, suite: ET.Element, record: Record, *, known: bool) -> None:
    case = ET.SubElement(suite, "testcase", classname=record.rule, name=record.case)
    message = _clean(record.message)
    if record.status is Status.NOT_RUN:
        ET.SubElement(case, "skipped", message=message)
    elif known:
        ET.SubElement(case, "skipped", message=f"known failure: {message}")
    elif record.status is not Status.PASS:
        # A crash is an error, in JUnit's words; a wrong result a failure.
        kind = "error" if record.status is Status.CRASHED else "failure"
        element = ET.SubElement(case, kind, message=message)
        lines = [record.message]
        if record.call:
            lines += [f"{line.label:<5} {line.text}" for line in difference.show(record.call)]
        lines.append(f"again: {run.again(record)}")
        element.text = _clean("\n".join(lines))


def _count(element: ET.Element) -> None:
    for name, tag in (
        ("tests", "testcase"),
        ("failures", "failure"),
        ("errors", "error"),
        ("skipped", "skipped"),
    ):
        element.set(name, str(sum(1 for _ in element.iter(tag))))


def _clean(text: str) -> str:
    """Drop what XML 1.0 cannot hold: a worker's standard error may contain anything."""
    return _NOT_XML.sub("?", text)
