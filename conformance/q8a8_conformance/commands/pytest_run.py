"""A run of the suite by ``q8a8 test``: pytest with the suite's checks and nothing else.

pytest's own output is off, the user's pytest settings and plugins are left out (a kernel is judged alike
everywhere), and the report goes to standard output.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.commands.delivery import deliver
from q8a8_conformance.commands.options import usage_error
from q8a8_conformance.commands.suite_options import SettingsError
from q8a8_conformance.protocol.sut import SutError
from q8a8_conformance.results.verdict import KnownFailuresError
from q8a8_conformance.suite import shares
from q8a8_conformance.suite.interrupts import Interrupts
from q8a8_conformance.suite.pytest_checks import CheckRunner
from q8a8_conformance.suite.run import SuiteRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.commands.suite_options import Settings
    from q8a8_conformance.results.run import Run
    from q8a8_conformance.results.verdict import KnownFailure

WITHOUT = (
    *("terminal", "cacheprovider", "logging", "junitxml", "unraisableexception", "threadexception"),
    *("faulthandler", "warnings", "unittest", "doctest", "tmpdir", "legacypath", "stepwise", "pastebin"),
    *("setuponly", "setupplan", "debugging", "capture"),
)
"""Plugins of pytest that have no work here."""

ARGUMENTS = (
    "-c", os.devnull,
    f"--rootdir={Path(__file__).parent}",
    *(word for name in WITHOUT for word in ("-p", f"no:{name}")),
    "--assert=plain",
    "--pyargs", "q8a8_conformance.suite",
)  # fmt: skip
"""pytest's command line: what to run, and how. What is judged comes with the plugin object."""


GARBAGE = 50_000
"""Objects that a run makes before Python looks for garbage among them."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's ``malloc.h``: how much free memory it keeps, and from which size on it asks the system."""


def run(settings: Settings, interrupts: Interrupts) -> int:
    """Run the suite, write and print the report, and return the exit status.

    Parameters
    ----------
    settings
        What to run, and where the reports go.
    interrupts
        Entered, and held: a signal that came so far ends the run here.
    """
    try:
        known_failures = settings.read_known_failures()
        suite_run = SuiteRun(settings.request, known_failures, shares.Share(0, settings.jobs))
        settings.check()
    except (KnownFailuresError, SettingsError, SutError) as error:
        return usage_error(str(error))
    try:
        interrupts.release()
        suite_run.helpers = _helpers(settings, known_failures)
        suite_run.start()
        finished = _run_checks(suite_run, settings, interrupts) if suite_run.can_judge else suite_run.finish()
    except SutError as error:
        suite_run.close()
        return usage_error(str(error))
    except KeyboardInterrupt:
        suite_run.interrupted = True
        finished = None
    return deliver(settings, suite_run, finished)


def _helpers(settings: Settings, known_failures: tuple[KnownFailure, ...]) -> tuple[shares.Helper, ...]:
    """Start the processes that judge the other shares of the cases."""
    return tuple(
        shares.Helper(
            __name__, shares.Work(settings.request, known_failures, shares.Share(index, settings.jobs))
        )
        for index in range(1, settings.jobs)
    )


def _run_checks(suite_run: SuiteRun, settings: Settings, interrupts: Interrupts) -> Run:
    """Run the checks, and return the finished run."""
    checks, status = _run_pytest(suite_run, interrupts, *(("-x",) if settings.exit_first else ()))
    if interrupts.count:
        # Whatever became of it: a signal was there before the end.
        suite_run.interrupted = True
    elif checks.finished is None or status == pytest.ExitCode.USAGE_ERROR:
        suite_run.broken = True
    else:
        return checks.finished
    return suite_run.finish()


def _run_pytest(suite_run: SuiteRun, interrupts: Interrupts, *words: str) -> tuple[CheckRunner, int]:
    """Run pytest with the suite's checks alone, and print where one of them broke."""
    checks = CheckRunner(suite_run, interrupts, alone=True)
    _keep_freed_memory()
    with _clean_environment(), _rare_collections(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as pytest's plugin did: they are not about the kernel
        status = pytest.main([*ARGUMENTS, *words], plugins=[checks])
    for text in checks.errors:
        sys.stderr.write(f"q8a8: error in the suite:\n{text}\n")
    return checks, status


def help_out() -> None:
    """Be a helper: judge a share of the cases and write what was found, as `shares.Helper` describes."""
    work = shares.read(sys.stdin.buffer)
    if not isinstance(work, shares.Work):
        return
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with Interrupts(last=True) as interrupts, sink:
        suite_run = SuiteRun(work.request, work.known_failures, work.share)
        try:
            suite_run.start()
            if suite_run.can_judge:
                _run_pytest(suite_run, interrupts)
            found = None if interrupts.count else suite_run.found()
        except (KeyboardInterrupt, SutError):
            return  # The process that has the run was told, too, or ends this one.
        finally:
            suite_run.close()
        if found is not None:
            shares.write(sink, found)


def _end_with_parent() -> None:
    """End this process, as by a signal, when nobody holds its standard input any more."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _keep_freed_memory() -> None:
    """Have glibc keep freed memory, for the rest of the process: a run fills gigabytes, in new arrays.

    Else it returns each large one to the system, which then clears the pages of the next: a tenth of a run.
    """
    with suppress(AttributeError, OSError, TypeError):  # (Another C library.)
        mallopt = ctypes.CDLL(None).mallopt
        for option in M_MMAP_THRESHOLD, M_TRIM_THRESHOLD:
            mallopt(option, 1 << 30)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for garbage seldom: a run keeps thousands of calls, which each look would go through."""
    thresholds = gc.get_threshold()
    gc.set_threshold(GARBAGE, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@contextmanager
def _clean_environment() -> Iterator[None]:
    """Keep the user's pytest options and plugins out while the suite runs."""
    held = {name: os.environ.pop(name, None) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
    held["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        for name, value in held.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


if __name__ == "__main__":
    help_out()
