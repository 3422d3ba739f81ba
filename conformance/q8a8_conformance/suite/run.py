"""One run of the suite: the worker, the records, and at the end diagnosis and verdict.

It begins with what ``q8a8 smoke`` asks: what is wrong with the setup then stands in the report, and where the
kernel is not reached nothing else is run.
"""

from __future__ import annotations

import hashlib
import sys
import time
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from q8a8.install import VERSION
from q8a8_conformance import diagnosis
from q8a8_conformance.diagnosis.limits import Limits
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.deadline import clock
from q8a8_conformance.protocol.sut import parse_sut
from q8a8_conformance.results.record import Record, Recorder, Status, rule_matches
from q8a8_conformance.results.run import Request, Run
from q8a8_conformance.results.setup import Stage
from q8a8_conformance.results.verdict import KnownFailure, Verdict
from q8a8_conformance.results.verdict import judge as judge_records
from q8a8_conformance.smoke import stages
from q8a8_conformance.smoke.starting import start
from q8a8_conformance.spec.rules import load_rules, rules_by_id
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.judge import RETURNS, Judge
from q8a8_conformance.suite.localization import localize
from q8a8_conformance.suite.shares import ALONE, Findings, Share
from q8a8_conformance.suite.target import Target
from q8a8_conformance.suite.wrong_setup import wrong_setup
from q8a8_golden import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.protocol.session import Session
    from q8a8_conformance.spec.rules import Rule
    from q8a8_conformance.suite.shares import Helper

TIMEOUTS = {"exec": 10.0}
TIMEOUT = 8.0
"""Seconds that one call may take, unless the request says otherwise: more for a program, which may be on
another machine."""

SELF_COMPARISON = (
    "the kernel under test is the reference: outside of the golden cases the expected values are its own: "
    "there it is compared with itself"
)
"""A note on every run of ``ref``: the expected values of golden cases alone are not its own."""

START_CASE = "start"
"""The case id of a kernel that crashed while it was loaded."""

START_TIMEOUTS = {"exec": 30.0}
START_TIMEOUT = 15.0
"""Seconds from a worker's start to its hello, in which it loads and initializes the kernel: more for a
program, which may be on another machine. A call's time limit counts where it is longer."""

INTERRUPTED = "the run was interrupted"

HELPER_ENDED = "a process that judges a part of the cases ended without a result; with --jobs 1 there is none"

_LOST_HINT = "is the machine up, and the network? A kernel that takes the whole machine down looks alike"

_BLOCKS = (*calls.QUANTIZERS, calls.DEQUANTIZE, calls.DOT)

NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "Q8A8-LAY-1": (_BLOCKS,),
    "Q8A8-LAY-2": (_BLOCKS,),
    "Q8A8-QNT-8": tuple((name,) for name in calls.QUANTIZERS),
}
"""Functions without which a case shows nothing of a rule, though it runs: one of each tuple is needed.

Two quantizers are equal only where there are two; an activation has no blocks.
"""

_WITHOUT_CASES: Mapping[Verdict | None, str] = {
    Verdict.NOT_REACHED: "the kernel was not reached",
    Verdict.CRASHED: "the kernel crashed while it was loaded",
    Verdict.NOTHING_RAN: "this machine cannot run the kernel",
}
"""Why no rule was judged, where the run ended at the start."""


