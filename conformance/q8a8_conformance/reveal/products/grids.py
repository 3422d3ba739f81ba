"""Weights and activations that a product rounds to other numbers: which share a scale, and the numbers.

One row times a row with a single element gives back what became of one element. An outlier elsewhere changes
that if, and only if, it shares the scale; so the group is measured, whatever the numbers. Then the grids of
such a group (`grids`) are tried on random rows. Numbers that none of them has are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.grids import MATRIX, ROW, Grid, candidates, variants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.products.calls import Place

F16, F32, F64 = np.float16, np.float32, np.float64
BLOCK = 32

LENGTH = 1024
"""Elements of the rows in which a group is looked for."""

LARGE = 127
"""The element that gives back another one, and outliers: every recipe leaves it as it is."""

MEASURED, BESIDE = (37, 23), 40
"""Elements that are read, and the largest one beside them: other numbers when an outlier is the largest."""

NO_INTEGER = 1.37
"""A scale with which codes are no multiples of a power of two."""

MISSED = 1 / 20
"""The share of elements that may be otherwise, by roundings that no grid has."""

READ = 64
"""Elements of random rows that are read."""

FEW_LEVELS, FEW_CODES = 64, 129
"""Numbers that are counted where no grid is known, at most: of a group, and that single codes become."""

NEAR = {"float32": 2.0**-18, "float16": 2.0**-9, "bfloat16": 2.0**-6}
"""How near an element that is read is to what it became, relative to the largest one, by the outputs."""


def _single(count: int, k: int, elements: Sequence[int], value: float) -> Array:
    """Return rows [count, k] with a single element each."""
    rows = np.zeros((count, k), F32)
    rows[np.arange(count), list(elements)] = value
    return rows


def _as_blocks(scales: Array, codes: Array) -> Array:
    return layout.pack(scales.astype(F16), codes.reshape(len(codes), -1, BLOCK).astype(np.int8))


@dataclass(frozen=True)
class Side:
    """One matrix of a product under experiment: rows in, what some of their elements become out.

    Attributes
    ----------
    place
        Where.
    unit
        What the single element becomes with which the other matrix's rows read elements.
    is_weights
        Whether it is w, read with elements of `LARGE`; else x, read with weights of one.
    """

    place: Place
    unit: float
    is_weights: bool = False

    @property
    def capacity(self) -> int:
        """Rows of a call."""
        return len(self.place.columns if self.is_weights else self.place.rows)

    def __call__(self, scales: Array, codes: Array, elements: Sequence[int]) -> Array:
        """Read elements of rows of scale times code, float16 [r, nb] and int8 [r, 32·nb]: [r, elements]."""
        place, found = self.place, np.empty((len(codes), len(elements)))
        own = (
            _as_blocks(scales, codes) if self.is_weights else np.repeat(scales.astype(F32), BLOCK, 1) * codes
        )
        most = len(place.rows if self.is_weights else place.columns)
        for first in range(0, len(elements), most):
            some = elements[first : first + most]
            single = _single(len(some), codes.shape[1], some, LARGE if self.is_weights else 1)
            ones = np.ones((len(some), codes.shape[1] // BLOCK))
            other = single if self.is_weights else _as_blocks(ones, single + place.zero)
            for start in range(0, len(codes), self.capacity):
                rows = slice(start, start + self.capacity)
                w, x = (own[rows], other) if self.is_weights else (other, own[rows].astype(F32))
                out = place.outer(w, x)
                found[rows, first : first + len(some)] = out.T if self.is_weights else out
        return found / self.unit


def find_group(side: Side) -> int | None:
    """Return which elements of a row share a scale with the first; None where these do not follow it.

    Returns
    -------
    int or None
        Their number; `ROW`, or `MATRIX`, or 1 for the element alone.
    """
    scales = np.full((1, LENGTH // BLOCK), NO_INTEGER)
    known: dict[int, bool] = {}

    def rows(outliers: Sequence[int | None], value: int) -> Array:
        codes = np.full((len(outliers), LENGTH), 0, np.int8)
        codes[:, :2] = value, BESIDE
        for row, outlier in zip(codes, outliers, strict=True):
            if outlier is not None:
                row[outlier] = LARGE
        return codes

    def read(outliers: Sequence[int | None]) -> Array:
        many = np.repeat(scales, len(outliers), axis=0)
        return np.stack([side(many, rows(outliers, value), [0])[:, 0] for value in MEASURED])

    alone = read([None])

    def look(outliers: Sequence[int]) -> None:
        found = (read(outliers) != alone).any(axis=0)
        known.update(zip(outliers, found.tolist(), strict=True))

    if side.capacity > 1 and (read([None, LENGTH // 2])[:, :1] != alone).any():
        return MATRIX
    look([outlier for power in range(1, 10) for outlier in (2 << power - 1, (4 << power - 1) - 1)])
    first = min((outlier for outlier, changes in known.items() if not changes), default=LENGTH)
    if any(changes and outlier > first for outlier, changes in known.items()):
        return None
    last = max((outlier for outlier, changes in known.items() if changes), default=0)
    while first - last > 1:
        middle = (first + last) // 2
        look([middle])
        first, last = (first, middle) if known[middle] else (middle, last)
    return {0: 1, LENGTH - 1: ROW}.get(last, last + 1)


def find_grid(side: Side, group: int, outputs: str) -> Grid | None:
    """Find the numbers that elements of a group (`find_group`) become; None where nothing fits."""
    k = max(2 * BLOCK, -(-2 * group // BLOCK) * BLOCK) if group > 1 else (3 if group < 1 else 16) * BLOCK
    scales, codes = _random(min(side.capacity, 32) if group == MATRIX else 32, k)
    elements = np.unique(np.linspace(0, k - 1, READ).astype(int)).tolist()
    seen = side(scales, codes, elements)
    of_element = np.repeat(scales.astype(F32), BLOCK, axis=1)
    v = (of_element * codes).astype(F32)
    near = NEAR[outputs] * np.abs(v).max(axis=1, keepdims=True)

    def missed(grid: Grid) -> int:
        with np.errstate(all="ignore"):
            return int((~(np.abs(grid.floats(v, of_element)[:, elements] - seen) <= near)).sum())

    best = min(candidates(group), key=missed)
    best = min(variants(best), key=missed)
    if missed(best) > MISSED * seen.size:
        found = _table(side) if group == 1 else _levels(side, group)
        if found is None:
            return None
        best = found
    return replace(best, of=seen.size, unexplained=missed(best))


def _random(r: int, k: int) -> tuple[Array, Array]:
    """Return random scales [r, nb] and codes [r, k]; a third of the rows has no negative code."""
    rng = dot_rows.generator("grid", k)
    scales = rng.uniform(0.01, 0.1, (r, k // BLOCK)).astype(F16)
    codes = rng.integers(-127, 128, (r, k), dtype=np.int8)
    codes[::3] = np.abs(codes[::3])
    # Just above 127 and below 128: powers of two by which these are divided differ.
    scales[1::4], codes[1::4, ::16] = 2**-5 + 2**-13, 127
    return scales, codes


def find_zero(place: Place) -> int:
    """Return the code of a weight that adds nothing; 0 where there is none."""
    blocks = _as_blocks(np.ones((1, 1)), np.zeros((1, BLOCK)))
    if not place.by_rows(blocks[0], np.full((1, BLOCK), LARGE, F32)).any():
        return 0
    nothing = np.flatnonzero(_codes(Side(place, LARGE, is_weights=True)) == 0)
    return int(nothing[0]) - 128 if nothing.size else 0


def _codes(side: Side) -> Array:
    """Return what each code becomes under the scale 1, -128 first."""
    codes = np.zeros((256, BLOCK), np.int8)
    codes[:, 0] = np.arange(-128, 128)
    return side(np.ones((256, 1)), codes, [0])[:, 0]


def _table(side: Side) -> Grid | None:
    """Return what each code becomes; None where that is nothing that has a name."""
    table = _codes(side)
    grid = Grid(1, table=tuple(table.tolist()))
    is_named = len(set(grid.table)) <= FEW_CODES or grid.name == "zero-point"
    return grid if is_named and np.isfinite(table).all() else None


def _levels(side: Side, group: int) -> Grid | None:
    """Count the numbers of a grid that is not known; None where they are many."""
    codes = np.zeros((201, BLOCK), np.int8)
    codes[:, 0], codes[:, 1] = np.arange(-100, 101), 100
    seen = side(np.ones((201, 1)), codes, [0])[:, 0]
    levels = np.unique(np.rint(seen * 2**16)) / (100 * 2**16)
    return Grid(group, levels=tuple(levels.tolist())) if 1 < len(levels) <= FEW_LEVELS else None


def weights_kept(side: Side, outputs: str) -> bool:
    """Return whether weights are multiplied as they are."""
    scales, codes = _random(min(side.capacity, 8), 2 * BLOCK)
    elements = [0, 5, 16, 31, 32, 63]
    exact = (np.repeat(scales.astype(F32), BLOCK, axis=1) * codes).astype(F64)
    near = NEAR[outputs] * np.abs(exact).max(axis=1, keepdims=True)
    seen = side(scales, codes, elements)
    return bool((np.abs(seen - exact[:, elements]) <= near).all())


def find_weights(place: Place, unit: float, outputs: str) -> Grid | None:
    """Find what weights become; None where they are kept, or nothing is known.

    `unit` is what an activation of 127 alone becomes.
    """
    side = Side(place, unit, is_weights=True)
    if weights_kept(side, outputs):
        return None
    group = find_group(side)
    return None if group is None else find_grid(side, group, outputs)
