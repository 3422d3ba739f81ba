"""A run as the workflow commands of GitHub Actions: annotations of failures and of the verdict.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.report import choice
from q8a8_conformance.results.verdict import Verdict

if TYPE_CHECKING:
    from q8a8_conformance.results.record import Record
    from q8a8_conformance.results.run import Run


def render(run: Run) -> str:
    """Return one annotation for each failure that the terminal shows, and one for the verdict."""
    lines = [
        _command("error", f"{choice.rules_of(run, record)} {record.case}", _message(run, record))
        for record in choice.choose(run)
    ]
    lines += [
        _command("error", "known failure that no longer fails", str(entry)) for entry in run.judgement.stale
    ]
    lines += [_command("warning", warning.slug, warning.message) for warning in run.warnings]
    level = "notice" if run.judgement.verdict is Verdict.CONFORMS else "error"
    return "".join(f"{line}\n" for line in (*lines, _command(level, run.request.sut, run.summary())))


def _message(run: Run, record: Record) -> str:
    parts = [record.message]
    parts += [f"likely cause: {choice.describe(finding)}" for finding in choice.causes(run, record)]
    return "\n".join([*parts, f"again: {run.again(record)}"])


def _command(level: str, title: str, message: str) -> str:
    name = _escape(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
