"""Where in the bound of Q8A8-ORD-2 a kernel's results lie.

Every result that the suite judges by the bound leaves its fraction (computed - exact) / bound here: 0 is the
exact sum, -1 and 1 are the last places that are legal. The verdict needs no more than "inside"; the fractions
show how much of the room a kernel takes, and where.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

Exact = TypeVar("Exact", Fraction, float)

BINS = 40
"""Bins of the histogram; each is 1/20 of the bound wide."""


@dataclass(frozen=True)
class BoundUse:
    """What the results of one function use of their bounds.

    Attributes
    ----------
    function
        The ABI function.
    results, outside
        Results judged by the bound, and those of them outside of it (NaN and infinities too).
    least, largest, mean
        Of the fractions (computed - exact) / bound of the results inside; None where there are none.
    largest_fraction
        The largest absolute value among them: how much of the bound the kernel used.
    worst
        The case that it was met in.
    histogram
        How many results inside have a fraction in each of `BINS` equal parts of -1 .. 1.
    fractions
        All of the fractions, for plots.
    """

    function: str
    results: int
    outside: int
    least: float | None
    largest: float | None
    mean: float | None
    largest_fraction: float | None
    worst: str
    histogram: tuple[int, ...]
    fractions: tuple[float, ...] = ()


class Margins:
    """Collects fractions, by function."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def add(self, function: str, case: str, error: Exact | None, bound: Exact) -> bool:
        """Add one result; return whether it is inside of the bound.

        Parameters
        ----------
        function, case
            What gave it, and where.
        error
            computed - exact; None where the result is no finite number.
        bound
            The largest legal absolute error. Both are floats, or both fractions.
        """
        held = self._held.setdefault(function, _Held())
        if error is None or abs(error) > bound:
            held.outside += 1
            return False
        # Where nothing may be lost and nothing is, none of the bound is used.
        fraction = float(error / bound) if bound else 0.0
        if not held.fractions or abs(fraction) > held.most:
            held.most, held.worst = abs(fraction), case
        held.fractions.append(fraction)
        return True

    def add_all(self, others: Margins) -> None:
        """Add the fractions that another process has collected."""
        for function, other in others._held.items():
            held = self._held.setdefault(function, _Held())
            if other.fractions and (not held.fractions or other.most > held.most):
                held.most, held.worst = other.most, other.worst
            held.fractions += other.fractions
            held.outside += other.outside

    def by_function(self) -> tuple[BoundUse, ...]:
        """Return what each function used, in the order in which they were first met."""
        return tuple(held.use(function) for function, held in self._held.items())


class _Held:
    """The fractions of one function."""

    def __init__(self) -> None:
        self.fractions: list[float] = []
        self.outside = 0
        self.most = 0.0
        self.worst = ""

    def use(self, function: str) -> BoundUse:
        """Sum them up."""
        fractions = self.fractions
        histogram = [0] * BINS
        for fraction in fractions:
            histogram[min(int((fraction + 1) / 2 * BINS), BINS - 1)] += 1
        return BoundUse(
            function=function,
            results=len(fractions) + self.outside,
            outside=self.outside,
            least=min(fractions, default=None),
            largest=max(fractions, default=None),
            mean=math.fsum(fractions) / len(fractions) if fractions else None,
            largest_fraction=self.most if fractions else None,
            worst=self.worst,
            histogram=tuple(histogram),
            fractions=tuple(fractions),
        )
