"""Outputs in which something happens by a condition on row and column together: "i >= j", "j >= n".

No rule for columns and one for rows says where a loop over columns ends at n, where one is triangular, or
which tiles the number of a tile leaves out that is divided wrongly. Such a condition is one of a small
language, of which each is compared with what is seen in shapes of many m and n.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.reveal.places import find_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.places import Condition

Shape = tuple[int, int, int]
Test = "Callable[[Array, Array, int, int], Array]"

TILES = (1, 2, 4, 8, 16, 32, 64, 3, 6, 12, 24, 48)
WIDTHS = (2, 4, 8, 16, 32, 64, 3, 5, 6, 12)
SHARES = (2, 3, 4, 6, 8, 16)

SEEN = ((9, 5), (5, 9), (6, 23), (23, 6), (16, 16), (37, 45), (48, 39), (33, 70), (70, 33), (1, 12), (12, 1))
"""m and n of shapes in which a condition is looked for."""

BESIDE = (((21, 5), (21, 9)), ((5, 21), (9, 21)))
"""m and n of shapes of which two have the same m, or n."""

HELD_OUT = ((7, 10), (10, 7), (29, 52), (66, 41), (1, 35), (35, 1), (80, 80), (19, 19), (25, 130), (130, 25))
"""m and n of shapes that none was chosen by, and in which it must hold."""


@dataclass(frozen=True)
class Joint:
    """A condition on row i and column j of an output, of n rows and m columns.

    Attributes
    ----------
    words
        The condition, in words.
    test
        Returns it, bool [n, m], of i [n, 1], j [m], m and n.
    columns, rows
        Conditions on m, and on n.
    """

    words: str
    test: Callable[[Array, Array, int, int], Array]
    columns: tuple[Condition, ...] = ()
    rows: tuple[Condition, ...] = ()

    def holds(self, shape: Shape) -> Array:
        """Return for which outputs of a shape: bool [n, m]."""
        m, n, _ = shape
        if not all(bool(c.holds(np.array(of), of)) for of, some in self._lengths(m, n) for c in some):
            return np.zeros((n, m), bool)
        found = self.test(np.arange(n)[:, np.newaxis], np.arange(m), m, n)
        return np.broadcast_to(np.asarray(found, bool), (n, m))

    def _lengths(self, m: int, n: int) -> tuple[tuple[int, tuple[Condition, ...]], ...]:
        return (m, self.columns), (n, self.rows)

    @property
    def text(self) -> str:
        """The condition, with those on m and n, in words."""
        lengths = [
            c.text(of, of_length=True) for of, some in (("m", self.columns), ("n", self.rows)) for c in some
        ]
        return " and ".join([self.words, *lengths])


def is_joint(mask: Array, shown: Array) -> bool:
    """Return whether outputs, bool [n, m], are neither those of some columns in some rows, nor of either."""
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    every, whole = ((mask | ~shown).all(axis=axis) & shown.any(axis=axis) for axis in (1, 0))
    both, either = np.logical_and.outer(rows, columns), np.logical_or.outer(every, whole)
    return not any(np.array_equal(of & shown, mask) for of in (both, either))


def is_of_other_side(nb: int, look: Callable[[Shape], Array], shows: Callable[[Shape], Array]) -> bool:
    """Return whether the columns in which something is seen vary with n, or the rows with m."""
    for axis, sides in enumerate(BESIDE):
        shapes = [(m, n, nb) for m, n in sides]
        one, other = (look(shape).any(axis=axis) for shape in shapes)
        shown = np.logical_and.reduce([shows(shape).any(axis=axis) for shape in shapes])
        if one.any() and other.any() and ((one != other) & shown).any():
            return True
    return False


def find_joint(
    nb: int, look: Callable[[Shape], Array], shows: Callable[[Shape], Array], largest: int
) -> Joint | None:
    """Find the condition under which something is seen in shapes of nb blocks in a row.

    Parameters
    ----------
    nb
        Blocks of a row.
    look, shows
        Return where it is seen in a shape, and where it would be: bool [n, m].
    largest
        Products of blocks of a shape, at most.

    Returns
    -------
    Joint or None
        None where no condition holds in every shape that was looked at.
    """

    def measure(sides: Sequence[tuple[int, int]]) -> dict[Shape, tuple[Array, Array]]:
        shapes = [(m, n, nb) for m, n in sides if m * n * nb <= largest]
        return {shape: (look(shape), shows(shape)) for shape in shapes}

    seen = measure(SEEN)
    held_out: dict[Shape, tuple[Array, Array]] = {}
    for words, test in _conditions():
        found = _limited(Joint(words, test), seen)
        if found is not None:
            held_out = held_out or measure(HELD_OUT)
            if all(_is_so(found, shape, *of) for shape, of in held_out.items()):
                return found
    return None


def _is_so(found: Joint, shape: Shape, mask: Array, shown: Array) -> bool:
    return np.array_equal(found.holds(shape) & shown, mask)


def _limited(joint: Joint, seen: Mapping[Shape, tuple[Array, Array]]) -> Joint | None:
    """Return a condition with those on m and n under which it holds; None where it does not."""
    hit: list[Shape] = []
    missed: list[Shape] = []
    for shape, (mask, shown) in seen.items():
        here = joint.holds(shape) & shown
        if mask.any() and not np.array_equal(here, mask):
            return None
        if here.any():
            (hit if mask.any() else missed).append(shape)
    if not missed:
        return joint if hit else None
    for side in (0, 1):
        inside, outside = ({shape[side] for shape in shapes} for shapes in (hit, missed))
        if inside and not inside & outside and (lengths := find_lengths(sorted(inside), sorted(outside))):
            return Joint(joint.words, joint.test, *((lengths, ()) if side == 0 else ((), lengths)))
    return None


def _conditions() -> Iterator[tuple[str, Callable[[Array, Array, int, int], Array]]]:
    """Yield conditions, the simplest first, in words and as tests."""
    yield from _of_tiles()
    yield from _of_other_side()
    yield from _of_numbers()
    yield from _of_edges()
    for t in TILES:
        for u in dict.fromkeys((t, *TILES)):
            for a, b in (("n", "m"), ("m", "n"), ("n", "n")):
                words = (
                    f"tile (i / {t}, j / {u}) is (T / {_tiles(a, t, u)}, T % {_tiles(b, t, u)}) for no "
                    "number T of a tile"
                )
                yield words, partial(_left_out, t=t, u=u, over=a, modulo=b)


def _of_tiles() -> Iterator[tuple[str, Callable[[Array, Array, int, int], Array]]]:
    """Yield comparisons of the numbers of tiles of rows and of columns."""
    for t in TILES:
        for u in dict.fromkeys((t, *TILES)):
            i, j = (f"{name} / {size}" if size > 1 else name for name, size in (("i", t), ("j", u)))
            for words, signs in _SIGNS.items():
                yield f"{i} {words} {j}", partial(_compared, t=t, u=u, signs=signs)


_SIGNS = {">": (1,), "<": (-1,), ">=": (0, 1), "<=": (-1, 0), "=": (0,), "is not": (-1, 1)}
"""Signs that the difference of two numbers may have, by what is said of them."""


def _compared(i: Array, j: Array, _m: int, _n: int, t: int, u: int, signs: tuple[int, ...]) -> Array:
    return np.isin(np.sign(i // t - j // u), signs)


def _of_other_side() -> Iterator[tuple[str, Callable[[Array, Array, int, int], Array]]]:
    """Yield comparisons of a column with n, and of a row with m."""
    for is_column in (True, False):
        index, size = ("j", "n") if is_column else ("i", "m")
        for words, of, numbers in _SIZES:
            for t in numbers:
                limit = words.format(s=size, t=t)
                for sign, past in ((">=", True), ("<", False)):
                    yield (
                        f"{index} {sign} {limit}",
                        partial(_past, of=of, t=t, is_column=is_column, past=past),
                    )


_SIZES: tuple[tuple[str, Callable[[int, int], int], tuple[int, ...]], ...] = (
    ("{s}", lambda s, _t: s, (1,)),
    ("{s} rounded up to a multiple of {t}", lambda s, t: -(-s // t) * t, WIDTHS),
    ("{s} - {s} % {t}", lambda s, t: s - s % t, WIDTHS),
    ("{s} - {t}", lambda s, t: s - t, (1, 2, 4, 8)),
    ("{s} + {t}", lambda s, t: s + t, (1, 2, 4, 8)),
    ("{s} / {t} (rounded down)", lambda s, t: s // t, (2, 3, 4, 8)),
    ("{s} / {t} (rounded up)", lambda s, t: -(-s // t), (2, 3, 4, 8)),
    ("{t} * {s}", lambda s, t: s * t, (2, 3, 4, 8)),
)
"""Numbers of a number of rows s, and a number t: words, what computes it, and t that are tried."""


def _past(
    i: Array, j: Array, m: int, n: int, of: Callable[[int, int], int], t: int, *, is_column: bool, past: bool
) -> Array:
    index, limit = (j, of(n, t)) if is_column else (i, of(m, t))
    return np.asarray((index >= limit) == past)


def _of_numbers() -> Iterator[tuple[str, Callable[[Array, Array, int, int], Array]]]:
    """Yield comparisons of the number of an output, or of a tile, with multiples, squares and shares."""
    for t in (*WIDTHS, 24, 128):
        yield f"i * m + j >= m * n - m * n % {t}", partial(_past_number, t=t)
    yield "i * m + j >= m * m", lambda i, j, m, _n: i * m + j >= m * m
    yield "i * m + j >= n * n", lambda i, j, m, n: i * m + j >= n * n
    for t in TILES[1:]:
        for u in dict.fromkeys((t, *TILES)):
            for shares in SHARES:
                words = f"the number of tile (i / {t}, j / {u}) is past the last multiple of {shares} tiles"
                yield words, partial(_past_shares, t=t, u=u, shares=shares)


def _past_number(i: Array, j: Array, m: int, n: int, t: int) -> Array:
    return np.asarray(i * m + j >= m * n - m * n % t)


def _past_shares(i: Array, j: Array, m: int, n: int, t: int, u: int, shares: int) -> Array:
    across, down = -(-m // u), -(-n // t)
    return np.asarray(i // t * across + j // u >= across * down // shares * shares)


def _of_edges() -> Iterator[tuple[str, Callable[[Array, Array, int, int], Array]]]:
    """Yield comparisons of a place in a tile with what is left of the other side."""
    for t in WIDTHS:
        row, column = f"i % {t} >= m - (j - j % {t})", f"j % {t} >= n - (i - i % {t})"
        yield row, partial(_past_edge, t=t, sides="i")
        yield column, partial(_past_edge, t=t, sides="j")
        yield f"{row} or {column}", partial(_past_edge, t=t, sides="ij")


def _past_edge(i: Array, j: Array, m: int, n: int, t: int, sides: str) -> Array:
    """Return where a row's place in its tile, a column's, or either, is none of what is left of the other."""
    row, column = i % t >= m - (j - j % t), j % t >= n - (i - i % t)
    return np.asarray(row | column if sides == "ij" else row if sides == "i" else column)


def _tiles(side: str, t: int, u: int) -> str:
    """Return the number of tiles along n, of t rows, or along m, of u columns, in words."""
    size = t if side == "n" else u
    return f"({side} / {size} rounded up)" if size > 1 else side


def _left_out(i: Array, j: Array, m: int, n: int, t: int, u: int, over: str, modulo: str) -> Array:
    """Return the outputs of tiles that no number names: it is taken apart by other counts than along m."""
    tiles = {"n": -(-n // t), "m": -(-m // u)}
    numbers = np.arange(tiles["n"] * tiles["m"])
    named = np.zeros((tiles["n"], tiles["m"]), bool)
    down, across = numbers // tiles[over], numbers % tiles[modulo]
    inside = (down < tiles["n"]) & (across < tiles["m"])
    named[down[inside], across[inside]] = True
    return np.asarray(~named[i // t, j // u])
