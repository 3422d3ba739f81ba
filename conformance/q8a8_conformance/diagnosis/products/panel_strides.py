"""Blocks that are packed in panels by one stride and read by another, where a panel is shorter.

A panel has some rows of a side, and some blocks of each, row by row or block by block. Where fewer are left,
it may be written with as many to a row as there are and read with as many as a whole one has, or the other
way round; what was not written is of the panel before. Of blocks that all have numbers each output says which
one stands in the place of one. The panels that give what is seen are the fact, if they give that of other
shapes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.products.judged import (
    Given,
    accounts_for_all,
    agreeing,
    quantized,
    shown,
    wrong_outputs,
)
from q8a8_conformance.diagnosis.products.measuring import Measuring
from q8a8_conformance.diagnosis.products.sources import right, sums
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.diagnosis.products.judged import Made
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

RULE = "Q8A8-MUL-6"
FIX = "Read a panel by the stride by which it is written, the last one, which is shorter, too."

ROWS, BLOCKS = (4, 8, 2, 16, 32, 6, 12, 3), (0, 4, 8, 2, 16, 32, 3, 6)
"""Rows of a panel, and blocks of a row in it; 0 for all."""

OTHERS = 2
"""Rows of the other side."""

SEEN, HELD_OUT = ((11, 7), (19, 3), (5, 13)), ((14, 9), (37, 6), (3, 18), (1, 7))
"""Rows, and blocks of a row, of shapes from which panels are found, and in which they must hold."""

UNKNOWN, KNOWN = -1, 0.5
"""Stands for a block of which is not known where it comes from; the part of which it must be known."""


@dataclass(frozen=True)
class Panels:
    """How blocks of a side are packed, and read.

    Attributes
    ----------
    side
        "w" or "x".
    rows, blocks
        Rows of a panel, and blocks of a row in it; 0 for all.
    is_by_row
        Whether a row's blocks lie together; else the rows' of a block.
    is_written_whole
        Whether shorter panels are written with as many as a whole one has, and read with as many as they
        have; else the other way round.
    is_by_panel
        Whether all rows have their first panel before any has its second.
    """

    side: str
    rows: int
    blocks: int
    is_by_row: bool
    is_written_whole: bool
    is_by_panel: bool

    def taken(self, size: int, nb: int) -> Array:
        """Return which block, row · nb + b, stands in the place of each: int [size, nb]; -1 for unknown."""
        kc = self.blocks or nb
        found = np.full((size, nb), UNKNOWN)
        panel = np.full(self.rows * kc, UNKNOWN)
        starts: Iterator[tuple[int, int]] = itertools.product(range(0, size, self.rows), range(0, nb, kc))
        if self.is_by_panel:
            starts = ((r, b) for b in range(0, nb, kc) for r in range(0, size, self.rows))
        for first, block in starts:
            left = min(self.rows, size - first), min(kc, nb - block)
            row, b = np.indices(left)
            whole, part = (kc, left[1]) if self.is_by_row else (self.rows, left[0])
            written, read = (whole, part) if self.is_written_whole else (part, whole)
            at, of = (row * s + b if self.is_by_row else b * s + row for s in (written, read))
            panel[at] = (first + row) * nb + block + b
            found[first : first + left[0], block : block + left[1]] = panel[of]
        return found

    @property
    def text(self) -> str:
        """The same as a sentence."""
        count = f"{self.blocks or 'all'} blocks"
        order = "row by row" if self.is_by_row else "block by block"
        what, of = ("blocks", "row") if self.is_by_row else ("rows", "block")
        ways = [f"with as many {what} to a {of} as are left", "with as many as a whole one has"]
        written, read = reversed(ways) if self.is_written_whole else ways
        return (
            f"Rows of {self.side} are packed in panels of {self.rows} rows by {count}, {order}; the last "
            f"panels, which have fewer {what}, are written {written}, and read {read}."
        )

    def accounts(self, failure: Failure) -> Array:
        """Return which wrong outputs of a failed call are those of such blocks: bool [n, m]."""
        if not failure.call.n or (operands := quantized(failure)) is None:
            return wrong_outputs(failure) & False
        w, xq = operands
        of = w if self.side == "w" else xq
        at = self.taken(*of.shape)
        given = of.reshape(-1)[np.maximum(at, 0)]
        is_free = np.asarray((at < 0).any(axis=1))[:, np.newaxis]
        free = np.broadcast_to(is_free, (len(of), len(xq if of is w else w)))
        both, free = ((given, xq), free.T) if self.side == "w" else ((w, given), free)
        return agreeing(failure, Given(*sums(*both), free=free))


def panel_stride_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find blocks that are packed by another stride than they are read by."""
    if not any(one.call.n for one in failures):
        return []
    for side in "wx":
        try:
            found = _find(session, side)
        except SessionError:
            return []
        if found is not None:
            panels, made = found
            return [
                Fact(
                    *("panel-strides", {**vars(panels)}, RULE, panels.text, FIX, ""),
                    function=calls.MUL_MAT,
                    evidence=shown(made),
                    explains=remembered(partial(accounts_for_all, panels.accounts)),
                    outputs=panels.accounts,
                )
            ]
    return []


def _find(session: AnySession, side: str) -> tuple[Panels, list[Made]] | None:
    """Return the panels of a side that give what is seen, and the calls that were made; None for none."""
    made: list[Made] = []
    seen = {shape: _seen(session, side, *shape, made) for shape in SEEN[:1]}
    if (seen[SEEN[0]] == np.arange(np.prod(SEEN[0])).reshape(SEEN[0])).all():
        return None
    for panels in _ways(side):
        is_known = panels.taken(*SEEN[0]) != UNKNOWN
        if not _gives(panels, SEEN[0], seen[SEEN[0]]) or not is_known.mean() > KNOWN:
            continue
        for shape in (*SEEN, *HELD_OUT):
            if shape not in seen:
                seen[shape] = _seen(session, side, *shape, made)
        if all(_gives(panels, *of) for of in seen.items()):
            return panels, made
    return None


def _ways(side: str) -> Iterator[Panels]:
    flags = (True, False)
    for rows, blocks, by_row, whole, by_panel in itertools.product(ROWS, BLOCKS, flags, flags, flags):
        if blocks or not by_row:
            yield Panels(side, rows, blocks, by_row, whole, by_panel)


def _gives(panels: Panels, shape: tuple[int, int], seen: Array) -> bool:
    """Return whether panels give the blocks that are seen, where they say which."""
    given = panels.taken(*shape)
    return bool(((given == seen) | (given == UNKNOWN)).all())


def _seen(session: AnySession, side: str, rows: int, nb: int, made: list[Made]) -> Array:
    """Return which block stands in the place of each of the first output's side: int [rows, nb]."""
    measure = Measuring(session)
    shape = (OTHERS, rows, nb) if side == "x" else (rows, OTHERS, nb)
    sources, found = right(shape), np.full((rows, nb), UNKNOWN)
    for block in range(nb):
        number, is_valid = measure.meeting(sources, side, block)
        of = np.where(is_valid, number, UNKNOWN)
        found[:, block] = of[:, 0] if side == "x" else of[0]
    made += sources.made
    return found
