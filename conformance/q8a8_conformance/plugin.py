"""The suite as a pytest plugin: ``pytest -p q8a8_conformance.plugin --pyargs q8a8_conformance --sut SUT``.

The options are those of ``q8a8 test`` (`q8a8_conformance.commands.suite_options`), but for these names:
``--sut SUT``, ``--call-timeout S``, and ``--report-json FILE``, ``--report-html FILE`` and so on for reports.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from q8a8_conformance import report
from q8a8_conformance.commands import suite_options
from q8a8_conformance.commands.delivery import ReportFiles
from q8a8_conformance.commands.options import UNWRITTEN
from q8a8_conformance.commands.suite_options import Settings, SettingsError
from q8a8_conformance.protocol.sut import SutError
from q8a8_conformance.results.verdict import KnownFailuresError
from q8a8_conformance.suite.interrupts import Interrupts
from q8a8_conformance.suite.pytest_checks import CheckRunner
from q8a8_conformance.suite.run import SuiteRun

_CHECKS = pytest.StashKey[CheckRunner]()
_INTERRUPTS = pytest.StashKey[Interrupts]()
_SETTINGS = pytest.StashKey[Settings]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    suite_options.add_to_pytest(parser.getgroup("q8a8", "conformance of a Q8_A8 kernel").addoption)


def pytest_configure(config: pytest.Config) -> None:
    """Register the runner of the checks, and refuse to go on without a kernel."""
    if config.option.help or config.option.version:
        return
    if config.option.collectonly:
        config.pluginmanager.register(CheckRunner(None))
        return
    settings = suite_options.from_pytest(config.option)
    if not settings.request.sut:
        raise pytest.UsageError(
            "the Q8_A8 suite needs a kernel to judge: --sut ref, --sut lib:PATH.so, --sut py:MODULE:OBJECT "
            "or --sut 'exec:COMMAND ARGUMENTS'"
        )
    try:
        run = SuiteRun(settings.request, settings.read_known_failures())
        settings.check()
    except (KnownFailuresError, SettingsError, SutError) as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_SETTINGS] = settings
    # pytest knows Ctrl-C alone.
    interrupts = config.stash[_INTERRUPTS] = Interrupts().__enter__()
    config.stash[_CHECKS] = CheckRunner(run, interrupts)
    config.pluginmanager.register(config.stash[_CHECKS])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Handle signals as before."""
    if _INTERRUPTS in config.stash:
        config.stash[_INTERRUPTS].__exit__()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the files that were asked for."""
    checks = session.config.stash.get(_CHECKS, None)
    if checks is not None and checks.finished is not None:
        files = ReportFiles(session.config.stash[_SETTINGS])
        try:
            complete = files.write(checks.finished)
        except KeyboardInterrupt:
            files.retract()
            checks.interrupt(session)
            complete = files.write(checks.finished)
        if not complete and checks.finished.judgement.verdict.is_judgement:
            session.exitstatus = UNWRITTEN


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401 (untyped in pytest)
    """Print the report under pytest's own output."""
    checks = config.stash.get(_CHECKS, None)
    if checks is not None and checks.finished is not None:
        terminalreporter.write_sep("=", "Q8_A8 conformance")
        terminalreporter.write(report.render(checks.finished, "text", colour=sys.stdout.isatty()))
