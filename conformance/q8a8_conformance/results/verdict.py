"""From records to a verdict: the status of each rule, and of the kernel as a whole.

- A rule is ``crashed`` if any of its cases crashed, else ``fail`` if any failed, else ``pass`` if all ran
  that the kernel offers, else ``not-run``: where the worker lacks a capability, or the run ended early, some
  of what the rule promises was not seen.
- The kernel ``crashed`` if any case did, ``does-not-conform`` if a case of a MUST rule failed, ``conforms``
  if at least one MUST rule was judged and none failed, else ``nothing-ran``. A failed SHOULD or MAY rule
  is shown, and costs nothing.
- A failure listed in the known-failures file does not count; an entry there that no longer fails does.
- A run that was interrupted, that never reached the kernel or lost the connection to it, or in which the
  suite itself broke has no verdict on the kernel: it is ``interrupted``, ``not-reached``, ``connection-lost``
  or ``broken``, whatever its cases show.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from q8a8_conformance.results.record import Record, Status, full_id, rule_matches, worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from q8a8_conformance.spec.rules import Rule


class Verdict(StrEnum):
    """The verdicts of the JSON report: four on a kernel, and four of runs that do not judge it."""

    CONFORMS = "conforms"
    DOES_NOT_CONFORM = "does-not-conform"
    CRASHED = "crashed"
    NOTHING_RAN = "nothing-ran"
    NOT_REACHED = "not-reached"
    CONNECTION_LOST = "connection-lost"
    BROKEN = "broken"
    INTERRUPTED = "interrupted"

    @property
    def exit_status(self) -> int:
        """The exit status of ``q8a8 test``; 2 is left for wrong usage, 6 for a report that is not written.

        70 is EX_SOFTWARE of sysexits.h; 130 is what shells report of a program that Ctrl-C ended.
        """
        return _EXIT_STATUS[self]

    @property
    def is_judgement(self) -> bool:
        """Whether it is about the kernel. Only then are badge, statement and known failures written."""
        return self not in _NO_JUDGEMENT


_EXIT_STATUS = {
    Verdict.CONFORMS: 0,
    Verdict.DOES_NOT_CONFORM: 1,
    Verdict.CRASHED: 3,
    Verdict.NOTHING_RAN: 4,
    Verdict.NOT_REACHED: 5,
    Verdict.CONNECTION_LOST: 5,
    Verdict.BROKEN: 70,
    Verdict.INTERRUPTED: 130,
}
_NO_JUDGEMENT = (Verdict.NOT_REACHED, Verdict.CONNECTION_LOST, Verdict.BROKEN, Verdict.INTERRUPTED)


class KnownFailuresError(ValueError):
    """A known-failures file that cannot be read, with the line that is wrong."""


@dataclass(frozen=True)
class KnownFailure:
    """One line of a known-failures file: a rule's id and a shell-style pattern of case ids."""

    rule: str
    cases: str
    line: int
    comment: str = ""

    def covers(self, record: Record) -> bool:
        """Return whether the entry covers a record."""
        return rule_matches(record.rule, self.rule) and fnmatchcase(record.case, self.cases)

    def __str__(self) -> str:
        """Return the entry with its line number."""
        return f"line {self.line}: {self.rule} {self.cases}"


