"""What may become of a product's terms: they are counted otherwise, or made of others' codes or scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.products.rules import (
    GROUP_FORMULAS,
    ROW_FORMULAS,
    FlatFormula,
    RowFormula,
    flat_formulas,
)
from q8a8_conformance.inputs.arrays import Array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.diagnosis.products.changes import Kept, Sums

Side = tuple[Array, Array]

TIMES = (0.0, 2.0, 3.0, 4.0, -1.0, 0.5)
"""How often terms may be counted."""

OFFSET = 128
"""What makes int8 codes unsigned ones."""

PARTS = {"block": (True, True), "codes": (True, False), "scale": (False, True)}
"""Parts of a block that may be another's: whether its codes are, and its scale."""


@dataclass(frozen=True)
class Effect:
    """What becomes of terms.

    Attributes
    ----------
    kind
        "times", "kept", "added", "source" for a part of another row or block, "recipe", "sum", or
        "correction": `OFFSET` is added to codes of x, and taken off again under another block's scales.
    times
        How often a term is counted.
    side, part, axis, formula
        Of a source: "x", "w" or "wx" for both, a name of `PARTS`, "row", "block" or "matrix", and which one
        is taken: for "matrix" any block of it.
    kept
        Of a recipe: what activations become.
    sums
        Of a "sum": how that of a block is made.
    """

    kind: str
    times: float = 1.0
    side: str = ""
    part: str = ""
    axis: str = ""
    formula: RowFormula | None = None
    kept: Kept | None = None
    sums: Sums | None = None

    def taken(self, of: Side, side: str) -> tuple[Array, Array, Array]:
        """Return codes and scales of a side as they are multiplied, and where that is known: [rows, nb]."""
        codes, scales = of
        known = np.ones(scales.shape, bool)
        if self.kind == "correction":
            return (*self._corrected(codes, scales, side), known)
        if self.kind != "source" or side not in self.side or self.formula is None:
            return codes, scales, known
        at, inside = self.places(scales.shape)
        taken, scales_taken = self.parts
        is_zero = isinstance(self.formula, FlatFormula) and self.formula.is_zero
        if scales_taken:
            scales = scales.reshape(-1)[at]
        if is_zero:
            scales = np.where(inside, scales, 0.0)
        return codes.reshape(-1, codes.shape[2])[at] if taken else codes, scales, inside | is_zero

    @property
    def parts(self) -> tuple[bool, bool]:
        """Whether codes, and scales, are those of what is taken."""
        return PARTS[self.part]

    def places(self, shape: tuple[int, ...], at: Array | None = None) -> tuple[Array, Array]:
        """Return which block is taken for each of a side [rows, nb], and whether there is such a one.

        Blocks are counted from the first one of the matrix. `at` are blocks int [2, t]: those alone, [t].
        """
        rows, nb = shape
        row, block = np.ogrid[:rows, :nb] if at is None else at
        formula = self.formula
        if formula is None:
            raise ValueError(f"nothing is taken: {self.kind}")
        if isinstance(formula, FlatFormula):
            taken = formula.place(row, block, rows, nb, formula.t)
            inside = (taken >= 0) & (taken < rows * nb)
            return np.clip(taken, 0, max(rows * nb - 1, 0)), inside
        length = rows if self.axis == "row" else nb
        every = formula.of(np.arange(length), length)
        inside = (every >= 0) & (every < length)
        every = np.clip(every, 0, max(length - 1, 0))
        if self.axis == "row":
            return every[row] * nb + block, np.broadcast_to(inside[row], np.broadcast(row, block).shape)
        return row * nb + every[block], np.broadcast_to(inside[block], np.broadcast(row, block).shape)

    def others(self, scales: Array) -> Array:
        """Return the scales of the blocks that are taken, of those of a side: [rows, nb]."""
        if self.formula is None:
            return scales
        nb = scales.shape[1]
        return scales[:, np.clip(self.formula.of(np.arange(nb), nb), 0, max(nb - 1, 0))]

    def _corrected(self, codes: Array, scales: Array, side: str) -> Side:
        """Return codes with two more elements, of what is added and what is taken off, and their scales."""
        others = self.others(scales)
        size = np.maximum(np.abs(scales), np.abs(others))
        own, of = (each / np.where(size, size, 1) for each in (scales, others))
        more, off = (codes.sum(axis=2), 1) if side == "w" else (np.full(size.shape, OFFSET), -1)
        parts = (
            codes * own[..., np.newaxis],
            (more * own)[..., np.newaxis],
            (off * more * of)[..., np.newaxis],
        )
        return np.concatenate(parts, axis=2), size


def effects() -> Iterator[Effect]:
    """Yield all effects, the simplest first."""
    yield Effect("kept")
    yield from (Effect("times", times) for times in TIMES)
    yield Effect("added")
    for words, function, numbers in ROW_FORMULAS:
        for t in numbers:
            formula = RowFormula(words, function, t)
            for axis in ("row", "block"):
                for side in "wx":
                    yield from (Effect("source", 1.0, side, part, axis, formula) for part in PARTS)
    for side in "wx":
        for flat in flat_formulas(side):
            yield from (Effect("source", 1.0, side, part, "matrix", flat) for part in PARTS)
    for words, function, numbers in GROUP_FORMULAS:
        for t in numbers:
            formula = RowFormula(words, function, t)
            yield from (Effect("source", 1.0, side, "scale", "block", formula) for side in ("wx", "w", "x"))
            yield Effect("correction", 1.0, "w", "", "block", formula)
