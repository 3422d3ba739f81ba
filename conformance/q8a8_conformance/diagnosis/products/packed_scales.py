"""Scales of a panel of rows that are written in one order and read in another.

Every scale of a side is a number of its own; rows of the other side have one code in one block each. So each
output says which scale a block takes.
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
    from collections.abc import Callable, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure
    from q8a8_conformance.reveal.quantizers.calls import AnySession

BLOCK, CODE = 32, 127

SHAPES = tuple(itertools.product((1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 17), (2, 3, 5, 9)))
"""Rows, and blocks of each, that are looked at: their scales are halves."""

PANELS = (4, 8, 2, 16, 3, 6)

NONE, UNKNOWN = -1, -2
"""Stand for a scale of zero, and for one of which is not known where it comes from."""

ORDERS: dict[str, tuple[str, Callable[[Array, Array, Array, int, int], tuple[Array, Array]]]] = {
    "last-panel": (
        "are written as far apart, block by block, as it has rows, and read {panel} apart",
        lambda r, b, rows, _nb, panel: ((panel * b + r) % rows, (panel * b + r) // rows),
    ),
    "by-row": (
        "are written block by block, and read row by row",
        lambda r, b, rows, nb, _panel: ((r * nb + b) % rows, (r * nb + b) // rows),
    ),
    "by-block": (
        "are written row by row, and read block by block",
        lambda r, b, rows, nb, _panel: ((rows * b + r) // nb, (rows * b + r) % nb),
    ),
}
"""What is read for block b of row r of a panel of so many rows: words, and its row and block."""

RULE = "Q8A8-MUL-6"
FIX = "Read the scales of a panel in the order in which they are written, the last panel's, too."


@dataclass(frozen=True)
class PackedScales:
    """How scales of a side are written and read.

    Attributes
    ----------
    side
        "w" or "x".
    panel
        Rows of a panel.
    order
        A name of `ORDERS`.
    """

    side: str
    panel: int
    order: str

    def sources(self, rows: int, nb: int) -> Array:
        """Return which scale, row · nb + block, each block takes, int [rows, nb]; -1 for zero."""
        row, b = np.indices((rows, nb))
        start = row - row % self.panel
        count = np.minimum(rows - start, self.panel)
        other, block = ORDERS[self.order][1](row - start, b, count, nb, self.panel)
        inside = (block < nb) & (other < count)
        return np.where(inside, (start + other) * nb + block, NONE)

    @property
    def text(self) -> str:
        """The same as a sentence."""
        words = ORDERS[self.order][0].format(panel=self.panel)
        where = f"a panel of {self.panel} rows" if self.order != "last-panel" else "a panel of fewer rows"
        return f"The scales of {where} of {self.side} {words}."

    def accounts(self, failure: Failure) -> Array:
        """Return which wrong outputs of a failed call have such scales: bool [n, m]."""
        if not failure.call.n or (operands := quantized(failure)) is None:
            return wrong_outputs(failure) & False
        taken = operands["wx".index(self.side)].copy()
        sources = self.sources(*taken.shape)
        held = taken["weight_scale"].reshape(-1)
        taken["weight_scale"] = np.where(sources >= 0, held[np.maximum(sources, 0)], np.float16(0))
        both = (taken, operands[1]) if self.side == "w" else (operands[0], taken)
        return agreeing(failure, Given(*sums(*both)))


def packed_scale_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find scales of panels that are read in another order than they are written in."""
    del failures
    for side in "wx":
        seen = {shape: _seen(session, side, *shape) for shape in SHAPES}
        if all((found == _own(*shape))[found > UNKNOWN].all() for shape, found in seen.items()):
            continue
        for order, panel in itertools.product(ORDERS, PANELS):
            one = PackedScales(side, panel, order)
            if all((found == one.sources(*shape))[found > UNKNOWN].all() for shape, found in seen.items()):
                return [_fact(session, one)]
    return []


def _own(rows: int, nb: int) -> Array:
    return np.arange(rows * nb).reshape(rows, nb)


def _seen(session: AnySession, side: str, rows: int, nb: int) -> Array:
    """Return which scale each block takes, row · nb + block: int [rows, nb]."""
    call = _call(side, rows, nb)
    out = outputs_of(call, bytes(session.call(call).outputs[0])).astype(np.float64) / CODE
    number = (out.T if side == "w" else out) - 1
    known = (number == np.rint(number)) & (number >= -1) & (number < rows * nb)
    return np.where(known, np.nan_to_num(number), UNKNOWN).astype(int)


def _call(side: str, rows: int, nb: int) -> Call:
    """Return the product of rows whose scales are numbers by one row for each block."""
    numbers = (_own(rows, nb) + 1.0)[..., np.newaxis] * (np.arange(BLOCK) == 0)
    alone = np.eye(nb)[..., np.newaxis] * (np.arange(BLOCK) == 0)
    of_w, of_x = (numbers, CODE * alone) if side == "w" else (alone, CODE * numbers)
    scales = np.maximum(of_w[..., 0], 1)
    w = layout.pack(scales.astype(np.float16), (of_w / scales[..., np.newaxis]).astype(np.int8))
    return calls.mul_mat(w, of_x.reshape(len(of_x), -1).astype(np.float32))


def _fact(session: AnySession, one: PackedScales) -> Fact:
    made = [(call, session.call(call).outputs) for call in (_call(one.side, *shape) for shape in SHAPES)]
    return Fact(
        *("scales-interleaved", {**vars(one)}, RULE, one.text, FIX, ""),
        function=calls.MUL_MAT,
        evidence=shown([(call, tuple(map(bytes, outputs))) for call, outputs in made]),
        explains=remembered(partial(accounts_for_all, one.accounts)),
        outputs=one.accounts,
    )
