"""Which cases earn their place: those without which some mutant, pair of recipes or point would lack one.

Each case speaks for *claims*: a mutant that it kills in one of its functions, a pair of recipes that it tells
apart, a point that it covers (`q8a8_golden.generate.coverage`). A claim wants a number of cases that speak
for it::

    a mutant, in one function    KILLERS    (or as many as there are): its relatives in real kernels differ
    two recipes                  KILLERS    (as above)
    a point                      1

A case is *redundant* if every claim that it speaks for has enough cases without it. A set of cases is
*minimal* if none of them is redundant.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from q8a8_golden.generate.coverage import points, recipes_apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from q8a8_golden.cases import Case

__all__ = ["KILLERS", "Claims", "claims_of", "minimized", "redundant"]

KILLERS: Final = 3
"""How many cases shall kill each mutant in each function, and tell each two recipes apart."""


@dataclass(frozen=True)
class Claims:
    """What one entry of a file speaks for.

    Parameters
    ----------
    id
        The entry's id.
    cost
        What it takes: the length of its text, kills apart.
    wanted
        By claim, how many cases shall speak for it.
    """

    id: str
    cost: int
    wanted: Mapping[str, int]


def claims_of(case: Case, kills: Mapping[str, Sequence[str]], cost: int) -> Claims:
    """Give the claims of an entry: its case by any of its functions, and its kills by function."""
    wanted = dict.fromkeys(points(case), 1)
    wanted |= dict.fromkeys(recipes_apart(case), KILLERS)
    wanted |= {
        f"{slug} in {function}": KILLERS for function, slugs in sorted(kills.items()) for slug in slugs
    }
    return Claims(case.id, cost, wanted)


def redundant(entries: Iterable[Claims]) -> list[str]:
    """Give the ids of the entries that could go, each by itself."""
    entries = list(entries)
    spoken = Counter(claim for entry in entries for claim in entry.wanted)
    return [entry.id for entry in entries if _could_go(entry, spoken)]


def minimized(entries: Iterable[Claims]) -> frozenset[str]:
    """Give the ids of a minimal set: from the longest entry to the shortest, each that could go goes.

    Of two that cost the same the one that comes later goes first. The result is minimal: an entry that had
    to stay when it was looked at has to stay in the smaller set that is left.
    """
    entries = list(entries)
    spoken = Counter(claim for entry in entries for claim in entry.wanted)
    kept = {entry.id for entry in entries}
    for place in sorted(range(len(entries)), key=lambda place: (-entries[place].cost, -place)):
        entry = entries[place]
        if _could_go(entry, spoken):
            kept.discard(entry.id)
            spoken.subtract(entry.wanted.keys())
    return frozenset(kept)


def _could_go(entry: Claims, spoken: Counter[str]) -> bool:
    return all(spoken[claim] > enough for claim, enough in entry.wanted.items())
