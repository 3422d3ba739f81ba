"""A minimal subset of the cases that still covers every mutant, pair of recipes and coverage point.

Each case covers *requirements*: a mutant that it kills in one of its functions, a pair of recipes whose
results differ, a point (`q8a8_golden.generate.coverage`). A requirement needs a number of cases::

    a mutant, in one function    KILLERS    (or as many as exist), as similar bugs in real kernels differ
    two recipes                  KILLERS    (as above)
    a point                      1

A case is *redundant* if every requirement that it covers has enough cases without it. A set of cases is
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

__all__ = ["KILLERS", "Entry", "entry_of", "minimal_subset", "redundant"]

KILLERS: Final = 3
"""The number of cases for each mutant in each function, and for each pair of recipes."""


@dataclass(frozen=True)
class Entry:
    """One entry of a file with the requirements that it covers.

    Parameters
    ----------
    id
        The entry's id.
    cost
        The length of its text, without the kills.
    required
        For each requirement covered, the number of cases that it needs.
    """

    id: str
    cost: int
    required: Mapping[str, int]


def entry_of(case: Case, kills: Mapping[str, Sequence[str]], cost: int) -> Entry:
    """Return the entry of a case, given for any of its functions, with its kills by function."""
    required = dict.fromkeys(points(case), 1)
    required |= dict.fromkeys(recipes_apart(case), KILLERS)
    required |= {
        f"{slug} in {function}": KILLERS for function, slugs in sorted(kills.items()) for slug in slugs
    }
    return Entry(case.id, cost, required)


def redundant(entries: Iterable[Entry]) -> list[str]:
    """Return the ids of the entries that are redundant, each considered alone."""
    entries = list(entries)
    covered = Counter(requirement for entry in entries for requirement in entry.required)
    return [entry.id for entry in entries if _is_redundant(entry, covered)]


def minimal_subset(entries: Iterable[Entry]) -> frozenset[str]:
    """Return the ids of a minimal subset: from the longest entry to the shortest, drop each redundant one.

    Of two with the same cost the later one is dropped first. The result is minimal: an entry that is not
    redundant in a set is not redundant in a subset.
    """
    entries = list(entries)
    covered = Counter(requirement for entry in entries for requirement in entry.required)
    kept = {entry.id for entry in entries}
    for place in sorted(range(len(entries)), key=lambda place: (-entries[place].cost, -place)):
        entry = entries[place]
        if _is_redundant(entry, covered):
            kept.discard(entry.id)
            covered.subtract(entry.required.keys())
    return frozenset(kept)


def _is_redundant(entry: Entry, covered: Counter[str]) -> bool:
    return all(covered[requirement] > enough for requirement, enough in entry.required.items())