class SuiteRun:
    """State of one run.

    Parameters
    ----------
    request
        What was asked for.
    known_failures
        Excused failures.
    share
        The part of the cases that this process judges.

    Raises
    ------
    SutError
        The system under test is not named in a way that can be served.

    Attributes
    ----------
    interrupted
        Whether the run was told to end; it has no verdict on the kernel then.
    broken
        Whether the suite itself broke: the same.
    share
        The part of the cases that this process judges.
    helpers
        The processes that judge the others; they are ended with the run.
    """

    def __init__(
        self, request: Request, known_failures: tuple[KnownFailure, ...] = (), share: Share = ALONE
    ) -> None:
        self.request = request
        self.share = share
        self.helpers: Sequence[Helper] = ()
        self.interrupted = False
        self.broken = False
        self._known_failures = known_failures
        self._recorder = Recorder()
        self._target: Target | None = None
        self._recipes: Recipes | None = None
        self._setup: tuple[Stage, ...] = ()
        self._ending: Verdict | None = None
        self._message = ""
        self._planned: Mapping[str, tuple[str, ...]] = {}
        self._left_out = ""
        self._noted: tuple[str, ...] = ()
        self._selected = True
        self._findings: tuple[diagnosis.Finding, ...] | None = None
        self._limits = Limits()
        self._done = 0
        self._started = time.monotonic()
        self._begun = clock()
        self._wall = datetime.now(UTC)
        self._sut = parse_sut(request.sut, request.symbols, request.init)
        self._timeout = request.timeout or TIMEOUTS.get(self._sut.kind, TIMEOUT)
        self._session: Session = self._sut.session(
            self._timeout,
            start_timeout=max(self._timeout, START_TIMEOUTS.get(self._sut.kind, START_TIMEOUT)),
        )
        self._session.max_hangs = None  # the target limits what deaths may cost
        self._progress = sys.stderr.isatty() and share.index == 0

    @property
    def can_judge(self) -> bool:
        """Whether there is a kernel that answers."""
        return self._target is not None

    def start(self) -> None:
        """Start the worker, and ask what ``q8a8 smoke`` asks, up to the first call that does not return.

        Where the kernel is not reached, or crashes while it is loaded, there is a verdict without cases.

        Raises
        ------
        SutError
            The command line names what the kernel does not have.
        """
        if self._target is not None or self._ending is not None:
            return
        self._show("start")
        started = start(self._sut, self._session)
        self._setup = (started.stage,)
        if started.hello is None:
            self._ending, self._message = started.ending, started.stage.message
            if self._ending is Verdict.CRASHED:
                self._recorder.add(Record(RETURNS, START_CASE, "", Status.CRASHED, self._message))
            return
        self._target = Target(
            self._session, self.request.profile, self._timeout, remote=self._sut.kind == "exec"
        )
        for stage in stages.call_each(self._sut, self._session, started.hello):
            self._setup += (stage,)
            if stage.status is Status.CRASHED:
                if self._session.hangs:
                    self._target.add_hang(stage.name)
                break
        self._recipes = Recipes(self._target)

    def plan(self, cases: Mapping[str, tuple[str, ...]], *, selected: bool = True) -> None:
        """Take the cases that will run, with their rules; what has no record at the end did not run.

        Parameters
        ----------
        cases
            Rules by case.
        selected
            False where others than the request have left cases out.
        """
        self._planned = cases
        self._selected = selected

    def note(self, words: str) -> None:
        """Take a sentence that the reports show."""
        self._noted = (*self._noted, words)

    def leave_out(self, reason: str) -> None:
        """Take the reason why the rest of the plan does not run; the first one counts."""
        self._left_out = self._left_out or reason

    def judge(self, case: str, rules: tuple[str, ...]) -> Judge:
        """Return the judge of one case."""
        if self._target is None or self._recipes is None:
            raise RuntimeError("the worker was not started")
        judge = Judge(self._target, self._recipes, self._recorder, case, rules, self.request.rules)
        for rule in rules:
            for functions in NEEDS.get(rule, ()):
                if not any(self._target.offers(name) for name in functions):
                    judge.leave_out(rule, f"the kernel does not offer {' or '.join(functions)}")
        return judge

    def counts(self, record: Record) -> bool:
        """Return whether a failure counts against the kernel.

        One that is known, of a SHOULD rule, or of a rule that was not asked for does not.
        """
        if any(entry.covers(record) for entry in self._known_failures):
            return False
        if record.status is Status.CRASHED:
            return True
        wanted = self.request.rules is None or rule_matches(record.rule, self.request.rules)
        return wanted and rules_by_id()[record.rule].level == "MUST"

    def progress(self, case: str) -> None:
        """Show on a terminal which case runs."""
        self._done += 1
        self._show(f"{self._done}/{len(self._planned)} {case}")

    def finish(self) -> Run:
        """Diagnose, end the worker, and return the finished run.

        An interrupt ends the diagnosis, and the run is interrupted; a second one is raised. The method may be
        called again: what was found stays.
        """
        try:
            return self._finish()
        except KeyboardInterrupt:
            self.interrupted = True
            return self._finish()

    def _finish(self) -> Run:
        if self.interrupted:
            self.leave_out(INTERRUPTED)
        elif self._findings is None:
            self._gather()
            self._findings = self._diagnose()
        if self._target is not None:
            self._recorder = self._localize(self._target)
        self.close()
        self._show("")
        complete = self._account() and self._selected
        records, rules = self._wanted()
        everything = self.request.rules is None and self.request.case is None and self.can_judge
        judgement = judge_records(
            records,
            rules,
            self._known_failures,
            everything_ran=complete and everything,
            ending=self._verdict_without_judgement(),
            no_case=self._left_out or _WITHOUT_CASES.get(self._ending, "no case of this rule was selected"),
        )
        target = self._target
        return Run(
            request=self.request,
            judgement=judgement,
            diagnosis=self._findings or (),
            hello=target.hello if target else None,
            message=self._message or (target.lost if target else ""),
            setup=self._wrong_setup(),
            complete=complete,
            notes=self._notes(),
            bound=target.margins.by_function() if target else (),
            warnings=tuple(target.warnings) if target else (),
            version=VERSION,
            manifest=manifest_hash(),
            started=self._wall.isoformat(timespec="seconds"),
            seconds=time.monotonic() - self._started,
            calls=target.calls if target else 0,
            call_seconds=target.call_seconds if target else 0.0,
            overlap_seconds=target.overlap_seconds if target else 0.0,
            stops=target.stops if target else 0,
            records=records,
        )

    def _wrong_setup(self) -> tuple[Stage, ...]:
        """Return what is wrong with the setup."""
        known = {fact.function for fact in self._limits.facts}
        observations = self._target.observations if self._target else None
        wrong = list(wrong_setup(self._setup, known, tuple(self._recorder), observations))
        if self._target is not None and self._target.lost:
            wrong.append(Stage("connection", Status.NOT_RUN, self._target.lost, _LOST_HINT))
        return tuple(wrong)

    def close(self) -> None:
        """End the worker and the helpers."""
        self._session.close()
        if self._target is not None:
            self._target.close()
        for helper in self.helpers:
            helper.close()

    def found(self) -> Findings | None:
        """Return what a helper has found in its share; None where the kernel could not be judged."""
        target = self._target
        if target is None or self._recipes is None:
            return None
        return Findings(
            records=tuple(self._recorder),
            observations=target.observations,
            margins=target.margins,
            warnings=tuple(target.warnings),
            chosen=self._recipes.chosen,
            calls=target.calls,
            call_seconds=target.call_seconds,
            overlap_seconds=target.overlap_seconds,
            stops=target.stops,
            broken=self.broken,
        )

    def _gather(self) -> None:
        """Take what the helpers have found; cases that one has not judged have their reason."""
        for helper in self.helpers:
            found = helper.findings() if self.can_judge else None
            if found is None or self._target is None or self._recipes is None:
                self.broken = self.broken or self.can_judge
                self.leave_out(HELPER_ENDED)
                self._message = self._message or self._left_out
                continue
            self.broken = self.broken or found.broken
            for record in found.records:
                self._recorder.add(record)
            self._recipes.add(found.chosen)
            self._target.add(found)
        self._recorder.sort(self._planned)

    def _verdict_without_judgement(self) -> Verdict | None:
        """Return the verdict of a run that does not judge the kernel; None of one that does."""
        if self.interrupted:
            return Verdict.INTERRUPTED
        if self.broken:
            return Verdict.BROKEN
        return Verdict.CONNECTION_LOST if self._target and self._target.lost else self._ending

    def _diagnose(self) -> tuple[diagnosis.Finding, ...]:
        """Return the likely causes, showing on a terminal that the search goes on."""
        target, recipes = self._target, self._recipes
        if target is None or recipes is None:
            return ()
        made = 0

        def show(function: str) -> None:
            nonlocal made
            made += 1
            self._show(f"diagnosis of {function}, call {made}")

        def ask(function: str, nrc: int, x: Array, y: Array) -> bytes | None:
            show(function)
            return target.ask_dot(function, nrc, x, y)

        def probe(call: Call) -> tuple[bytes, ...] | None:
            show(call.function)
            return target.probe(call)

        self._show("diagnosis")
        self._limits = Limits(target.restart, clock() - self._begun)
        return diagnosis.diagnose(
            target.observations,
            ask,
            recipes.accepted(),
            probe,
            self._watch,
            target.result,
            self._limits,
        )

    def _localize(self, target: Target) -> Recorder:
        """Return the records with the rules that are broken: by the facts, or by the cases alone."""
        with self._watch("the rules that facts break"):
            return localize(self._recorder, self._limits.facts, target.observations, self.request.rules)
        return localize(self._recorder, (), target.observations, self.request.rules)

    @contextmanager
    def _watch(self, about: str) -> Iterator[None]:
        """Show what the diagnosis looks into, and say so where this breaks: the verdict stands without it."""
        self._show(f"diagnosis of {about}")
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- whatever it is, the cases have been judged
            text = "".join(traceback.format_exception(error))
            sys.stderr.write(f"q8a8: error in the diagnosis of {about}:\n{text}")
            self.note(
                f"the diagnosis of {about} broke ({type(error).__name__}: {error}): a defect of the suite, "
                "on which the verdict does not depend"
            )

    def _notes(self) -> tuple[str, ...]:
        notes = self._recipes.notes() if self._recipes is not None else ()
        notes = (*notes, *self._noted)
        return (*notes, SELF_COMPARISON) if self._sut.kind == "ref" else notes

    def _account(self) -> bool:
        """Give every case of the plan that has no record its reason; return whether there was none such."""
        recorded = {record.case for record in self._recorder}
        missing = {case: rules for case, rules in self._planned.items() if case not in recorded}
        if missing:
            self.leave_out("the run ended before this case")
        for case, rules in missing.items():
            for rule in rules:
                self._recorder.add(Record(rule, case, "", Status.NOT_RUN, self._left_out))
        return not self._left_out

    def _wanted(self) -> tuple[tuple[Record, ...], tuple[Rule, ...]]:
        """Return the records and the rules that were asked for.

        A call that did not return counts, whichever rules were asked for: its case judged nothing.
        """
        wanted = self.request.rules
        records = tuple(
            record
            for record in self._recorder
            if wanted is None or rule_matches(record.rule, wanted) or record.status is Status.CRASHED
        )
        crashed = {record.rule for record in records if record.status is Status.CRASHED}
        rules = tuple(
            rule
            for rule in load_rules()
            if rule.subject == "kernel"
            and (wanted is None or rule_matches(rule.id, wanted) or rule.id in crashed)
        )
        return records, rules

    def _show(self, words: str) -> None:
        """Rewrite the line of progress, on a terminal; remove it where there are no words."""
        if self._progress:
            sys.stderr.write(f"\r\x1b[K{words[:70]}")
            sys.stderr.flush()


def manifest_hash() -> str:
    """Return the SHA-256, in hex, of the golden vectors' manifest: it names every vector that was used."""
    return hashlib.sha256((load.DATA / load.MANIFEST).read_bytes()).hexdigest()
