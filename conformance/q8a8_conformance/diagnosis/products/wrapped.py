"""Rows of a product whose offset, or distance, is kept in sixteen bits: they begin at others' places.

Each way to count it, in elements, bytes or blocks, predicts the failed calls. Where the distance of two rows
does not fit either, a product of shorter rows tells the two apart.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.errors import Q8A8Error
from q8a8.matmul import mul_mat
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.products.judged import Given, accounts_for_all, agreeing, wrong_outputs
from q8a8_conformance.diagnosis.products.sources import sums
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.results.expected_product import matrices_of, outputs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

LIMIT = 1 << 16

UNITS: Mapping[tuple[str, str], tuple[str, Callable[[int], int], float]] = {
    ("x", "floats"): ("i * k", lambda k: k, 4),
    ("x", "bytes"): ("4 * i * k", lambda k: 4 * k, 1),
    ("x", "blocks"): ("i * k / 32", lambda k: k // 32, 128),
    ("w", "bytes"): ("j * k / 32 * 34", lambda k: k // 32 * 34, 1),
    ("w", "elements"): ("j * k", lambda k: k, 34 / 32),
    ("w", "blocks"): ("j * k / 32", lambda k: k // 32, 34),
}
"""By side and unit of an offset: the offset, how much a row has, and how many bytes one unit is."""

BLOCK, SHORT = 32, 61
"""Elements of a block, and blocks of a row whose length fits in sixteen bits in each unit."""

TILES = (2, 4, 8, 16, 32)
"""Rows of a tile, which begins at the right place."""

TRIED = 3
"""Failed calls, the smallest, of which one must be predicted as a whole."""

RULE, FIX = "Q8A8-MUL-6", "Compute offsets in int64_t, or size_t, before anything is multiplied or added."


@dataclass(frozen=True)
class Wrapped:
    """An offset that is kept in sixteen bits.

    Attributes
    ----------
    side, unit
        A key of `UNITS`.
    tile
        None where it is a row's offset; else the distance of two rows: of a tile of so many, or of all (0).
    """

    side: str
    unit: str
    tile: int | None = None

    @property
    def sentence(self) -> str:
        """What is wrong."""
        offset = UNITS[self.side, self.unit][0]
        if self.tile is not None:
            within = f" in a tile of {self.tile}" if self.tile else ""
            distance = offset.replace("i * ", "").replace("j * ", "")
            return (
                f"The distance of two rows of {self.side}{within}, {distance} {self.unit}, is kept in 16 "
                f"bits: where it is {LIMIT} or more another place is read."
            )
        return (
            f"The offset of a row of {self.side}, {offset} {self.unit}, is kept in 16 bits: from {LIMIT} on "
            "another place is read."
        )

    def reaches(self, call: Call) -> bool:
        """Return whether an offset of a call does not fit."""
        rows = call.bx if self.side == "x" else call.bs
        steps = rows - 1 if self.tile is None else min(rows - 1, 1)
        return steps * UNITS[self.side, self.unit][1](call.n) >= LIMIT

    def begins(self, rows: int, k: int) -> Array:
        """Return where rows of k elements begin, in bytes: int64 [rows]."""
        _, of_row, per_unit = UNITS[self.side, self.unit]
        numbers = np.arange(rows)
        if self.tile is None:
            at = numbers * of_row(k) % LIMIT
        else:
            within = numbers % self.tile if self.tile else numbers
            at = (numbers - within) * of_row(k) + within * (of_row(k) % LIMIT)
        return np.asarray((at * per_unit).astype(np.int64))

    def accounts(self, failure: Failure) -> Array:
        """Return which wrong outputs of a failed call are those of rows at such offsets: bool [n, m]."""
        call = failure.call
        m, n, nb = call.bs, call.bx, call.n // 32
        nothing = wrong_outputs(failure) & False
        if not self.reaches(call):
            return nothing
        data = dict(calls.inputs_of(call))
        rows, size = (n, 4 * call.n) if self.side == "x" else (m, 34 * nb)
        begins = self.begins(rows, call.n)
        inside = begins + size <= len(data[self.side])
        held = np.frombuffer(data[self.side], np.uint8)
        taken = held[np.where(inside, begins, 0)[:, np.newaxis] + np.arange(size)]
        data[self.side] = taken.tobytes()
        x = np.frombuffer(data["x"], "<f4").reshape(n, call.n)
        try:
            xq = quantize_row(x).reshape(n, nb)
        except Q8A8Error:
            return nothing
        free = ~inside[:, np.newaxis] if self.side == "x" else ~inside
        with np.errstate(all="ignore"):  # (Bytes at other places may be any scales.)
            total = sums(layout.as_blocks(data["w"]).reshape(m, nb), xq)
            return agreeing(failure, Given(*total, free=np.broadcast_to(free, nothing.shape)))


def wrapped_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find an offset, or a distance, of rows that is kept in sixteen bits."""
    some = sorted(failures, key=lambda one: one.call.n * one.call.bs * one.call.bx)[:TRIED]
    best: tuple[int, list[Fact]] = 0, []
    for tile, (side, unit) in itertools.product((None, 0, *TILES), UNITS):
        one = Wrapped(side, unit, tile)
        if not all(one.reaches(failure.call) for failure in failures):
            continue
        shown = next(filter(partial(accounts_for_all, one.accounts), some), None)
        if shown and not _is_refuted(session, one):
            facts = [_fact(one, shown)]
            best = max(best, (len(facts[0].explained(failures)), facts), key=lambda pair: pair[0])
    return best[1]


def _is_refuted(session: AnySession, one: Wrapped) -> bool:
    """Return whether a product is right in which offsets of rows do not fit, and the distance of two does."""
    if one.tile is not None:
        return False
    of_row = UNITS[one.side, one.unit][1]
    rows = LIMIT // of_row(BLOCK * SHORT) + 2
    m, n = (1, rows) if one.side == "x" else (rows, 1)
    call = calls.mul_mat(*mul_mat_rows.exact(m, n, SHORT))
    got = outputs_of(call, bytes(session.call(call).outputs[0]))
    return bool((got == mul_mat(*matrices_of(call)).astype("<f4")).all())


def _fact(one: Wrapped, shown: Failure) -> Fact:
    got, want = (outputs_of(shown.call, bytes(of[0])) for of in (shown.outputs, shown.expected))
    i, j = np.argwhere(wrong_outputs(shown))[0].tolist()
    text = f"out[{i} * m + {j}] is {got[i, j]:.9g}, expected {want[i, j]:.9g}"
    where = {"side": one.side, "unit": one.unit, "bits": 16}
    where |= {} if one.tile is None else {"distance": True, "tile": one.tile}
    return Fact(
        *("rows-begin-elsewhere", where, RULE),
        *(one.sentence, FIX, ""),
        function=calls.MUL_MAT,
        evidence=(Evidence(shown.call, shown.expected, shown.outputs, text),),
        explains=remembered(partial(accounts_for_all, one.accounts)),
        outputs=one.accounts,
    )
