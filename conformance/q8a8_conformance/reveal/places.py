"""Where something happens in rows of many lengths, as the simplest rule: "the last block where nb is odd".

A place is a position i in a row of n (blocks or elements). From the places at which something was seen, and
those at which it was not, `find_rule` chooses a rule about the position and one about the length; where two
rules fit, it asks for a row in which they differ::

    position    all, the first, the last, i >= t, i < t, i mod m = r, the n mod m left over, ...
    length      any, n >= t, n <= t, n mod m = r, not r, n mod m >= r, one length; two of them at once

The rule agrees with every place that was looked at, or none is returned.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.reveal.place_rules import Condition, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array

__all__ = ["Condition", "Rule", "Seen", "explained", "find_lengths", "find_rule", "length_words", "seen_of"]

Effect = tuple[Any, ...]
Asked = Callable[[int], "Array | tuple[Array, Array]"]

MODULI = (2, 3, 4, 5, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
ASKED, RIVALS = 16, 8
"""Rows that are asked for at most, and rules that are compared."""

SHORT, DENSE = 64, 300
"""Lengths of which the least is taken where several tell; and lengths that are all candidates."""

STEPS = (0, 1, 3, 5, 8, 17, 33, 65, 129, 200)
"""Longer candidates, from multiples of 256."""

WRAPS = (65536, 32768, 2048, 256)
"""What counters of blocks and of elements hold in eight and sixteen bits."""

PARTS = ((1, 2), (1, 4), (3, 4), (1, 3), (2, 3))
"""Parts of a row, rounded down, at which loops over it may be split: so many of so many."""

FEW = (2, 3, 4, 5, 6, 7, 8, 15, 16, 31, 32)
"""Places at the end of a row that are named by their count."""

GROUPS = (3, 4, 5, 6, 8, 16)
"""Groups of which some places, more than one, may have something in common."""

COUNTS = (1, 2, 3, 4, 8)
"""Places behind a multiple that may be treated otherwise than the rest of what is left over."""

SHARES, UNITS = (2, 3, 4, 6, 8, 16), (2, 4, 8, 16)
"""Threads that may share a length, and what a share may be rounded down to a multiple of."""

REMAINDERS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
UNEVEN = (3, 5, 6, 7, 10, 12, 24)
"""Blocks that a loop takes at a time, and those of loops that take no power of two."""


@dataclass
class Seen:
    """Places at which something was seen, and those at which it was not.

    Attributes
    ----------
    rows
        bool [n] by length n.
    known
        bool [n] by length n: the places at which it would have been seen; all of them, unless given.
    """

    rows: dict[int, Array]
    known: dict[int, Array] = field(default_factory=dict)

    def shown(self, n: int) -> Array:
        """Return the places of a row at which it would have been seen."""
        return self.known[n] if n in self.known else np.ones(n, np.bool_)

    def _held(self, position: Condition, n: int) -> Array:
        return np.asarray(position.holds(np.arange(n), n) & self.shown(n))

    def rules(self) -> Iterator[Rule]:
        """Yield the rules that agree with every place, the simplest first."""
        hit = {n: where for n, where in self.rows.items() if where.any()}
        for position in _positions(hit) if hit else ():
            if not all(np.array_equal(self._held(position, n), where) for n, where in hit.items()):
                continue
            # Lengths in which the rule has no place show nothing.
            missed = [n for n in self.rows if n not in hit and self._held(position, n).any()]
            for conditions in _find_lengths(sorted(hit), missed):
                yield Rule(position, conditions)


def explained(left: Array, tried: Iterable[tuple[Effect, Callable[[], Array]]]) -> dict[Effect, Array]:
    """Return which places each of some effects explains, and ("other",) what none of them does: bool [n].

    Each place is explained by the first effect that gives what was seen there.
    """
    found: dict[Effect, Array] = {}
    for effect, gives in tried:
        if not left.any():
            break
        if (here := left & gives()).any():
            found[effect] = here
            left = left & ~here
    return {**found, ("other",): left} if left.any() else found


def length_words(hit: Sequence[int], missed: Sequence[int]) -> str:
    """Say of which lengths some are, and others are not; empty where all are, or by no condition."""
    return " and ".join(one.text("nb", of_length=True) for one in find_lengths(hit, missed))


def find_lengths(hit: Sequence[int], missed: Sequence[int]) -> tuple[Condition, ...]:
    """Return the simplest conditions that some lengths have, and others not; none where all do."""
    return next(_find_lengths(sorted(hit), sorted(missed)), ())


def seen_of(
    effect: Effect,
    effects: Mapping[int, Mapping[Effect, Array]],
    ask: Callable[[int], Mapping[Effect, Array]],
) -> tuple[Seen, Asked]:
    """Return where an effect was seen in rows of many lengths, and what looks for it in one more."""

    def at(n: int, found: Mapping[Effect, Array]) -> Array:
        return found.get(effect, np.zeros(n, np.bool_))

    return Seen({n: at(n, found) for n, found in effects.items()}), lambda n: at(n, ask(n))


def find_rule(seen: Seen, ask: Asked, longest: int) -> Rule | None:
    """Find the simplest rule for the places at which something was seen, asking for more where two rules fit.

    Parameters
    ----------
    seen
        What was seen so far; the answers are added.
    ask
        Looks at one more row of n: where it was seen, bool [n]; or that, and where it would have been.
    longest
        The longest row that may be asked for.

    Returns
    -------
    Rule or None
        None where no rule of the language fits every place, or nothing was seen.
    """
    for _ in range(ASKED):
        rules = list(itertools.islice(seen.rules(), RIVALS))
        n = _telling_length(rules, longest) if len(rules) > 1 else 0
        if not n:
            return rules[0] if rules else None
        answer = ask(n)
        if isinstance(answer, tuple):
            answer, seen.known[n] = answer
        seen.rows[n] = answer
    return next(seen.rules(), None)


def _telling_length(rules: Sequence[Rule], longest: int) -> int:
    """Return a length at which the first rule and another one disagree; 0 where there is none."""
    return next((n for other in rules[1:] if (n := _telling(rules[0], other, longest))), 0)


@lru_cache(maxsize=1 << 14)
def _telling(rule: Rule, other: Rule, longest: int) -> int:
    """Return a length at which two rules disagree; 0 where there is none."""
    candidates = sorted({*_candidates(longest), *_between(rule, other, longest)})
    first = next((n for n in candidates if rule.differs(other, n)), 0)
    if first <= SHORT:
        return first
    # The middle one halves what is left of an interval.
    telling = [n for n in candidates if n >= first and rule.differs(other, n)]
    return telling[len(telling) // 2]


def _between(one: Rule, other: Rule, longest: int) -> Iterator[int]:
    """Yield lengths between the limits of two rules."""
    limits = [c.a for rule in (one, other) for c in rule.length if c.kind in ("from", "until")]
    low, high = min(limits, default=0), min(max(limits, default=0), longest)
    for start in range(low, high, max((high - low) // 16, 1)):
        yield from (n for n in range(start, start + 8) if n < high)


def _candidates(longest: int) -> Iterator[int]:
    """Yield lengths that may be asked for: all short ones, and the neighbours of round numbers beyond."""
    yield from range(1, min(longest, DENSE) + 1)
    for start in range(256, longest, 256):
        yield from (n for n in (start + s for s in STEPS) if n <= longest)


def _positions(hit: Mapping[int, Array]) -> Iterator[Condition]:
    """Yield conditions on the position that may fit, the simplest first."""
    yield Condition("any")
    yield Condition("last")
    yield Condition("first")
    yield Condition("but-last")
    longest = hit[max(hit)]
    numbers = np.flatnonzero(longest)
    yield from (Condition("left-over", m) for m in REMAINDERS)
    # Of a count modulo any number the first place tells which.
    wrap = math.gcd(*(n - int(np.argmax(where)) for n, where in hit.items()))
    yield from (Condition("beyond-wrap", m) for m in dict.fromkeys((*WRAPS, wrap)) if m > 1)
    yield Condition("from", min(int(np.argmax(where)) for where in hit.values()))
    yield Condition("until", int(numbers[-1]))
    if numbers.size == 1:
        yield Condition("is", int(numbers[0]))
    ends = {n - int(np.argmax(where)) for n, where in hit.items() if where[:-1].any()}
    if len(ends) == 1 and len(hit) > 1:
        (count,) = ends
        yield Condition("last-few", count)
        yield Condition("before-last", count - 1)
    yield from (Condition("first-of-tile", m) for m in REMAINDERS)
    least = min(int(np.argmax(where)) for where in hit.values())
    yield from (Condition("but-first-of-tile", m, least) for m in REMAINDERS[1:5])
    yield from (Condition("last-of-tile", m) for m in REMAINDERS)
    yield from (Condition("before-last-tile", m) for m in REMAINDERS)
    for kind in ("modulo", "modulo-whole", "modulo-but-last"):
        yield from (Condition(kind, m, int(numbers[0]) % m) for m in MODULI)
    yield from (Condition("whole", m) for m in REMAINDERS)
    yield from (Condition("between", m, s) for m in REMAINDERS for s in REMAINDERS if s < m)
    for kind in ("first-left-over", "left-over-from"):
        yield from (Condition(kind, m, count) for m in REMAINDERS[1:] for count in COUNTS if count < m)
    yield from (Condition("last-whole", m) for m in REMAINDERS)
    for m in GROUPS:
        bits = sum(1 << r for r in {int(i) % m for where in hit.values() for i in np.flatnonzero(where)})
        if 1 < bits.bit_count() < m:
            yield Condition("modulo-in", m, bits)
            yield Condition("modulo-in-whole", m, bits)
    for kind in ("from-part", "until-part", "at-part", "before-part", "from-upper-part"):
        yield from (Condition(kind, *part) for part in PARTS)
    for kind in ("from-part-up", "until-part-up"):
        yield from (Condition(kind, *part) for part in PARTS)
    yield from (Condition("filling", m) for m in REMAINDERS[1:5])
    yield from (Condition("overlap-of-parts", 1, of) for of in SHARES)
    yield Condition("not-last")
    for kind in ("overlap", "last-tile", "later-tiles"):
        yield from (Condition(kind, m) for m in REMAINDERS)
    yield from (Condition(kind, m) for kind in ("last-few", "but-last-few") for m in FEW)
    yield from _rare_positions()


def _rare_positions() -> Iterator[Condition]:
    """Yield conditions of loops that take no power of two, of threads, and of every second tile."""
    for kind in ("left-over", "whole", "last-whole", "overlap", "last-tile", "later-tiles"):
        yield from (Condition(kind, m) for m in UNEVEN)
    for kind in ("beyond-shares", "beyond-shares-and-rest"):
        yield from (Condition(kind, of, unit) for of in SHARES for unit in UNITS)
    yield from (Condition("tile-modulo", m, second) for m in REMAINDERS for second in (1, 0))


def _find_lengths(hit: Sequence[int], missed: Sequence[int]) -> Iterator[tuple[Condition, ...]]:
    """Yield conditions that hold for some lengths and not for others, the simplest first."""
    if not missed:
        yield ()
        return
    inside, outside = np.array(hit), np.array(missed)
    # Which lengths a condition still admits, of those at which nothing was seen.
    left = {c: c.holds(outside, 0) for c in _lengths(hit, missed) if c.holds(inside, 0).all()}
    yield from ((c,) for c, admitted in left.items() if not admitted.any())
    for one, other in itertools.combinations(left, 2):
        if not (left[one] & left[other]).any():
            yield one, other


def _lengths(hit: Sequence[int], missed: Sequence[int]) -> Iterator[Condition]:
    """Yield conditions that hold for all of some lengths, the simplest first."""
    below = max((n for n in missed if n < hit[0]), default=0)
    above = min((n for n in missed if n > hit[-1]), default=0)
    if len(hit) == 1:
        yield Condition("is", hit[0])
    yield Condition("from", hit[0])
    yield Condition("from", below + 1)
    if above:
        yield Condition("until", hit[-1])
        yield Condition("until", above - 1)
    for m in MODULI:
        rests = {n % m for n in hit}
        if len(rests) == 1:
            yield Condition("modulo", m, next(iter(rests)))
        elif min(rests):
            yield Condition("modulo-from", m, min(rests))
            yield Condition("modulo-until", m, max(rests))
        others = {n % m for n in missed}
        if len(others) == 1:
            yield Condition("not-modulo", m, next(iter(others)))
    for m in GROUPS:
        bits = sum(1 << r for r in {n % m for n in hit})
        # (Remainders that are seen once each are a list, by which anything may be told from the rest.)
        if 1 < bits.bit_count() < m and 2 * bits.bit_count() <= len(hit):
            yield Condition("modulo-in", m, bits)
