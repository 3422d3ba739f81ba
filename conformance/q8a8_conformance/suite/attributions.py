"""Attributions of a run that repeat: a kernel that is wrong in every dot product is not probed for each.

Finding out which rules a wrong dot product breaks takes further calls. Where a few results in a row that are
alike (of one function, judged alike, in cases about the same rules) broke the same rules, the next ones are
taken to break them, but for every `CHECKED`th one, which is probed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

ALIKE = 5
"""Results in a row that broke the same rules, from which on the next are taken to break them."""

CHECKED = 8
"""One of so many results is probed nevertheless."""


@dataclass
class _Series:
    """The rules that the last probed results broke, how many in a row, and how many were not probed."""

    rules: tuple[str, ...] = ()
    length: int = 0
    skipped: int = 0


class Attributions:
    """The rules that wrong results have broken so far, by what makes results alike."""

    def __init__(self) -> None:
        self._series: dict[Hashable, _Series] = {}

    def expected(self, kind: Hashable) -> tuple[str, ...]:
        """Return the rules that the next result of a kind is taken to break; empty to have it probed."""
        series = self._series.get(kind)
        if series is None or series.length < ALIKE:
            return ()
        series.skipped += 1
        return series.rules if series.skipped % CHECKED else ()

    def add(self, kind: Hashable, rules: tuple[str, ...]) -> None:
        """Add the rules that a result of a kind was found to break."""
        series = self._series.setdefault(kind, _Series())
        series.length = series.length + 1 if rules == series.rules else 1
        series.rules = rules
