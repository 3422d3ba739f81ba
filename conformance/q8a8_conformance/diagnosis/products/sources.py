"""Where the outputs of products of one shape come from, and whether that predicts a failed call's outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.products.judged import Given, accounts_for_all, agreeing, quantized

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure

TERMS = 1 << 16
"""Sums of blocks that are predicted at once: they stay in the cache."""


@dataclass
class Sources:
    """Where the outputs of products of one shape come from.

    Attributes
    ----------
    shape
        m, n and blocks of a row.
    kept, added
        bool [n, m]: the output is what it was before, or is added to it.
    rows, columns
        int [n, m]: the row of x, and the row of w; the output's own where nothing else is seen.
    scales, weight_scales
        int [n, m]: the row of x, and of w, whose scale it is.
    starts
        By side, "x" and "w", int [n, m]: the block with which the row begins that is multiplied, counted from
        the matrix's first one; -1 where that is not seen.
    totals
        float32 [n, m]: how many blocks are counted.
    counted
        bool [n, m]: the blocks of the output are counted as `counts` says.
    mixed
        bool [n, m]: the output has terms of other rows besides its own.
    weighted
        By side, float32 [n, m]: totals where each row of the side counts as much as its weight (`weights`);
        where some outputs are miscounted.
    amax
        bool [n, n]: the amax of a row of x, the second index, decides the codes of a row, the first; None
        where that was not looked at.
    made
        The calls that were made, with their outputs.
    counts
        How often the blocks that were looked at are counted, by number; empty where all are counted once.
    periods
        The number of blocks after which those of w, and of x, come again; 0 where they do not.
    """

    shape: tuple[int, int, int]
    kept: Array
    added: Array
    rows: Array
    columns: Array
    scales: Array
    weight_scales: Array
    starts: dict[str, Array]
    totals: Array
    counted: Array
    mixed: Array
    weighted: dict[str, Array] = field(default_factory=dict)
    amax: Array | None = None
    made: list[tuple[Call, tuple[bytes, ...]]] = field(default_factory=list)
    counts: dict[int, float] = field(default_factory=dict)
    periods: tuple[int, int] = (0, 0)

    @property
    def is_miscounted(self) -> bool:
        """Whether a block is not counted once, by no period."""
        return any(times != 1 for times in self.counts.values()) and not any(self.periods)

    def kinds(self) -> Iterator[tuple[str, Array]]:
        """Yield the kinds of facts about this shape, with the outputs bool [n, m] that they are about."""
        n, m = self.kept.shape
        own_rows, own_columns = np.arange(n)[:, np.newaxis], np.arange(m)
        found = {
            "empty-not-written" if not self.shape[2] else "outputs-not-written": self.kept,
            "outputs-added": self.added,
            "outputs-of-other-rows": (self.rows != own_rows) | (self.columns != own_columns),
            "scales-of-other-rows": self.scales != self.rows,
            "weight-scales-of-other-rows": self.weight_scales != self.columns,
            "blocks-miscounted": self.counted & self.is_miscounted,
            "block-meets-another": np.full((n, m), any(self.periods)),
        }
        yield from ((kind, wrong) for kind, wrong in found.items() if wrong.any())

    def predicts(self, failure: Failure) -> bool:
        """Return whether the outputs of a call of this shape come from where these do."""
        if (operands := quantized(failure)) is None:
            return False
        given = Given(*self.sums(*operands), self.kept, self.added)
        return accounts_for_all(lambda one: agreeing(one, given), failure)

    def sums(self, w: Array, xq: Array) -> tuple[Array, Array]:
        """Return the sums of blocks w [m, nb] and xq [n, nb], and of magnitudes: float64 [n, m]."""
        total, magnitude = np.zeros(self.kept.shape), np.zeros(self.kept.shape)
        counts, step = self.every_count(), max(1, TERMS // max(1, self.kept.size))
        # (The sum of a block is below 2^24: exact in float32.)
        codes, rows_of_x = (np.moveaxis(side["weight_qs"], 0, 1).astype(np.float32) for side in (w, xq))
        for b in range(0, w.shape[1], step):
            blocks = np.arange(b, min(b + step, w.shape[1]))
            of_w, of_x = (blocks % period if period else blocks for period in self.periods)
            sums = rows_of_x[of_x] @ codes[of_w].transpose(0, 2, 1)
            d = xq["weight_scale"].T[of_x][:, self.scales].astype(np.float64)
            d *= w["weight_scale"].T[of_w][:, self.weight_scales]
            magnitude += np.abs(d).sum(axis=0) * 32 * 127 * 127
            if self.counts:
                d *= np.where(self.counted, counts[blocks][:, np.newaxis, np.newaxis], 1.0)
            total += np.einsum("b...,b...", sums[:, self.rows, self.columns], d)
        return total, magnitude

    def every_count(self) -> Array:
        """Return how often each block is counted: as the last one before it that was looked at."""
        counts = np.ones(self.shape[2])
        if any(self.periods):
            return counts
        for b, times in sorted(self.counts.items()):
            counts[b:] = times
        return counts


def weights(size: int) -> Array:
    """Return numbers of rows, int [size], of which few sums of a few are alike."""
    return 2 * (np.arange(size) * 29 % 41) + 1


def sums(w: Array, xq: Array) -> tuple[Array, Array]:
    """Return the sums of products of blocks, w [m, nb] and xq [n, nb], and of magnitudes: float64 [n, m]."""
    return right((len(w), len(xq), w.shape[1])).sums(w, xq)


def right(shape: Shape) -> Sources:
    """Return where the outputs of a right product come from."""
    m, n, nb = shape
    i, j = np.indices((n, m))
    none, starts = np.zeros((n, m), bool), {"x": i * nb, "w": j * nb}
    return Sources(shape, none, none, i, j, i, j, starts, np.full((n, m), nb), counted=none, mixed=none)
