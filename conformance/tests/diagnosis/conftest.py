"""Kernels that are run through the suite's cases in this process, and diagnosed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.diagnosis import diagnose
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.protocol import deadline
from q8a8_conformance.results.record import Recorder
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.judge import CaseOver, Judge
from q8a8_conformance.suite.target import NotRunError, Target
from q8a8_lab.mutation import judging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from q8a8_conformance.diagnosis import Finding

    Diagnose = Callable[[object, Iterable[str]], list[Finding]]

SLOW = (
    *("bias", "properties/", "long", "environment/", "memory/", "gaussian", "uniform", "bf16"),
    *("lengths/", "every-value/", "state/", "flush/", "alias/"),
)
"""Parts of the names of cases that are left out: many calls, and nothing for a diagnosis in them."""


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no search be stopped: a slow machine's processor time buys less."""
    monkeypatch.setattr(deadline, "slowness", 15.0)


def diagnosed(kernel: object, functions: Iterable[str]) -> list[Finding]:
    """Run the suite's quick cases on some functions of a kernel, and return the diagnosis."""
    target = Target(InProcessSession(lambda: kernel, functions), "kernel", 10.0)  # type: ignore[arg-type]  # all that it uses
    recorder, recipes = Recorder(), Recipes(target)
    for case in judging.cases():
        if any(word in case.name for word in SLOW):
            continue
        judge = Judge(target, recipes, recorder, case.name, case.rules)
        try:
            case.check(judge=judge, **case.parameters)
        except (CaseOver, NotRunError):
            continue
    return list(diagnose(target.observations, target.ask_dot, recipes.accepted(), target.probe))


@pytest.fixture(name="diagnosed", scope="session")
def _diagnosed() -> Diagnose:
    """Return the function that runs and diagnoses a kernel."""
    return diagnosed
