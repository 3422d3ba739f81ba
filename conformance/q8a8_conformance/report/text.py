"""The report for a terminal: what failed and how to see it again, the rules, the causes, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8_conformance.report import difference
from q8a8_conformance.report.choice import causes, choose, describe, hidden, rules_of, wrong
from q8a8_conformance.results.record import Status, count, short_id
from q8a8_conformance.results.verdict import RuleResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.results.run import Run, Smallest

SHOWN_FINDINGS = 3
"""Findings that stand above all else."""

_GREEN, _RED, _YELLOW, _DIM, _BOLD, _OFF = (f"\x1b[{code}m" for code in (32, 31, 33, 2, 1, 0))


@dataclass(frozen=True)
class Detail:
    """How much the text has: the verdict alone; every failure; of the rules those that failed."""

    quiet: bool = False
    verbose: bool = False
    only_failed: bool = False


NORMAL = Detail()


def render(run: Run, *, colour: bool = False, detail: Detail = NORMAL) -> str:
    """Return the report as text, each line ended."""
    paint = _Paint(colour)
    if detail.quiet:
        return _verdict(run, paint) + "\n"
    lines = [
        *_summary(run, paint),
        *_head(run, paint),
        *_rules(run, paint, only_failed=detail.only_failed),
        *_failures(run, paint, every=detail.verbose),
        *_stale(run, paint),
        *_diagnosis(run, paint),
        *_setup(run, paint),
        *_bound(run),
        *filter(None, (run.overlap(),)),
        *(paint(_YELLOW, "warning:") + f" {w.function}: {w.slug}: {w.message}" for w in run.warnings),
        *(f"note: {note}" for note in run.notes),
        _verdict(run, paint),
    ]
    return "\n".join(lines) + "\n"


class _Paint:
    """Colours words, or leaves them as they are."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, code: str, words: str) -> str:
        return f"{code}{words}{_OFF}" if self._colour else words


def _summary(run: Run, paint: _Paint) -> Iterator[str]:
    """Yield the verdict, what is wrong, and of each of that the smallest call that shows it."""
    yield paint(_BOLD, f"q8a8 {run.version}: {run.request.sut}, profile {run.request.profile}")
    yield _verdict(run, paint)
    for finding in wrong(run)[:SHOWN_FINDINGS]:
        rule = f"{short_id(finding.rule)}: " if finding.rule else ""
        yield f"  {finding.function}: {rule}{finding.sentence or finding.cause}"
        if finding.smallest is not None:
            yield f"    {finding.smallest.text}{_want_and_got(finding.smallest)}"
    yield ""


def _want_and_got(smallest: Smallest) -> str:
    shown = {line.label: line.text for line in difference.show(smallest.call)}
    return "".join(f"; {label} {shown[label]}" for label in ("want", "got") if label in shown)


def _head(run: Run, paint: _Paint) -> Iterator[str]:
    hello = run.hello
    if hello:
        emulated = {True: ", emulated", False: ", native", None: ""}[hello.emulated]
        name = " ".join(filter(None, (hello.name, hello.version)))
        yield f"kernel: {name} on {hello.arch or 'an unknown CPU'}{emulated}"
        built = " ".join(filter(None, (hello.compiler, hello.flags)))
        if built:
            yield f"built by: {built}"
        if hello.kernel:
            yield paint(_DIM, f"sha256: {hello.kernel.sha256}")
        yield f"functions: {', '.join(hello.functions) or 'none'}"
    yield ""


def _setup(run: Run, paint: _Paint) -> Iterator[str]:
    """Yield what is wrong with the setup, near the end, where a terminal shows it."""
    for stage in run.setup:
        yield paint(_YELLOW, "setup:") + f" {stage.name}: {stage.message}"
        if stage.hint:
            yield f"  → {stage.hint}"
    if run.setup:
        yield ""


