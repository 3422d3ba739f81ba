"""A run of the suite by ``q8a8 test``: pytest with the suite's checks and nothing else.

pytest's own output is off, the user's pytest settings and plugins are left out (a kernel is judged alike
everywhere), and the report goes to standard output.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.commands.delivery import deliver
from q8a8_conformance.commands.options import usage_error
from q8a8_conformance.commands.suite_options import SettingsError
from q8a8_conformance.protocol.sut import SutError
from q8a8_conformance.results.verdict import KnownFailuresError
from q8a8_conformance.suite.pytest_checks import CheckRunner
from q8a8_conformance.suite.run import SuiteRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.commands.suite_options import Settings
    from q8a8_conformance.results.run import Run
    from q8a8_conformance.suite.interrupts import Interrupts

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
        suite_run = SuiteRun(settings.request, settings.read_known_failures())
        settings.check()
    except (KnownFailuresError, SettingsError, SutError) as error:
        return usage_error(str(error))
    try:
        interrupts.release()
        suite_run.start()
        finished = _run_checks(suite_run, settings, interrupts) if suite_run.can_judge else suite_run.finish()
    except SutError as error:
        return usage_error(str(error))
    except KeyboardInterrupt:
        suite_run.interrupted = True
        finished = None
    return deliver(settings, suite_run, finished)


def _run_checks(suite_run: SuiteRun, settings: Settings, interrupts: Interrupts) -> Run:
    """Run pytest, and return the finished run."""
    checks = CheckRunner(suite_run, interrupts, alone=True)
    words = (*ARGUMENTS, "-x") if settings.exit_first else ARGUMENTS
    with _clean_environment(), _rare_collections(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as pytest's plugin did: they are not about the kernel
        status = pytest.main(list(words), plugins=[checks])
    for text in checks.errors:
        sys.stderr.write(f"q8a8: error in the suite:\n{text}\n")
    if interrupts.count:
        # Whatever became of it: a signal was there before the end.
        suite_run.interrupted = True
    elif checks.finished is None or status == pytest.ExitCode.USAGE_ERROR:
        suite_run.broken = True
    else:
        return checks.finished
    return suite_run.finish()


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