def read_known_failures(path: Path) -> tuple[KnownFailure, ...]:
    """Read a known-failures file: lines ``RULE CASE-ID-GLOB [# comment]``, blank lines, comment lines.

    Parameters
    ----------
    path
        The file, UTF-8.

    Returns
    -------
    tuple of KnownFailure
        In the file's order.

    Raises
    ------
    KnownFailuresError
        The file is unreadable, or a line has not two fields; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise KnownFailuresError(f"known failures: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KnownFailuresError(f"known failures: {path} is no UTF-8: {error}") from error
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        body, _, comment = line.partition("#")
        fields = body.split()
        if not fields:
            continue
        if len(fields) != 2:
            raise KnownFailuresError(
                f"known failures: {path}, line {number}: expected RULE CASE-ID-GLOB, found {body.strip()!r}"
            )
        entries.append(KnownFailure(full_id(fields[0]), fields[1], number, comment.strip()))
    return tuple(entries)


def format_known_failures(records: Iterable[Record], about: str) -> str:
    """Return the text of a known-failures file that excuses failed records, one line each.

    Parameters
    ----------
    records
        The failed and crashed ones.
    about
        What they failed on: a line of comment at the top.
    """
    entries = {f"{r.rule} {_as_pattern(r.case)}": _one_line(r.message) for r in records}
    lines = [f"# {_one_line(about)}", *(f"{entry}  # {why}".rstrip(" #") for entry, why in entries.items())]
    return "\n".join(lines) + "\n"


def _as_pattern(case: str) -> str:
    """Return a pattern that matches one case: signs with a meaning of their own are escaped."""
    special = {"[": "[[]", "*": "[*]", "?": "[?]", "#": "?"}
    return "".join(special.get(sign, "?" if sign.isspace() else sign) for sign in case)


def _one_line(words: str) -> str:
    return " ".join(words.split())[:100]


@dataclass(frozen=True)
class RuleResult:
    """The status of one rule, with its counts.

    ``cases`` counts the cases that ran, ``failed`` those that failed or crashed, ``known`` those of the
    failed ones that the known-failures file excuses. ``reason`` is why a rule was not run.
    """

    id: str
    level: str
    title: str
    status: Status
    cases: int
    failed: int
    known: int
    reason: str = ""


@dataclass(frozen=True)
class Judgement:
    """The verdict with what it rests on.

    ``failures`` are the failed and crashed records that count against a rule, known ones apart (``known``);
    ``stale`` are the known-failures entries that no longer fail.
    """

    verdict: Verdict
    rules: tuple[RuleResult, ...]
    failures: tuple[Record, ...]
    known: tuple[Record, ...]
    stale: tuple[KnownFailure, ...]

    @property
    def words(self) -> str:
        """The verdict as reports for people write it: with the number of known failures."""
        if self.verdict is not Verdict.CONFORMS or not self.known:
            return self.verdict.value
        count = len(self.known)
        return f"conforms except for {count} known failure{'s' if count > 1 else ''}"


_RAN = (Status.PASS, Status.FAIL, Status.CRASHED)
_BAD = (Status.FAIL, Status.CRASHED)


def judge(
    records: Iterable[Record],
    rules: Sequence[Rule],
    known_failures: Sequence[KnownFailure] = (),
    *,
    everything_ran: bool = True,
    ending: Verdict | None = None,
    no_case: str = "no case of this rule was selected",
) -> Judgement:
    """Fold records into rule results and a verdict.

    Parameters
    ----------
    records
        One per (rule, case), as :class:`~q8a8_conformance.results.record.Recorder` keeps them.
    rules
        The rules to report on, in the order of the report; records of other rules count as MUST.
    known_failures
        Excused failures.
    everything_ran
        Whether the whole suite was selected. If not, an entry of ``known_failures`` that covers no case
        is ignored; otherwise it is stale.
    ending
        The verdict of a run that ended without judging the kernel.
    no_case
        Why a rule without any record was not run.

    Returns
    -------
    Judgement
    """
    records = tuple(records)
    excused = {
        (r.rule, r.case)
        for r in records
        if r.status in _BAD and any(entry.covers(r) for entry in known_failures)
    }
    levels = {rule.id: rule.level for rule in rules}
    titles = {rule.id: rule.title for rule in rules}
    order = list(levels) + sorted({r.rule for r in records} - levels.keys())
    by_rule: dict[str, list[Record]] = {rule: [] for rule in order}
    for record in records:
        by_rule[record.rule].append(record)
    results = tuple(
        RuleResult(
            id=rule,
            level=levels.get(rule, "MUST"),
            title=titles.get(rule, ""),
            status=_status(held),
            cases=sum(r.status in _RAN for r in held),
            failed=sum(r.status in _BAD for r in held),
            known=sum((r.rule, r.case) in excused for r in held),
            reason=_reason(held, no_case),
        )
        for rule, held in by_rule.items()
    )
    bad = [r for r in records if r.status in _BAD]
    stale = tuple(entry for entry in known_failures if _is_stale(entry, records, everything_ran))
    failures = tuple(r for r in bad if (r.rule, r.case) not in excused)
    return Judgement(
        verdict=ending or _verdict(failures, results, stale),
        rules=results,
        failures=failures,
        known=tuple(r for r in bad if (r.rule, r.case) in excused),
        stale=stale,
    )


def _status(records: Sequence[Record]) -> Status:
    """Return the status of a rule: its worst case's, and a pass only if no case was left out."""
    status = worst(r.status for r in records)
    return Status.NOT_RUN if status is Status.PASS and _left_out(records) else status


def _left_out(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the cases that did not run although the kernel offers what they are about."""
    return tuple(r for r in records if r.status is Status.NOT_RUN and r.offered)


def _reason(records: Sequence[Record], no_case: str) -> str:
    """Return why a rule was not run; empty where it was."""
    if _status(records) is not Status.NOT_RUN:
        return ""
    held = _left_out(records) or records
    return "; ".join(dict.fromkeys(r.message for r in held)) or no_case


def _is_stale(entry: KnownFailure, records: Sequence[Record], everything_ran: bool) -> bool:
    """Return whether an entry no longer fails: its cases ran and none failed, or there is no such case."""
    covered = [r for r in records if entry.covers(r)]
    if not covered:
        return everything_ran
    return _status(covered) is Status.PASS


def _verdict(
    failures: Sequence[Record], results: Sequence[RuleResult], stale: Sequence[KnownFailure]
) -> Verdict:
    musts = {result.id for result in results if result.level == "MUST"}
    if any(r.status is Status.CRASHED for r in failures):
        return Verdict.CRASHED
    if stale or any(r.rule in musts for r in failures):
        return Verdict.DOES_NOT_CONFORM
    if any(result.status is not Status.NOT_RUN for result in results if result.id in musts):
        return Verdict.CONFORMS
    return Verdict.NOTHING_RAN
