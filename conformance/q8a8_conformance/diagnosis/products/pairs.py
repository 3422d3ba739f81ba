"""Rows of x and of w that outputs are of, each a formula of row and column, with edges of tiles and buffers.

A formula is a place at which a tile, or a buffer of it, begins, and a place in it; what lies beyond the last
row is that row, none, or what the buffer had of the tile before. It may ask for the other side's index: in a
tile that is stored transposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.products.rules import ROW_FORMULAS, RowFormula

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.products.held_outputs import Seen
    from q8a8_conformance.inputs.arrays import Array

    Function = Callable[[Array, Array, Array, int], Array]

TILES = (4, 8, 2, 16, 32, 64, 3, 5, 6, 12, 24, 48)

FEW = 3
"""Formulas of a side that are tried, at most, of those that give all that was seen."""

_STARTS: tuple[tuple[str, Function], ...] = (
    ("{a} - {a} % {t}", lambda a, _b, _s, t: a - a % t),
    ("({s} - 1) / {t} * {t}", lambda _a, _b, s, t: (s - 1) // t * t),
    ("{s} - {t}", lambda _a, _b, s, t: s - t),
    ("{s} - {s} % {t}", lambda _a, _b, s, t: s - s % t),
    ("0", lambda a, _b, _s, _t: 0 * a),
)
"""Where a tile of t rows of s begins, of an index a, and b of the other side: words, and what computes it."""

_PLACES: tuple[tuple[str, Function], ...] = (
    ("{a} % {t}", lambda a, _b, _s, t: a % t),
    ("{b} % {t}", lambda _a, b, _s, t: b % t),
    ("{u}", lambda a, _b, _s, t: 0 * a + t - 1),
    ("{u} - {a} % {t}", lambda a, _b, _s, t: t - 1 - a % t),
    ("0", lambda a, _b, _s, _t: 0 * a),
    ("({a} + 1) % {t}", lambda a, _b, _s, t: (a + 1) % t),
)
"""Places in it."""

_BEYOND: tuple[tuple[str, Function], ...] = (
    ("{row}", lambda row, _b, s, _t: np.where(row < s, row, -1)),
    ("min({row}, {s} - 1)", lambda row, _b, s, _t: np.minimum(row, s - 1)),
    (
        "{row} ({t} less where that is beyond {s} - 1)",
        lambda row, _b, s, t: np.where(row < s, row, row - t),
    ),
)
"""What is taken for a row beyond the last one; of the first, nothing."""


@dataclass(frozen=True)
class Index:
    """A row that is taken.

    Attributes
    ----------
    words
        Which, in {a} and {s} of its own side, and {b} of the other.
    of
        Returns it for a, b and s, or -1 for none.
    is_named
        Whether it is one of the formulas that laws have.
    """

    words: str
    of: Callable[[Array, Array, Array], Array]
    is_named: bool = False


def _indices() -> Iterator[Index]:
    """Yield formulas, the simplest first."""
    yield Index("{a}", lambda a, _b, _s: a, is_named=True)
    yield Index("{b}", lambda _a, b, s: np.where(b < s, b, -1))
    yield Index("min({b}, {s} - 1)", lambda _a, b, s: np.minimum(b, s - 1))
    for words, function, numbers in ROW_FORMULAS:
        for t in numbers:
            named = RowFormula(words, function, t)
            text = named.text("{a}", "{s}")
            yield Index(text, partial(_named, named), is_named=True)
    for end, beyond in _BEYOND:
        for t in TILES:
            for (start, begins), (place, inside) in _parts():
                row = " + ".join(one for one in (start, place) if one != "0") or "0"
                words = end.replace("{row}", row)
                for name, value in (("{t}", t), ("{u}", t - 1)):
                    words = words.replace(name, str(value))
                yield Index(words, partial(_summed, (begins, inside, beyond), t))


def _named(formula: RowFormula, a: Array, _b: Array, s: Array) -> Array:
    return formula.function(a, s, formula.t)


def _summed(parts: tuple[Function, Function, Function], t: int, a: Array, b: Array, s: Array) -> Array:
    begins, inside, beyond = parts
    return beyond(begins(a, b, s, t) + inside(a, b, s, t), b, s, t)


def _parts() -> Iterator[tuple[tuple[str, Function], tuple[str, Function]]]:
    """Yield where a tile begins, and a place in it."""
    yield from ((start, place) for place in _PLACES for start in _STARTS)


@dataclass(frozen=True)
class Pair:
    """The rows of x and of w that an output is of.

    Attributes
    ----------
    row, column
        The row of x, and of w.
    """

    row: Index
    column: Index

    @property
    def words(self) -> str:
        """Which rows, in words."""
        sides = [
            f"row {index.words.format(**letters)} of {side}"
            for index, side, letters in (
                (self.row, "x", {"a": "i", "b": "j", "s": "n"}),
                (self.column, "w", {"a": "j", "b": "i", "s": "m"}),
            )
            if index.words != "{a}"
        ]
        return " and ".join(sides)

    def of(self, i: Array, j: Array, m: int, n: int) -> Array:
        """Return the number i · m + j of the output that outputs are, or -1."""
        with np.errstate(divide="ignore"):
            row, column = self.row.of(i, j, np.asarray(n)), self.column.of(j, i, np.asarray(m))
        inside = (row >= 0) & (row < n) & (column >= 0) & (column < m)
        return np.asarray(np.where(inside, row * m + column, -1))


def pairs(some: Sequence[Seen]) -> Iterator[Pair]:
    """Yield pairs of rows that give all outputs at places that are not their own, the simplest first.

    None where only whole rows, or columns, are others by formulas that laws have.
    """
    parts = []
    for seen in some:
        m, n, _ = seen.shape
        places = np.flatnonzero(seen.moved)
        own, taken = np.divmod(places, m), np.divmod(seen.source[places], m)
        parts.append((*own, *taken, np.full(len(places), n), np.full(len(places), m)))
    i, j, row, column, of_n, of_m = (np.concatenate(side) for side in zip(*parts, strict=True))
    if not i.size:
        return
    rows, columns = list(_fitting(i, j, of_n, row)), list(_fitting(j, i, of_m, column))
    if not any(seen.is_joint for seen in some) and all(side and side[0].is_named for side in (rows, columns)):
        return
    for each in rows:
        yield from (pair for other in columns if (pair := Pair(each, other)).words)


def _fitting(a: Array, b: Array, s: Array, taken: Array) -> Iterator[Index]:
    """Yield indices of a side that give rows that are taken; the own one alone where that does."""
    few = np.linspace(0, len(a) - 1, min(len(a), 64)).astype(int)
    found = 0
    for index in _indices():
        if (index.of(a[few], b[few], s[few]) == taken[few]).all() and (index.of(a, b, s) == taken).all():
            yield index
            found += 1
            if found == FEW or index.words == "{a}":
                return
