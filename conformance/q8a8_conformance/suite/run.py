"""One run of the suite: the worker, the records, and at the end diagnosis and verdict."""

from __future__ import annotations

import hashlib
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING

from q8a8_conformance import diagnosis
from q8a8_conformance.protocol.session import (
    ProtocolViolation,
    SessionError,
    WorkerCrashed,
    WorkerHung,
    WorkerUnsupported,
)
from q8a8_conformance.protocol.sut import SutError, parse_sut
from q8a8_conformance.results.record import Record, Recorder, Status, rule_matches
from q8a8_conformance.results.run import Request, Run
from q8a8_conformance.results.verdict import KnownFailure
from q8a8_conformance.results.verdict import judge as judge_records
from q8a8_conformance.spec.rules import load_rules
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.judge import RETURNS, Judge
from q8a8_conformance.suite.target import Target
from q8a8_golden import load

if TYPE_CHECKING:
    from q8a8_conformance.protocol.session import Session

DEFAULT_TIMEOUT = 10.0
"""Seconds that one call may take, unless the request says otherwise."""

SELF_COMPARISON = (
    "the kernel under test is the reference: outside of the golden cases the expected values are its own: "
    "there it is compared with itself"
)
"""A note on every run of ``ref``: the expected values of golden cases alone are not its own."""

START_CASE = "start"
"""The case id of a worker that died before its hello."""


class SuiteRun:
    """State of one run.

    Parameters
    ----------
    request
        What was asked for.
    known_failures
        Excused failures.

    Raises
    ------
    SutError
        The system under test is not named in a way that can be served.
    """

    def __init__(self, request: Request, known_failures: tuple[KnownFailure, ...] = ()) -> None:
        self.request = request
        self.total = 0
        self._timeout = request.timeout or DEFAULT_TIMEOUT
        self._known_failures = known_failures
        self._recorder = Recorder()
        self._target: Target | None = None
        self._recipes: Recipes | None = None
        self._message = ""
        self._done = 0
        self._started = time.monotonic()
        self._wall = datetime.now(UTC)
        self._sut = parse_sut(request.sut, request.symbols, request.init)
        self._session: Session = self._sut.session(self._timeout)
        self._session.max_hangs = None  # the target limits what deaths may cost
        self._progress = sys.stderr.isatty()

    @property
    def can_judge(self) -> bool:
        """Whether there is a kernel that answers."""
        return self._target is not None

    def start(self) -> None:
        """Start the worker. Where it dies or lacks a CPU feature, the run goes on to a verdict without cases.

        Raises
        ------
        SutError
            The worker cannot be started at all, or cannot serve its command line.
        """
        try:
            self._target = Target(self._session, self.request.profile, self._timeout)
        except WorkerUnsupported as error:
            self._message = f"{error.what}: {error.stderr.strip()}".rstrip(": ")
        except (WorkerCrashed, WorkerHung, ProtocolViolation) as error:
            self._message = str(error)
            self._recorder.add(Record(RETURNS, START_CASE, "", Status.CRASHED, str(error)))
        except SessionError as error:
            raise SutError(str(error)) from error
        else:
            self._recipes = Recipes(self._target)

    def judge(self, case: str, rules: tuple[str, ...]) -> Judge:
        """Return the judge of one case."""
        if self._target is None or self._recipes is None:
            raise RuntimeError("the worker was not started")
        return Judge(self._target, self._recipes, self._recorder, case, rules, self.request.rules)

    def progress(self, case: str) -> None:
        """Show on a terminal which case runs."""
        self._done += 1
        if self._progress:
            sys.stderr.write(f"\r\x1b[K{self._done}/{self.total} {case[:60]}")
            sys.stderr.flush()

    def finish(self, *, everything_ran: bool) -> Run:
        """Diagnose, end the worker, and give the finished run.

        Parameters
        ----------
        everything_ran
            False where the run was cut short, or cases were left out by something else than its own request.
        """
        findings: tuple[diagnosis.Finding, ...] = ()
        notes: tuple[str, ...] = ()
        if self._target is not None and self._recipes is not None:
            findings = diagnosis.diagnose(
                self._target.observations,
                self._target.ask_dot,
                self._recipes.accepted(),
                self._target.probe,
            )
            notes = self._recipes.notes()
        if self._sut.kind == "ref":
            notes = (*notes, SELF_COMPARISON)
        self._session.close()
        if self._progress:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        wanted = self.request.rules
        # A call that did not return counts, whichever rules were asked for: its case judged nothing.
        records = [
            record
            for record in self._recorder
            if wanted is None or rule_matches(record.rule, wanted) or record.status is Status.CRASHED
        ]
        crashed = {record.rule for record in records if record.status is Status.CRASHED}
        rules = [
            rule
            for rule in load_rules()
            if rule.subject == "kernel"
            and (wanted is None or rule_matches(rule.id, wanted) or rule.id in crashed)
        ]
        complete = everything_ran and wanted is None and self.request.case is None and self.can_judge
        judgement = judge_records(records, rules, self._known_failures, everything_ran=complete)
        target = self._target
        return Run(
            request=self.request,
            judgement=judgement,
            diagnosis=findings,
            hello=target.hello if target else None,
            message=self._message,
            notes=notes,
            bound=target.margins.by_function() if target else (),
            warnings=tuple(target.warnings) if target else (),
            version=metadata.version("q8a8"),
            manifest=manifest_hash(),
            started=self._wall.isoformat(timespec="seconds"),
            seconds=time.monotonic() - self._started,
            calls=target.calls if target else 0,
            call_seconds=target.call_seconds if target else 0.0,
            records=tuple(records),
        )


def manifest_hash() -> str:
    """Return the SHA-256, in hex, of the golden vectors' manifest: it names every vector that was used."""
    return hashlib.sha256((load.DATA / load.MANIFEST).read_bytes()).hexdigest()
