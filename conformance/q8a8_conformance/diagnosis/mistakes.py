"""Search the catalogue for one mistake, or two at once, that give a kernel's bytes: its calls are replayed.

A mistake explains a kernel if it gives the kernel's bytes in every call, the failed ones first: whatever
gives other bytes there is out after a call or two, so a hundred mistakes and some thousand pairs cost a
second or so. The smallest explanation wins: one mistake before two. Dot products are not for replays: what
they do wrong is measured, whatever order they add in.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from q8a8_conformance.diagnosis.causes import FIXES
from q8a8_conformance.diagnosis.replay import differing, replay, same
from q8a8_conformance.faults.catalogue import FAMILIES, MUTANTS, RECIPES
from q8a8_conformance.faults.kernel import QUANTIZERS
from q8a8_conformance.faults.mutant import Change, ConflictError, Mutant, build

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.results.observations import CallResult, Failure

Seen = TypeVar("Seen", bound="CallResult")

STATEFUL = frozenset(mutant.slug for mutant in FAMILIES["Memory, environment and state"])
"""Mistakes that show otherwise than in a result, or not in every run: not to be replayed."""

SECONDS = 1.5
"""Time limit of the search for one function."""


@dataclass(frozen=True)
class Explanation:
    """What reproduces a kernel's calls.

    Attributes
    ----------
    parts
        One or two mistakes.
    equal
        Other single mistakes that reproduce every call as well.
    explained, of
        Wrong results that it gives, of all of them.
    """

    parts: tuple[Change, ...]
    equal: tuple[Change, ...]
    explained: int
    of: int


class FunctionCalls:
    """The calls of one function, in the order in which candidates are compared with them.

    Parameters
    ----------
    failures
        The failed ones.
    calls
        All of them.
    deadline
        When to stop, on the clock of `time.process_time`: a busy machine finds as much.
    """

    def __init__(self, failures: Sequence[Failure], calls: Sequence[CallResult], deadline: float) -> None:
        self.failures = _varied(failures)
        failed = {id(failure.call) for failure in failures}
        self._rest = _varied([c for c in calls if id(c.call) not in failed])
        self.deadline = deadline

    @property
    def late(self) -> bool:
        """Whether time is up."""
        return time.process_time() > self.deadline

    def allows(self, *parts: Change) -> bool:
        """Return whether a kernel of these parts gives all bytes that were seen."""
        try:
            kernel = build(parts)
        except ConflictError:
            return False
        return all(_gives(kernel, seen) for seen in self.failures) and all(
            _gives(kernel, seen) for seen in self._rest if not self.late
        )

    def count(self, *parts: Change) -> tuple[int, int]:
        """Count the wrong results that a kernel of these parts gives, and all of them."""
        kernel = build(parts)
        explained = of = 0
        for failure in self.failures:
            wrong = differing(failure.call.function, failure.outputs, failure.expected)
            of += len(wrong)
            given = _try(kernel, failure)
            if given is not None:
                missed = differing(failure.call.function, failure.outputs, given)
                explained += len(wrong - missed)
        return explained, of

    def wrong(self) -> int:
        """Count the wrong results."""
        return sum(len(differing(f.call.function, f.outputs, f.expected)) for f in self.failures)


def _varied(seen: Sequence[Seen]) -> list[Seen]:
    """Sort calls: one of each length first, the shortest before longer ones, so that few rule much out."""
    met: Counter[int] = Counter()
    keyed = []
    for one in seen:
        keyed.append(((met[one.call.n], one.call.n), one))
        met[one.call.n] += 1
    return [one for _, one in sorted(keyed, key=lambda pair: pair[0])]


def _try(kernel: object, seen: CallResult) -> tuple[bytes, ...] | None:
    """Replay a call; None where the kernel breaks over it, as a wrong one may."""
    try:
        return replay(kernel, seen.call)
    except Exception:  # noqa: BLE001 - a wrong kernel may raise anything
        return None


def _gives(kernel: object, seen: CallResult) -> bool:
    given = _try(kernel, seen)
    return given is not None and same(seen.call.function, given, seen.outputs)


def mistakes(function: str) -> list[Mutant]:
    """Return the mistakes of the catalogue that a function's results can show."""
    return [m for m in MUTANTS.values() if function in m.functions and m.slug not in STATEFUL]


def search(function: str, calls: FunctionCalls) -> Explanation | None:
    """Find the smallest explanation of a function's calls.

    Parameters
    ----------
    function
        The ABI function: not a dot product.
    calls
        Its calls, at least one of them failed.

    Returns
    -------
    Explanation or None
        None where no mistake and no pair of them gives all bytes, or time was up before one was found.
    """
    singles: list[Change] = list(mistakes(function))
    found = [one for one in singles if not calls.late and calls.allows(one)]
    if found:
        return Explanation((found[0],), tuple(found[1:]), *calls.count(found[0]))
    more = [*RECIPES.values(), *singles] if function in QUANTIZERS else singles
    for pair in _pairs(more, calls):
        if calls.allows(*pair):
            return Explanation(pair, (), *calls.count(*pair))
    return None


def _pairs(singles: Sequence[Change], calls: FunctionCalls) -> Iterator[tuple[Change, Change]]:
    for pair in itertools.combinations(singles, 2):
        if calls.late:
            return
        yield pair


def fix_of(part: Change) -> str:
    """Return the sentence that mends a mistake."""
    return FIXES.get(part.slug) or (part.fix if isinstance(part, Mutant) else "")
