"""The suite's checks as pytest runs them: collected, handed the judge of their case, and turned into records.

`CheckRunner` is a plugin object: ``pytest.main([...], plugins=[CheckRunner(run)])``. It knows no options;
`q8a8_conformance.plugin` reads them from pytest's command line, ``q8a8 test`` from its own.
"""

from __future__ import annotations

from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import pytest

from q8a8_conformance.protocol.sut import SutError
from q8a8_conformance.results.record import rule_matches
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.spec.suggest import did_you_mean
from q8a8_conformance.suite.case_records import describe
from q8a8_conformance.suite.interrupts import Interrupts
from q8a8_conformance.suite.judge import CaseOver, Judge
from q8a8_conformance.suite.shares import divide
from q8a8_conformance.suite.target import NotRunError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from q8a8_conformance.results.run import Request, Run
    from q8a8_conformance.suite.run import SuiteRun
    from q8a8_conformance.suite.shares import Share

_CASE = pytest.StashKey[str]()
_RULES = pytest.StashKey[tuple[str, ...]]()


class CheckRunner:
    """Runs the suite's checks on a kernel; one session of pytest.

    Parameters
    ----------
    run
        The run that the checks are part of; None to collect them only.
    interrupts
        Counts the signals that end the run.
    alone
        Whether no other plugin looks on: a check is then called directly, without fixtures and phases, and
        only its failure is reported.

    Attributes
    ----------
    finished
        The run with its verdict, at the end of the session; None where the session did not begin.
    errors
        pytest's text on modules that could not be collected, and on checks that broke themselves.
    """

    def __init__(
        self, run: SuiteRun | None, interrupts: Interrupts | None = None, *, alone: bool = False
    ) -> None:
        self.finished: Run | None = None
        self.errors: list[str] = []
        self._run = run
        self._interrupts = interrupts or Interrupts()
        self._alone = alone
        self._all_selected = True
        self._broken: set[str] = set()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the marker."""
        config.addinivalue_line("markers", "rule(*ids): the numbered rules that this test checks")

    def pytest_sessionstart(self) -> None:
        """Start the worker."""
        if self._run is not None:
            try:
                self._run.start()
            except SutError as error:
                raise pytest.UsageError(str(error)) from error

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Notice that others leave cases out: ``-k``, ``--deselect``."""
        self._all_selected = self._all_selected and all(_CASE in item.stash for item in items)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Stash the case id and rules of every check, and leave out what was not asked for."""
        run = self._run
        kept: list[pytest.Item] = []
        left_out: list[pytest.Item] = []
        seen: dict[str, str] = {}
        plan: dict[str, tuple[str, ...]] = {}
        for item in items:
            if not isinstance(item, pytest.Function) or "judge" not in item.fixturenames:
                kept.append(item)
                continue
            case, rules = case_id(item), rules_of(item)
            if not rules:
                raise pytest.UsageError(f"{item.nodeid} names no rule")
            if seen.setdefault(case, item.nodeid) != item.nodeid:
                raise pytest.UsageError(f"two checks have the case id {case}: {seen[case]} and {item.nodeid}")
            item.stash[_CASE] = case
            item.stash[_RULES] = rules
            selected = run is None or (run.can_judge and _is_selected(case, rules, run.request))
            (kept if selected else left_out).append(item)
            if selected:
                plan[case] = rules
        if run is not None and run.share.of > 1:
            kept, others = _share(kept, run.share)
            left_out += others
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = kept
        if run is not None:
            run.plan(plan, selected=self._all_selected)
            pattern = run.request.case
            if pattern is not None and seen and not any(_matches(case, pattern) for case in seen):
                run.note(f"no case matches {pattern!r}{did_you_mean(pattern, seen)}")

    @pytest.fixture
    def judge(self, request: pytest.FixtureRequest) -> Judge:
        """Return the judge of a check's case."""
        if self._run is None:
            pytest.fail("no kernel to judge")
        return self._run.judge(request.node.stash[_CASE], request.node.stash[_RULES])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Run a check without pytest's machinery, where nobody else looks on; report it where it failed."""
        if not self._alone or self._run is None or not isinstance(item, pytest.Function):
            return None
        if _CASE not in item.stash:
            return None
        callspec = getattr(item, "callspec", None)
        judge = self._run.judge(item.stash[_CASE], item.stash[_RULES])
        arguments = {"judge": judge, **(callspec.params if callspec else {})}

        def check() -> None:
            with self._judged(item, judge):
                item.obj(**arguments)

        call = pytest.CallInfo.from_call(check, "call", reraise=(pytest.exit.Exception, KeyboardInterrupt))
        # A skip is a case not run, an xfail a known failure: both are in the records, and neither ends a run.
        if call.excinfo and not isinstance(
            call.excinfo.value, pytest.skip.Exception | pytest.xfail.Exception
        ):
            report = item.ihook.pytest_runtest_makereport(item=item, call=call)
            item.ihook.pytest_runtest_logreport(report=report)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
        """Judge what a check finds."""
        case = pyfuncitem.funcargs.get("judge")
        if self._run is None or not isinstance(case, Judge):
            return (yield)
        with self._judged(pyfuncitem, case):
            yield
        return True

    @contextmanager
    def _judged(self, item: pytest.Function, case: Judge) -> Iterator[None]:
        """Turn what a check finds into records, and an exception that pytest understands where it failed."""
        if self._run is None:  # pragma: no cover -- callers have one
            raise AssertionError
        self._run.progress(case.case)
        if self._interrupts.count:
            # An interrupt was lost where Python ignores exceptions.
            raise KeyboardInterrupt
        try:
            yield
        except CaseOver:
            pass
        except NotRunError as reason:
            case.not_run(reason)
            pytest.skip(str(reason))  # in the report: not run, with this reason
        except Exception as error:
            case.records.add_internal_error(f"{type(error).__name__}: {error}")
            case.finish()
            self._broken.add(item.nodeid)
            raise
        failed = case.finish()
        if any(self._run.counts(record) for record in failed):
            pytest.fail(describe(failed), pytrace=False)
        if failed:
            pytest.xfail(describe(failed))  # known failures, or of a SHOULD: they do not count

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> pytest.TestReport | None:
        """Report a failed case by its text: to format a traceback that is not shown takes milliseconds."""
        failure = call.excinfo.value if call.excinfo is not None else None
        if call.when != "call" or not isinstance(failure, pytest.fail.Exception) or failure.pytrace:
            return None
        keywords: dict[str, Literal[1]] = dict.fromkeys(item.keywords, 1)
        return pytest.TestReport(
            item.nodeid, item.location, keywords, "failed", failure.msg, "call", duration=call.duration
        )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a module of the suite could not be collected."""
        if report.failed:
            self.errors.append(report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep where a check itself broke: outside of it, or by an exception that is no verdict."""
        if report.failed and (report.when != "call" or report.nodeid in self._broken):
            self.errors.append(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Finish the run: diagnosis and verdict; a bad verdict shows in pytest's exit status."""
        run = self._run
        if run is None:
            return
        run.broken = bool(self.errors) or session.exitstatus == pytest.ExitCode.INTERNAL_ERROR
        run.interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED and not run.broken
        if session.shouldfail:
            run.leave_out(_why_stopped(session))
        if run.share.index:
            return  # The process that has the run finishes it.
        self.finished = run.finish()
        verdict = self.finished.judgement.verdict
        if verdict is Verdict.INTERRUPTED:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
        elif session.exitstatus == pytest.ExitCode.OK and verdict is not Verdict.CONFORMS:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def interrupt(self, session: pytest.Session) -> None:
        """Make the finished run an interrupted one."""
        if self._run is not None:
            self._run.interrupted = True
            self.finished = self._run.finish()
            session.exitstatus = pytest.ExitCode.INTERRUPTED


def _share(items: list[pytest.Item], share: Share) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the cases of a share, and those of others."""
    cases = ((item.nodeid.partition("[")[0], item.stash.get(_CASE, "")) for item in items)
    indices = divide(cases, share.of)
    pairs = list(zip(items, indices, strict=True))
    return (
        [item for item, index in pairs if index == share.index],
        [item for item, index in pairs if index != share.index],
    )


def _why_stopped(session: pytest.Session) -> str:
    count = session.config.option.maxfail
    return (
        "the run stopped at the first failure (-x)"
        if count == 1
        else f"the run stopped: {session.shouldfail}"
    )


def case_id(item: pytest.Function) -> str:
    """Return a check's case id: its parameter's id, or ``module/function`` where it has no parameter."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None:
        return str(callspec.id)
    module = item.module.__name__.rpartition(".")[2].removeprefix("test_")
    return f"{module}/{item.originalname.removeprefix('test_')}".replace("_", "-")


def rules_of(item: pytest.Item) -> tuple[str, ...]:
    """Return the rules that a check is marked with, each once, in order."""
    return tuple(dict.fromkeys(str(rule) for mark in item.iter_markers("rule") for rule in mark.args))


def _matches(case: str, pattern: str) -> bool:
    return case == pattern or fnmatchcase(case, pattern)


def _is_selected(case: str, rules: tuple[str, ...], request: Request) -> bool:
    if request.case is not None and not _matches(case, request.case):
        return False
    pattern = request.rules
    return pattern is None or any(rule_matches(rule, pattern) for rule in rules)
