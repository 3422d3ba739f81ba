"""Rows of a product whose offset is kept in sixteen bits: from some row on they begin at others' places.

Each way to count the offset, in elements, bytes or blocks, predicts the failed calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8.errors import Q8A8Error
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.products.judged import Given, accounts_for_all, agreeing, wrong_outputs
from q8a8_conformance.diagnosis.products.sources import sums
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import outputs_of

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
    """

    side: str
    unit: str

    @property
    def sentence(self) -> str:
        """What is wrong."""
        offset = UNITS[self.side, self.unit][0]
        return (
            f"The offset of a row of {self.side}, {offset} {self.unit}, is kept in 16 bits: from {LIMIT} on "
            "another place is read."
        )

    def reaches(self, call: Call) -> bool:
        """Return whether an offset of a call does not fit."""
        rows = call.bx if self.side == "x" else call.bs
        return (rows - 1) * UNITS[self.side, self.unit][1](call.n) >= LIMIT

    def accounts(self, failure: Failure) -> Array:
        """Return which wrong outputs of a failed call are those of rows at such offsets: bool [n, m]."""
        call = failure.call
        m, n, nb = call.bs, call.bx, call.n // 32
        nothing = wrong_outputs(failure) & False
        if not self.reaches(call):
            return nothing
        data = dict(calls.inputs_of(call))
        rows, size = (n, 4 * call.n) if self.side == "x" else (m, 34 * nb)
        _, of_row, per_unit = UNITS[self.side, self.unit]
        begins = (np.arange(rows) * of_row(call.n) % LIMIT * per_unit).astype(np.int64)
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
    """Find an offset of rows that is kept in sixteen bits."""
    del session
    some = sorted(failures, key=lambda one: one.call.n * one.call.bs * one.call.bx)[:TRIED]
    for side, unit in UNITS:
        one = Wrapped(side, unit)
        if not all(one.reaches(failure.call) for failure in failures):
            continue
        explains = partial(accounts_for_all, one.accounts)
        if shown := next(filter(explains, some), None):
            return [_fact(one, shown)]
    return []


def _fact(one: Wrapped, shown: Failure) -> Fact:
    got, want = (outputs_of(shown.call, bytes(of[0])) for of in (shown.outputs, shown.expected))
    i, j = np.argwhere(wrong_outputs(shown))[0].tolist()
    text = f"out[{i} * m + {j}] is {got[i, j]:.9g}, expected {want[i, j]:.9g}"
    return Fact(
        *("rows-begin-elsewhere", {"side": one.side, "unit": one.unit, "bits": 16}, RULE),
        *(one.sentence, FIX, ""),
        function=calls.MUL_MAT,
        evidence=(Evidence(shown.call, shown.expected, shown.outputs, text),),
        explains=remembered(partial(accounts_for_all, one.accounts)),
        outputs=one.accounts,
    )
