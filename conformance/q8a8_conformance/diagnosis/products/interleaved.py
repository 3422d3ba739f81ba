"""Rows whose codes are packed in panels, in chunks of one size, and read in chunks of another.

Every code of a side has a number of its own; rows of the other side have one code each. So each output says
which code of which row stands in the place of one. Of panels of so many rows, and chunks of two sizes, those
that give what is seen in matrices of few rows are the fact.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.products.judged import (
    Given,
    accounts_for_all,
    agreeing,
    quantized,
    shown,
    wrong_outputs,
)
from q8a8_conformance.diagnosis.products.sources import sums
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import outputs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

BLOCK = 32

ROWS = (*range(1, 13), 16, 17, 31)
"""Rows of the matrices that are looked at."""

BASE = 100
"""Of the digits of a code's number: a digit d is the code d + 1."""

LARGEST = 127
"""The code that gives a row of x the scale 1: which one stands in its place is not known."""

PANELS, CHUNKS = (4, 8, 2, 16), (4, 8, 1, 2, 16, 32)
"""Rows of a panel, and codes of a row that lie together."""

WHERE = {
    "all": ("all rows of {side}", lambda _row, _whole: True),
    "rest": ("the rows of {side} beyond a multiple of {panel}", lambda row, whole: row >= whole),
    "whole": ("the rows of {side} up to the last multiple of {panel}", lambda row, whole: row < whole),
}
"""Rows in which it may be so: words, and whether one is of them, where so many are in whole panels."""

RULE = "Q8A8-MUL-6"
FIX = "Write a panel in chunks of the size in which it is read, the last one, with its padding, too."


@dataclass(frozen=True)
class Interleaved:
    """How codes of a side are packed, and read.

    Attributes
    ----------
    side
        "w" or "x".
    panel, written, read
        Rows of a panel, and codes of a row that lie together as they are written and as they are read.
    where
        A name of `WHERE`.
    """

    side: str
    panel: int
    written: int
    read: int
    where: str

    def sources(self, rows: int) -> Array:
        """Return which code, row · 32 + element, stands in the place of each, int [rows, 32]; -1 for zero."""
        row, element = np.indices((rows, BLOCK))
        start, within = row - row % self.panel, row % self.panel
        at = element // self.read * self.panel * self.read + within * self.read + element % self.read
        group, rest = np.divmod(at, self.panel * self.written)
        source = start + rest // self.written
        found = source * BLOCK + group * self.written + rest % self.written
        found = np.where(source < rows, found, -1)
        is_so = np.vectorize(WHERE[self.where][1], otypes=[bool])(row, rows - rows % self.panel)
        return np.where(is_so, found, row * BLOCK + element)

    def taken(self, blocks: Array) -> Array:
        """Return blocks [rows, nb] with the codes that are multiplied."""
        codes = np.moveaxis(blocks["weight_qs"], 0, 1)
        sources = self.sources(len(blocks)).reshape(-1)
        flat = codes.reshape(len(codes), codes.shape[1] * BLOCK)
        taken = np.where(sources >= 0, flat[:, np.maximum(sources, 0)], 0)
        given = blocks.copy()
        given["weight_qs"] = np.moveaxis(taken.reshape(codes.shape), 0, 1)
        return given

    @property
    def text(self) -> str:
        """The same as a sentence."""
        where = WHERE[self.where][0].format(side=self.side, panel=self.panel)
        return (
            f"Codes of {where} are packed in panels of {self.panel} rows in chunks of {self.written}, and "
            f"read in chunks of {self.read}."
        )

    def accounts(self, failure: Failure) -> Array:
        """Return which wrong outputs of a failed call are those of such codes: bool [n, m]."""
        if not failure.call.n or (operands := quantized(failure)) is None:
            return wrong_outputs(failure) & False
        w, xq = operands
        both = (self.taken(w), xq) if self.side == "w" else (w, self.taken(xq))
        return agreeing(failure, Given(*sums(*both)))


def interleaved_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find codes that are packed in chunks of another size than they are read in."""
    del failures
    for side in "wx":
        seen = {rows: _seen(session, side, rows) for rows in ROWS[: ROWS.index(8)]}
        if all((_own(rows) == found)[found > UNKNOWN].all() for rows, found in seen.items()):
            continue
        seen |= {rows: _seen(session, side, rows) for rows in ROWS[ROWS.index(8) :]}
        for one in _ways(side):
            if all((one.sources(rows) == found)[found > UNKNOWN].all() for rows, found in seen.items()):
                return [_fact(session, one)]
    return []


UNKNOWN = -2
"""Stands for a code of which is not known where it comes from."""


def _own(rows: int) -> Array:
    return np.arange(rows * BLOCK).reshape(rows, BLOCK)


def _ways(side: str) -> Iterator[Interleaved]:
    for where, panel, written, read in itertools.product(WHERE, PANELS, CHUNKS, CHUNKS):
        if written != read:
            yield Interleaved(side, panel, written, read, where)


def _seen(session: AnySession, side: str, rows: int) -> Array:
    """Return which code stands in the place of each: int [rows, 32], -1 for a zero."""
    found, is_known, unit = np.zeros((rows, BLOCK), int), np.ones((rows, BLOCK), bool), 1
    is_zero = np.ones((rows, BLOCK), bool)
    while unit < rows * BLOCK:
        digits = _own(rows) // unit % BASE
        shown = _shown(session, side, digits + 1) - 1
        is_zero &= shown == -1
        is_known &= (shown >= 0) & (shown < BASE)
        found, unit = found + np.where(is_known, shown, 0).astype(int) * unit, unit * BASE
    return np.where(is_zero, -1, np.where(is_known & (found < rows * BLOCK), found, UNKNOWN))


def _shown(session: AnySession, side: str, codes: Array) -> Array:
    """Return the codes that are multiplied in the place of some, int [rows, 32]."""
    call = _call(side, codes)
    (outputs,) = (bytes(out) for out in session.call(call).outputs)
    got = outputs_of(call, outputs)
    return np.asarray(got.T if side == "w" else got, np.float64) / (LARGEST if side == "w" else 1)


def _call(side: str, codes: Array) -> Call:
    """Return the product of rows of codes, of a scale of 1 in x, by rows of one code each."""
    each = np.eye(BLOCK, dtype=np.int64)
    if side == "x":
        codes = codes.copy()
        codes[:, -1] = LARGEST
    of_w, of_x = (codes, LARGEST * each) if side == "w" else (each, codes)
    w = layout.pack(np.ones((len(of_w), 1), np.float16), of_w.astype(np.int8)[:, np.newaxis])
    return calls.mul_mat(w, of_x.astype(np.float32))


def _fact(session: AnySession, one: Interleaved) -> Fact:
    made = [
        (call, session.call(call).outputs) for call in (_call(one.side, _own(n) % BASE + 1) for n in ROWS)
    ]
    return Fact(
        *("codes-interleaved", {**vars(one)}, RULE, one.text, FIX, ""),
        function=calls.MUL_MAT,
        evidence=shown([(call, tuple(map(bytes, outputs))) for call, outputs in made]),
        explains=remembered(partial(accounts_for_all, one.accounts)),
        outputs=one.accounts,
    )
