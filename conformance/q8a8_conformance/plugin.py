"""The suite as a pytest plugin: ``pytest -p q8a8_conformance.plugin --pyargs q8a8_conformance --sut SUT``.

``q8a8 test`` wraps exactly this. The plugin starts the kernel's worker once, hands each check a
:class:`~q8a8_conformance.suite.judge.Judge`, turns what the check found into records, and at the end asks for
a diagnosis, a verdict and the reports.

Options (the names in brackets are those of ``q8a8 test``)::

    --sut SUT               the kernel: ref, lib:PATH, py:MODULE:OBJECT or exec:COMMAND
    --profile NAME          exact, kernel (default) or ggml
    --symbol ABI=EXPORTED   as q8a8 test, may be repeated
    --init SYMBOL           as q8a8 test
    --rules GLOB            only checks of these rules
    --case GLOB             only these cases
    --call-timeout S        seconds that one call may take [--timeout]
    --known-failures FILE   excused failures
    --write-known-failures FILE
                            every failure of this run, as a file for --known-failures
    --report-json FILE, --report-junitxml FILE, --report-markdown FILE, --report-html FILE,
    --report-badge FILE, --report-statement FILE
                            [--json, --junitxml, --markdown, --html, --badge, --statement]
"""

from __future__ import annotations

import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from q8a8.atomic import write_text
from q8a8_conformance import report
from q8a8_conformance.protocol.sut import SutError
from q8a8_conformance.results.record import rule_matches
from q8a8_conformance.results.run import Request
from q8a8_conformance.results.verdict import (
    KnownFailuresError,
    Verdict,
    format_known_failures,
    read_known_failures,
)
from q8a8_conformance.suite.case_records import describe
from q8a8_conformance.suite.judge import CaseOver, Judge
from q8a8_conformance.suite.run import PROFILES, SuiteRun
from q8a8_conformance.suite.target import NotRunError

if TYPE_CHECKING:
    from collections.abc import Generator

    from q8a8_conformance.results.run import Run

DEFAULT_TIMEOUT = 10.0

_RUN = pytest.StashKey[SuiteRun]()
_FINISHED = pytest.StashKey["Run"]()
_CASE = pytest.StashKey[str]()
_RULES = pytest.StashKey[tuple[str, ...]]()