def _failures(run: Run, paint: _Paint, *, every: bool) -> Iterator[str]:
    shown = choose(run, every=every)
    for record in shown:
        word = "CRASHED" if record.status is Status.CRASHED else "FAIL"
        yield paint(_RED, f"{word} {rules_of(run, record)}") + f"  {record.case}"
        yield f"  {record.message}"
        if record.call:
            for line in difference.show(record.call):
                yield f"  {line.label:<5} {line.text}"
        for finding in causes(run, record):
            yield f"  likely cause: {describe(finding)}"
        yield f"  again: {run.again(record)}"
        yield ""
    rest = hidden(run, shown)
    if rest:
        yield paint(_DIM, f"… and {rest}; --json and --html have them all")
        yield ""


def _stale(run: Run, paint: _Paint) -> Iterator[str]:
    for entry in run.judgement.stale:
        yield paint(_RED, "FAIL") + f"  known failure that no longer fails, {entry}"
    if run.judgement.stale:
        yield ""


def _rules(run: Run, paint: _Paint, *, only_failed: bool) -> Iterator[str]:
    if any(rule.cases for rule in run.judgement.rules):
        rules = run.judgement.rules
        if only_failed:
            rules = tuple(rule for rule in rules if rule.failed)
        # Most rules have nothing in a few cases.
        shown = [rule for rule in rules if rule.cases or run.request.case is None]
        yield from (_rule(rule, paint) for rule in shown)
        if shown:
            yield ""
    for reason, number in run.not_run().items():
        yield paint(_DIM, f"not run: {count(number, 'case')}: {reason}")
    if run.not_run():
        yield ""


def _rule(rule: RuleResult, paint: _Paint) -> str:
    code = {Status.PASS: _GREEN, Status.NOT_RUN: _DIM}.get(rule.status, _RED)
    if rule.status is Status.FAIL and (rule.level != "MUST" or rule.failed == rule.known):
        code = _YELLOW
    word = paint(code, f"{rule.status.value:<8}")
    words = count(rule.cases, "case") if rule.cases else ""
    if rule.cases and rule.status is Status.NOT_RUN:
        words += ", not all"
    if rule.failed:
        words += f", {rule.failed} failed"
    if rule.known:
        words += f", {rule.known} of them known"
    return f"  {word} {rule.id:<12} {rule.level:<6} {words:<32} {rule.title}".rstrip()


def _diagnosis(run: Run, paint: _Paint) -> Iterator[str]:
    if run.diagnosis:
        yield paint(_BOLD, "diagnosis")
        for finding in run.diagnosis:
            yield f"  {finding.function}: {describe(finding)}"
            if finding.smallest is not None:
                yield from _smallest(finding.smallest)
            seen = finding.smallest.text if finding.smallest else ""
            more = dict.fromkeys(shown.text for shown in finding.evidence[1:] if shown.text != seen)
            yield from (f"    shown by: {text}" for text in more)
        yield ""


def _smallest(smallest: Smallest) -> Iterator[str]:
    yield f"    smallest: {smallest.text}"
    for line in difference.show(smallest.call):
        if line.label in {"want", "got"}:
            yield f"    {line.label:<5} {line.text}"


def _bound(run: Run) -> Iterator[str]:
    """Describe how much of the bound was used, by the function that used most of it."""
    used = [(use.largest_fraction, use) for use in run.bound if use.largest_fraction is not None]
    if used:
        most, use = max(used, key=lambda pair: pair[0])
        results = sum(one.results for one in run.bound)
        outside = sum(one.outside for one in run.bound)
        yield (
            f"bound: {count(outside, 'result') + ' outside of it; inside ' if outside else ''}"
            f"at most {most:.2%} of it used, by {use.function} in {use.worst}; "
            f"{count(results, 'result')} judged by it"
        )


def _verdict(run: Run, paint: _Paint) -> str:
    code = _GREEN if run.judgement.verdict is Verdict.CONFORMS else _RED
    if code == _GREEN and run.judgement.known:
        code = _YELLOW
    return paint(code, run.summary())
