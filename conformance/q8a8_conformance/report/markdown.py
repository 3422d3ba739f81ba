"""The report as Markdown, for a CI job's summary page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.report import choice, difference, smallest
from q8a8_conformance.results.record import Status
from q8a8_conformance.results.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from q8a8_conformance.results.run import Run


def render(run: Run) -> str:
    """Return the report as Markdown."""
    return "\n".join(_lines(run)) + "\n"


def _lines(run: Run) -> Iterator[str]:
    judgement = run.judgement
    sign = "✅" if judgement.verdict is Verdict.CONFORMS else "❌"
    yield f"## {sign} {judgement.words}: {cell(run.request.sut)}"
    yield ""
    yield f"Profile `{run.request.profile}`. {cell(run.summary())}."
    yield ""
    yield from _remarks(run)
    yield ""
    yield from _diagnosis(run)
    shown = choice.choose(run)
    if shown:
        yield from ("### Failures", "")
    for record in shown:
        word = "crashed" if record.status is Status.CRASHED else "failed"
        yield f"**{choice.rules_of(run, record)}** {word}: `{record.case}`"
        lines = [record.message]
        if record.call:
            lines += [f"{line.label:<5} {line.text}" for line in difference.show(record.call)]
        lines.append(f"again: {run.again(record)}")
        yield from _block(lines)
    rest = choice.hidden(run, shown)
    if rest:
        yield from (f"… and {rest}.", "")
    for entry in judgement.stale:
        yield f"- known failure that no longer fails: {cell(str(entry))}"
    yield from _bound(run)
    yield from (
        "<details><summary>All rules</summary>",
        "",
        "| rule | level | status | cases | failed | about |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for rule in judgement.rules:
        status = f"**{rule.status.value}**" if rule.failed else rule.status.value
        failed = f"{rule.failed}" + (f" ({rule.known} known)" if rule.known else "")
        yield f"| {rule.id} | {rule.level} | {status} | {rule.cases} | {failed} | {cell(rule.title)} |"
    yield from ("", "</details>")
    reasons = run.not_run()
    if reasons:
        yield from ("", "Cases that did not run:", "")
        yield from (f"- {count}: {cell(reason)}" for reason, count in reasons.items())


def _remarks(run: Run) -> Iterator[str]:
    """Yield a list of what is wrong with the setup, of warnings and of notes."""
    for stage in run.setup:
        hint = f" → {cell(stage.hint)}" if stage.hint else ""
        yield f"- **setup** {stage.name}: {cell(stage.message)}{hint}"
    for warning in run.warnings:
        yield f"- **warning** `{warning.function}` `{warning.slug}`: {cell(warning.message)}"
    for note in run.notes:
        yield f"- {cell(note)}"


def _diagnosis(run: Run) -> Iterator[str]:
    """Yield a table of what reproduces the results."""
    if not run.diagnosis:
        return
    yield from (
        "### Diagnosis",
        "",
        "| function | cause | explains | of | fix |",
        "| --- | --- | --- | --- | --- |",
    )
    for f in run.diagnosis:
        fix = cell("; ".join(part for part in (f.fix, f.detail) if part))
        yield f"| `{f.function}` | `{f.cause}` | {f.explained} | {f.of} | {fix} |"
    yield ""
    for f in run.diagnosis:
        if f.smallest is not None:
            yield f"**{cell(smallest.heading(f))}**"
            yield from _block(smallest.lines(f.smallest))


def _block(lines: Iterable[str]) -> Iterator[str]:
    """Make a code block. A worker's standard error may hold anything, the end of a code block too."""
    yield from ("", "````text", *(line.replace("````", "''''") for line in lines), "````", "")


def _bound(run: Run) -> Iterator[str]:
    """Yield a table of how much of the bound each function used."""
    if not run.bound:
        return
    yield from ("### Use of the bound", "", "| function | results | outside | largest fraction |")
    yield "| --- | --- | --- | --- |"
    for use in run.bound:
        largest = "none" if use.largest_fraction is None else f"{use.largest_fraction:.2%}"
        yield f"| `{use.function}` | {use.results} | {use.outside} | {largest} |"
    yield ""


def cell(words: str) -> str:
    """Make text safe for a table cell: one line, no column sign, no HTML."""
    return " ".join(words.replace("|", "\\|").replace("<", "&lt;").split())
