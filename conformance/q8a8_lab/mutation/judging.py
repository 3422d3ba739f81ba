"""Judging many kernels quickly: the suite's cases are collected once, and run in this process.

A mutant that behaves is called through the worker's `Invoker`, without the process and the pipes around it:
faults of memory and environment are reported alike. One that may crash or hang gets a worker of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_conformance.diagnosis import diagnose
from q8a8_conformance.diagnosis.limits import Limits
from q8a8_conformance.faults.catalogue import LEGAL, MUTANTS, make
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.faults.kernel import ACTIVATION, ROW, ROWS
from q8a8_conformance.protocol.sut import parse_sut
from q8a8_conformance.results.record import Recorder, Status
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.judge import CaseOver, Judge
from q8a8_conformance.suite.localization import localize
from q8a8_conformance.suite.pytest_checks import CheckRunner, case_id, rules_of
from q8a8_conformance.suite.target import NotRunError, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from q8a8_conformance.protocol.messages import Call, Hello, Result
    from q8a8_conformance.protocol.session import Session
    from q8a8_conformance.results.run import Finding

TIMEOUT_SECONDS = 30.0
"""Time limit of a mutant's call: long, for a call on a busy machine must not look like a hang."""

ORDERS = "order-"
TAKES_LONG = ("lengths/", "every-value/", "nrc2/absorbing", "v2/absorbing", "alias/")
"""Cases of many or of long rows, for which kernels that add block by block in Python, those of the `ORDERS`,
take minutes, and repetitions of others: an order is the same in all three functions, and whichever rows it is
given. The legal kernels in C are judged by all cases."""


@dataclass(frozen=True)
class SuiteCase:
    """One case of the suite: what `judge` runs."""

    name: str
    rules: tuple[str, ...]
    check: Callable[..., None]
    parameters: Mapping[str, Any]


class _Collector:
    """A pytest plugin that keeps what was collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the suite's cases."""
        self.items = list(session.items)


@cache
def cases() -> tuple[SuiteCase, ...]:
    """Return every case of the suite, as pytest collects them.

    Raises
    ------
    RuntimeError
        The suite cannot be collected.
    """
    collector = _Collector()
    quiet = [word for name in ("terminal", "cacheprovider") for word in ("-p", f"no:{name}")]
    status = pytest.main(
        [
            "-c",
            os.devnull,
            "--collect-only",
            *quiet,
            "--pyargs",
            "q8a8_conformance.suite",
        ],
        plugins=[collector, CheckRunner(None)],
    )
    found = tuple(
        SuiteCase(
            case_id(item),
            rules_of(item),
            item.obj,
            getattr(getattr(item, "callspec", None), "params", {}),
        )
        for item in collector.items
        if isinstance(item, pytest.Function) and "judge" in item.fixturenames
    )
    if status != pytest.ExitCode.OK or not found:
        raise RuntimeError(f"the suite was not collected: pytest ended with {status}")
    return found


@dataclass(frozen=True)
class Judged:
    """The result of judging a kernel.

    Attributes
    ----------
    slug
        Of the mutant or legal kernel.
    failed
        The cases that failed, by the full id of the rule that they fail, in the order of the rules' first
        failures.
    ran
        The number of cases that ran.
    causes
        What the diagnosis names, by function; empty where the run ended with a rule.
    """

    slug: str
    failed: Mapping[str, tuple[str, ...]]
    ran: int
    causes: Mapping[str, tuple[str, ...]]


def judge(slug: str, only: Callable[[SuiteCase], bool] | None = None, until: str | None = None) -> Judged:
    """Run the suite, profile ``kernel``, on the functions that a mutant or a legal kernel concerns.

    Parameters
    ----------
    slug
        Of the kernel.
    only
        Which cases to run, if not all.
    until
        A rule; the run ends with the first case about it in which a result is wrong. Which rule such a result
        breaks is decided after whole runs alone.
    """
    mutant = MUTANTS.get(slug)
    functions = _offered((mutant or LEGAL[slug]).functions)
    if mutant is not None and mutant.separate_process:
        sut = f"py:q8a8_conformance.mutants:{slug.replace('-', '_')}"
        with parse_sut(sut).session(TIMEOUT_SECONDS) as session:
            hello = replace(session.hello, functions=tuple(functions))
            return _judged(slug, _Offering(session, hello), only, until)
    return _judged(slug, InProcessSession(lambda: make(slug), functions), only, until)


def _offered(functions: tuple[str, ...]) -> set[str]:
    """Add the functions that checks of these compare them with."""
    partners = {name for name in functions if name in ROWS} and {*ROWS}
    return {*functions, *partners} | ({ROW} if ACTIVATION in functions else set())


@dataclass(frozen=True)
class _Offering:
    """A session that offers some functions only."""

    session: Session
    hello: Hello

    @property
    def is_running(self) -> bool:
        """Whether there is a worker."""
        return self.session.is_running

    @property
    def start_seconds(self) -> float:
        """How long the last start took."""
        return self.session.start_seconds

    @property
    def ready_at(self) -> float:
        """When the last hello was received."""
        return self.session.ready_at

    def call(self, call: Call, timeout: float | None = None) -> Result:
        """Make a call."""
        return self.session.call(call, timeout)

    def announce(self, call: Call) -> None:
        """Take the call after the next one."""
        self.session.announce(call)

    def close(self) -> None:
        """End the worker; the next call starts another."""
        self.session.close()


def _judged(
    slug: str,
    session: InProcessSession | _Offering,
    only: Callable[[SuiteCase], bool] | None,
    until: str | None,
) -> Judged:
    target = Target(session, "kernel", TIMEOUT_SECONDS)  # type: ignore[arg-type]  # all of a session that a target uses
    recorder, recipes, ran = Recorder(), Recipes(target), 0
    for case in cases():
        if only is not None and not only(case):
            continue
        if slug.startswith(ORDERS) and case.name.startswith(TAKES_LONG):
            continue
        judge = Judge(target, recipes, recorder, case.name, case.rules)
        try:
            case.check(judge=judge, **case.parameters)
        except CaseOver:
            pass
        except NotRunError as reason:
            judge.not_run(reason)
            continue
        ran += 1
        if until in {record.rule for record in judge.finish()}:
            break
    limits = Limits()
    findings: tuple[Finding, ...] = ()
    if until is None:
        findings = diagnose(
            target.observations, target.ask_dot, recipes.accepted(), target.probe, limits=limits
        )
        recorder = localize(recorder, limits.facts, target.observations)
    broken = (record for record in recorder if record.status in {Status.FAIL, Status.CRASHED})
    return Judged(
        slug,
        failed=_grouped((record.rule, record.case) for record in broken),
        ran=ran,
        causes=_grouped((finding.function, finding.cause) for finding in findings),
    )


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return what comes with each first word, in the order of the pairs."""
    groups: dict[str, list[str]] = {}
    for key, word in pairs:
        groups.setdefault(key, []).append(word)
    return {key: tuple(words) for key, words in groups.items()}
