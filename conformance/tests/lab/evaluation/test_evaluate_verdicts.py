"""The gate and the comparison with the earlier measurement, from both sides of each limit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from q8a8.schemes.table import SCHEMES
from q8a8_evaluation.statistics import Estimate
from q8a8_lab.evaluation.verdicts import BETTER, FACTS, Fact, agrees, gate

BASE = [np.full(4, 3.0), np.full(4, 2.0)]


def _shifted(*nats: float) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Give the windows of `BASE`, worse by so many nats a token each."""
    return [window + by for window, by in zip(BASE, nats, strict=True)]


@pytest.mark.parametrize(("beyond", "passes"), [(-1e-9, True), (1e-9, False)])
def test_q8_a8_costs_at_most_one_percent(beyond: float, passes: bool) -> None:
    """The bar's upper end decides: 0.4 % ± 2 · 0.3 % is 1.0 %, and a little more is refused.

    Windows m − e and m + e have mean m and standard error e (two numbers: s/√2 = e).
    """
    end = math.log(1.01) + beyond
    error = 0.003
    middle = end - 2 * error
    (check,) = gate({"float": BASE, "q8_a8": _shifted(middle - error, middle + error)})
    assert check.passed == passes
    assert check.high == pytest.approx(1.0, abs=1e-5)
    assert check.value == pytest.approx(100 * math.expm1(middle))


@pytest.mark.parametrize("name", BETTER)
@pytest.mark.parametrize(("beyond", "passes"), [(-1e-9, True), (1e-9, False)])
def test_smoothing_is_no_worse(name: str, beyond: float, passes: bool) -> None:
    """Worse by just two paired errors is chance, by a little more it is not; float plays no part."""
    error = 0.0005
    worse = 2 * error + beyond
    plain = _shifted(0.001, 0.004)
    smoothed = [plain[0] + worse - error, plain[1] + worse + error]
    checks = gate({"float": BASE, "q8_a8": plain, name: smoothed})
    assert [check.asks for check in checks][1] == f"{name} is no worse than q8_a8"
    assert checks[1].passed == passes


def test_what_was_not_measured_is_not_checked() -> None:
    """Without q8_a8 there is no gate."""
    assert gate({"float": BASE, "q8_a8+smooth": BASE}) == []


@pytest.mark.parametrize(
    ("fact", "percent", "good"),
    [
        # Errors 3 and 4 make 5: 10 apart, and half of the last digit.
        (Fact(1.0, 3.0, 0.1), Estimate(11.05, 4.0), True),
        (Fact(1.0, 3.0, 0.1), Estimate(11.06, 4.0), False),
        (Fact(1.0, 3.0, 0.1), Estimate(-9.05, 4.0), True),
        (Fact(1.0, 3.0, 0.1), Estimate(-9.06, 4.0), False),
        # No error was told: ours twice, √2 · 1 · 2.
        (Fact(1.0, None, 0.0), Estimate(1 + 2.828, 1.0), True),
        (Fact(1.0, None, 0.0), Estimate(1 + 2.829, 1.0), False),
        # One window has no error.
        (Fact(1.0, None, 0.1), Estimate(1.04, None), True),
        (Fact(1.0, None, 0.1), Estimate(1.06, None), False),
    ],
)
def test_agrees(fact: Fact, percent: Estimate, good: bool) -> None:
    """Two errors of the difference of independent samples, from both sides."""
    assert agrees(fact, percent) == good


def test_facts_are_about_schemes() -> None:
    """Every fact names a scheme of the table."""
    assert set(FACTS) <= set(SCHEMES)
    assert set(BETTER) <= set(SCHEMES)
