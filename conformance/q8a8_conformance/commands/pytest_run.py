"""``q8a8 test``: pytest with the suite's plugin and nothing else, and the verdict as exit status.

The suite runs as `q8a8_conformance.plugin` describes. Here pytest's own output is off, the user's pytest
settings and plugins are left out (a kernel is judged alike everywhere), and the report goes to standard
output.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance import report
from q8a8_conformance.plugin import DEFAULT_TIMEOUT
from q8a8_conformance.protocol.sut import SutError, parse_sut
from q8a8_conformance.results.record import rule_matches
from q8a8_conformance.results.verdict import KnownFailuresError, read_known_failures
from q8a8_conformance.spec.rules import load_rules

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from q8a8_conformance.results.run import Run

WITHOUT = ("terminal", "cacheprovider", "logging", "junitxml", "unraisableexception", "threadexception")
"""Plugins of pytest that have no work here."""

USAGE = 2
BROKEN = 70
"""The suite itself broke (EX_SOFTWARE of sysexits.h): no verdict."""
INTERRUPTED = 130


class Listener:
    """Takes the finished run from the plugin, and says what pytest would have said of its own troubles."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.broken = False

    def pytest_q8a8_run_finished(self, run: Run) -> None:
        """Keep the finished run."""
        self.run = run

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Say why a module of the suite could not be collected."""
        if report.failed:
            self._say(report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say where a check itself broke: outside of it, or by an exception that is no verdict of its own."""
        if report.failed and (report.when != "call" or "Error" in report.longreprtext.partition(":")[0]):
            self._say(report.longreprtext)

    def _say(self, text: str) -> None:
        self.broken = True
        sys.stderr.write(f"q8a8: error in the suite:\n{text}\n")


def run(options: argparse.Namespace) -> int:
    """Run the suite as the command line asks, print the report, and give the exit status."""
    complaint = _complaint(options)
    if complaint:
        sys.stderr.write(f"q8a8: {complaint}\n")
        return USAGE
    listener = Listener()
    with _clean_environment():
        status = pytest.main(_arguments(options), plugins=[listener])
    if listener.run is None:
        return USAGE if status == pytest.ExitCode.USAGE_ERROR else BROKEN
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    sys.stdout.write(report.render(listener.run, "text", colour=colour))
    sys.stdout.flush()
    if status == pytest.ExitCode.INTERRUPTED and not listener.broken:
        return INTERRUPTED
    if listener.broken or status == pytest.ExitCode.INTERNAL_ERROR:
        return BROKEN
    return listener.run.judgement.verdict.exit_status


def _complaint(options: argparse.Namespace) -> str:
    """Say what is wrong with the command line, before any time is spent."""
    try:
        parse_sut(options.sut, options.symbol, options.init)
        if options.known_failures is not None:
            read_known_failures(options.known_failures)
    except (SutError, KnownFailuresError) as error:
        return str(error)
    if options.rules is not None and not any(rule_matches(rule.id, options.rules) for rule in load_rules()):
        return f"no rule matches {options.rules!r}; q8a8 rules lists them"
    for kind in (*report.WRITERS, "write-known-failures"):
        path: Path | None = getattr(options, kind.replace("-", "_"))
        if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
            return f"--{kind} {path}: the folder does not exist or cannot be written to"
    return ""


def _arguments(options: argparse.Namespace) -> list[str]:
    """Give pytest's command line."""
    arguments = [
        "-c", os.devnull,
        f"--rootdir={Path(__file__).parent}",
        "-p", "q8a8_conformance.plugin",
        *(word for name in WITHOUT for word in ("-p", f"no:{name}")),
        "--capture=no", "--assert=plain",
        "--pyargs", "q8a8_conformance.suite",
        f"--sut={options.sut}", f"--profile={options.profile}",
        f"--call-timeout={options.timeout or DEFAULT_TIMEOUT}",
        *(f"--symbol={symbol}" for symbol in options.symbol),
    ]  # fmt: skip
    files = {
        "known-failures": options.known_failures,
        "write-known-failures": options.write_known_failures,
        **{f"report-{kind}": getattr(options, kind) for kind in report.WRITERS},
    }
    arguments += [f"--{name}={path.resolve()}" for name, path in files.items() if path is not None]
    for name in ("init", "rules", "case"):
        value = getattr(options, name)
        if value is not None:
            arguments.append(f"--{name}={value}")
    return arguments


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
