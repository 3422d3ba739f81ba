"""What the evaluation is held to: the gate, and what was measured on this model before.

The gate, each with two paired standard errors:

* ``q8_a8`` is within +1 % of the float perplexity: the upper end of its error bar is.
* ``q8_a8`` with SmoothQuant is no worse than without: the lower end of the error bar of their paired ratio is
  not above zero, which a smoothing that makes it worse by more than chance would break. For both smoothings.

The earlier measurement took other windows of the same text, so its errors and ours are independent: the two
agree where they are apart by no more than two standard errors of their difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from q8a8_evaluation.statistics import Ratio, compare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from q8a8_evaluation.statistics import Estimate

    Windows = Sequence[NDArray[np.float64]]

__all__ = ["ERRORS", "FACTS", "LIMIT", "Check", "Fact", "agrees", "gate"]

ERRORS = 2.0
"""Standard errors to each side of a bar."""

LIMIT = 1.0
"""Percent of perplexity that Q8_A8 may cost."""

BETTER = ("q8_a8+smooth", "q8_a8+smooth-down")
"""What must be no worse than Q8_A8."""


@dataclass(frozen=True)
class Fact:
    """What was measured before.

    Attributes
    ----------
    percent
        The change of perplexity against float, in percent.
    error
        Its paired standard error; None where none was told.
    digit
        The value of its last digit: it was rounded to that.
    """

    percent: float
    error: float | None
    digit: float


FACTS: Mapping[str, Fact] = MappingProxyType(
    {
        "w8a16": Fact(0.32, 0.07, 0.01),
        "q8_a8": Fact(0.55, 0.12, 0.01),
        "q8_a8+smooth-down": Fact(0.34, 0.09, 0.01),
        "w8a8-tensor": Fact(125, None, 1),
        "w8a8-channel": Fact(2.8, None, 0.1),
        "w8a8-channel+smooth": Fact(1.8, None, 0.1),
        "w8a8-channel+smooth-down": Fact(0.90, None, 0.01),
        "llm-int8": Fact(1.05, None, 0.01),
        "fp8-e4m3-tensor": Fact(2.8, None, 0.1),
        "kv-int8": Fact(0.01, None, 0.01),
        "kv-int4": Fact(1.7, None, 0.1),
    }
)
"""By scheme; float perplexity was 19.94."""


@dataclass(frozen=True)
class Check:
    """One line of the gate.

    Attributes
    ----------
    asks
        What it asks, in words.
    low, value, high
        The error bar and its middle, in percent.
    passed
        Whether it holds.
    """

    asks: str
    low: float
    value: float
    high: float
    passed: bool


def gate(nlls: Mapping[str, Windows], base: str = "float") -> list[Check]:
    """Hold measurements to the gate.

    Parameters
    ----------
    nlls
        Log-likelihoods by scheme, float64 `[n]` for each window. What was not measured is not checked.
    base
        The float model's name.

    Returns
    -------
    The checks.
    """
    checks = []
    if "q8_a8" in nlls:
        ratio = compare(nlls["q8_a8"], nlls[base])
        asks = f"q8_a8 costs at most {LIMIT:g} % of perplexity"
        checks.append(_check(asks, ratio, passed=ratio.bounds(ERRORS)[1] <= LIMIT))
        for name in BETTER:
            if name in nlls:
                ratio = compare(nlls[name], nlls["q8_a8"])
                asks = f"{name} is no worse than q8_a8"
                checks.append(_check(asks, ratio, passed=ratio.bounds(ERRORS)[0] <= 0))
    return checks


def _check(asks: str, ratio: Ratio, *, passed: bool) -> Check:
    low, high = ratio.bounds(ERRORS)
    return Check(asks, low, ratio.percent.value, high, passed)


def agrees(fact: Fact, percent: Estimate) -> bool:
    """Tell whether a measurement agrees with what was measured before.

    Where no error was told it is taken to be ours: as many windows of the same text. What the earlier number
    lost by rounding, half a digit, counts in its favour.
    """
    ours = percent.error or 0.0
    theirs = ours if fact.error is None else fact.error
    return abs(percent.value - fact.percent) <= ERRORS * math.hypot(ours, theirs) + fact.digit / 2