class Hooks:
    """What the plugin tells other plugins."""

    def pytest_q8a8_run_finished(self, run: Run) -> None:
        """Take the finished run: verdict, rules, diagnosis. Called once, at the end of the session."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register :class:`Hooks`."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that the module's docstring lists."""
    group = parser.getgroup("q8a8", "conformance of a Q8_A8 kernel")
    group.addoption("--sut", metavar="SUT", help="ref, lib:PATH, py:MODULE:OBJECT or exec:COMMAND")
    group.addoption("--profile", choices=PROFILES, default="kernel", help="what counts as conforming")
    group.addoption("--symbol", action="append", default=[], metavar="ABI_NAME=EXPORTED_NAME")
    group.addoption("--init", metavar="SYMBOL", help="void f(void), called once after loading")
    group.addoption("--rules", metavar="GLOB", help="only checks of these rules, with or without Q8A8-")
    group.addoption("--case", metavar="GLOB", help="only cases whose id matches")
    group.addoption("--call-timeout", type=float, default=DEFAULT_TIMEOUT, metavar="S")
    group.addoption("--known-failures", metavar="FILE")
    group.addoption("--write-known-failures", metavar="FILE")
    for kind in report.WRITERS:
        group.addoption(f"--report-{kind}", metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse to go on without a kernel."""
    config.addinivalue_line("markers", "rule(*ids): the numbered rules that this test checks")
    option = config.option
    if option.help or option.version or option.collectonly:
        return
    if not option.sut:
        raise pytest.UsageError(
            "the Q8_A8 suite needs a kernel to judge: --sut ref, --sut lib:PATH.so, --sut py:MODULE:OBJECT "
            "or --sut 'exec:COMMAND ARGUMENTS'"
        )
    request = Request(
        sut=option.sut,
        profile=option.profile,
        symbols=tuple(option.symbol),
        init=option.init,
        rules=option.rules,
        case=option.case,
        timeout=None if option.call_timeout == DEFAULT_TIMEOUT else option.call_timeout,
    )
    try:
        known = read_known_failures(Path(option.known_failures)) if option.known_failures else ()
        run = SuiteRun(request, option.call_timeout, known)
    except (KnownFailuresError, SutError) as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_RUN] = run


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the worker."""
    run = session.config.stash.get(_RUN, None)
    if run is not None:
        try:
            run.start()
        except SutError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every check its case id and rules, and leave out what was not asked for."""
    run = config.stash.get(_RUN, None)
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    seen: dict[str, str] = {}
    for item in items:
        if not isinstance(item, pytest.Function) or "judge" not in item.fixturenames:
            kept.append(item)
            continue
        case = case_id(item)
        rules = rules_of(item)
        if not rules:
            raise pytest.UsageError(f"{item.nodeid} names no rule")
        if seen.setdefault(case, item.nodeid) != item.nodeid:
            raise pytest.UsageError(f"two checks have the case id {case}: {seen[case]} and {item.nodeid}")
        item.stash[_CASE] = case
        item.stash[_RULES] = rules
        wanted = run is None or (run.can_judge and _wanted(case, rules, run.request))
        (kept if wanted else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
    if run is not None:
        run.total = len(kept)


def case_id(item: pytest.Function) -> str:
    """Give a check's case id: its parameter's id, or ``module/function`` where it has no parameter."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None:
        return str(callspec.id)
    module = item.module.__name__.rpartition(".")[2].removeprefix("test_")
    return f"{module}/{item.originalname.removeprefix('test_')}".replace("_", "-")


def rules_of(item: pytest.Item) -> tuple[str, ...]:
    """Give the rules that a check is marked with, each once, in order."""
    return tuple(dict.fromkeys(str(rule) for mark in item.iter_markers("rule") for rule in mark.args))


def _wanted(case: str, rules: tuple[str, ...], request: Request) -> bool:
    if request.case is not None and case != request.case and not fnmatchcase(case, request.case):
        return False
    pattern = request.rules
    return pattern is None or any(rule_matches(rule, pattern) for rule in rules)


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Give a check the judge of its case."""
    item = request.node
    return request.config.stash[_RUN].judge(item.stash[_CASE], item.stash[_RULES])


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Turn what a check found into records and an outcome that pytest understands."""
    case = pyfuncitem.funcargs.get("judge")
    if not isinstance(case, Judge):
        return (yield)
    run = pyfuncitem.config.stash[_RUN]
    run.progress(case.case)
    try:
        yield
    except CaseOver:
        pass
    except NotRunError as reason:
        case.not_run(str(reason))
        pytest.skip(str(reason))
    except Exception as error:
        case.records.add_internal_error(f"{type(error).__name__}: {error}")
        case.finish()
        raise
    failed = case.finish()
    if failed:
        pytest.fail(describe(failed), pytrace=False)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Diagnose, judge, write the reports, and let a bad verdict show in pytest's exit status."""
    config = session.config
    run = config.stash.get(_RUN, None)
    if run is None:
        return
    time.monotonic()
    everything = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    finished = run.finish(everything_ran=everything and not config.option.keyword)
    config.stash[_FINISHED] = finished
    for kind in report.WRITERS:
        path = getattr(config.option, f"report_{kind}")
        if path:
            report.write(finished, kind, Path(path))
    if config.option.write_known_failures:
        write_known_failures(finished, Path(config.option.write_known_failures))
    config.hook.pytest_q8a8_run_finished(run=finished)
    if session.exitstatus == pytest.ExitCode.OK and finished.judgement.verdict is not Verdict.CONFORMS:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def write_known_failures(run: Run, path: Path) -> None:
    """Write every failure of a run as a known-failures file, those that are known already among them."""
    judgement = run.judgement
    about = f"{run.request.command()}: {len(judgement.failures) + len(judgement.known)} failures"
    write_text(format_known_failures((*judgement.failures, *judgement.known), about), path)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401 (untyped in pytest)
    """Print the report under pytest's own output."""
    finished = config.stash.get(_FINISHED, None)
    if finished is not None:
        terminalreporter.write_sep("=", "Q8_A8 conformance")
        terminalreporter.write(report.render(finished, "text", colour=sys.stdout.isatty()))
