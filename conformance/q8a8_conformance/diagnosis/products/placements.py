"""Where a product stores its outputs: one formula for all shapes, with the shapes in which it holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.products.rules import TILES, output_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.diagnosis.products.sources import Sources
    from q8a8_conformance.inputs.arrays import Array

_PLACEMENTS: tuple[tuple[str, Callable[[Array, Array, int, int, int], Array], tuple[int, ...]], ...] = (
    ("j * n + i", lambda i, j, _m, n, _t: j * n + i, (0,)),
    ("i * n + j", lambda i, j, _m, n, _t: i * n + j, (0,)),
    ("j * m + i", lambda i, j, m, _n, _t: j * m + i, (0,)),
    ("i * (m - {t}) + j", lambda i, j, m, _n, t: i * (m - t) + j, (1,)),
    ("i * (m + {t}) + j", lambda i, j, m, _n, t: i * (m + t) + j, (1,)),
    ("i * (m - m % {t}) + j", lambda i, j, m, _n, t: i * (m - m % t) + j, TILES),
    ("i * (m rounded up to a multiple of {t}) + j", lambda i, j, m, _n, t: i * (-(-m // t) * t) + j, TILES),
    ("i * {t} + j", lambda i, j, _m, _n, t: i * t + j, TILES),
)
"""Where output (i, j) of n rows and m columns may be stored, with a number t."""

SQUARES = (8, 4, 16, 2, 32, 64)
OBLONGS = tuple((a, b) for a in (2, 4, 8, 16) for b in (2, 4, 8, 16, 32) if a != b)
"""Rows and columns of tiles of outputs that may be transposed, or stored column by column."""


@dataclass(frozen=True)
class Placement:
    """Where outputs are stored.

    Attributes
    ----------
    words
        The place in out of output (i, j).
    place
        Returns it for i, j, m and n.
    tile
        What it holds for, in words; empty where for all outputs.
    why
        What that comes to; empty where the place says it.
    """

    words: str
    place: Callable[[Array, Array, int, int], Array]
    tile: str = ""
    why: str = ""

    def stores(self, rows: Array, columns: Array, kept: Array) -> bool:
        """Return whether it gives what a shape's outputs hold; of two at one place, either."""
        n, m = kept.shape
        i, j = (index.reshape(-1) for index in np.indices((n, m)))
        places = self.place(i, j, m, n)
        inside = (places >= 0) & (places < n * m)
        written = np.zeros(n * m, bool)
        written[places[inside]] = True
        if not np.array_equal(written, ~kept.reshape(-1)):
            return False
        at = {(int(p), int(a), int(b)) for p, a, b in zip(places[inside], i[inside], j[inside], strict=True)}
        held = np.flatnonzero(written)
        return all(
            (int(p), int(a), int(b)) in at
            for p, a, b in zip(held, rows.reshape(-1)[held], columns.reshape(-1)[held], strict=True)
        )

    def differs(self, shape: Shape) -> bool:
        """Return whether any output of a shape is stored elsewhere."""
        m, n, _ = shape
        i, j = np.indices((n, m))
        return not np.array_equal(self.place(i, j, m, n), i * m + j)


def _tiled(i: Array, j: Array, m: int, n: int, a: int, b: int) -> Array:
    """Return places: in whole tiles of a rows and b columns column by column, else as they should be."""
    row, column = i - i % a, j - j % b
    number = j % b * a + i % a
    inside = (row + a <= n) & (column + b <= m)
    return np.where(inside, (row + number // b) * m + column + number % b, i * m + j)


def _every() -> Iterator[Placement]:
    """Yield all placements that are known."""
    for words, of, numbers in _PLACEMENTS:
        for t in numbers:
            yield Placement(words.format(t=t), partial(_with, of, t))
    for t in SQUARES:
        words = f"(i - i % {t} + j % {t}) * m + j - j % {t} + i % {t}"
        tile = f"whole tiles of {t} by {t} outputs"
        yield Placement(words, partial(_tiled, a=t, b=t), tile, "the tiles are transposed")
    for a, b in OBLONGS:
        # (e is the place within a tile.)
        words = f"(i - i % {a} + e / {b}) * m + j - j % {b} + e % {b}, e = j % {b} * {a} + i % {a}"
        tile = f"whole tiles of {a} rows and {b} columns"
        yield Placement(words, partial(_tiled, a=a, b=b), tile, "the tiles are stored column by column")


def _with(of: Callable[..., Array], t: int, i: Array, j: Array, m: int, n: int) -> Array:
    return of(i, j, m, n, t)


def stored_elsewhere(
    measured: Sequence[Sources], measure: Callable[[Shape], Sources]
) -> tuple[Placement, str] | None:
    """Return at which place of out outputs are stored, and in which shapes in words, if that explains all."""

    def is_wrong(sources: Sources) -> bool:
        own = np.indices(sources.kept.shape)
        return bool((sources.kept | (sources.rows != own[0]) | (sources.columns != own[1])).any())

    some = [one for one in measured if one.shape[2]]
    wrong = [one for one in some if is_wrong(one)]
    if not any((one.rows[~one.kept] != np.indices(one.kept.shape)[0][~one.kept]).any() for one in wrong):
        return None
    for placement in _every():
        if not all(placement.stores(one.rows, one.columns, one.kept) for one in wrong):
            continue

        def look(shape: Shape) -> Array:
            return np.full((shape[1], shape[0]), is_wrong(measure(shape)))

        def shows(shape: Shape, placement: Placement = placement) -> Array:
            return np.full((shape[1], shape[0]), placement.differs(shape))

        rule = output_rule(wrong[0].shape, [one.shape for one in some], look, shows)
        if rule is not None and rule.text.startswith("All outputs"):
            return placement, rule.text.removeprefix("All outputs").removeprefix(" where ")
    return None
