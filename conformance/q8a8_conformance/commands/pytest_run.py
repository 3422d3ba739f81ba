"""A run of the suite by ``q8a8 test``: pytest with the suite's checks and nothing else.

pytest's own output is off, the user's pytest settings and plugins are left out (a kernel is judged alike
everywhere), and the report goes to standard output.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance import report
from q8a8_conformance.commands.options import USAGE, usage_error
from q8a8_conformance.commands.suite_options import SettingsError
from q8a8_conformance.protocol.sut import SutError
from q8a8_conformance.results.verdict import KnownFailuresError
from q8a8_conformance.suite.pytest_checks import CheckRunner
from q8a8_conformance.suite.run import SuiteRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.commands.suite_options import Settings

WITHOUT = ("terminal", "cacheprovider", "logging", "junitxml", "unraisableexception", "threadexception")
"""Plugins of pytest that have no work here."""

ARGUMENTS = (
    "-c", os.devnull,
    f"--rootdir={Path(__file__).parent}",
    *(word for name in WITHOUT for word in ("-p", f"no:{name}")),
    "--capture=no", "--assert=plain",
    "--pyargs", "q8a8_conformance.suite",
)  # fmt: skip
"""pytest's command line: what to run, and how. What is judged comes with the plugin object."""

BROKEN = 70
"""The suite itself broke (EX_SOFTWARE of sysexits.h): no verdict."""
INTERRUPTED = 130


def run(settings: Settings) -> int:
    """Run the suite, write and print the report, and return the exit status."""
    try:
        suite_run = SuiteRun(settings.request, settings.read_known_failures())
        settings.check()
    except (KnownFailuresError, SettingsError, SutError) as error:
        return usage_error(str(error))
    checks = CheckRunner(suite_run)
    with _clean_environment():
        status = pytest.main(list(ARGUMENTS), plugins=[checks])
    for text in checks.errors:
        sys.stderr.write(f"q8a8: error in the suite:\n{text}\n")
    if checks.finished is None:
        return USAGE if status == pytest.ExitCode.USAGE_ERROR else BROKEN
    errors = bool(checks.errors) or status == pytest.ExitCode.INTERNAL_ERROR
    try:
        settings.write_files(checks.finished)
    except OSError as error:
        sys.stderr.write(f"q8a8: a report could not be written: {error}\n")
        errors = True
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    sys.stdout.write(report.render(checks.finished, "text", colour=colour))
    sys.stdout.flush()
    if status == pytest.ExitCode.INTERRUPTED and not errors:
        return INTERRUPTED
    if errors:
        return BROKEN
    return checks.finished.judgement.verdict.exit_status


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
