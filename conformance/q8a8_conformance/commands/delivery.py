"""What a run of the suite leaves: its reports in files, and the text on standard output.

A file that cannot be written does not keep the others from being written; it is named, and the exit status
is `UNWRITTEN`. A reader that closes the pipe of the text has read enough: the status is the verdict's. An
interrupt while reports are written makes the run an interrupted one, and the reports are written again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.atomic import is_written_in_place, write_text
from q8a8_conformance import report
from q8a8_conformance.commands.options import INTERRUPTED, UNWRITTEN
from q8a8_conformance.commands.output import text_stream, write_to
from q8a8_conformance.report import github
from q8a8_conformance.results.record import count
from q8a8_conformance.results.verdict import Verdict, format_known_failures

if TYPE_CHECKING:
    from q8a8_conformance.commands.suite_options import Settings
    from q8a8_conformance.results.run import Run
    from q8a8_conformance.suite.run import SuiteRun

KNOWN = "write-known-failures"
"""The option, and kind, of the file with the failures of the run."""


def deliver(settings: Settings, suite_run: SuiteRun, finished: Run | None) -> int:
    """Write the files, print the text, and return the exit status of ``q8a8 test``.

    Parameters
    ----------
    settings
        Where the reports go.
    suite_run, finished
        The run, and what it came to where it is finished.
    """
    files = ReportFiles(settings)
    try:
        run = finished or suite_run.finish()
        try:
            return _deliver(files, run, settings)
        except KeyboardInterrupt:
            if suite_run.interrupted:
                raise
            suite_run.interrupted = True
            files.retract()
            return _deliver(files, suite_run.finish(), settings)
    except KeyboardInterrupt:
        write_to(sys.stderr, "q8a8: interrupted while the reports were written: some are missing\n")
        return INTERRUPTED


def _deliver(files: ReportFiles, run: Run, settings: Settings) -> int:
    written = files.write(run)
    if settings.github:
        written = _append_summary(run) and written
    stream = text_stream(files.paths)
    colour = stream.isatty() and "NO_COLOR" not in os.environ
    reason = write_to(stream, report.render(run, "text", colour=colour, detail=settings.detail))
    if settings.github:
        reason = reason or write_to(sys.stdout, github.render(run))
    if reason:
        write_to(sys.stderr, f"q8a8: the report could not be written to standard output: {reason}\n")
    verdict = run.judgement.verdict
    unwritten = (reason or not written) and verdict not in (Verdict.INTERRUPTED, Verdict.BROKEN)
    return UNWRITTEN if unwritten else verdict.exit_status


def _append_summary(run: Run) -> bool:
    """Append the Markdown report to the summary of a step of GitHub Actions; return whether it could be."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return True
    try:
        with Path(name).open("a", encoding="utf-8", errors="replace") as file:
            file.write(report.render(run, "markdown") + "\n")
    except OSError as error:
        write_to(sys.stderr, f"q8a8: GITHUB_STEP_SUMMARY could not be written: {error}\n")
        return False
    return True


class ReportFiles:
    """Writes the files that were asked for.

    Parameters
    ----------
    settings
        Where they go.
    """

    def __init__(self, settings: Settings) -> None:
        self._files: dict[str, Path] = dict(settings.reports)
        if settings.write_known_failures is not None:
            self._files[KNOWN] = settings.write_known_failures
        self._begun: list[str] = []

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the files go."""
        return tuple(self._files.values())

    def write(self, run: Run) -> bool:
        """Write all files; return whether all that the verdict allows were written.

        A run that does not judge the kernel has no badge, no statement and no known failures to write: what
        is there stays.
        """
        complete = True
        for kind, path in self._files.items():
            if kind in (*report.JUDGEMENTS, KNOWN) and not run.judgement.verdict.is_judgement:
                words = f"q8a8: --{kind} {path}: not written: the run is {run.judgement.verdict.value}\n"
                write_to(sys.stderr, words)
                continue
            if kind in self._begun and is_written_in_place(path):
                continue
            self._begun.append(kind)
            try:
                if kind == KNOWN:
                    _write_known_failures(run, path)
                else:
                    report.write(run, kind, path)
            except OSError as error:
                write_to(sys.stderr, f"q8a8: --{kind} could not be written: {error}\n")
                complete = False
        return complete

    def retract(self) -> None:
        """Remove what was written of a verdict that does not stand, where it is in a file."""
        for kind in (*report.JUDGEMENTS, KNOWN):
            if kind in self._begun and not is_written_in_place(self._files[kind]):
                self._files[kind].unlink(missing_ok=True)


def _write_known_failures(run: Run, path: Path) -> None:
    # Failures that are known already are failures, too.
    failures = (*run.judgement.failures, *run.judgement.known)
    about = f"{run.request.command()}: {count(len(failures), 'failure')}"
    write_text(format_known_failures(failures, about), path)
