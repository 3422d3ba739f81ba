"""Which effects give the terms of rows: each term has a place, and what is taken there a formula.

The terms of rows (`row_terms`) are assigned to places: the one that lacks its own term has the term with most
of its parts. Which other block a part is taken from is a formula of the place, the one that most places have.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.row_effects import Effect, Kind, shifted
from q8a8_conformance.diagnosis.dots.row_terms import terms_of
from q8a8_conformance.diagnosis.products.rules import ROW_FORMULAS, RowFormula

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.row_terms import Shape, Term
    from q8a8_conformance.inputs.arrays import Array

SHORT = 3
"""Blocks of rows by which no formula is chosen where there are longer ones."""

Observed = dict[Kind, list[tuple[int, tuple[int, ...]]]]
"""Places, and the blocks that parts are taken from there, by what happens."""


def observed(shapes: Mapping[Shape, Array], nb: int) -> Observed:
    """Return what happens at the places of a row, by the terms of its blocks."""
    own, others = terms_of(dict(shapes), nb)
    left = Counter(_assigned(own, others))
    at: dict[int, list[Term]] = {}
    for (place, term), times in left.items():
        at.setdefault(place, []).extend([term] * times)
    found: Observed = {}
    for place in sorted({*at, *np.flatnonzero(own != 1).tolist()}):
        times = int(own[place])
        if place not in at:
            found.setdefault(Kind(times), []).append((place, ()))
            continue
        if times > 1:
            found.setdefault(Kind(times), []).append((place, ()))
        for number, term in enumerate(at[place]):
            sources = dict.fromkeys(each for each in term if each != place)
            parts = tuple(tuple(k for k in range(4) if term[k] == each) for each in sources)
            kind = Kind(None if times or number else 0, parts)
            found.setdefault(kind, []).append((place, tuple(sources)))
    return found


def _assigned(own: Array, others: Sequence[Term]) -> Iterator[tuple[int, Term]]:
    """Yield terms with the places that they are of: of those that lack their own the one with most parts."""
    free = own == 0
    for term in others:
        # (Of as many parts the scale's block is the place; where codes are exchanged as well, scales are.)
        blocks = (*term[2:], *term[:2]) if free[term.x] else term
        place = max(blocks, key=lambda block: (bool(free[block]), term.count(block)))
        free[place] = False
        yield place, term


def effects_of(rows: Mapping[int, Observed]) -> list[Effect]:
    """Return the effects of which some give all that was observed in rows of many lengths."""
    found: list[Effect] = []
    for kind in dict.fromkeys(kind for of in rows.values() for kind in of):
        left = [(nb, *one) for nb, of in rows.items() for one in of.get(kind, ())]
        while left:
            # (In the shortest rows blocks have several names.)
            some = [one for one in left if one[0] > SHORT] or left
            best = max(_effects(kind, some), key=lambda effect: _count(effect, some), default=None)
            if best is None or not _count(best, left):
                break
            found.append(best)
            left = [one for one in left if not _is_given(best, *one)]
    return found


def _count(effect: Effect, seen: Iterable[tuple[int, int, tuple[int, ...]]]) -> int:
    return sum(_is_given(effect, *one) for one in seen)


def _is_given(effect: Effect, nb: int, place: int, sources: tuple[int, ...]) -> bool:
    return all(
        int(formula.of(np.array(place), nb)) == source
        for formula, source in zip(effect.sources, sources, strict=True)
    )


def _effects(kind: Kind, seen: Sequence[tuple[int, int, tuple[int, ...]]]) -> Iterator[Effect]:
    """Yield the effects of a kind that may give some places, the simplest first."""
    if not kind.parts:
        yield Effect(kind)
        return
    if len(kind.parts) > 1:
        _, place, sources = seen[len(seen) // 2]
        yield Effect(kind, tuple(shifted(source - place) for source in sources))
        return
    for words, function, numbers in FORMULAS:
        yield from (Effect(kind, (RowFormula(words, function, t),)) for t in numbers)
    yield from (Effect(kind, (shifted(step),)) for step in {source[0] - at for _, at, source in seen})
    yield from (Effect(kind, (_block(block),)) for block in {source[0] for *_, source in seen})


FORMULAS = (
    *ROW_FORMULAS[:3],
    ("{i} xor {t}", lambda i, _n, t: i ^ t, (1, 2, 3)),
    *ROW_FORMULAS[3:],
    ("{i} - {n} / 2 (rounded down)", lambda i, n, _t: i - n // 2, (0,)),
    ("{i} + {n} / 2 (rounded down)", lambda i, n, _t: i + n // 2, (0,)),
    ("{n} - 1 - {t}", lambda i, n, t: 0 * i + n - 1 - t, (1, 2, 3)),
    (
        "2 {n} - 1 - {n} % {t} - {i}",
        lambda i, n, t: n - 1 - (i - n + n % t),
        (3, 4, 5, 6, 7, 8, 16),
    ),
)
"""Which block may be taken in the place of block i of n: as rows of products are."""


def _block(block: int) -> RowFormula:
    return RowFormula("{t}", lambda i, _n, t: 0 * i + t, block)
